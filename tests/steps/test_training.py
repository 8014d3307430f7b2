import math
from types import SimpleNamespace

import pytest

from distilrec.core.errors import ArtifactError, TrainingError
from distilrec.core.fit import BatchRecord, DivergedError, EpochRecord
from distilrec.core.lessons import Losses
from distilrec.core.snapshot import Snapshot
from distilrec.io.progress import Progress
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.io.tracking import Origin
from distilrec.steps import training
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.training import train
from tests.conftest import UNTRACKED


class _Epochs:
    """Stands for a training of a few epochs."""

    epoch = 0

    def __init__(self, number):
        self.number = number

    def records(self):
        while self.epoch < self.number:
            self.epoch += 1
            yield BatchRecord(self.epoch, 9, 1, 1, 0.5)
            yield EpochRecord(self.epoch, 9, 0.1, Losses(0.5, 0.5), {"kept": 0.1, "removed": 0.1}, 0.0, True)

    def snapshot(self):
        return Snapshot(values={"epoch": self.epoch})

    def restore(self, saved):
        self.epoch = saved.values["epoch"]


class _Diverging(_Epochs):
    """Good epochs, then a loss that is no number, as with a bad learning rate."""

    def records(self):
        yield from super().records()
        raise DivergedError(self.number + 1, 1)


def _train(one, tmp_path, tracking=UNTRACKED):
    config = load_scene("scene: shop\ndata: {source: synthetic}\n")
    adapters = Adapters(LocalStore(tmp_path), Progress(tmp_path, "teach"), SimpleNamespace(), tracking, 0.0)
    return train(one, "teach", "abc", config, "kept", adapters)


def test_a_diverged_training_names_step_epoch_and_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", math.inf)
    with pytest.raises(TrainingError) as caught:
        _train(_Diverging(2), tmp_path)
    for words in ("teach", "epoch 3", "batch 1", "checkpoints/shop/teach-abc/000002.safetensors"):
        assert words in str(caught.value)
    assert (tmp_path / "checkpoints/shop/teach-abc/000002.safetensors").is_file()


@pytest.mark.parametrize("how", [SystemExit, KeyboardInterrupt])
def test_a_training_that_is_stopped_saves_its_last_whole_epoch(tmp_path, monkeypatch, how):
    class Stopped(_Epochs):
        def records(self):
            yield from super().records()
            self.epoch += 1
            raise how

    monkeypatch.setattr(training, "CHECKPOINT_SHARE", 1e-9)
    with pytest.raises(how):
        _train(Stopped(3), tmp_path)
    saved = sorted(path.name for path in (tmp_path / "checkpoints/shop/teach-abc").glob("*.json"))
    assert saved == ["000001.json", "000003.json"]
    assert [row["epoch"] for row in _train(_Epochs(4), tmp_path)] == [1, 2, 3, 4]


class _Away:
    """Stands for an MLflow server that lets one wait, by a clock that stands still otherwise, and does not answer."""

    origin, asked, now = Origin("shop-1"), 0, 0.0

    def log_epochs(self, scene, step, params, epochs):
        self.asked += 1
        self.now += 30.0
        raise ArtifactError("DR-REG-005", "MLflow is away")


def test_a_server_that_is_away_delays_no_checkpoint_and_is_named_once(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SECONDS_BETWEEN_REPORTS", 0.0)
    away = _Away()
    clock = SimpleNamespace(monotonic=lambda: away.now, time=lambda: away.now)
    monkeypatch.setattr(training, "time", clock)
    history = _train(_Epochs(4), tmp_path, away)
    assert away.asked == 1 and sum(row["seconds"] for row in history) == 0.0, "the wait is no part of the training"
    saved = sorted(path.name for path in (tmp_path / "checkpoints/shop/teach-abc").glob("*.json"))
    assert saved == ["000003.json", "000004.json"], "each epoch was saved, and the newest two are kept"
    said = [line for line in (tmp_path / "progress.jsonl").read_text().splitlines() if "untracked" in line]
    assert len(said) == 1 and "MLflow is away" in said[0]
    shown = []
    there = SimpleNamespace(origin=Origin("shop-1"), log_epochs=lambda *given: shown.append(given[-1]))
    again = tmp_path / "again"
    again.mkdir()
    _train(_Epochs(3), again, there)
    assert [[epoch for epoch, _, _ in epochs] for epochs in shown] == [[1], [2], [3]], "each once"


def test_stopping_does_not_wait_for_mlflow(tmp_path, monkeypatch):
    class Stopped(_Epochs):
        def records(self):
            yield next(super().records())
            raise SystemExit

    monkeypatch.setattr(training, "SECONDS_BETWEEN_REPORTS", 0.0)
    away = _Away()
    with pytest.raises(SystemExit):
        _train(Stopped(3), tmp_path, away)
    assert away.asked == 0


def test_checkpoints_too_dear_for_their_share_are_left_out_but_for_the_first_and_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", 1e-9)
    assert len(_train(_Epochs(5), tmp_path)) == 5
    saved = sorted(path.name for path in (tmp_path / "checkpoints/shop/teach-abc").glob("*.json"))
    assert saved == ["000001.json", "000005.json"]
    assert len(_train(_Epochs(5), tmp_path)) == 5, "nothing is left to do"


def test_content_follows_everything_a_result_depends_on():
    config = load_scene("scene: shop\ndata: {source: synthetic}\n")
    same = load_scene("scene: other\ndata: {source: synthetic}\n", "search.epochs=3")
    assert content_of("teach", config, "data") == content_of("teach", same, "data")
    contents = {
        content_of("teach", config, "data"),
        content_of("teach", config, "other data"),
        content_of("search", config, "data"),
        content_of("teach", load_scene("scene: shop\ndata: {source: synthetic}\n", "seed=1"), "data"),
        content_of("teach", load_scene("scene: shop\ndata: {source: synthetic}\n", "teach.width=32"), "data"),
    }
    assert len(contents) == 5
