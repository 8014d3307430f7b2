"""Distillation experts (DE, Kang et al. 2020): small networks that rebuild a teacher's representation from a
student's, and a selector that says which of them shall do it for whom.

Shapes: N entities, D student width, E teacher width, M experts, H inner width of an expert, C entities of one expert.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distilrec.core.ranked import gumbel


def select(log_weights_NM: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """A relaxed draw of one expert each, shape (N, M), rows that sum to one: Gumbel-softmax (Jang et al. 2017)."""
    noisy_NM = log_weights_NM + gumbel(tuple(log_weights_NM.shape), generator).to(log_weights_NM)
    noisy_NM = noisy_NM - noisy_NM.detach().amax(dim=1, keepdim=True)
    return (noisy_NM / temperature).softmax(dim=1)


class Experts(nn.Module):
    """M experts D - ReLU(H) - E with H = (D + E) // 2, or D // 2 where D = E, and a linear selector from E to M."""

    def __init__(self, width: int, teacher_width: int, num_experts: int, generator: torch.Generator) -> None:
        super().__init__()
        inner = width // 2 if width == teacher_width else (width + teacher_width) // 2
        self.selector = nn.Linear(teacher_width, num_experts)
        self.in_weight = nn.Parameter(torch.empty(width, num_experts * inner))
        self.in_bias = nn.Parameter(torch.empty(num_experts * inner))
        self.out_weight = nn.Parameter(torch.empty(num_experts * inner, teacher_width))
        self.out_bias = nn.Parameter(torch.empty(num_experts, teacher_width))
        fan_in = {"selector": teacher_width, "in": width, "out": inner}
        for name, parameter in self.named_parameters():
            limit = 1.0 / math.sqrt(fan_in[name.replace(".", "_").split("_")[0]])
            nn.init.uniform_(parameter, -limit, limit, generator=generator)

    def forward(
        self,
        student_ND: Tensor,
        teacher_NE: Tensor,
        weights_N: Tensor,
        temperature: float,
        generator: torch.Generator,
    ) -> Tensor:
        """sum_n weight_n * || teacher_n - sum_m selected_nm expert_m(student_n) ||^2, a scalar. The teacher's
        representation selects, and gets no gradient."""
        teacher_NE = teacher_NE.detach()
        selected_NM = select(self.selector(teacher_NE).log_softmax(dim=1), temperature, generator)
        inputs = (student_ND, selected_NM, self.in_weight, self.in_bias, self.out_weight, self.out_bias)
        total: Tensor = _Distance.apply(*inputs, teacher_NE, weights_N)  # type: ignore[no-untyped-call]
        return total


class _Distance(torch.autograd.Function):
    """One expert after the other, each for the entities of which it has a share that float arithmetic can see: the
    experts' outputs, N x M x E, never exist, and at a low temperature most of them are never asked. The gradient is
    made in forward, where each expert's inner activations are made again rather than kept."""

    @staticmethod
    def forward(
        ctx: Any,
        student_ND: Tensor,
        selected_NM: Tensor,
        in_weight: Tensor,
        in_bias: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        teacher_NE: Tensor,
        weights_N: Tensor,
    ) -> Tensor:
        shares = _shares(selected_NM)
        experts = _parts((in_weight, in_bias, out_weight), len(out_bias))
        apart_NE = torch.addmm(teacher_NE, selected_NM, out_bias, beta=-1)
        for (rows, share_C1), (in_DH, in_H, out_HE) in zip(shares, experts, strict=True):
            inner_CH = torch.addmm(in_H, student_ND[rows], in_DH).relu_()
            apart_NE.index_add_(0, rows, inner_CH.mul_(share_C1) @ out_HE)
        scaled_NE = apart_NE * weights_N[:, None]
        total = torch.dot(apart_NE.flatten(), scaled_NE.flatten())
        scaled_NE *= 2.0
        grads = [torch.zeros_like(one) for one in (student_ND, in_weight, in_bias, out_weight)]
        grad_student_ND, *grad_experts = grads
        grad_selected_NM, grad_out_bias = scaled_NE @ out_bias.T, selected_NM.T @ scaled_NE
        grad_parts = _parts(grad_experts, len(out_bias))
        for place, ((rows, share_C1), expert, grad) in enumerate(zip(shares, experts, grad_parts, strict=True)):
            (in_DH, in_H, out_HE), (grad_in_DH, grad_in_H, grad_out_HE) = expert, grad
            student_CD, scaled_CE = student_ND[rows], scaled_NE[rows]
            inner_CH = torch.addmm(in_H, student_CD, in_DH).relu_()
            grad_CH = scaled_CE @ out_HE.T
            grad_selected_NM[rows, place] += (grad_CH * inner_CH).sum(dim=1)
            grad_CH *= share_C1 * (inner_CH > 0)
            grad_out_HE += inner_CH.mul_(share_C1).T @ scaled_CE
            grad_in_DH += student_CD.T @ grad_CH
            grad_in_H += grad_CH.sum(dim=0)
            grad_student_ND.index_add_(0, rows, grad_CH @ in_DH.T)
        ctx.save_for_backward(grad_student_ND, grad_selected_NM, *grad_experts, grad_out_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0] * gradient for gradient in ctx.saved_tensors), None, None


def _shares(selected_NM: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Of each expert: the C entities that it is asked for, and its share of each, (C, 1)."""
    is_seen_NM = selected_NM > torch.finfo(selected_NM.dtype).eps
    experts, rows = torch.nonzero(is_seen_NM.T, as_tuple=True)
    counts = is_seen_NM.sum(dim=0).tolist()
    shares = selected_NM[rows, experts, None]
    return list(zip(torch.split(rows, counts), torch.split(shares, counts), strict=True))


def _parts(tensors: Sequence[Tensor], num_experts: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The weights (D, H) and (H, E) and the bias (H,) of each expert, in views of those of all."""
    in_weight, in_bias, out_weight = tensors
    parts = in_weight.chunk(num_experts, dim=1), in_bias.chunk(num_experts), out_weight.chunk(num_experts)
    return list(zip(*parts, strict=True))
