"""Running a training with checkpoints, history and progress: teach, search and retrain alike."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Protocol

import torch

from distilrec.core.config import SceneConfig, content_hash
from distilrec.core.errors import TrainingError
from distilrec.core.fit import BatchRecord, DivergedError, EpochRecord
from distilrec.core.parallel import Processes
from distilrec.core.search import SearchRecord
from distilrec.core.snapshot import Snapshot
from distilrec.io.checkpoints import Checkpoints
from distilrec.steps.adapters import Adapters
from distilrec.steps.tracked import Live

History = list[dict[str, Any]]
CHECKPOINT_SHARE = 0.025
"""Of a training's time: one of a million items takes seconds to write, and its epochs may be short."""
SECONDS_BETWEEN_REPORTS = 60.0
"""To MLflow, of a training under way."""


class Resumable(Protocol):
    """A training or a search that is under way."""

    epoch: int

    def records(self) -> Iterator[Any]: ...

    def snapshot(self) -> Snapshot: ...

    def restore(self, saved: Snapshot) -> None: ...


def train(
    training: Resumable,
    step: str,
    content: str,
    config: SceneConfig,
    deciding: str,
    adapters: Adapters,
    is_shown: bool = True,
) -> History:
    """Resume from the newest checkpoint if there is one, train to the end, and return the whole history. `is_shown`:
    in MLflow, while it runs.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    checkpoints = Checkpoints(adapters.store, config.scene, step, content)
    history: History = []
    found = checkpoints.latest()
    if found:
        training.restore(found[0])
        history = found[1]
        adapters.progress.say("resumed", epoch=training.epoch)
    _require_one_epoch(training.epoch, step, adapters.processes)
    live = Live(config, step, adapters.tracking, SECONDS_BETWEEN_REPORTS) if is_shown else None
    saving = _Saving(checkpoints, adapters.processes)
    began = time.monotonic()
    try:
        for record in training.records():
            if isinstance(record, BatchRecord):
                adapters.progress.tick("batch", **asdict(record))
                continue
            seconds = round(time.monotonic() - began, 3)
            history.append({**asdict(record), "seconds": seconds, "time": round(time.time(), 3)})
            began = time.monotonic()  # so a checkpoint counts to the epoch after it
            saving.if_due(training, history)
            adapters.progress.say("epoch", **_headline(record, deciding), seconds=history[-1]["seconds"])
            if live and saving.left is None and saving.is_first:
                paused = time.monotonic()
                problem = live.saved(history)
                if problem:
                    adapters.progress.say("untracked", why=problem)
                began += time.monotonic() - paused
    except DivergedError as error:
        last = saving.epoch or (found[0].values["epoch"] if found else 0)
        kept = f"{checkpoints.prefix}/{last:06d}.safetensors" if last else "none"
        raise TrainingError("DR-TRAIN-001", f"{step}: {error}; last good checkpoint: {kept}") from None
    except (SystemExit, KeyboardInterrupt):  # SIGTERM and Ctrl-C
        saving.at_end()
        raise
    saving.at_end()
    return history


class _Saving:
    """Checkpoints at the first and the last epoch and, between them, as often as their share of the time allows."""

    left: tuple[int, Snapshot, History] | None = None
    """The newest epoch, if it was not saved."""

    def __init__(self, checkpoints: Checkpoints, processes: Processes) -> None:
        self.checkpoints, self.is_first = checkpoints, processes.rank == 0
        self.epoch = 0
        self._due = 0.0

    def if_due(self, training: Resumable, history: History) -> None:
        began = time.monotonic()
        if not self.is_first:
            return
        self.left = (training.epoch, training.snapshot(), list(history))
        if began >= self._due:
            self.at_end()
            self._due = time.monotonic() + (time.monotonic() - began) / CHECKPOINT_SHARE

    def at_end(self) -> None:
        """Or when stopped: nothing of a finished epoch is lost."""
        if self.left:
            self.checkpoints.save(*self.left)
            self.epoch, self.left = self.left[0], None


def _require_one_epoch(epoch: int, step: str, processes: Processes) -> None:
    """Processes that read different stores would sum the gradients of different weights."""
    if int(processes.sum(torch.tensor(epoch))) != epoch * processes.count:
        who = f"process {processes.rank} of {processes.count}"
        raise TrainingError("DR-TRAIN-002", f"{step}: {who} resumes after epoch {epoch}, another after another")


def _headline(record: EpochRecord | SearchRecord, deciding: str) -> dict[str, Any]:
    return {
        "epoch": record.epoch,
        "num_epochs": record.num_epochs,
        "loss": record.losses.total,
        "ndcg10": record.valid[deciding],
    }


def about_training(history: History) -> dict[str, float]:
    """For the manifest: seconds over all epochs, also those of earlier, interrupted runs; the last epoch's padding."""
    return {
        "trained_seconds": round(sum(float(row["seconds"]) for row in history), 3),
        "padding": round(float(history[-1]["padding"]), 4),
    }


def seeded(config: SceneConfig, step: str) -> torch.Generator:
    """A generator of the step's own, so that changing one step's settings leaves the others' draws alone."""
    return torch.Generator().manual_seed(int(content_hash(step, config.seed), 16) % 2**31)
