"""The next-item losses for catalogues too large for a full softmax: sampled softmax, and gBCE.

Negatives are drawn uniformly, anew for every `CHUNK` positions, which share them. Memory is a chunk's and the
dense gradient of the item vectors; time does not grow with the catalogue but for that gradient.

Shapes: N positions, D width, V items, M items that the teacher names, C positions of one chunk, K negatives.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distilrec.core.softmax import GradientInForward, NextItemLoss, SoftTargets, with_gradient

CHUNK = 128


@dataclass(frozen=True)
class Sampling:
    """Attributes:
    calibration: gBCE's t (Petrov & Macdonald 2023); None is sampled softmax (Jean et al. 2015).
    """

    num_negatives: int
    calibration: float | None
    generator: torch.Generator


def sampled_loss(
    states_ND: Tensor,
    vectors_VD: Tensor,
    targets_N: Tensor,
    sampling: Sampling,
    teacher: SoftTargets | None = None,
    teacher_share: float = 0.0,
) -> NextItemLoss:
    """As `softmax_loss`, estimated. The teacher's items are candidates beside the negatives."""
    return with_gradient(_Chunked, states_ND, vectors_VD, targets_N, teacher, teacher_share, sampling)


class _Chunked(GradientInForward):
    """One chunk after the other, so that a chunk's candidates' vectors need not be kept."""

    @staticmethod
    def forward(
        ctx: Any,
        states_ND: Tensor,
        vectors_VD: Tensor,
        targets_N: Tensor,
        ids_NM: Tensor,
        probability_NM: Tensor,
        share: float,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_positions, num_items = len(states_ND), len(vectors_VD)
        grad_states_ND = torch.empty_like(states_ND)
        grad_vectors_VD = torch.zeros_like(vectors_VD)
        sums = states_ND.new_zeros(2)
        for first in range(0, num_positions, CHUNK):
            chunk = slice(first, first + CHUNK)
            negatives_K = torch.randint(num_items, (sampling.num_negatives,), generator=sampling.generator)
            ids = torch.cat([targets_N[chunk], negatives_K, ids_NM[chunk].flatten()])
            with torch.enable_grad():
                state_CD = states_ND[chunk].detach().requires_grad_()
                rows = vectors_VD.detach()[ids].requires_grad_()
                candidates = _Candidates.of(state_CD, rows, targets_N[chunk], negatives_K, ids_NM[chunk], num_items)
                task = _task(candidates, sampling)
                soft = _soft(candidates, probability_NM[chunk]) if share else torch.zeros_like(task)
                total = (1.0 - share) * task + share * soft
                grad_states_ND[chunk], grad_rows = torch.autograd.grad(total, (state_CD, rows))
            grad_vectors_VD.index_add_(0, ids, grad_rows)
            sums += torch.stack([task, soft]).detach()
        task_sum, soft_sum = sums
        return GradientInForward.finished(ctx, grad_states_ND, grad_vectors_VD, task_sum, soft_sum, share)


@dataclass(frozen=True)
class _Candidates:
    """Logits of one chunk. A drawn item that is the target, or that the teacher names, is minus infinity there."""

    target_C: Tensor
    negative_CK: Tensor
    named_CM: Tensor
    unnamed_CK: Tensor
    log_weight: float
    """Of a negative: each stands for V / K items."""
    num_items: int

    @classmethod
    def of(
        cls, state_CD: Tensor, rows: Tensor, targets_C: Tensor, negatives_K: Tensor, ids_CM: Tensor, num_items: int
    ) -> "_Candidates":
        target_CD, negative_KD, named = torch.split(rows, [len(targets_C), len(negatives_K), ids_CM.numel()])
        logits_CK = state_CD @ negative_KD.T
        named_CMD = named.view(*ids_CM.shape, rows.shape[1])
        return cls(
            target_C=(state_CD * target_CD).sum(dim=1),
            negative_CK=logits_CK.masked_fill(negatives_K == targets_C[:, None], -math.inf),
            named_CM=(named_CMD @ state_CD[:, :, None]).squeeze(2),
            unnamed_CK=logits_CK.masked_fill(_is_among(negatives_K, ids_CM), -math.inf),
            log_weight=math.log(num_items / len(negatives_K)),
            num_items=num_items,
        )


def _is_among(drawn_K: Tensor, ids_CM: Tensor) -> Tensor:
    """Whether each drawn item is among each row's, shape (C, K)."""
    if not ids_CM.shape[1]:
        return drawn_K.new_zeros((len(ids_CM), len(drawn_K)), dtype=torch.bool)
    sorted_CM = ids_CM.sort(dim=1).values
    drawn_CK = drawn_K.expand(len(ids_CM), -1).contiguous()
    place_CK = torch.searchsorted(sorted_CM, drawn_CK).clamp_(max=ids_CM.shape[1] - 1)
    return sorted_CM.gather(1, place_CK) == drawn_CK


def _task(logits: _Candidates, sampling: Sampling) -> Tensor:
    if sampling.calibration is None:
        weighted_CK = logits.negative_CK + logits.log_weight
        return (torch.cat([logits.target_C[:, None], weighted_CK], dim=1).logsumexp(dim=1) - logits.target_C).sum()
    rate = min(1.0, sampling.num_negatives / (logits.num_items - 1))
    power = rate * (sampling.calibration * (1.0 - 1.0 / rate) + 1.0 / rate)
    per_position_C = power * F.softplus(-logits.target_C) + F.softplus(logits.negative_CK).sum(dim=1)
    return per_position_C.sum() / (sampling.num_negatives + 1)


def _soft(logits: _Candidates, q_CM: Tensor) -> Tensor:
    """KL over the named items and the rest, whose mass is estimated from the negatives."""
    rest_CK = logits.unnamed_CK + logits.log_weight
    log_rest_C1 = rest_CK.logsumexp(dim=1, keepdim=True).clamp_min(-1e4)  # every negative may be a named one
    log_p = torch.cat([logits.named_CM, log_rest_C1], dim=1).log_softmax(dim=1)
    q = torch.cat([q_CM, (1.0 - q_CM.sum(dim=1, keepdim=True)).clamp_min(0.0)], dim=1)
    divergence: Tensor = (torch.special.xlogy(q, q) - q * log_p).sum()
    return divergence
