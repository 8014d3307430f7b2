"""Statistics of repeated, interleaved timings. The clock itself is read elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from distilrec.core.events import Floats
from distilrec.core.metrics import Interval

FEWEST_FOR_P99 = 100
TABLE_SCHEMA = 2
"""1 timed encoders that computed every position."""


@dataclass(frozen=True)
class Percentiles:
    """`p99_ms` is None where there are too few rounds for one."""

    p50_ms: float
    p95_ms: float
    p99_ms: float | None

    @classmethod
    def of(cls, samples_ms: Floats) -> "Percentiles":
        p50, p95, p99 = (float(value) for value in np.percentile(samples_ms, [50, 95, 99]))
        return cls(p50, p95, p99 if len(samples_ms) >= FEWEST_FOR_P99 else None)


@dataclass(frozen=True)
class Limits:
    """What a machine can do at best: single-precision operations a second (a multiply-add is two), bytes a second."""

    operations: float
    bytes: float

    def floor_ms(self, macs: float, num_bytes: float) -> float:
        """What this arithmetic takes at least, or moving weights, input and output once through memory."""
        return 1e3 * max(2.0 * macs / self.operations, num_bytes / self.bytes)


def median_ratio(slow_ms: Floats, fast_ms: Floats, seed: int, repeats: int = 1000) -> Interval:
    """median(slow) / median(fast) with a paired percentile bootstrap over the interleaved rounds."""
    assert len(slow_ms) == len(fast_ms), "interleaved timings come in rounds"
    drawn = np.random.default_rng(seed).integers(len(slow_ms), size=(repeats, len(slow_ms)))
    ratios = np.median(slow_ms[drawn], axis=1) / np.median(fast_ms[drawn], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(float(np.median(slow_ms) / np.median(fast_ms)), float(low), float(high))


@dataclass(frozen=True)
class Place:
    """What a latency was measured on. Tables of another place say nothing."""

    device: str
    runtime: str
    threads: int
    width: int
    num_nodes: int
    max_length: int
    num_items: int

    def differences(self, other: "Place") -> list[str]:
        """A sentence's part for each field that is not the same."""
        mine, others = asdict(self), asdict(other)
        return [f"{name} {mine[name]!r}, not {others[name]!r}" for name in mine if mine[name] != others[name]]


@dataclass(frozen=True)
class LatencyTable:
    """p50 of one user's request to a student = rest + cells * cell + the sum over its edges of their operation.

    Attributes:
        rest_ms: look-up, positions, scoring of the catalogue.
        cell_ms: what a cell adds without its operations.
        operation_ms: what an edge adds.
        error: median of |predicted / measured - 1| over students that the fit did not see.
    """

    place: Place
    rest_ms: float
    cell_ms: float
    operation_ms: dict[str, float]
    error: float

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": TABLE_SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "LatencyTable":
        """Raises KeyError, TypeError or ValueError if it is none of this version."""
        if data["schema_version"] != TABLE_SCHEMA:
            raise ValueError(f"schema version {data['schema_version']!r}")
        return cls(
            Place(**data["place"]),
            float(data["rest_ms"]),
            float(data["cell_ms"]),
            {str(name): float(value) for name, value in data["operation_ms"].items()},
            float(data["error"]),
        )


def fit_table(
    place: Place,
    operations: Sequence[str],
    students: Sequence[Sequence[Mapping[Any, str]]],
    p50_ms: Floats,
    num_checked: int,
) -> LatencyTable:
    """Non-negative least squares of the relative error; the last `num_checked` students only check the fit."""
    from scipy.optimize import nnls  # here, because importing it takes half a second

    counted = np.array([_features(cells, operations) for cells in students])
    fitted = len(students) - num_checked
    solution, _ = nnls(counted[:fitted] / p50_ms[:fitted, None], np.ones(fitted))
    errors = np.abs(counted[fitted:] @ solution / p50_ms[fitted:] - 1.0)
    rest, cell, *each = (float(value) for value in solution)
    return LatencyTable(place, rest, cell, dict(zip(operations, each, strict=True)), float(np.median(errors)))


def _features(cells: Sequence[Mapping[Any, str]], operations: Sequence[str]) -> list[int]:
    names = [name for cell in cells for name in cell.values()]
    return [1, len(cells), *(names.count(operation) for operation in operations)]
