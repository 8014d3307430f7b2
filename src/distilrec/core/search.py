"""The one loop that searches an architecture: first-order bilevel, weights and architecture on their own users.

A weight step evaluates only the sampled path: exact, since an operation that was not drawn has no part in
the output. Every `architecture_every`-th weight step is followed by an architecture step: straight-through, which
needs every option's output, or by the score function, which needs several draws' losses.

Of the space it knows what space.py says: decisions, a supernet to `select` a draw in, costs, and how an architecture is
sampled. With a soft mixture in place of a draw the weight steps evaluate all options too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from distilrec.core.batching import Batch, Windows, training_batches
from distilrec.core.budget import CostWeight, Limits, best_within, tilt
from distilrec.core.config import Search
from distilrec.core.decisions import (
    RELAXATIONS,
    Choice,
    Draw,
    draw,
    entropies,
    log_probability,
    probabilities,
    temperature_at,
)
from distilrec.core.evaluation import Scorer
from distilrec.core.events import Ints
from distilrec.core.fit import (
    BatchRecord,
    DivergedError,
    TrainingData,
    adamw,
    descend,
    padding_share,
    seed_epoch,
    warmed_up,
)
from distilrec.core.lessons import Distiller, Losses
from distilrec.core.objective import Objective
from distilrec.core.parallel import ALONE, Processes
from distilrec.core.snapshot import Snapshot
from distilrec.core.space import Costs, SearchedModel


@dataclass(frozen=True)
class SearchRecord:
    """One epoch of the search.

    Attributes:
        losses: of the weight steps, on the weight users.
        architecture_losses: of the architecture steps, on the held-out users; None before the first.
        expected_cost: by measure, under the present distributions.
        cost_weight: on the cost in the architecture's loss; with a budget the multiplier alone (budget.py).
        valid: NDCG@10 of the noise-free choice with the shared weights, by variant.
        choice: the most likely options that keep to the budget, by decision.
        probability: the distributions by decision, as nested lists (R, O).
        entropy: of each row, by decision: 1 is uniform, 0 is decided.
        padding: share of the tokens of the weight steps that were padding.
    """

    epoch: int
    num_epochs: int
    temperature: float
    losses: Losses
    architecture_losses: Losses | None
    expected_cost: dict[str, float]
    cost_weight: float
    valid: dict[str, float]
    choice: Choice
    probability: dict[str, list[list[float]]]
    entropy: dict[str, list[float]]
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
        supernet: SearchedModel,
        distiller: Distiller,
        data: TrainingData,
        config: Search,
        costs: Costs,
        generator: torch.Generator,
        objective: Objective,
        processes: Processes = ALONE,
    ) -> None:
        """Raises ImpossibleBudgetError."""
        self.supernet, self.distiller, self.data, self.config = supernet, distiller, data, config
        self.objective, self.processes = objective, processes
        self.costs, self.generator = costs, generator
        self.relaxation = RELAXATIONS[supernet.space.relaxation]
        self.epoch = 0
        self.weight_steps = 0
        self.limits: Limits = config.budget.limits()
        self.cost_weight = CostWeight(config.cost_weight, self.limits)
        if config.architecture_data == "held-out":
            self.weight_windows, self.architecture_windows = split_windows(
                data.windows, config.architecture_share, generator
            )
        else:
            self.weight_windows = self.architecture_windows = data.windows
        self.logits = {
            name: nn.Parameter(0.01 * torch.randn(shape, generator=generator))
            for name, shape in supernet.space.decisions().items()
        }
        with torch.no_grad():
            for name, tilted_O in tilt(costs, self.limits).items():
                self.logits[name].add_(tilted_O)
        self.choice()  # an impossible budget is refused now
        self.trained = nn.ModuleList([supernet, *distiller.modules])
        self.weight_optimiser = adamw(self.trained, config)
        self.architecture_optimiser = torch.optim.Adam(
            self.logits.values(), lr=config.architecture_learning_rate, betas=(0.5, 0.999)
        )

    def num_architecture_steps(self) -> int:
        """Of the whole search."""
        first, last = (epochs * self._num_batches() for epochs in (self.config.architecture_after, self.config.epochs))
        return last // self.config.architecture_every - first // self.config.architecture_every

    def _num_batches(self) -> int:
        """Of an epoch."""
        return -(-len(self.weight_windows) // self.config.batch_size)

    def records(self) -> Iterator[BatchRecord | SearchRecord]:
        """Search until the last epoch; the result is `choice()` and the supernet's weights.

        Raises:
            DivergedError: a loss that is not finite.
        """
        while self.epoch < self.config.epochs:
            temperature = self.temperature()
            weight_losses: list[Losses] = []
            architecture_losses: list[Losses] = []
            self.trained.train()
            seed_epoch(self.generator, self.supernet, self.objective, self.processes)
            held_out = self._held_out_batches()
            num_batches = self._num_batches()
            num_tokens = 0
            for batch in self._batches(self.weight_windows):
                self._warm_up(self.epoch + len(weight_losses) / num_batches)
                weight_losses.append(self.weight_step(batch, temperature))
                self.weight_steps += 1
                num_tokens += batch.num_tokens
                if self._architecture_is_due():
                    other = batch if self.config.architecture_data == "training" else next(held_out)
                    architecture_losses.append(self.architecture_step(other, temperature))
                newest = [weight_losses[-1].total, *(one.total for one in architecture_losses[-1:])]
                if not np.isfinite(newest).all():
                    raise DivergedError(self.epoch + 1, len(weight_losses))
                yield BatchRecord(
                    self.epoch + 1, self.config.epochs, len(weight_losses), num_batches, weight_losses[-1].total
                )
            self.epoch += 1
            padding = padding_share(num_tokens, self.weight_windows, self.processes)
            yield self._record(temperature, weight_losses, architecture_losses, padding)

    def temperature(self) -> float:
        knobs = self.config
        epoch = min(self.epoch, knobs.epochs - 1)
        return temperature_at(epoch, knobs.epochs, knobs.temperature_start, knobs.temperature_end)

    def weight_step(self, batch: Batch, temperature: float) -> Losses:
        """Moves the weights only: the sampled path on the weight users."""
        with torch.no_grad():
            drawn = self.relaxation.draw(self.logits, temperature, self.generator)
        total, losses = self._loss(drawn.path, batch)
        descend(total * batch.share, self.trained, self.weight_optimiser, self.config.gradient_clip, self.processes)
        return losses.over_processes(batch, self.processes)

    def architecture_step(self, batch: Batch, temperature: float) -> Losses:
        """Moves the architecture logits only, cost included, on the held-out users."""
        self.distiller.layers.eval()  # the transport's weights follow weight steps alone
        if self.config.architecture_gradient == "straight-through":
            gradients, losses = self._straight_through(batch, temperature)
        else:
            gradients, losses = self._score_function(batch, temperature)
        self.distiller.layers.train()
        of_costs = self._cost_gradients(temperature)
        for logits, gradient, of_cost in zip(self.logits.values(), gradients, of_costs, strict=True):
            logits.grad = gradient + of_cost * batch.share
        self.processes.sum_gradients(self.logits.values())
        self.architecture_optimiser.step()
        return losses.over_processes(batch, self.processes)

    def _straight_through(self, batch: Batch, temperature: float) -> tuple[tuple[Tensor, ...], Losses]:
        """All options, one draw (Jang et al. 2017), or the exact gradient of a soft mixture."""
        total, losses = self._loss(self.relaxation.draw(self.logits, temperature, self.generator), batch)
        return torch.autograd.grad(total * batch.share, list(self.logits.values())), losses

    def _score_function(self, batch: Batch, temperature: float) -> tuple[tuple[Tensor, ...], Losses]:
        """(loss - mean of the other draws' losses) * grad log p: unbiased (Williams 1992; Kool et al. 2019)."""
        draws, seen = [], []
        for _ in range(self.config.architecture_samples):
            with torch.no_grad():
                draws.append(draw(self.logits, temperature, self.generator).choice)
                seen.append(self._loss(Draw(draws[-1]), batch)[1].over_processes(batch, self.processes))
        advantages = leave_one_out(torch.tensor([losses.total for losses in seen]))
        terms = [a * log_probability(self.logits, choice) for a, choice in zip(advantages, draws, strict=True)]
        surrogate = torch.stack(terms).mean() * batch.share
        return torch.autograd.grad(surrogate, list(self.logits.values())), Losses.mean(seen)

    def _cost_gradients(self, temperature: float) -> tuple[Tensor, ...]:
        shares = probabilities(self.relaxation.weighed(self.logits, temperature))
        if self.limits:
            cost = self.cost_weight.pressure(self.costs.expected(shares), self.costs)
            weight = self.cost_weight.under(float(cost.detach()))
        else:
            cost = self.costs.penalty(shares, self.config.cost_measures)
            weight = self.cost_weight.value
        gradients = torch.autograd.grad(weight * cost, list(self.logits.values()), allow_unused=True)
        return tuple(
            torch.zeros_like(logits) if gradient is None else gradient
            for gradient, logits in zip(gradients, self.logits.values(), strict=True)
        )

    def _loss(self, drawn: Draw, batch: Batch) -> tuple[Tensor, Losses]:
        return self.distiller.loss(self.supernet.select(drawn), batch, self.objective)

    def _architecture_is_due(self) -> bool:
        """Counted over the whole search, so that epochs of few batches have their turn too."""
        return self.epoch >= self.config.architecture_after and self.weight_steps % self.config.architecture_every == 0

    def choice(self) -> Choice:
        """The most likely choice that keeps to the budget."""
        return best_within(self.relaxation.weighed(self.logits, self.temperature()), self.costs, self.limits)

    def validated(self) -> Scorer:
        """What validation ranks: the noise-free choice with the shared weights."""
        return self.distiller.scorer(self.supernet.select(Draw(self.choice())))

    def weights(self) -> dict[str, Tensor]:
        """The supernet's, for the student to inherit."""
        weights: dict[str, Tensor] = self.supernet.state_dict()
        return weights

    def _batches(self, windows: Windows) -> Iterator[Batch]:
        return training_batches(self.data.train, windows, self.config.batch_size, self.generator, self.processes)

    def _held_out_batches(self) -> Iterator[Batch]:
        while True:
            yield from self._batches(self.architecture_windows)

    def _warm_up(self, epochs_done: float) -> None:
        for group in self.weight_optimiser.param_groups:
            group["lr"] = self.config.learning_rate * warmed_up(epochs_done)

    def _record(
        self, temperature: float, weights: list[Losses], architecture: list[Losses], padding: float
    ) -> SearchRecord:
        with torch.no_grad():
            logits = self.relaxation.weighed(self.logits, temperature)
            probability = probabilities(logits)
            expected = self.costs.expected(probability)
        return SearchRecord(
            epoch=self.epoch,
            num_epochs=self.config.epochs,
            temperature=temperature,
            losses=Losses.mean(weights),
            architecture_losses=Losses.mean(architecture) if architecture else None,
            expected_cost={measure: float(value) for measure, value in expected.items()},
            cost_weight=self.cost_weight.value,
            valid=self.data.validate(self.validated(), self.epoch, self.processes),
            choice=self.choice(),
            probability={name: rows.tolist() for name, rows in probability.items()},
            entropy={name: entropies(rows.detach()).tolist() for name, rows in logits.items()},
            padding=padding,
        )

    def snapshot(self) -> Snapshot:
        """All that a resume needs; valid right after a SearchRecord."""
        counters = {"epoch": self.epoch, "weight_steps": self.weight_steps, "cost_weight": self.cost_weight.value}
        saved = Snapshot(values=counters)
        saved.put_module("trained", self.trained)
        saved.put("architecture", self.logits)
        saved.put_optimiser("weight_optimiser", self.weight_optimiser)
        saved.put_optimiser("architecture_optimiser", self.architecture_optimiser)
        saved.put_generator("generator", self.generator)
        return saved

    def restore(self, saved: Snapshot) -> None:
        """The split of users is drawn again from the seed at construction, so it is not in the snapshot."""
        self.epoch = int(saved.values["epoch"])
        self.weight_steps = int(saved.values["weight_steps"])
        self.cost_weight.value = float(saved.values["cost_weight"])
        saved.get_module("trained", self.trained)
        with torch.no_grad():
            for name, logits in saved.get("architecture").items():
                self.logits[name].copy_(logits)
        saved.get_optimiser("weight_optimiser", self.weight_optimiser)
        saved.get_optimiser("architecture_optimiser", self.architecture_optimiser)
        saved.get_generator("generator", self.generator)


def leave_one_out(losses_S: Tensor) -> Tensor:
    """Each loss less the mean of the others; shape (S,), S >= 2."""
    return losses_S - (losses_S.sum() - losses_S) / (len(losses_S) - 1)
