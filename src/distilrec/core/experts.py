"""Distillation experts (DE, Kang et al. 2020): small networks that rebuild a teacher's representation from a
student's, and a selector that says which of them shall do it for whom.

Shapes: N entities, D student width, E teacher width, M experts, H inner width of an expert, C entities of a chunk.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from distilrec.core.ranked import gumbel

CHUNK = 128
"""Entities. Their inner activations, C x M x H, are all that is ever kept of the experts' outputs."""


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
    """The selection is put between the experts' two layers, sum_m s_m W_m a_m = [s_1 a_1 ... s_M a_M] W, so that the
    experts' outputs, N x M x E, never exist; and the gradient is made in forward, a chunk of entities at a time, so
    that their inner activations do not pile up either."""

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
        grads = [torch.zeros_like(x) for x in (student_ND, selected_NM, in_weight, in_bias, out_weight, out_bias)]
        grad_student_ND, grad_selected_NM, grad_in_weight, grad_in_bias, grad_out_weight, grad_out_bias = grads
        total = student_ND.new_zeros(())
        for first in range(0, len(student_ND), CHUNK):
            chunk = slice(first, first + CHUNK)
            student_CD, selected_CM1 = student_ND[chunk], selected_NM[chunk, :, None]
            inner = torch.addmm(in_bias, student_CD, in_weight).relu_()
            inner_CMH = inner.view(len(inner), len(out_bias), -1)
            weighed = (inner_CMH * selected_CM1).flatten(1)
            rebuilt_CE = weighed @ out_weight + selected_CM1.squeeze(2) @ out_bias
            apart_CE = rebuilt_CE - teacher_NE[chunk]
            scaled_CE = apart_CE * weights_N[chunk, None]
            total += (apart_CE * scaled_CE).sum()
            scaled_CE *= 2.0
            grad_out_weight.addmm_(weighed.T, scaled_CE)
            grad_out_bias.addmm_(selected_CM1.squeeze(2).T, scaled_CE)
            grad_CMH = torch.mm(scaled_CE, out_weight.T, out=weighed).view_as(inner_CMH)
            grad_selected_NM[chunk] = torch.einsum("cmh,cmh->cm", grad_CMH, inner_CMH) + scaled_CE @ out_bias.T
            grad_inner = grad_CMH.mul_(selected_CM1).mul_(inner_CMH > 0).flatten(1)
            grad_in_weight.addmm_(student_CD.T, grad_inner)
            grad_in_bias += grad_inner.sum(dim=0)
            torch.mm(grad_inner, in_weight.T, out=grad_student_ND[chunk])
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0] * gradient for gradient in ctx.saved_tensors), None, None
