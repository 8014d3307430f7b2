"""NextItNet (Yuan et al. 2019) as a teacher: causal dilated convolutions in residual blocks, no positions.

Shapes: B sequences, L positions, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distilrec.core.dropout import Dropout
from distilrec.core.operations import taps
from distilrec.core.sequence_model import SequenceModel

KERNEL = 3


class DilatedConv(nn.Module):
    """Causal, `KERNEL` taps. One matrix product over the taps side by side: it trains faster than torch's conv1d."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.linear = nn.Linear(KERNEL * width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        convolved: Tensor = self.linear(taps(x_BLD, KERNEL, self.dilation))
        return convolved


class ResidualBlock(nn.Module):
    """x + gate * relu(norm(conv_2d(relu(norm(conv_d(x)))))); the gate starts at zero (ReZero, as AdaRec's teacher)."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first, self.second = DilatedConv(width, dilation), DilatedConv(width, 2 * dilation)
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x_BLD: Tensor) -> Tensor:
        inner_BLD = F.relu(self.first_norm(self.first(x_BLD)))
        return x_BLD + self.gate * F.relu(self.second_norm(self.second(inner_BLD)))


class NextItNet(SequenceModel):
    """Groups of one residual block for each dilation; the output of every group is exposed for distillation."""

    def __init__(
        self,
        num_items: int,
        width: int,
        max_length: int,
        dropout: Dropout,
        num_blocks: int,
        dilations: tuple[int, ...],
    ) -> None:
        super().__init__(num_items, width, max_length, dropout, num_positions=0)
        self.layers = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, dilation) for dilation in dilations)) for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(width)

    @property
    def reach(self) -> int:
        convolutions = [module for module in self.modules() if isinstance(module, DilatedConv)]
        return min(self.max_length, 1 + sum((KERNEL - 1) * one.dilation for one in convolutions))

    def macs_per_position(self) -> int:
        return sum(module.linear.weight.numel() for module in self.modules() if isinstance(module, DilatedConv))
