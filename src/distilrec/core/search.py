"""The one loop that searches an architecture: first-order bilevel, weights and architecture on their own users.

A weight step evaluates only the sampled path: exact, since an operation that was not drawn has no part in
the output. An architecture step evaluates all operations, because the straight-through gradient of an edge's
logits needs every operation's output; every `architecture_every`-th weight step is followed by one.

Shapes: E edges, O operations.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from distilrec.core.batching import Batch, Windows, training_batches
from distilrec.core.cell import Supernet
from distilrec.core.config import Search
from distilrec.core.cost import expected_cost
from distilrec.core.events import Ints
from distilrec.core.fit import (
    BatchRecord,
    DivergedError,
    TrainingData,
    descend,
    padding_share,
    seed_epoch,
)
from distilrec.core.genotype import edges_of
from distilrec.core.lessons import Distiller, Losses
from distilrec.core.objective import Objective
from distilrec.core.operations import OPERATIONS
from distilrec.core.parallel import ALONE, Processes
from distilrec.core.relaxation import entropies, most_likely, sample, temperature_at
from distilrec.core.sequence_model import SequenceModel
from distilrec.core.snapshot import Snapshot


@dataclass(frozen=True)
class SearchRecord:
    """One epoch of the search.

    Attributes:
        losses: of the weight steps, on the weight users.
        architecture_losses: of the architecture steps, on the held-out users; None before the first.
        expected_cost: in [0, 1], under the present distributions.
        valid: NDCG@10 of the noise-free choice with the shared weights, by variant.
        choice: the most likely operation of each edge.
        probability_EO: the distributions, as nested lists.
        entropy_E: 1 is uniform, 0 is decided.
        padding: share of the tokens of the weight steps that were padding.
    """

    epoch: int
    num_epochs: int
    temperature: float
    losses: Losses
    architecture_losses: Losses | None
    expected_cost: float
    valid: dict[str, float]
    choice: tuple[int, ...]
    probability_EO: list[list[float]]
    entropy_E: list[float]
    padding: float


def split_windows(windows: Windows, share: float, generator: torch.Generator) -> tuple[Windows, Windows]:
    """Weight users' windows and architecture users' windows; no user is in both, neither is empty."""
    users: Ints = np.unique(windows.owners)
    shuffled = users[torch.randperm(len(users), generator=generator).numpy()]
    held_out = shuffled[: min(len(users) - 1, max(1, round(share * len(users))))]
    is_held_out = np.isin(windows.owners, held_out)
    return windows.select(~is_held_out), windows.select(is_held_out)


class ArchitectureSearch:
    """A search in progress."""

    def __init__(
        self,
        supernet: Supernet,
        distiller: Distiller,
        data: TrainingData,
        config: Search,
        relative_costs_O: Tensor,
        generator: torch.Generator,
        objective: Objective,
        processes: Processes = ALONE,
    ) -> None:
        self.supernet, self.distiller, self.data, self.config = supernet, distiller, data, config
        self.objective, self.processes = objective, processes
        self.relative_costs_O, self.generator = relative_costs_O, generator
        self.weight_windows, self.architecture_windows = split_windows(
            data.windows, config.architecture_share, generator
        )
        shape = (len(edges_of(config.num_nodes)), len(OPERATIONS))
        self.logits_EO = nn.Parameter(0.01 * torch.randn(shape, generator=generator))
        self.trained = nn.ModuleList([supernet, distiller.layers])
        self.weight_optimiser = torch.optim.AdamW(
            self.trained.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.architecture_optimiser = torch.optim.Adam(
            [self.logits_EO], lr=config.architecture_learning_rate, betas=(0.5, 0.999)
        )
        self.epoch = 0
        self.weight_steps = 0

    def records(self) -> Iterator[BatchRecord | SearchRecord]:
        """Search until the last epoch; the result is `choice()` and the supernet's weights.

        Raises:
            DivergedError: a loss that is not finite.
        """
        while self.epoch < self.config.epochs:
            temperature = temperature_at(
                self.epoch, self.config.epochs, self.config.temperature_start, self.config.temperature_end
            )
            weight_losses: list[Losses] = []
            architecture_losses: list[Losses] = []
            self.trained.train()
            seed_epoch(self.generator, self.supernet, self.objective, self.processes)
            held_out = self._held_out_batches()
            num_batches = -(-len(self.weight_windows) // self.config.batch_size)
            num_tokens = 0
            for batch in self._batches(self.weight_windows):
                self._warm_up(self.epoch + len(weight_losses) / num_batches)
                weight_losses.append(self.weight_step(batch, temperature))
                self.weight_steps += 1
                num_tokens += batch.num_tokens
                if self._architecture_is_due():
                    architecture_losses.append(self.architecture_step(next(held_out), temperature))
                newest = [weight_losses[-1].total, *(one.total for one in architecture_losses[-1:])]
                if not np.isfinite(newest).all():
                    raise DivergedError(self.epoch + 1, len(weight_losses))
                yield BatchRecord(
                    self.epoch + 1, self.config.epochs, len(weight_losses), num_batches, weight_losses[-1].total
                )
            self.epoch += 1
            padding = padding_share(num_tokens, self.weight_windows, self.processes)
            yield self._record(temperature, weight_losses, architecture_losses, padding)

    def weight_step(self, batch: Batch, temperature: float) -> Losses:
        """Moves the weights only: the sampled path on the weight users."""
        drawn = sample(self.logits_EO.detach(), temperature, self.generator)
        total, losses = self._loss(self.supernet.select(drawn.choice), batch)
        descend(total * batch.share, self.trained, self.weight_optimiser, self.config.gradient_clip, self.processes)
        return losses.over_processes(batch, self.processes)

    def architecture_step(self, batch: Batch, temperature: float) -> Losses:
        """Moves the architecture logits only: all operations, on the held-out users, cost included."""
        drawn = sample(self.logits_EO, temperature, self.generator)
        layer_weights = self.distiller.layers.eval()  # the transport's weights follow weight steps alone
        total, losses = self._loss(self.supernet.select(drawn.choice, drawn.mixture_EO), batch)
        layer_weights.train()
        cost = expected_cost(self.logits_EO.softmax(dim=1), self.relative_costs_O)
        objective = (total + self.config.cost_weight * cost) * batch.share
        (self.logits_EO.grad,) = torch.autograd.grad(objective, [self.logits_EO])
        self.processes.sum_gradients([self.logits_EO])
        self.architecture_optimiser.step()
        return losses.over_processes(batch, self.processes)

    def _loss(self, model: SequenceModel, batch: Batch) -> tuple[Tensor, Losses]:
        return self.distiller.loss(model, batch, self.objective)

    def _architecture_is_due(self) -> bool:
        """Counted over the whole search, so that epochs of few batches have their turn too."""
        return self.epoch >= self.config.architecture_after and self.weight_steps % self.config.architecture_every == 0

    def choice(self) -> tuple[int, ...]:
        """The most likely operation of each edge."""
        return most_likely(self.logits_EO.detach())

    def _batches(self, windows: Windows) -> Iterator[Batch]:
        return training_batches(self.data.train, windows, self.config.batch_size, self.generator, self.processes)

    def _held_out_batches(self) -> Iterator[Batch]:
        while True:
            yield from self._batches(self.architecture_windows)

    def _warm_up(self, epochs_done: float) -> None:
        for group in self.weight_optimiser.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, epochs_done + 0.01)

    def _record(
        self, temperature: float, weights: list[Losses], architecture: list[Losses], padding: float
    ) -> SearchRecord:
        logits_EO = self.logits_EO.detach()
        probability_EO = logits_EO.softmax(dim=1)
        return SearchRecord(
            epoch=self.epoch,
            num_epochs=self.config.epochs,
            temperature=temperature,
            losses=Losses.mean(weights),
            architecture_losses=Losses.mean(architecture) if architecture else None,
            expected_cost=float(expected_cost(probability_EO, self.relative_costs_O)),
            valid=self.data.validate(
                self.distiller.scorer(self.supernet.select(self.choice())), self.epoch, self.processes
            ),
            choice=self.choice(),
            probability_EO=probability_EO.tolist(),
            entropy_E=entropies(logits_EO).tolist(),
            padding=padding,
        )

    def snapshot(self) -> Snapshot:
        """All that a resume needs; valid right after a SearchRecord."""
        saved = Snapshot(values={"epoch": self.epoch, "weight_steps": self.weight_steps})
        saved.put_module("trained", self.trained)
        saved.put("architecture", {"logits_EO": self.logits_EO})
        saved.put_optimiser("weight_optimiser", self.weight_optimiser)
        saved.put_optimiser("architecture_optimiser", self.architecture_optimiser)
        saved.put_generator("generator", self.generator)
        return saved

    def restore(self, saved: Snapshot) -> None:
        """The split of users is drawn again from the seed at construction, so it is not in the snapshot."""
        self.epoch = int(saved.values["epoch"])
        self.weight_steps = int(saved.values["weight_steps"])
        saved.get_module("trained", self.trained)
        with torch.no_grad():
            self.logits_EO.copy_(saved.get("architecture")["logits_EO"])
        saved.get_optimiser("weight_optimiser", self.weight_optimiser)
        saved.get_optimiser("architecture_optimiser", self.architecture_optimiser)
        saved.get_generator("generator", self.generator)
