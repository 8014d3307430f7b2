"""Where a student's training gets the teacher's word from."""

import tempfile

from distilrec.core.batching import Batch
from distilrec.core.config import Distillation
from distilrec.core.errors import TrainingError
from distilrec.core.fit import TrainingData
from distilrec.core.sequence_model import SequenceModel
from distilrec.core.teaching import LiveTeacher, StoredTeacher, Taught, TeacherArrays, TeacherSource
from distilrec.io.scratch import scratch_arrays, size_of
from distilrec.steps.adapters import Adapters


def teacher_source(model: SequenceModel, config: Distillation, data: TrainingData, adapters: Adapters) -> TeacherSource:
    live = LiveTeacher(model, config.named_items)
    return live if config.teacher == "live" else _WrittenAtFirst(live, data, adapters)


class _WrittenAtFirst:
    """Written down at the first question: a training with nothing left to do asks none."""

    def __init__(self, live: LiveTeacher, data: TrainingData, adapters: Adapters) -> None:
        self.live, self.data, self.adapters = live, data, adapters
        self._stored: StoredTeacher | None = None

    def of(self, batch: Batch) -> Taught:
        if self._stored is None:
            self._stored = self._write()
        return self._stored.of(batch)

    def _write(self) -> StoredTeacher:
        model, train = self.live.model, self.data.train
        layout = TeacherArrays.layout(len(train.items), model, self.live.num_named)
        try:
            arrays = TeacherArrays(**scratch_arrays(layout))
        except OSError as error:
            wanted = f"{size_of(layout) / 1e9:.1f} GB in {tempfile.gettempdir()}"
            raise TrainingError("DR-TRAIN-003", f"the teacher's word needs {wanted}: {error.strerror}") from None
        for done, total in arrays.fill(self.live, train, self.data.windows):
            self.adapters.progress.tick("storing", batch=done, num_batches=total)
        return StoredTeacher(model, arrays)
