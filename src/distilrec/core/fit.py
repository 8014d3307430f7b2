"""The one loop that trains weights: the teacher's, and the student's with distillation.

It yields a record per batch and per epoch; at an epoch's record `Fit.snapshot()` is all that a resume
needs. The caller logs, saves, or stops listening.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from distilrec.core.batching import Batch, Windows, cut_windows, training_batches
from distilrec.core.config import Distillation, Training
from distilrec.core.distill import LayerDistillation
from distilrec.core.evaluation import mean_ndcg10, rank_users
from distilrec.core.events import Ints, Sequences
from distilrec.core.metrics import NotANumberError
from distilrec.core.sequence_model import Layers, ModelScorer, SequenceModel
from distilrec.core.snapshot import Snapshot
from distilrec.core.softmax import Teacher, softmax_loss


class DivergedError(ArithmeticError):
    """The loss is not finite. The weights are spoilt; the last snapshot is not."""

    def __init__(self, epoch: int, batch: int) -> None:
        where = f"batch {batch}" if batch else "validation"
        super().__init__(f"the loss is not a finite number in epoch {epoch}, {where}")
        self.epoch = epoch
        self.batch = batch


@dataclass(frozen=True)
class Losses:
    """Means over real positions; zero where the term is not used."""

    total: float
    task: float
    soft: float = 0.0
    embedding: float = 0.0
    hidden: float = 0.0


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
    is_best: whether this epoch's weights are the ones kept.
    """

    epoch: int
    num_epochs: int
    learning_rate: float
    losses: Losses
    valid: dict[str, float]
    is_best: bool


@dataclass(frozen=True)
class TrainingData:
    """Training windows of the sequences without their last two items, and the validation target.

    Attributes:
        deciding: the variant that stops early, `kept` or `removed`.
    """

    train: Sequences
    windows: Windows
    valid_targets: Ints
    deciding: str

    @classmethod
    def leave_one_out(cls, sequences: Sequences, max_length: int, deciding: str) -> "TrainingData":
        train = sequences.without_last(2)
        return cls(train, cut_windows(train, max_length), sequences.target(2), deciding)

    def validate(self, model: SequenceModel, epoch: int) -> dict[str, float]:
        """NDCG@10 by variant. Raises DivergedError if the last step of the epoch spoilt the weights."""
        try:
            ranks = rank_users(ModelScorer(model), self.train, self.valid_targets)
        except NotANumberError:
            raise DivergedError(epoch, 0) from None
        return {variant: mean_ndcg10(ranks, variant) for variant in ("kept", "removed")}


class Distiller:
    """A frozen teacher, and the loss that carries it into a student."""

    def __init__(self, teacher: SequenceModel, layers: LayerDistillation, config: Distillation) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.layers = layers
        self.config = config

    def loss(self, student: SequenceModel, batch: Batch) -> tuple[Tensor, Losses]:
        """(1 - share) * task + share * (soft + embedding + hidden)."""
        real_BL, share = batch.real_BL, self.config.share
        with torch.no_grad():
            wanted: Layers = self.teacher(batch.inputs_BL)
        got: Layers = student(batch.inputs_BL)
        softmax = softmax_loss(
            got.state_BLD[real_BL],
            student.item_vectors(),
            batch.targets_BL[real_BL],
            Teacher(wanted.state_BLD[real_BL], self.teacher.item_vectors().detach()),
            share,
        )
        layers = self.layers(got, wanted, real_BL)
        hints = self.config.embedding_weight * layers.embedding + self.config.hidden_weight * layers.hidden
        total = softmax.total + share * hints
        parts = (layers.embedding.item(), layers.hidden.item())
        return total, Losses(total.item(), softmax.task, softmax.soft, *parts)


def task_loss(model: SequenceModel, batch: Batch) -> tuple[Tensor, Losses]:
    """Cross-entropy over the whole catalogue, a mean over real positions."""
    real_BL = batch.real_BL
    softmax = softmax_loss(model(batch.inputs_BL).state_BLD[real_BL], model.item_vectors(), batch.targets_BL[real_BL])
    return softmax.total, Losses(softmax.total.item(), softmax.task)


class Fit:
    """A training in progress. `distiller` is None for a teacher."""

    def __init__(
        self,
        model: SequenceModel,
        data: TrainingData,
        config: Training,
        generator: torch.Generator,
        distiller: Distiller | None = None,
    ) -> None:
        self.model, self.data, self.config = model, data, config
        self.generator, self.distiller = generator, distiller
        self.trained = nn.ModuleList([model] if distiller is None else [model, distiller.layers])
        self.optimiser = torch.optim.AdamW(
            self.trained.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.epoch = 0
        self.best = -1.0
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}

    def records(self) -> Iterator[BatchRecord | EpochRecord]:
        """Train until the last epoch, or until validation has not improved for `patience` epochs.

        Raises:
            DivergedError: a loss that is not finite.
        """
        while self.epoch < self.config.max_epochs and self.epoch - self.best_epoch < self.config.patience:
            losses = yield from self._one_epoch()
            self.epoch += 1
            valid = self.data.validate(self.model, self.epoch)
            is_best = valid[self.data.deciding] > self.best
            if is_best:
                self.best, self.best_epoch = valid[self.data.deciding], self.epoch
                self.best_weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            rate = float(self.optimiser.param_groups[0]["lr"])
            yield EpochRecord(self.epoch, self.config.max_epochs, rate, losses, valid, is_best)

    def _one_epoch(self) -> Generator[BatchRecord, None, Losses]:
        self.trained.train()
        num_batches = -(-len(self.data.windows) // self.config.batch_size)
        seen: list[Losses] = []
        for batch in training_batches(self.data.train, self.data.windows, self.config.batch_size, self.generator):
            self._set_learning_rate(self.epoch + len(seen) / num_batches)
            total, losses = self.distiller.loss(self.model, batch) if self.distiller else task_loss(self.model, batch)
            descend(total, self.trained, self.optimiser, self.config.gradient_clip)
            seen.append(losses)
            if not np.isfinite(losses.total):
                raise DivergedError(self.epoch + 1, len(seen))
            yield BatchRecord(self.epoch + 1, self.config.max_epochs, len(seen), num_batches, losses.total)
        return mean_losses(seen)

    def _set_learning_rate(self, epochs_done: float) -> None:
        """A linear warm-up over the first epoch, then half a cosine to zero at the last."""
        cosine = 0.5 * (1.0 + np.cos(np.pi * epochs_done / self.config.max_epochs))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, epochs_done + 0.01) * cosine

    def snapshot(self) -> Snapshot:
        """All that a resume needs; valid right after an EpochRecord."""
        saved = Snapshot(values={"epoch": self.epoch, "best": self.best, "best_epoch": self.best_epoch})
        saved.put_module("trained", self.trained)
        saved.put("best", self.best_weights)
        saved.put_optimiser("optimiser", self.optimiser)
        saved.put_generator("generator", self.generator)
        return saved

    def restore(self, saved: Snapshot) -> None:
        self.epoch, self.best = int(saved.values["epoch"]), float(saved.values["best"])
        self.best_epoch = int(saved.values["best_epoch"])
        saved.get_module("trained", self.trained)
        self.best_weights = saved.get("best")
        saved.get_optimiser("optimiser", self.optimiser)
        saved.get_generator("generator", self.generator)


def descend(loss: Tensor, trained: nn.Module, optimiser: torch.optim.Optimizer, gradient_clip: float) -> None:
    """One step of the optimiser on the clipped gradient."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(trained.parameters(), gradient_clip)
    optimiser.step()


def mean_losses(seen: list[Losses]) -> Losses:
    rows = np.array([[loss.total, loss.task, loss.soft, loss.embedding, loss.hidden] for loss in seen])
    return Losses(*(float(value) for value in rows.mean(axis=0)))
