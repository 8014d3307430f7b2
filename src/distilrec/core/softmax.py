"""Cross-entropy and distillation over the whole catalogue, a few hundred rows at a time.

The logits of a batch are positions x items; here only a chunk of them exists at a time, and the
gradient is made in the same pass, so memory does not grow with the batch and stays in the cache.

Shapes: N positions, D student width, E teacher width, V items, C positions of one chunk.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 500_000  # logits of one chunk, 2 MB in float32: larger ones leave the cache


@dataclass(frozen=True)
class Teacher:
    """What the teacher says of the same positions: soft targets are softmax(states_NE @ vectors_VE.T)."""

    states_NE: Tensor
    vectors_VE: Tensor


@dataclass(frozen=True)
class SoftmaxLoss:
    """`total` carries the gradient; the other two are numbers for the record.

    Attributes:
        total: (1 - teacher_share) * task + teacher_share * soft.
        task: mean cross-entropy against the targets.
        soft: mean KL(teacher || student), zero without a teacher.
    """

    total: Tensor
    task: float
    soft: float


def softmax_loss(
    states_ND: Tensor,
    vectors_VD: Tensor,
    targets_N: Tensor,
    teacher: Teacher | None = None,
    teacher_share: float = 0.0,
) -> SoftmaxLoss:
    """The task and the soft-target loss, both a mean over the N positions, with one pass over the logits.

    Both are cross-entropies against a distribution, so their weighted sum has the gradient of one
    cross-entropy against the mixture of the one-hot target and the teacher's distribution.
    """
    if teacher is None:
        assert teacher_share == 0.0, "a share for a teacher that is not there"
        empty = states_ND.new_empty(0, 0)
        teacher = Teacher(empty, empty)
    total, task, soft = _MixedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states_ND, vectors_VD, targets_N, teacher.states_NE, teacher.vectors_VE, teacher_share
    )
    return SoftmaxLoss(total, float(task), float(soft))


class _MixedCrossEntropy(torch.autograd.Function):
    """Gradients for states_ND and vectors_VD, computed in forward; checked against finite differences."""

    @staticmethod
    def forward(
        ctx: Any,
        states_ND: Tensor,
        vectors_VD: Tensor,
        targets_N: Tensor,
        teacher_states_NE: Tensor,
        teacher_vectors_VE: Tensor,
        share: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_positions, num_items = len(states_ND), len(vectors_VD)
        rows = max(1, CHUNK_ELEMENTS // num_items)
        grad_states_ND = torch.empty_like(states_ND)
        grad_vectors_VD = torch.zeros_like(vectors_VD)
        logits = states_ND.new_empty(min(rows, num_positions), num_items)
        soft_logits = torch.empty_like(logits) if share else None
        task = states_ND.new_zeros(())
        soft = states_ND.new_zeros(())
        for first in range(0, num_positions, rows):
            chunk = slice(first, first + rows)
            states_CD, targets_C1 = states_ND[chunk], targets_N[chunk, None]
            p_CV = torch.mm(states_CD, vectors_VD.T, out=logits[: len(states_CD)])
            target_logit_C1 = p_CV.gather(1, targets_C1)
            log_sum_C1 = _softmax_(p_CV)
            task += (log_sum_C1 - target_logit_C1).sum()
            if soft_logits is not None:
                q_CV = torch.mm(teacher_states_NE[chunk], teacher_vectors_VE.T, out=soft_logits[: len(states_CD)])
                log_sum_q_C1 = _softmax_(q_CV)
                # KL = E_q[log q - log p], each log a logit minus its log-sum; E_q[logit] needs no logits kept:
                expected_p_C1 = (q_CV @ vectors_VD).mul_(states_CD).sum(1, keepdim=True)
                expected_q_C1 = (q_CV @ teacher_vectors_VE).mul_(teacher_states_NE[chunk]).sum(1, keepdim=True)
                soft += (expected_q_C1 - log_sum_q_C1 - expected_p_C1 + log_sum_C1).sum()
                p_CV.sub_(q_CV, alpha=share)
            p_CV.scatter_add_(1, targets_C1, p_CV.new_full(targets_C1.shape, share - 1.0))
            torch.mm(p_CV, vectors_VD, out=grad_states_ND[chunk])
            grad_vectors_VD.addmm_(p_CV.T, states_CD)
        ctx.save_for_backward(grad_states_ND.div_(num_positions), grad_vectors_VD.div_(num_positions))
        task, soft = task / num_positions, soft / num_positions
        ctx.mark_non_differentiable(task, soft)
        return (1.0 - share) * task + share * soft, task, soft

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_states_ND, grad_vectors_VD = ctx.saved_tensors
        return grads[0] * grad_states_ND, grads[0] * grad_vectors_VD, None, None, None, None


def _softmax_(logits_CV: Tensor) -> Tensor:
    """Turns logits into probabilities in place and returns their log-sum-exp, shape (C, 1)."""
    largest_C1 = logits_CV.amax(dim=1, keepdim=True)
    sum_C1 = logits_CV.sub_(largest_C1).exp_().sum(dim=1, keepdim=True)
    logits_CV.div_(sum_C1)
    return largest_C1 + sum_C1.log()
