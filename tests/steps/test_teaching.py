from types import SimpleNamespace

import numpy as np
import pytest

from distilrec.core.batching import training_batches
from distilrec.core.config import Distillation
from distilrec.core.errors import TrainingError
from distilrec.core.fit import TrainingData
from distilrec.core.teaching import LiveTeacher
from distilrec.io.progress import Progress
from distilrec.io.scratch import scratch_arrays
from distilrec.steps.adapters import Adapters
from distilrec.steps.teaching import teacher_source
from tests.conftest import LENGTH, UNTRACKED, chain, generator, sasrec


@pytest.fixture
def data():
    return TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")


@pytest.fixture
def adapters(tmp_path):
    return Adapters(SimpleNamespace(), Progress(tmp_path, "retrain"), SimpleNamespace(), UNTRACKED, 0.0)


def test_the_teacher_is_asked_at_the_first_question_and_never_again(data, adapters, monkeypatch):
    asked = []
    plain = LiveTeacher.of
    monkeypatch.setattr(LiveTeacher, "of", lambda self, batch: asked.append(1) or plain(self, batch))
    source = teacher_source(sasrec(), Distillation(), data, adapters)
    assert not asked, "a training with nothing left to do asks nothing"
    batch = next(training_batches(data.train, data.windows, 7, generator()))
    source.of(batch)
    once = len(asked)
    source.of(batch)
    assert len(asked) == once == -(-len(data.windows) // 64)


def test_too_little_space_is_refused_with_what_is_needed(data, adapters, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)  # stands for a full disk
    source = teacher_source(sasrec(), Distillation(), data, adapters)
    with pytest.raises(TrainingError, match=r"0\.0 GB in .*: No space left") as caught:
        source.of(next(training_batches(data.train, data.windows, 7, generator())))
    assert caught.value.code == "DR-TRAIN-003"


def test_scratch_files_have_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    arrays = scratch_arrays({"a": ((3, 2), np.float16)})
    arrays["a"][:] = 1.5
    assert list(tmp_path.iterdir()) == []
    assert arrays["a"].sum() == 9.0
