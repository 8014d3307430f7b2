"""Statistics of repeated, interleaved timings. The clock itself is read elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from distilrec.core.events import Floats
from distilrec.core.metrics import Interval

FEWEST_FOR_P99 = 100
TABLE_SCHEMA = 3
"""1 timed encoders that computed every position; 2 knew one kind of student."""
SIMILAR = 1.1
"""Catalogues that one table may serve, the larger over the smaller."""
P50_MS, JOULES = "p50_ms", "joules"
"""Measures of cost: of one user's request, and the energy of a thousand."""


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
    """median(slow) / median(fast) with a paired percentile bootstrap over the interleaved rounds.

    Rounds that follow each other are drawn together, in blocks of the cube root of their number, the last followed by
    the first (Politis & Romano 1992): a machine's slow seconds slow all that falls into them.
    """
    rounds = len(slow_ms)
    assert rounds == len(fast_ms), "interleaved timings come in rounds"
    generator, block = np.random.default_rng(seed), max(1, round(rounds ** (1 / 3)))
    ratios = np.empty(repeats)
    for repeat in range(repeats):
        starts = generator.integers(rounds, size=-(-rounds // block))
        drawn = ((starts[:, None] + np.arange(block)) % rounds).ravel()[:rounds]
        ratios[repeat] = np.median(slow_ms[drawn]) / np.median(fast_ms[drawn])
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(float(np.median(slow_ms) / np.median(fast_ms)), float(low), float(high))


@dataclass(frozen=True)
class Place:
    """What a latency was measured on. Tables of another place say nothing.

    Attributes:
        num_nodes: of a cell; 0 for students without cells.
        kind: of students, and what they have in common.
    """

    device: str
    runtime: str
    threads: int
    width: int
    num_nodes: int
    max_length: int
    num_items: int
    kind: str = "cell"

    def differences(self, other: "Place") -> list[str]:
        """A sentence's part for each field that is not the same; of the catalogue, that is not nearly as large: a scene
        on a schedule gets new items, and what a request costs by them is little."""
        mine, others = asdict(self), asdict(other)
        if max(self.num_items, other.num_items) <= SIMILAR * min(self.num_items, other.num_items):
            others["num_items"] = self.num_items
        return [f"{name} {mine[name]!r}, not {others[name]!r}" for name in mine if mine[name] != others[name]]


@dataclass(frozen=True)
class Prices:
    """Cost = rest + layers * layer + the sum over all layers' parts of theirs.

    Attributes:
        rest: look-up, positions, scoring of the catalogue.
        layer: what a cell or a layer adds without its parts.
        part: what an operation adds, or a layer of some width.
    """

    rest: float
    layer: float
    part: dict[str, float]


@dataclass(frozen=True)
class LatencyTable:
    """p50 of one user's request to a student, and, where the machine says, the joules of a thousand.

    Attributes:
        rest_ms, cell_ms, operation_ms: `Prices` of the p50.
        error: median of |predicted / measured - 1| over students that the fit did not see.
        energy: of a thousand requests, in joules; None where the machine has no counter.
    """

    place: Place
    rest_ms: float
    cell_ms: float
    operation_ms: dict[str, float]
    error: float
    energy: Prices | None = None

    @property
    def prices(self) -> dict[str, Prices]:
        """By measure."""
        found = {P50_MS: Prices(self.rest_ms, self.cell_ms, self.operation_ms)}
        return found | ({JOULES: self.energy} if self.energy else {})

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": TABLE_SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "LatencyTable":
        """Raises KeyError, TypeError or ValueError if it is none of this version."""
        if data["schema_version"] != TABLE_SCHEMA:
            raise ValueError(f"schema version {data['schema_version']!r}")
        energy = data["energy"]
        return cls(
            Place(**data["place"]),
            float(data["rest_ms"]),
            float(data["cell_ms"]),
            _floats(data["operation_ms"]),
            float(data["error"]),
            Prices(float(energy["rest"]), float(energy["layer"]), _floats(energy["part"])) if energy else None,
        )


def _floats(data: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in data.items()}


def fit_table(
    place: Place,
    names: Sequence[str],
    students: Sequence[Iterable[Mapping[Any, str]]],
    p50_ms: Floats,
    num_checked: int,
    joules: Floats | None = None,
) -> LatencyTable:
    """Non-negative least squares of the relative error; the last `num_checked` students only check the fit.

    `students` says of each student, layer by layer, which of the `names` it is made of.
    """
    counted = np.array([_features(list(layers), names) for layers in students])
    fitted = len(students) - num_checked
    p50 = _fitted(counted[:fitted], names, p50_ms[:fitted])
    weights = np.array([p50.rest, p50.layer, *p50.part.values()])
    errors = np.abs(counted[fitted:] @ weights / p50_ms[fitted:] - 1.0)
    energy = _fitted(counted[:fitted], names, joules[:fitted]) if joules is not None else None
    return LatencyTable(place, p50.rest, p50.layer, p50.part, float(np.median(errors)), energy)


def _fitted(counted: Floats, names: Sequence[str], measured: Floats) -> Prices:
    from scipy.optimize import nnls  # here, because importing it takes half a second

    solution, _ = nnls(counted / measured[:, None], np.ones(len(counted)))
    rest, layer, *each = (float(value) for value in solution)
    return Prices(rest, layer, dict(zip(names, each, strict=True)))


def _features(layers: Sequence[Mapping[Any, str]], names: Sequence[str]) -> list[int]:
    parts = [name for layer in layers for name in layer.values()]
    return [1, len(layers), *(parts.count(name) for name in names)]
