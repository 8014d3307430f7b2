"""results.json of a benchmark: figures with machine and versions, merged as they come, so that partial is valid."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import ROOT
from distilrec.io.jsons import read_json, write_json
from distilrec.io.machine import describe_machine, versions

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
SAME_THREADS = f"threads={THREADS}"
"""What every scene of a benchmark is told: a step takes its scene's threads, whatever the environment says."""

RUNS = Path(os.environ.get("DISTILREC_BENCH_RUNS", ROOT / "runs" / "benchmarks")).resolve() / f"threads-{THREADS}"
"""Datasets, teachers and checkpoints, which benchmarks share: other threads train another teacher."""


class Results:
    """Figures, and the raw measurements they were made of, in two files beside the script."""

    def __init__(self, folder: Path, name: str, is_quick: bool = False) -> None:
        self.path, self.raw_path = folder / "results.json", folder / "measurements.json"
        self.name, self.is_quick = name, is_quick
        self.raw: dict[str, Any] = self._stored()

    def figures(self) -> dict[str, dict[str, Any]]:
        return read_json(self.path)["figures"] if self.path.is_file() else {}

    def _stored(self) -> dict[str, Any]:
        return read_json(self.raw_path) if self.raw_path.is_file() else {}

    def keep(self, key: str, value: Any) -> Any:
        """A raw measurement: what a resumed run does not measure again. Nothing else is written, because another part
        may be running beside this one."""
        self.raw[key] = value
        write_json(self.raw_path, {**self._stored(), key: value})
        return value

    @property
    def done(self) -> list[str]:
        """Parts that are complete."""
        return list(self._stored().get("done", []))

    def begin(self, part: str) -> None:
        """Anew, if it was complete: what was measured then is forgotten."""
        if part in self.done:
            self.raw.pop(part, None)
            rest = {key: value for key, value in self._stored().items() if key != part}
            write_json(self.raw_path, {**rest, "done": [one for one in self.done if one != part]})

    def finish(self, part: str) -> None:
        self.keep("done", [*self.done, part])

    def put(self, figure: str, value: float, unit: str, note: str, **more: Any) -> None:
        measured_on = {**describe_machine(), "threads": THREADS}
        self._require_same(measured_on)
        figures = self.figures()
        figures[figure] = {"value": value, "unit": unit, "note": note, **more}
        document = {
            "name": self.name,
            "commands": [f"python -m benchmarks.{self.name}"],
            "machine": measured_on,
            "versions": versions(),
            "date": datetime.now(UTC).date().isoformat(),
            "figures": dict(sorted(figures.items())),
        }
        write_json(self.path, document)
        print(f"{figure} = {value:.4g} {unit} {more.get('interval', '')} ({note})", flush=True)

    def _require_same(self, machine: dict[str, Any]) -> None:
        if not self.path.is_file():
            return
        before = read_json(self.path)
        changed = [key for key in ("cpu", "cores", "threads") if before["machine"][key] != machine[key]]
        changed += [key for key, value in versions().items() if before["versions"][key] != value]
        if changed:
            raise SystemExit(f"{self.path} is of another machine or version ({', '.join(changed)}): remove it first")


def median_ratio(slow: list[float], fast: list[float], repeats: int = 2000) -> tuple[float, list[float]]:
    """Of the medians, with a bootstrap interval over the repeats of each."""
    random = np.random.default_rng(0)

    def medians(values: list[float]) -> np.ndarray:
        return np.median(random.choice(values, size=(repeats, len(values))), axis=1)

    low, high = np.quantile(medians(slow) / medians(fast), [0.025, 0.975])
    return float(np.median(slow) / np.median(fast)), [float(low), float(high)]


def compare(committed: dict[str, Any], now: dict[str, Any]) -> str:
    """A table of the figures that both have."""
    lines = [f"{'figure':<44}{'committed':>12}{'now':>12}{'now/committed':>15}"]
    for name in sorted(committed.keys() & now.keys()):
        old, new = committed[name]["value"], now[name]["value"]
        lines.append(f"{name:<44}{old:>12.4g}{new:>12.4g}{new / old if old else float('nan'):>15.2f}")
    return "\n".join(lines)
