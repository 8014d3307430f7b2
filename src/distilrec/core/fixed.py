"""The space "fixed": nothing is searched. The student is drawn by hand, its size is all there is to choose, and what
makes it good is how it is taught (core/terms.py)."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from distilrec.core.cell import OPERATION, CellSpace
from distilrec.core.decisions import Choice
from distilrec.core.fit import BatchRecord
from distilrec.core.lessons import Losses
from distilrec.core.operations import ZERO
from distilrec.core.search import ArchitectureSearch, SearchRecord
from distilrec.core.space import certain

CERTAIN = 100.0
"""A logit beside zeros: all of the probability, to float's precision."""


def chain(space: CellSpace, operation: str) -> Choice:
    """Each node follows the one before it; no other edge."""
    used = [operation if target == source + 1 else ZERO for source, target in space.edges]
    return {OPERATION: tuple(map(space.operations.index, used)) * space.num_distinct}


class FixedSearch(ArchitectureSearch):
    """A search that has found what it was given: one record, of the student as it begins, and no step. So what comes
    after a search does not see the difference."""

    def records(self) -> Iterator[BatchRecord | SearchRecord]:
        if self.epoch:
            return
        with torch.no_grad():
            for name, shares in certain(self.choice(), self.supernet.space).items():
                self.logits[name].copy_(CERTAIN * shares)
        self.epoch = 1
        record = self._record(self.config.temperature_end, [Losses(0.0, 0.0)], [], 0.0)
        yield replace(record, num_epochs=1)

    def choice(self) -> Choice:
        assert isinstance(self.supernet.space, CellSpace), "a row of SPACES"
        return chain(self.supernet.space, self.config.operation)
