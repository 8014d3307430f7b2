"""DE and RRD the plain way, as one would write them down from their description: a Python loop over users for the
sampling, all experts' outputs in one tensor. What the package's own are tested and measured against.

Shapes: N users, C listed items, K interesting and L uninteresting items, D student width, E teacher width, M experts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distilrec.core.experts import Experts


def draw(
    ranked: Sequence[Sequence[int]],
    observed: Sequence[set[int]],
    num_items: int,
    counts: tuple[int, int],
    temperature: float,
    random: np.random.Generator,
) -> tuple[list[list[int]], list[list[int]]]:
    """Interesting and uninteresting items of every user, one user after the other."""
    interesting, uninteresting = [], []
    for listed, seen in zip(ranked, observed, strict=True):
        weights = np.exp(-np.arange(len(listed)) / temperature)
        ranks = random.choice(len(listed), size=counts[0], replace=False, p=weights / weights.sum())
        interesting.append([listed[rank] for rank in sorted(ranks)])
        is_other = np.ones(num_items, dtype=bool)
        is_other[[*seen, *listed]] = False
        uninteresting.append(random.choice(np.flatnonzero(is_other), size=counts[1], replace=False).tolist())
    return interesting, uninteresting


def minus_log_likelihood(interesting_NK: Tensor, uninteresting_NL: Tensor) -> Tensor:
    """Of each row, one row after the other, by the formula: exponentials and all."""
    losses = []
    for x_K, y_L in zip(interesting_NK, uninteresting_NL, strict=True):
        below_K = x_K.exp().flip(0).cumsum(0).flip(0)
        losses.append(((below_K + y_L.exp().sum()).log() - x_K).sum())
    return torch.stack(losses)


def minus_log_likelihood_batched(interesting_NK: Tensor, uninteresting_NL: Tensor) -> Tensor:
    """The same on the whole batch, as RRD's release trains: what is slow there is the sampling."""
    below_NK = interesting_NK.exp().flip(1).cumsum(dim=1).flip(1)
    return ((below_NK + uninteresting_NL.exp().sum(dim=1, keepdim=True)).log() - interesting_NK).sum(dim=1)


def distance(
    experts: Experts, student_ND: Tensor, teacher_NE: Tensor, selected_NM: Tensor, weights_N: Tensor
) -> Tensor:
    """With all experts' outputs, N x E x M."""
    num_experts = selected_NM.shape[1]
    in_weight_DMH = experts.in_weight.unflatten(1, (num_experts, -1))
    in_bias_MH = experts.in_bias.unflatten(0, (num_experts, -1))
    out_weight_MHE = experts.out_weight.unflatten(0, (num_experts, -1))
    outputs_NEM = torch.stack(
        [
            (student_ND @ in_weight_DMH[:, m] + in_bias_MH[m]).relu() @ out_weight_MHE[m] + experts.out_bias[m]
            for m in range(num_experts)
        ],
        dim=2,
    )
    rebuilt_NE = (outputs_NEM * selected_NM[:, None, :]).sum(dim=2)
    return ((rebuilt_NE - teacher_NE).square().sum(dim=1) * weights_N).sum()
