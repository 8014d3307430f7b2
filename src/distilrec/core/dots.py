"""Scores of some items of each state, with a gradient that adds up where an item comes up again and again, in less time
than the embedding's own.

Shapes: N states, K items of each, D width, V items.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def dots(states_ND: Tensor, vectors_VD: Tensor, ids_NK: Tensor) -> Tensor:
    """The product of each state with the vectors of its own items, shape (N, K)."""
    scores_NK: Tensor = _Dots.apply(states_ND, vectors_VD, ids_NK)  # type: ignore[no-untyped-call]
    return scores_NK


class _Dots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_ND: Tensor, vectors_VD: Tensor, ids_NK: Tensor) -> Tensor:
        picked_NKD = F.embedding(ids_NK, vectors_VD)
        ctx.save_for_backward(states_ND, picked_NKD, ids_NK)
        ctx.num_items = len(vectors_VD)
        return torch.einsum("nkd,nd->nk", picked_NKD, states_ND)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        states_ND, picked_NKD, ids_NK = ctx.saved_tensors
        grad_states_ND = torch.einsum("nk,nkd->nd", grads[0], picked_NKD)
        of_each = (grads[0][:, :, None] * states_ND[:, None]).flatten(0, 1)
        grad_vectors_VD = states_ND.new_zeros(ctx.num_items, states_ND.shape[1]).index_add_(
            0, ids_NK.flatten(), of_each
        )
        return grad_states_ND, grad_vectors_VD, None
