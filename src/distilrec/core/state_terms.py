"""Distillation terms for sequential students: the contexts are positions, drawn from those of a batch.

Shapes: N real positions of a batch, P of them drawn, D student width, E teacher width, V items, M named items.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distilrec.core.ranked import TeacherRanking
from distilrec.core.sequence_model import SequenceModel
from distilrec.core.teaching import Taught
from distilrec.core.terms import Pair, Sizes, drawn_for
from distilrec.core.views import StateView


def sizes_of_states(student: SequenceModel, teacher: SequenceModel, num_epochs: int) -> Sizes:
    widths = ((student.width, teacher.width),)
    return Sizes(widths, widths, student.num_items, num_epochs)


@dataclass(frozen=True)
class _Frozen:
    """A module inside a value, so that what holds the value does not train or save the module."""

    model: SequenceModel


class StateTerms(nn.Module):
    """The weighted sum of some terms, each a mean over positions.

    The lists are the teacher's most likely items at a position, drawn from anew for every batch; the item that came
    next may be among them, and is never one of the uninteresting. Items are taught by the mean over the targets.
    """

    num_batches: Tensor

    def __init__(
        self,
        teacher: SequenceModel,
        terms: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        batches_per_epoch: int,
        most_positions: int,
    ) -> None:
        """Of a batch at most `most_positions` are used: a term reads the vectors of all items that it draws."""
        super().__init__()
        assert terms.keys() == weights.keys(), "a weight for each term"
        self._teacher = _Frozen(teacher)
        self.terms, self.weights = nn.ModuleDict(terms), weights
        self.batches_per_epoch, self.most_positions = batches_per_epoch, most_positions
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.int64))

    def forward(
        self, states_ND: Tensor, vectors_VD: Tensor, targets_N: Tensor, taught: Taught, generator: torch.Generator
    ) -> Tensor:
        rows_P = torch.randperm(len(states_ND), generator=generator)[: self.most_positions]
        with torch.no_grad():
            states_PE = self._teacher.model.finish(taught.hidden_TNE[-1, rows_P])
            wise = StateView(states_PE, self._teacher.model.item_vectors())
        targets_P, places_P = targets_N[rows_P], torch.arange(len(rows_P))
        ranking = TeacherRanking.of(taught.soft.ids_NM[rows_P], places_P, targets_P, len(vectors_VD))
        items_I = torch.unique(targets_P)
        alike_I = torch.full((len(items_I),), len(rows_P) / len(items_I))
        epochs_done = int(self.num_batches) // self.batches_per_epoch
        pair = Pair(StateView(states_ND[rows_P], vectors_VD), wise, items_I, alike_I, epochs_done, generator)
        total = torch.zeros(())
        for name, term in self.terms.items():
            drawn = drawn_for(term.law, ranking, wise.scores, generator)  # type: ignore[arg-type]
            total = total + self.weights[name] * term(pair, drawn)
        if self.training:
            self.num_batches += 1
        return total / len(rows_P)
