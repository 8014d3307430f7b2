"""Cross-entropy and distillation over the whole catalogue, a few hundred rows at a time.

The logits of a batch are positions x items; here only a chunk of them exists at a time, and the
gradient is made in the same pass, so that no more than a chunk is kept, and that in the cache.

Shapes: N positions, D width, V items, M items that the teacher names, C positions of one chunk.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 500_000
"""Logits of one chunk, 2 MB in float32: larger ones leave the cache."""
FEWEST_ROWS = 64
"""Of a chunk: with fewer, reading all item vectors for each chunk costs more than the arithmetic."""
TINY = 1e-30


@dataclass(frozen=True)
class SoftTargets:
    """The teacher's most likely items and their probabilities; what is left is the probability of "another".

    Soft loss: KL(teacher || student) over those M + 1 outcomes. With M = V it is the divergence over the whole
    catalogue, with fewer a lower bound of it (merging outcomes cannot raise a divergence). How the student
    spreads the rest over the other items is its own affair.
    """

    ids_NM: Tensor
    probability_NM: Tensor


@dataclass(frozen=True)
class NextItemLoss:
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
    teacher: SoftTargets | None = None,
    teacher_share: float = 0.0,
) -> NextItemLoss:
    """The task and the soft-target loss, both a mean over the N positions, with one pass over the logits."""
    return with_gradient(_MixedCrossEntropy, states_ND, vectors_VD, targets_N, teacher, teacher_share)


def with_gradient(
    function: type["GradientInForward"],
    states_ND: Tensor,
    vectors_VD: Tensor,
    targets_N: Tensor,
    teacher: SoftTargets | None,
    teacher_share: float,
    *more: object,
) -> NextItemLoss:
    """Apply a loss that makes its gradient in forward; `more` is what it takes beside."""
    if teacher is None:
        assert teacher_share == 0.0, "a share for a teacher that is not there"
        teacher = SoftTargets(targets_N.new_empty(len(targets_N), 0), states_ND.new_empty(len(targets_N), 0))
    total, task, soft = function.apply(  # type: ignore[no-untyped-call]
        states_ND, vectors_VD, targets_N, teacher.ids_NM, teacher.probability_NM, teacher_share, *more
    )
    return NextItemLoss(total, float(task), float(soft))


class GradientInForward(torch.autograd.Function):
    """Gradients for the first two inputs, states and vectors, are ready when the loss is."""

    @staticmethod
    def finished(
        ctx: Any, grad_states_ND: Tensor, grad_vectors_VD: Tensor, task: Tensor, soft: Tensor, share: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From sums over the positions to means."""
        num_positions = len(grad_states_ND)
        ctx.save_for_backward(grad_states_ND.div_(num_positions), grad_vectors_VD.div_(num_positions))
        task, soft = task / num_positions, soft / num_positions
        ctx.mark_non_differentiable(task, soft)
        return (1.0 - share) * task + share * soft, task, soft

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        others = (None,) * (len(ctx.needs_input_grad) - len(ctx.saved_tensors))
        return *(grads[0] * gradient for gradient in ctx.saved_tensors), *others


def rows_of_chunk(num_items: int) -> int:
    return max(FEWEST_ROWS, CHUNK_ELEMENTS // num_items)


class _MixedCrossEntropy(GradientInForward):
    """Gradients for states_ND and vectors_VD, computed in forward; checked against torch's and finite differences.

    With p the student's softmax, s the share, q the teacher's M probabilities, r what they leave to the rest and
    p_r the student's probability of the rest, the gradient for the logits is
    p - (1 - s) * one_hot - s * (q on the M items, (r / p_r) * p on the rest).
    """

    @staticmethod
    def forward(
        ctx: Any,
        states_ND: Tensor,
        vectors_VD: Tensor,
        targets_N: Tensor,
        ids_NM: Tensor,
        probability_NM: Tensor,
        share: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_positions, num_items = len(states_ND), len(vectors_VD)
        rows = rows_of_chunk(num_items)
        grad_states_ND = torch.empty_like(states_ND)
        grad_vectors_VD = torch.zeros_like(vectors_VD)
        logits = states_ND.new_empty(min(rows, num_positions), num_items)
        task = states_ND.new_zeros(())
        soft = states_ND.new_zeros(())
        for first in range(0, num_positions, rows):
            chunk = slice(first, first + rows)
            states_CD, targets_C1 = states_ND[chunk], targets_N[chunk, None]
            p_CV = torch.mm(states_CD, vectors_VD.T, out=logits[: len(states_CD)])
            target_logit_C1 = p_CV.gather(1, targets_C1)
            named_logit_CM = p_CV.gather(1, ids_NM[chunk]) if share else None
            log_sum_C1 = _softmax_(p_CV)
            task += (log_sum_C1 - target_logit_C1).sum()
            if named_logit_CM is not None:
                named_CM = named_logit_CM - log_sum_C1
                soft += _mix_in_teacher_(p_CV, ids_NM[chunk], named_CM, probability_NM[chunk], share)
            p_CV.scatter_add_(1, targets_C1, p_CV.new_full(targets_C1.shape, share - 1.0))
            torch.mm(p_CV, vectors_VD, out=grad_states_ND[chunk])
            grad_vectors_VD.addmm_(p_CV.T, states_CD)
        return GradientInForward.finished(ctx, grad_states_ND, grad_vectors_VD, task, soft, share)


def _mix_in_teacher_(p_CV: Tensor, ids_CM: Tensor, log_p_CM: Tensor, q_CM: Tensor, share: float) -> Tensor:
    """Turns the student's probabilities into p - share * teacher, and returns the sum of the divergences.

    The rest is summed over what is left when the named items are zero, not as one minus their sum: a student
    that is sure of them would leave nothing but rounding.
    """
    p_CV.scatter_(1, ids_CM, 0.0)
    rest_p_C1 = p_CV.sum(dim=1, keepdim=True).clamp_min_(TINY)
    rest_q_C1 = (1.0 - q_CM.sum(dim=1, keepdim=True)).clamp_min_(0.0)
    p_CV.mul_(1.0 - share * rest_q_C1 / rest_p_C1)
    p_CV.scatter_(1, ids_CM, log_p_CM.exp() - share * q_CM)
    named = torch.special.xlogy(q_CM, q_CM) - q_CM * log_p_CM
    rest = torch.special.xlogy(rest_q_C1, rest_q_C1) - rest_q_C1 * rest_p_C1.log()
    divergence: Tensor = named.sum() + rest.sum()
    return divergence


def _softmax_(logits_CV: Tensor) -> Tensor:
    """Turns logits into probabilities in place and returns their log-sum-exp, shape (C, 1)."""
    largest_C1 = logits_CV.amax(dim=1, keepdim=True)
    sum_C1 = logits_CV.sub_(largest_C1).exp_().sum(dim=1, keepdim=True)
    logits_CV.div_(sum_C1)
    return largest_C1 + sum_C1.log()
