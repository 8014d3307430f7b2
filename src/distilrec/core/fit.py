"""The loop that trains sequential models, and what it shares with that of user models (user_fit.py): an end by
validation. A lesson says towards what: the next item, a teacher, masked items.

It yields a record per batch and per epoch; at an epoch's record `Fit.snapshot()` is all that a resume
needs. The caller logs, saves, or stops listening.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from distilrec.core.batching import Batch, Windows, cut_windows, training_batches
from distilrec.core.config import Descent, Training
from distilrec.core.evaluation import Ranks, Scorer, mean_ndcg10, rank_asked
from distilrec.core.events import Sequences
from distilrec.core.lessons import Lesson, Losses, NextItem
from distilrec.core.metrics import VARIANTS, NotANumberError
from distilrec.core.objective import Objective
from distilrec.core.parallel import ALONE, Processes
from distilrec.core.recommender import Recommender
from distilrec.core.sequence_model import SequenceModel
from distilrec.core.snapshot import Snapshot
from distilrec.core.split import Questions, Split


class DivergedError(ArithmeticError):
    """The loss is not finite. The weights are spoilt; the last snapshot is not."""

    def __init__(self, epoch: int, batch: int) -> None:
        where = f"batch {batch}" if batch else "validation"
        super().__init__(f"the loss is not a finite number in epoch {epoch}, {where}")
        self.epoch = epoch
        self.batch = batch


@dataclass(frozen=True)
class BatchRecord:
    """Counted from 1."""

    epoch: int
    num_epochs: int
    batch: int
    num_batches: int
    loss: float


@dataclass(frozen=True)
class EpochRecord:
    """Attributes:
    valid: NDCG@10 on validation, by variant.
    padding: share of the tokens of the epoch that were padding.
    is_best: whether this epoch's weights are the ones kept.
    """

    epoch: int
    num_epochs: int
    learning_rate: float
    losses: Losses
    valid: dict[str, float]
    padding: float
    is_best: bool


@dataclass(frozen=True)
class Validation:
    """Attributes:
    deciding: the variant that stops early, `kept` or `removed`.
    """

    valid: Questions
    deciding: str

    def validate(self, scorer: Scorer, epoch: int, processes: Processes) -> dict[str, float]:
        """NDCG@10 by variant. Raises DivergedError if the last step of the epoch spoilt the weights."""
        try:
            ranks = rank_in_parts(scorer, self.valid, processes)
        except NotANumberError:
            raise DivergedError(epoch, 0) from None
        return {variant: mean_ndcg10(ranks, variant) for variant in VARIANTS}


@dataclass(frozen=True)
class TrainingData(Validation):
    """With training windows."""

    train: Sequences
    windows: Windows

    @classmethod
    def of(cls, split: Split, max_length: int, deciding: str) -> "TrainingData":
        return cls(split.valid, deciding, split.train, cut_windows(split.train, max_length))

    @classmethod
    def leave_one_out(cls, sequences: Sequences, max_length: int, deciding: str) -> "TrainingData":
        return cls.of(Split.leave_one_out(sequences), max_length, deciding)


def seed_epoch(generator: torch.Generator, model: SequenceModel, objective: Objective, processes: Processes) -> None:
    """New seeds for what differs between processes, from the generator that they share: a resume needs that one
    alone."""
    seed = int(torch.randint(2**62, (), generator=generator))
    for index, own in enumerate((model.dropout.generator, objective.generator)):
        own.manual_seed(seed + 2 * processes.rank + index)


class UntilNoBetter(ABC):
    """A training in progress: until its last epoch, or until validation has not improved for `patience` epochs."""

    model: Recommender
    data: Validation
    config: Training
    processes: Processes

    def __init__(self) -> None:
        self.epoch = 0
        self.best = -1.0
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}

    @abstractmethod
    def one_epoch(self) -> Generator[BatchRecord, None, tuple[Losses, float]]:
        """Returns the losses and the share of padding."""

    @abstractmethod
    def learning_rate(self) -> float:
        """The last one."""

    @abstractmethod
    def scorer(self) -> Scorer:
        """The model as validation asks it."""

    def records(self) -> Iterator[BatchRecord | EpochRecord]:
        """Raises DivergedError for a loss that is not finite."""
        while self.epoch < self.config.max_epochs and self.epoch - self.best_epoch < self.config.patience:
            losses, padding = yield from self.one_epoch()
            self.epoch += 1
            valid = self.data.validate(self.scorer(), self.epoch, self.processes)
            is_best = valid[self.data.deciding] > self.best
            if is_best:
                self.best, self.best_epoch = valid[self.data.deciding], self.epoch
                self.best_weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            rate = self.learning_rate()
            yield EpochRecord(self.epoch, self.config.max_epochs, rate, losses, valid, padding, is_best)

    def batch_record(self, batch: int, num_batches: int, loss: float) -> BatchRecord:
        """Of a batch of the epoch under way. Raises DivergedError."""
        if not np.isfinite(loss):
            raise DivergedError(self.epoch + 1, batch)
        return BatchRecord(self.epoch + 1, self.config.max_epochs, batch, num_batches, loss)

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """All that a resume needs; valid right after an EpochRecord."""

    @abstractmethod
    def restore(self, saved: Snapshot) -> None: ...

    def put_best(self, saved: Snapshot) -> None:
        saved.values.update(epoch=self.epoch, best=self.best, best_epoch=self.best_epoch)
        saved.put("best", self.best_weights)

    def get_best(self, saved: Snapshot) -> None:
        self.epoch, self.best = int(saved.values["epoch"]), float(saved.values["best"])
        self.best_epoch = int(saved.values["best_epoch"])
        self.best_weights = saved.get("best")


class Fit(UntilNoBetter):
    """Of a sequential model."""

    def __init__(
        self,
        model: SequenceModel,
        data: TrainingData,
        config: Training,
        generator: torch.Generator,
        objective: Objective,
        lesson: Lesson | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__()
        self.model: SequenceModel = model
        self.data: TrainingData = data
        self.config = config
        self.generator, self.objective = generator, objective
        self.lesson, self.processes = lesson or NextItem(), processes
        self.trained = nn.ModuleList([model, *self.lesson.modules])
        self.optimiser = adamw(self.trained, config)

    def scorer(self) -> Scorer:
        return self.lesson.scorer(self.model)

    def learning_rate(self) -> float:
        return float(self.optimiser.param_groups[0]["lr"])

    def one_epoch(self) -> Generator[BatchRecord, None, tuple[Losses, float]]:
        self.trained.train()
        seed_epoch(self.generator, self.model, self.objective, self.processes)
        num_batches = -(-len(self.data.windows) // self.config.batch_size)
        seen: list[Losses] = []
        num_tokens = 0
        for batch in self._batches():
            self._set_learning_rate(self.epoch + len(seen) / num_batches)
            seen.append(self._step(batch))
            num_tokens += batch.num_tokens
            yield self.batch_record(len(seen), num_batches, seen[-1].total)
        return Losses.mean(seen), padding_share(num_tokens, self.data.windows, self.processes)

    def _batches(self) -> Iterator[Batch]:
        data = self.data
        return training_batches(data.train, data.windows, self.config.batch_size, self.generator, self.processes)

    def _step(self, batch: Batch) -> Losses:
        total, losses = self.lesson.loss(self.model, batch, self.objective)
        descend(total * batch.share, self.trained, self.optimiser, self.config.gradient_clip, self.processes)
        return losses.over_processes(batch, self.processes)

    def _set_learning_rate(self, epochs_done: float) -> None:
        """A linear warm-up over the first epoch, then half a cosine to zero at the last."""
        cosine = 0.5 * (1.0 + np.cos(np.pi * epochs_done / self.config.max_epochs))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * warmed_up(epochs_done) * cosine

    def snapshot(self) -> Snapshot:
        saved = Snapshot()
        self.put_best(saved)
        saved.put_module("trained", self.trained)
        saved.put_optimiser("optimiser", self.optimiser)
        saved.put_generator("generator", self.generator)
        return saved

    def restore(self, saved: Snapshot) -> None:
        self.get_best(saved)
        saved.get_module("trained", self.trained)
        saved.get_optimiser("optimiser", self.optimiser)
        saved.get_generator("generator", self.generator)


def adamw(trained: nn.Module, knobs: Descent) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        trained.parameters(), lr=knobs.learning_rate, weight_decay=knobs.weight_decay, betas=(0.9, 0.98), fused=True
    )


def warmed_up(epochs_done: float) -> float:
    """The share of the learning rate: from nearly nothing to all of it over the first epoch."""
    return min(1.0, epochs_done + 0.01)


def descend(
    loss: Tensor, trained: nn.Module, optimiser: torch.optim.Optimizer, gradient_clip: float, processes: Processes
) -> None:
    """One step of the optimiser on the clipped gradient, summed over processes."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    processes.sum_gradients(trained.parameters())
    torch.nn.utils.clip_grad_norm_(trained.parameters(), gradient_clip)
    optimiser.step()


def padding_share(num_tokens: int, windows: Windows, processes: Processes) -> float:
    """Of an epoch's tokens, those of all processes."""
    everywhere = processes.sum(torch.tensor(float(num_tokens), dtype=torch.float64))
    return 1.0 - int(windows.lengths.sum()) / float(everywhere)


def rank_in_parts(scorer: Scorer, questions: Questions, processes: Processes) -> Ranks:
    """As `rank_asked`, each process with its part of the users."""
    mine = processes.part(np.arange(len(questions.users)))
    ranks = rank_asked(scorer, questions, questions.users[mine])
    if processes.count == 1:
        return ranks
    everyone = torch.zeros(2, len(questions.users), dtype=torch.int64)
    everyone[:, mine] = torch.from_numpy(np.stack([ranks.kept, ranks.removed]))
    kept, removed = processes.sum(everyone).numpy()
    return Ranks(kept, removed)
