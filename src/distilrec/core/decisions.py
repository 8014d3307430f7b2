"""Sampling an architecture: the hard Gumbel-softmax with a straight-through gradient.

Shapes: E edges, O operations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """Attributes:
    choice: index of the drawn operation, for each edge.
    mixture_EO: one-hot in value, with the gradient of the soft sample.
    """

    choice: tuple[int, ...]
    mixture_EO: Tensor


def sample(logits_EO: Tensor, temperature: float, generator: torch.Generator) -> Sample:
    """One architecture from softmax(logits), by the Gumbel-max trick (Jang et al. 2017)."""
    uniform_EO = torch.rand(logits_EO.shape, generator=generator).clamp_min(1e-20)
    noisy_EO = logits_EO - (-uniform_EO.log()).log()
    soft_EO = (noisy_EO / temperature).softmax(dim=1)
    choice_E = noisy_EO.argmax(dim=1)
    hard_EO = torch.zeros_like(soft_EO).scatter_(1, choice_E[:, None], 1.0)
    return Sample(tuple(choice_E.tolist()), hard_EO + soft_EO - soft_EO.detach())


def most_likely(logits_EO: Tensor) -> tuple[int, ...]:
    """The noise-free choice."""
    return tuple(logits_EO.argmax(dim=1).tolist())


def temperature_at(epoch: int, num_epochs: int, start: float, end: float) -> float:
    """Geometric from `start` in the first epoch to `end` in the last: the floor is reached, never passed."""
    if num_epochs == 1:
        return start
    return float(start * (end / start) ** (epoch / (num_epochs - 1)))


def entropies(logits_EO: Tensor) -> Tensor:
    """Entropy of each edge's distribution over the logarithm of O: 1 is uniform, 0 decided. Shape (E,)."""
    probability = logits_EO.softmax(dim=1)
    log_probability = logits_EO.log_softmax(dim=1)
    return -(probability * log_probability).sum(dim=1) / torch.log(torch.tensor(float(logits_EO.shape[1])))
