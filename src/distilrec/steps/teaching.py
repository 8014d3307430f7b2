"""Where a student's training gets the teacher's word from: written down once in scratch space, if there is room."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distilrec.core.batching import Batch
from distilrec.core.fit import TrainingData
from distilrec.core.sequence_model import SequenceModel
from distilrec.core.teaching import LiveTeacher, StoredTeacher, Taught, TeacherArrays, TeacherSource
from distilrec.io.scratch import Scratch
from distilrec.steps.adapters import Adapters


@contextmanager
def teacher_source(
    model: SequenceModel, num_named: int, data: TrainingData, adapters: Adapters
) -> Iterator[TeacherSource]:
    """Written down at the first question, so that a training with nothing left to do asks none.

    The live teacher answers instead if the scratch space is too small, and where several processes train: each
    asks about its own part of a batch.
    """
    live = LiveTeacher(model, num_named)
    if adapters.processes.count > 1:
        yield live
        return
    with Scratch() as scratch:
        yield _WrittenAtFirst(live, data, scratch, adapters)


class _WrittenAtFirst:
    def __init__(self, live: LiveTeacher, data: TrainingData, scratch: Scratch, adapters: Adapters) -> None:
        self.live, self.data, self.scratch, self.adapters = live, data, scratch, adapters
        self._source: TeacherSource | None = None

    def of(self, batch: Batch) -> Taught:
        if self._source is None:
            self._source = self._write()
        return self._source.of(batch)

    def _write(self) -> TeacherSource:
        model, train, progress = self.live.model, self.data.train, self.adapters.progress
        layout: dict[str, Any] = TeacherArrays.layout(len(train.items), model, self.live.num_named)
        if not self.scratch.has_room_for(layout):
            progress.say("storing", skipped=f"no room in {self.scratch.path}")
            return self.live
        arrays = TeacherArrays(**self.scratch.arrays(layout))
        for done, total in arrays.fill(self.live, train, self.data.windows):
            progress.tick("storing", batch=done, num_batches=total)
        return StoredTeacher(model, arrays)
