"""The likelihood of a teacher's order of items under a student's scores, relaxed: the uninteresting items stand below
the interesting ones, in no order among themselves (RRD, Kang et al. 2020).

Shapes: N rows, K interesting items in the teacher's order, L uninteresting ones.
"""

import math
from typing import Any

import torch
from torch import Tensor


def minus_log_likelihood(interesting_NK: Tensor, uninteresting_NL: Tensor) -> Tensor:
    """-sum_k log( exp(x_k) / (sum_{i >= k} exp(x_i) + sum_j exp(y_j)) ) of each row, shape (N,).

    A score of minus infinity stands for an item that is not there. Neither value nor gradient overflows as long as
    the differences of a row's scores can be represented.
    """
    losses_N: Tensor = _RelaxedPermutation.apply(interesting_NK, uninteresting_NL)  # type: ignore[no-untyped-call]
    return losses_N


class _RelaxedPermutation(torch.autograd.Function):
    """With Z_k the log of the k-th denominator, the gradient for a score x_i is sum_{k <= i} exp(x_i - Z_k), less one
    for an interesting item; each summand is at most 1. It is made in forward: both need the same running sums."""

    @staticmethod
    def forward(ctx: Any, interesting_NK: Tensor, uninteresting_NL: Tensor) -> Tensor:
        is_there_NK = interesting_NK > -torch.inf
        largest_N1 = torch.cat([interesting_NK, uninteresting_NL], dim=1).amax(dim=1, keepdim=True)
        largest_N1 = torch.where(largest_N1 > -torch.inf, largest_N1, 0.0)
        x_NK, y_NL = interesting_NK - largest_N1, uninteresting_NL - largest_N1
        rest_N1 = y_NL.logsumexp(dim=1, keepdim=True)
        z_NK = torch.cat([rest_N1, x_NK.flip(1)], dim=1).logcumsumexp(dim=1)[:, 1:].flip(1)
        up_to_NK = torch.where(is_there_NK, -z_NK, -torch.inf).logcumsumexp(dim=1)
        most = math.log(x_NK.shape[1])
        grad_NK = (x_NK + up_to_NK).clamp_max_(most).exp_() - is_there_NK.to(x_NK.dtype)
        grad_NL = (y_NL + up_to_NK[:, -1:]).clamp_max_(most).exp_()
        ctx.save_for_backward(grad_NK, grad_NL)
        return torch.where(is_there_NK, z_NK - x_NK, 0.0).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        grad_NK, grad_NL = ctx.saved_tensors
        return grads[0][:, None] * grad_NK, grads[0][:, None] * grad_NL
