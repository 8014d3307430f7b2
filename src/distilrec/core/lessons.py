"""What a model is trained towards: the next item, the next item with a teacher's help, or masked items.

Shapes: B sequences, L positions.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from distilrec.core.batching import Batch
from distilrec.core.bert4rec import BERT4Rec, MaskedScorer, mask
from distilrec.core.config import Distillation
from distilrec.core.distill import LayerDistillation
from distilrec.core.evaluation import Scorer
from distilrec.core.objective import Objective
from distilrec.core.parallel import ALONE, Processes
from distilrec.core.recommender import ModelScorer
from distilrec.core.sequence_model import Layers, SequenceModel
from distilrec.core.state_terms import StateTerms
from distilrec.core.teaching import TeacherSource


@dataclass(frozen=True)
class Losses:
    """Means over what is guessed; zero where the term is not used."""

    total: float
    task: float
    soft: float = 0.0
    embedding: float = 0.0
    hidden: float = 0.0
    terms: float = 0.0

    @classmethod
    def mean(cls, seen: Sequence["Losses"]) -> "Losses":
        rows = torch.tensor([astuple(losses) for losses in seen], dtype=torch.float64)
        return cls(*rows.mean(dim=0).tolist())

    def over_processes(self, batch: Batch, processes: Processes) -> "Losses":
        """The batch's losses, of all its positions wherever they are."""
        if processes.count == 1:
            return self
        return Losses(*processes.sum(torch.tensor(astuple(self), dtype=torch.float64) * batch.share).tolist())


class Lesson(Protocol):
    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """What is trained beside the model, and thrown away afterwards."""

    def loss(self, model: SequenceModel, batch: Batch, objective: Objective) -> tuple[Tensor, Losses]:
        """What to minimise, and its parts."""

    def scorer(self, model: SequenceModel) -> Scorer:
        """The model as validation asks it."""


class NextItem:
    """The objective alone, a mean over real positions."""

    modules: tuple[nn.Module, ...] = ()

    def loss(self, model: SequenceModel, batch: Batch, objective: Objective) -> tuple[Tensor, Losses]:
        states_ND = batch.take(model(batch.inputs_BL).state_BLD)
        next_item = objective(states_ND, model.item_vectors(), batch.take(batch.targets_BL))
        return next_item.total, Losses(next_item.total.item(), next_item.task)

    def scorer(self, model: SequenceModel) -> Scorer:
        return ModelScorer(model)


class MaskedItems:
    """BERT4Rec's first stage. The masks are drawn from the objective's generator, which a resume seeds again."""

    modules: tuple[nn.Module, ...] = ()

    def __init__(self, share: float) -> None:
        self.share = share

    def loss(self, model: SequenceModel, batch: Batch, objective: Objective) -> tuple[Tensor, Losses]:
        assert isinstance(model, BERT4Rec), "only BERT4Rec fills in"
        masked = mask(batch, self.share, objective.generator)
        states_ND = model.fill_in(masked.ids_BM, masked.is_masked_BM).flatten(0, 1)[masked.guessed_N]
        guess = objective(states_ND, model.item_vectors(), masked.targets_N)
        return guess.total, Losses(guess.total.item(), guess.task)

    def scorer(self, model: SequenceModel) -> Scorer:
        assert isinstance(model, BERT4Rec), "only BERT4Rec fills in"
        return MaskedScorer(model)


class Distiller(NextItem):
    """A frozen teacher, and the loss that carries it into a student."""

    def __init__(
        self,
        teacher: TeacherSource,
        layers: LayerDistillation,
        config: Distillation,
        processes: Processes = ALONE,
        terms: StateTerms | None = None,
    ) -> None:
        self.teacher, self.layers, self.config, self.processes = teacher, layers, config, processes
        self.terms = terms
        self.modules: tuple[nn.Module, ...] = (layers,) if terms is None else (layers, terms)

    def loss(self, model: SequenceModel, batch: Batch, objective: Objective) -> tuple[Tensor, Losses]:
        """(1 - share) * task + share * (soft + embedding + hidden + terms)."""
        taught = self.teacher.of(batch)
        got: Layers = model(batch.inputs_BL)
        asked = (batch.take(got.state_BLD), model.item_vectors(), batch.take(batch.targets_BL))
        next_item = objective(*asked, taught.soft, self.config.share)
        layers = self.layers(got, taught, batch, self.processes)
        hints = self.config.embedding_weight * layers.embedding + self.config.hidden_weight * layers.hidden
        more = self.terms(*asked, taught, objective.generator) if self.terms else torch.zeros(())
        total = next_item.total + self.config.share * (hints + more)
        parts = (layers.embedding.item(), layers.hidden.item(), more.item())
        return total, Losses(total.item(), next_item.task, next_item.soft, *parts)
