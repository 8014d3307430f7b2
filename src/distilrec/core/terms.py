"""Distillation beyond soft targets, as terms of one signature: what two models say of one batch in, a loss out.

A context is what items are ranked for: a user, or a position of a sequence.

Shapes: N contexts, I items, K and L items drawn for each context.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distilrec.core.config import Collaborative, DistillationExperts, PointwiseRanking, RelaxedRanking, Terms
from distilrec.core.decisions import temperature_at
from distilrec.core.experts import Experts
from distilrec.core.listwise import minus_log_likelihood
from distilrec.core.ranked import NONE, Drawn, Law, TeacherRanking


class View(Protocol):
    """A model as it sees the N contexts of a batch."""

    def contexts(self) -> tuple[Tensor, ...]:
        """Their representations, each (N, width of it): one, or several where a model has several."""

    def items(self, ids_I: Tensor) -> tuple[Tensor, ...]:
        """Those of items, each (I, width of it)."""

    def scores(self, ids_NK: Tensor) -> Tensor:
        """Logits of shape (N, K)."""


@dataclass(frozen=True)
class Pair:
    """Student and teacher on the same contexts. The teacher's view carries no gradient.

    Attributes:
        items_I: the items of the batch, whose representations are taught.
        item_weights_I: of each in the sum.
        epochs_done: since the training began.
        generator: for what a term draws within a batch.
    """

    student: View
    teacher: View
    items_I: Tensor
    item_weights_I: Tensor
    epochs_done: int
    generator: torch.Generator


class Term(Protocol):
    """A sum over the contexts of the batch, a scalar with the student's gradient.

    Attributes:
        law: by which the caller draws for it, anew each epoch.
    """

    law: Law

    def __call__(self, pair: Pair, drawn: Drawn) -> Tensor: ...


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    contexts: student's and teacher's width of each representation of a context.
    items: the same of items.
    num_epochs: of the training, at most.
    """

    contexts: tuple[tuple[int, int], ...]
    items: tuple[tuple[int, int], ...]
    num_items: int
    num_epochs: int


class DE(nn.Module):
    """Squared distances to the teacher's representations through experts, of contexts and of items. The temperature of
    the selection falls geometrically and stays within an epoch."""

    law = Law(0, 0, None)

    def __init__(self, config: DistillationExperts, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        self.config, self.num_epochs = config, sizes.num_epochs
        made = [
            [Experts(width, teacher_width, config.num_experts, generator) for width, teacher_width in part]
            for part in (sizes.contexts, sizes.items)
        ]
        self.contexts, self.items = nn.ModuleList(made[0]), nn.ModuleList(made[1])

    def forward(self, pair: Pair, drawn: Drawn) -> Tensor:  # noqa: ARG002
        knobs = self.config
        epoch = min(pair.epochs_done, self.num_epochs - 1)
        temperature = temperature_at(epoch, self.num_epochs, knobs.temperature_start, knobs.temperature_end)
        contexts = (pair.student.contexts(), pair.teacher.contexts())
        items = (pair.student.items(pair.items_I), pair.teacher.items(pair.items_I))
        alike_N = torch.ones(len(contexts[0][0]), device=pair.items_I.device)
        total = torch.zeros((), device=pair.items_I.device)
        for experts, views, weights in ((self.contexts, contexts, alike_N), (self.items, items, pair.item_weights_I)):
            for one, student, teacher in zip(experts, *views, strict=True):
                total = total + one(student, teacher, weights, temperature, pair.generator)
        return total


class RRD(nn.Module):
    """Minus the log-likelihood of the teacher's order, the uninteresting items below it."""

    def __init__(self, config: RelaxedRanking, sizes: Sizes, generator: torch.Generator) -> None:  # noqa: ARG002
        super().__init__()
        temperature = config.temperature if config.interesting == "sampled" else None
        self.law = Law(config.num_interesting, config.num_uninteresting, temperature)

    def forward(self, pair: Pair, drawn: Drawn) -> Tensor:
        ids = torch.cat([drawn.interesting_NK, drawn.uninteresting_NL], dim=1)
        num_interesting = drawn.interesting_NK.shape[1]
        scores = scores_of(pair.student, ids, -torch.inf)
        return minus_log_likelihood(scores[:, :num_interesting], scores[:, num_interesting:]).sum()


class RD(nn.Module):
    """The teacher's first items as positives, each by itself (Tang & Wang 2018): weighed by exp(-rank / T), and after
    the warm-up also by tanh(mu * (rank with the student - rank)), the student's rank estimated from a sample of
    all unseen items, the teacher's among them. The weights of a context sum to one."""

    def __init__(self, config: PointwiseRanking, sizes: Sizes, generator: torch.Generator) -> None:  # noqa: ARG002
        super().__init__()
        self.config, self.num_items, self.num_epochs = config, sizes.num_items, sizes.num_epochs
        self.law = Law(config.num_positives, config.num_sampled, None, is_below_list=False)

    def forward(self, pair: Pair, drawn: Drawn) -> Tensor:
        scores_NK = scores_of(pair.student, drawn.interesting_NK, -torch.inf)
        weights_NK = (-drawn.ranks_NK / self.config.temperature).exp() * (drawn.interesting_NK != NONE)
        if pair.epochs_done >= self.config.warm_up * self.num_epochs:
            weights_NK = weights_NK * self._discrepancy(scores_NK.detach(), pair, drawn)
        weights_NK = weights_NK / weights_NK.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weights_NK.dtype).tiny)
        losses_NK = F.softplus(-scores_NK.masked_fill(drawn.interesting_NK == NONE, 0.0))
        return (weights_NK * losses_NK).sum()

    def _discrepancy(self, scores_NK: Tensor, pair: Pair, drawn: Drawn) -> Tensor:
        with torch.no_grad():
            others_NL = scores_of(pair.student, drawn.uninteresting_NL, -torch.inf)
        num_above_NK = (others_NL[:, None, :] > scores_NK[:, :, None]).sum(dim=2)
        num_others_N1 = (drawn.uninteresting_NL != NONE).sum(dim=1, keepdim=True).clamp_min(1)
        apart_NK = num_above_NK / num_others_N1 * self.num_items - drawn.ranks_NK
        return (self.config.mu * apart_NK.clamp_min(0.0)).tanh()


class CD(nn.Module):
    """Cross-entropy towards the teacher's probabilities of items sampled by its ranks (Lee et al. 2019)."""

    def __init__(self, config: Collaborative, sizes: Sizes, generator: torch.Generator) -> None:  # noqa: ARG002
        super().__init__()
        self.config = config
        self.law = Law(config.num_sampled, 0, config.temperature, is_scored=True)

    def forward(self, pair: Pair, drawn: Drawn) -> Tensor:
        assert drawn.scores_NK is not None, "the law asks for them"
        scores_NK = scores_of(pair.student, drawn.interesting_NK, 0.0)
        probability_NK = (drawn.scores_NK / self.config.calibration).sigmoid()
        losses_NK = F.binary_cross_entropy_with_logits(scores_NK, probability_NK, reduction="none")
        return (losses_NK * (drawn.interesting_NK != NONE)).sum()


def scores_of(view: View, ids_NK: Tensor, missing: float) -> Tensor:
    """Scores, `missing` where there is no item; no gradient flows there."""
    return view.scores(ids_NK.clamp_min(0)).masked_fill(ids_NK == NONE, missing)


def drawn_for(
    law: Law, ranking: TeacherRanking, score: Callable[[Tensor], Tensor], generator: torch.Generator
) -> Drawn:
    """With what the teacher scores of its items, (N, K) of (N, K) ids, where the law wants it."""
    drawn = ranking.draw(law, generator)
    if not law.is_scored:
        return drawn
    with torch.no_grad():
        return replace(drawn, scores_NK=score(drawn.interesting_NK.clamp_min(0)))


TERMS: dict[str, Callable[..., nn.Module]] = {"de": DE, "rrd": RRD, "rd": RD, "cd": CD}
"""By their names in the settings."""


def terms_of(config: Terms, sizes: Sizes, generator: torch.Generator) -> dict[str, nn.Module]:
    """Those that are named, with new weights."""
    return {name: TERMS[name](getattr(config, name), sizes, generator) for name in config.weights()}
