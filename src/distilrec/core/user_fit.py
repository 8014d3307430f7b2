"""The loop that trains user models, alone or with a teacher's terms beside their own loss; `UserRun` ends it by
validation.

Shapes: P observed pairs, N pairs or users of a batch, C items that the teacher lists.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from distilrec.core.config import Training, UserTraining
from distilrec.core.evaluation import Scorer, users_at_once
from distilrec.core.events import Sequences
from distilrec.core.factors import UserModel
from distilrec.core.fit import BatchRecord, UntilNoBetter, Validation
from distilrec.core.lessons import Losses
from distilrec.core.parallel import ALONE
from distilrec.core.ranked import NONE, Allowed, Drawn, TeacherRanking
from distilrec.core.recommender import ModelScorer
from distilrec.core.snapshot import Snapshot
from distilrec.core.terms import Pair, drawn_for
from distilrec.core.views import UserView


@dataclass(frozen=True)
class Pairs:
    """What was observed, by ascending user, and for every user what was not. Users without a pair are in no batch, nor
    are those who have everything: nothing ranks below what they had."""

    users_P: Tensor
    items_P: Tensor
    unseen: Allowed

    @classmethod
    def of(cls, train: Sequences, device: str = "cpu") -> "Pairs":
        rows, items = train.distinct().events(np.arange(len(train)))
        users_P, items_P = torch.from_numpy(rows).to(device), torch.from_numpy(items.astype(np.int64)).to(device)
        unseen = Allowed.excluding(users_P, items_P, len(train), train.num_items)
        has_unseen_P = unseen.counts_N[users_P] > 0
        return cls(users_P[has_unseen_P], items_P[has_unseen_P], unseen)


def ranking_by(teacher: UserModel, pairs: Pairs, num_listed: int) -> TeacherRanking:
    """Every user's best items that were not observed, at most `num_listed`. Scores of one batch exist at a time."""
    num_users, num_items = teacher.num_users, teacher.num_items
    parts: list[TeacherRanking] = []
    for users in torch.split(torch.arange(num_users, device=pairs.users_P.device), users_at_once(num_items)):
        with torch.no_grad():
            scores = teacher.score(teacher.states(users))
        first, last = torch.searchsorted(pairs.users_P, torch.stack([users[0], users[-1] + 1])).tolist()
        seen = pairs.users_P[first:last] - users[0], pairs.items_P[first:last]
        scores[seen] = -torch.inf
        top = scores.topk(min(num_listed, num_items), dim=1)
        parts.append(TeacherRanking.of(top.indices.masked_fill(top.values == -torch.inf, NONE), *seen, num_items))
    return TeacherRanking.joined(parts)


@dataclass(frozen=True)
class UserTeaching:
    """A frozen teacher, its ranking, and the terms with their weights.

    Attributes:
        ranking: made when an epoch begins: a training that is found finished needs none.
    """

    teacher: UserModel
    ranking: Callable[[], TeacherRanking]
    terms: Mapping[str, nn.Module]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        self.teacher.eval().requires_grad_(False)


@dataclass(frozen=True)
class UserEpoch:
    """Losses by name, the model's own as `task`; each a mean over the observed pairs."""

    epoch: int
    losses: dict[str, float]


@dataclass(frozen=True)
class UserBatch:
    """Losses by name, each a sum over its pairs."""

    losses: dict[str, float]
    num_pairs: int


def means(batches: Sequence[UserBatch]) -> dict[str, float]:
    """Over the pairs of all."""
    num_pairs = sum(batch.num_pairs for batch in batches)
    return {name: sum(batch.losses[name] for batch in batches) / num_pairs for name in batches[0].losses}


class UserFit:
    """A training in progress, on the generator's device. Negatives, the order of the pairs and what terms take from
    the teacher's ranking are drawn anew each epoch. The caller evaluates between epochs, and stops by not asking for
    the next."""

    def __init__(
        self,
        model: UserModel,
        pairs: Pairs,
        config: UserTraining,
        generator: torch.Generator,
        teaching: UserTeaching | None = None,
    ) -> None:
        self.model, self.pairs, self.config, self.generator = model, pairs, config, generator
        self.teaching = teaching
        self.trained = nn.ModuleDict({"model": model, "terms": nn.ModuleDict(teaching.terms if teaching else {})})
        self.optimiser = torch.optim.Adam(
            self.trained.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.epoch = 0

    def epochs(self) -> Iterator[UserEpoch]:
        """Without end."""
        while True:
            losses = means(list(self.batches()))
            yield UserEpoch(self.epoch, losses)

    def batches(self) -> Iterator[UserBatch]:
        """Of one epoch."""
        self.trained.train()
        pairs, generator = self.pairs, self.generator
        negatives_P = pairs.unseen.one_each(pairs.users_P, generator)
        drawn = self._drawn()
        order_P = torch.randperm(len(pairs.users_P), generator=generator, device=generator.device)
        for rows in torch.split(order_P, self.config.batch_size):
            losses = self._losses(pairs.users_P[rows], pairs.items_P[rows], negatives_P[rows], drawn)
            total = torch.stack([self.weight(name) * loss for name, loss in losses.items()]).sum()
            self.optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            yield UserBatch({name: loss.item() for name, loss in losses.items()}, len(rows))
        self.epoch += 1

    def weight(self, name: str) -> float:
        return 1.0 if name == "task" or self.teaching is None else self.teaching.weights[name]

    def _drawn(self) -> dict[str, Drawn]:
        if self.teaching is None:
            return {}
        ranking, score = self.teaching.ranking(), self._scored_by_teacher
        return {
            name: drawn_for(term.law, ranking, score, self.generator)  # type: ignore[arg-type]
            for name, term in self.teaching.terms.items()
        }

    def _scored_by_teacher(self, ids_NK: Tensor) -> Tensor:
        """Of all users; the vectors of as many as a batch has exist at a time."""
        assert self.teaching is not None
        teacher, users = self.teaching.teacher, torch.arange(len(ids_NK), device=ids_NK.device)
        parts = zip(*(torch.split(one, self.config.batch_size) for one in (users, ids_NK)), strict=True)
        return torch.cat([UserView(teacher, some).scores(ids) for some, ids in parts])

    def _losses(
        self, users_N: Tensor, positives_N: Tensor, negatives_N: Tensor, drawn: Mapping[str, Drawn]
    ) -> dict[str, Tensor]:
        losses = {"task": self.model.loss(users_N, positives_N, negatives_N)}
        if self.teaching is None:
            return losses
        users = torch.unique(users_N)
        items_I = torch.cat([torch.unique(positives_N), torch.unique(negatives_N)])
        halves_I = torch.full((len(items_I),), 0.5, device=items_I.device)
        student, teacher = UserView(self.model, users), UserView(self.teaching.teacher, users)
        pair = Pair(student, teacher, items_I, halves_I, self.epoch, self.generator)
        for name, term in self.teaching.terms.items():
            losses[name] = term(pair, drawn[name].of(users))
        return losses

    def snapshot(self) -> Snapshot:
        """All that a resume needs, between epochs."""
        saved = Snapshot(values={"epoch": self.epoch})
        saved.put_module("trained", self.trained)
        saved.put_optimiser("optimiser", self.optimiser)
        saved.put_generator("generator", self.generator)
        return saved

    def restore(self, saved: Snapshot) -> None:
        self.epoch = int(saved.values["epoch"])
        saved.get_module("trained", self.trained)
        saved.get_optimiser("optimiser", self.optimiser)
        saved.get_generator("generator", self.generator)


class UserRun(UntilNoBetter):
    """Of a user model. Of the settings only `max_epochs` and `patience` are read: the fit has its own."""

    processes = ALONE

    def __init__(self, fit: UserFit, data: Validation, config: Training) -> None:
        super().__init__()
        self.fit, self.model, self.data, self.config = fit, fit.model, data, config

    def one_epoch(self) -> Generator[BatchRecord, None, tuple[Losses, float]]:
        num_batches = -(-len(self.fit.pairs.users_P) // self.fit.config.batch_size)
        batches: list[UserBatch] = []
        for batch in self.fit.batches():
            batches.append(batch)
            yield self.batch_record(len(batches), num_batches, self._total(means([batch])))
        losses = means(batches)
        total = self._total(losses)
        return Losses(total, losses["task"], terms=total - losses["task"]), 0.0

    def _total(self, losses: Mapping[str, float]) -> float:
        return sum(self.fit.weight(name) * loss for name, loss in losses.items())

    def learning_rate(self) -> float:
        return self.fit.config.learning_rate

    def scorer(self) -> Scorer:
        return ModelScorer(self.model)

    def snapshot(self) -> Snapshot:
        saved = self.fit.snapshot()
        self.put_best(saved)
        return saved

    def restore(self, saved: Snapshot) -> None:
        self.fit.restore(saved)
        self.get_best(saved)
