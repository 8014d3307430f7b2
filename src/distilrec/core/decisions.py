"""A search space as named decisions, and how they are drawn: the hard Gumbel-softmax with a straight-through gradient,
or not drawn at all but mixed.

A decision is a matrix of logits: R rows that choose alike, each one of O options. The loop that searches knows no
more of a space than this.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Choice = dict[str, tuple[int, ...]]
"""By decision: the option that each row takes."""


@dataclass(frozen=True)
class Draw:
    """Attributes:
    choice: what was drawn; of a soft mixture the most likely.
    mixture: by decision (R, O): the weight of each option. Of a hard draw one-hot in value, with the gradient of the
        soft sample; None if no gradient is wanted, and then only what was drawn is evaluated.
    """

    choice: Choice
    mixture: dict[str, Tensor] | None = None
    is_hard: bool = True

    @property
    def path(self) -> "Draw":
        """All that the weights need: of a hard draw what was drawn, since nothing else has a part in the output."""
        return Draw(self.choice) if self.is_hard else self


def draw(logits: Mapping[str, Tensor], temperature: float, generator: torch.Generator) -> Draw:
    """One architecture from softmax(logits), by the Gumbel-max trick (Jang et al. 2017)."""
    choice: Choice = {}
    mixture: dict[str, Tensor] = {}
    for name, logits_RO in logits.items():
        uniform_RO = torch.rand(logits_RO.shape, generator=generator).clamp_min(1e-20)
        noisy_RO = logits_RO - (-uniform_RO.log()).log()
        soft_RO = (noisy_RO / temperature).softmax(dim=1)
        chosen_R = noisy_RO.argmax(dim=1)
        choice[name] = tuple(chosen_R.tolist())
        hard_RO = torch.zeros_like(soft_RO).scatter_(1, chosen_R[:, None], 1.0)
        mixture[name] = hard_RO + soft_RO - soft_RO.detach()
    return Draw(choice, mixture)


def soften(logits: Mapping[str, Tensor], temperature: float, _generator: torch.Generator) -> Draw:
    """Nothing is drawn: all options, weighted by softmax(logits / temperature) (DNS-Rec code)."""
    return Draw(most_likely(logits), probabilities(_sharpened(logits, temperature)), is_hard=False)


def _sharpened(logits: Mapping[str, Tensor], temperature: float) -> Mapping[str, Tensor]:
    return {name: logits_RO / temperature for name, logits_RO in logits.items()}


def _as_they_are(logits: Mapping[str, Tensor], _temperature: float) -> Mapping[str, Tensor]:
    return logits


@dataclass(frozen=True)
class Relaxation:
    """How logits become what is evaluated, at a temperature.

    Attributes:
        draw: what a step evaluates.
        weighed: the logits whose softmax the architecture is distributed by.
    """

    draw: Callable[[Mapping[str, Tensor], float, torch.Generator], Draw]
    weighed: Callable[[Mapping[str, Tensor], float], Mapping[str, Tensor]]


RELAXATIONS = {"gumbel": Relaxation(draw, _as_they_are), "softmax": Relaxation(soften, _sharpened)}
"""Of the hard draws the temperature is that of the gradient alone."""


def most_likely(logits: Mapping[str, Tensor]) -> Choice:
    """The noise-free choice."""
    return {name: tuple(logits_RO.argmax(dim=1).tolist()) for name, logits_RO in logits.items()}


def probabilities(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: logits_RO.softmax(dim=1) for name, logits_RO in logits.items()}


def log_probability(logits: Mapping[str, Tensor], choice: Choice) -> Tensor:
    """Of the whole choice, differentiable."""
    total = torch.zeros(())
    for name, logits_RO in logits.items():
        chosen_R1 = torch.tensor(choice[name])[:, None]
        total = total + logits_RO.log_softmax(dim=1).gather(1, chosen_R1).sum()
    return total


def temperature_at(epoch: int, num_epochs: int, start: float, end: float) -> float:
    """Geometric from `start` in the first epoch to `end` in the last: the floor is reached, never passed."""
    if num_epochs == 1:
        return start
    return float(start * (end / start) ** (epoch / (num_epochs - 1)))


def entropies(logits_RO: Tensor) -> Tensor:
    """Entropy of each row's distribution over the logarithm of O: 1 is uniform, 0 decided. Shape (R,)."""
    probability = logits_RO.softmax(dim=1)
    log_probability = logits_RO.log_softmax(dim=1)
    return -(probability * log_probability).sum(dim=1) / torch.log(torch.tensor(float(logits_RO.shape[1])))


def mix_drawn(mixture_O: Tensor, chosen: int, values: Sequence[Tensor]) -> Tensor:
    """The sum of mixture_o * value_o for a mixture that is one-hot in value: the chosen value itself.

    The mixture gets the gradient of the whole sum, <gradient, value_o> for every option; the values that were not
    chosen have the factor zero, so nothing is propagated into them and they may be computed without a graph.
    """
    mixed: Tensor = _MixDrawn.apply(mixture_O, chosen, *values)  # type: ignore[no-untyped-call]
    return mixed


class _MixDrawn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _mixture_O: Tensor, chosen: int, *values: Tensor) -> Tensor:
        ctx.chosen = chosen
        ctx.save_for_backward(*values)
        return values[chosen].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        values = ctx.saved_tensors
        grad_O = torch.stack([(grads[0] * value).sum() for value in values])
        return grad_O, None, *(grads[0] if index == ctx.chosen else None for index in range(len(values)))
