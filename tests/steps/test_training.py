from types import SimpleNamespace

import pytest

from distilrec.core.errors import TrainingError
from distilrec.core.fit import BatchRecord, DivergedError, EpochRecord, Losses
from distilrec.core.snapshot import Snapshot
from distilrec.io.progress import Progress
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.training import train


class _Diverging:
    """Two good epochs, then a loss that is no number: stands for a training with a bad learning rate."""

    epoch = 0

    def records(self):
        while self.epoch < 2:
            self.epoch += 1
            yield BatchRecord(self.epoch, 9, 1, 1, 0.5)
            yield EpochRecord(self.epoch, 9, 0.1, Losses(0.5, 0.5), {"kept": 0.1, "removed": 0.1}, 0.0, True)
        raise DivergedError(3, 1)

    def snapshot(self):
        return Snapshot(values={"epoch": self.epoch})

    def restore(self, saved):
        self.epoch = saved.values["epoch"]


def test_a_diverged_training_names_step_epoch_and_last_good_checkpoint(tmp_path):
    config = load_scene("scene: shop\ndata: {source: synthetic}\n")
    adapters = Adapters(LocalStore(tmp_path), Progress(tmp_path, "teach"), SimpleNamespace(), 0.0)
    with pytest.raises(TrainingError) as caught:
        train(_Diverging(), "teach", "abc", config, "kept", adapters)
    for words in ("teach", "epoch 3", "batch 1", "checkpoints/shop/teach-abc/000002.safetensors"):
        assert words in str(caught.value)
    assert (tmp_path / "checkpoints/shop/teach-abc/000002.safetensors").is_file()


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
