"""What a step leaves for MLflow: made of its manifest and its history, so that nothing depends on a server."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from distilrec.core.config import SceneConfig
from distilrec.core.errors import ArtifactError
from distilrec.io.accounts import ACCOUNTED
from distilrec.io.jsons import read_json
from distilrec.io.mlflow_server import in_a_hurry
from distilrec.io.tracking import Epochs, Origin, StepRecord, Tracking

METRICS = (*ACCOUNTED, "trained_seconds", "padding")


def record_of(
    config: SceneConfig, origin: Origin, manifest: Mapping[str, Any], history: Iterable[Mapping[str, Any]] = (),
    outcome: Mapping[str, float] | None = None,
) -> StepRecord:  # fmt: skip
    """The manifest's `content` becomes a tag: an attempt with another one is another's."""
    return StepRecord(
        origin=origin,
        scene=config.scene,
        step=str(manifest["step"]),
        time=time.time(),
        params=params_of(config),
        tags={key: str(manifest[key]) for key in ("content", "as_of", "sha256") if key in manifest},
        metrics={name: float(manifest[name]) for name in METRICS if name in manifest},
        epochs=epochs_of(history),
        outcome=dict(outcome or {}),
    )


def keep(config: SceneConfig, folder: Path, tracking: Tracking) -> None:
    """Of the step that wrote this folder."""
    tracking.keep(record_of(config, tracking.origin, read_json(folder / "manifest.json"), history_in(folder)))


def history_in(folder: Path) -> list[dict[str, Any]]:
    """Of a training; empty for the other steps."""
    path = folder / "history.json"
    history: list[dict[str, Any]] = read_json(path) if path.is_file() else []
    return history


class Live:
    """A training's saved epochs, shown while it runs. The first failure is the last attempt: the record at the end of
    the step has them all."""

    def __init__(self, config: SceneConfig, step: str, tracking: Tracking, seconds_between: float) -> None:
        self.config, self.step, self.tracking = config, step, tracking
        self.seconds_between = seconds_between
        self._told, self._last, self._is_off = 0, time.monotonic(), not tracking.origin.run

    def saved(self, history: list[dict[str, Any]]) -> str:
        """Returns why they could not be shown, once."""
        if self._is_off or time.monotonic() - self._last < self.seconds_between:
            return ""
        problem = ""
        try:
            with in_a_hurry():
                epochs = epochs_of(history[self._told :])
                self.tracking.log_epochs(self.config.scene, self.step, params_of(self.config), epochs)
        except ArtifactError as error:
            self._is_off, problem = True, str(error)
        self._told, self._last = len(history), time.monotonic()
        return problem


def epochs_of(history: Iterable[Mapping[str, Any]]) -> Epochs:
    return [(int(row["epoch"]), float(row.get("time", 0.0)), _epoch_metrics(row)) for row in history]


def _epoch_metrics(row: Mapping[str, Any]) -> dict[str, float]:
    metrics = {f"loss.{name}": float(value) for name, value in row["losses"].items()}
    metrics |= {f"valid.{variant}.ndcg_at_10": float(value) for variant, value in row["valid"].items()}
    if "entropy" in row:
        for decision, values in row["entropy"].items():
            metrics |= {f"entropy.{decision}_{index}": float(value) for index, value in enumerate(values)}
        metrics |= {f"expected_cost.{measure}": float(value) for measure, value in row["expected_cost"].items()}
        metrics["cost_weight"] = float(row["cost_weight"])
    return metrics


def params_of(config: SceneConfig) -> dict[str, str]:
    return _flat(config.model_dump(mode="json"))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)}
    return flat
