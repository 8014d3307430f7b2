"""The ten operations of the AdaRec cell, all causal, in one table. To add one, add it here.

Every operation maps (B, L, D) to (B, L, D), uses nothing later than position t for position t, and maps
zero to zero (no biases), so that a node without live inputs is exactly zero and can be removed. The
normalisation is per position: batch statistics would mix in padding and later positions.

The release pads six of the ten symmetrically and so shows them the label (AdaRec code, `operations.py`).
Made causal, its plain dilated and its causal dilated convolution are the same function; both names stay,
so that the space and its genotypes can be compared with the release's.

Shapes: B sequences, L positions, D width.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def window(x_BLD: Tensor, kernel: int, dilation: int) -> list[Tensor]:
    """For every position, the inputs at t - (kernel-1)*dilation, ..., t - dilation, t; zeros before the start."""
    length = x_BLD.shape[1]
    padded = F.pad(x_BLD, (0, 0, (kernel - 1) * dilation, 0))
    return [padded[:, i * dilation : i * dilation + length] for i in range(kernel)]


def taps(x_BLD: Tensor, kernel: int, dilation: int) -> Tensor:
    """The same inputs side by side, shape (B, L, kernel * D): a convolution is one matrix product of them."""
    if x_BLD.requires_grad:
        taken: Tensor = _Taps.apply(x_BLD, kernel, dilation)  # type: ignore[no-untyped-call]
        return taken
    return torch.cat(window(x_BLD, kernel, dilation), dim=2)


class _Taps(torch.autograd.Function):
    """Adds the gradients of the taps where they belong, without torch's zero-filled tensor for each."""

    @staticmethod
    def forward(ctx: Any, x_BLD: Tensor, kernel: int, dilation: int) -> Tensor:
        ctx.kernel, ctx.dilation = kernel, dilation
        return torch.cat(window(x_BLD, kernel, dilation), dim=2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *earlier, newest = grads[0].chunk(ctx.kernel, dim=2)
        grad_BLD = newest.clone(memory_format=torch.contiguous_format)
        length = grad_BLD.shape[1]
        for steps, grad in enumerate(reversed(earlier), start=1):
            shift = steps * ctx.dilation
            if shift < length:
                grad_BLD[:, : length - shift] += grad[:, shift:]
        return grad_BLD, None, None


class Operation(nn.Module):
    """Made for a width. Costs are per position, for one sequence; normalisation and additions are not
    multiply-adds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def macs_per_position(self) -> int:
        """Multiply-adds of convolutions and linear layers."""
        return 0

    def look_back(self) -> int:
        """How far before its position an output's earliest input is."""
        return 0


class CausalConv(Operation):
    """Convolution over the past, then a scale-only layer normalisation. `kernel` taps, `dilation` apart."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__(width)
        self.kernel, self.dilation = kernel, dilation
        self.weight = nn.Parameter(torch.empty(kernel * width, width))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        normed: Tensor = self.norm(taps(x_BLD, self.kernel, self.dilation) @ self.weight)
        return normed

    def macs_per_position(self) -> int:
        return self.weight.numel()

    def look_back(self) -> int:
        return (self.kernel - 1) * self.dilation


class Pool(Operation):
    """Over the last three inputs."""

    def look_back(self) -> int:
        return 2


class MaxPool(Pool):
    """The largest, zeros before the start counted: padding is zero too, so that it changes nothing."""

    def forward(self, x_BLD: Tensor) -> Tensor:
        first, second, third = window(x_BLD, kernel=3, dilation=1)
        return torch.maximum(torch.maximum(first, second), third)


class AveragePool(Pool):
    """The mean, zeros before the start counted."""

    def forward(self, x_BLD: Tensor) -> Tensor:
        first, second, third = window(x_BLD, kernel=3, dilation=1)
        return (first + second + third) / 3.0


class Identity(Operation):
    def forward(self, x_BLD: Tensor) -> Tensor:
        return x_BLD


class Zero(Operation):
    """No edge."""

    def forward(self, x_BLD: Tensor) -> Tensor:
        return torch.zeros_like(x_BLD)


OPERATIONS: dict[str, Callable[[int], Operation]] = {
    "conv3": partial(CausalConv, kernel=3, dilation=1),
    "dilated_conv3": partial(CausalConv, kernel=3, dilation=2),
    "causal_dilated_conv3": partial(CausalConv, kernel=3, dilation=2),
    "conv5": partial(CausalConv, kernel=5, dilation=1),
    "dilated_conv5": partial(CausalConv, kernel=5, dilation=2),
    "causal_dilated_conv5": partial(CausalConv, kernel=5, dilation=2),
    "max_pool3": MaxPool,
    "average_pool3": AveragePool,
    "identity": Identity,
    "zero": Zero,
}
ZERO = "zero"
