"""The ten operations as the AdaRec release executes them: six of ten look at later positions, and batch statistics
mix padding in. For comparison only; the search space of record is operations.py.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from distilrec.core.operations import Identity, Operation, Zero


class ReleasedConv(Operation):
    """Convolution with bias, then BatchNorm. Centred on its position, so it sees the future, unless `is_causal`."""

    def __init__(self, width: int, kernel: int, dilation: int, is_causal: bool = False) -> None:
        super().__init__(width)
        reach = (kernel - 1) * dilation
        self.pads = (reach, 0) if is_causal else (reach // 2, reach // 2)
        self.conv = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        normed_BDL: Tensor = self.norm(self.conv(F.pad(x_BLD.transpose(1, 2), self.pads)))
        return normed_BDL.transpose(1, 2)

    def macs_per_position(self) -> int:
        return self.conv.weight.numel()


class ReleasedMaxPool(Operation):
    def forward(self, x_BLD: Tensor) -> Tensor:
        return F.max_pool1d(x_BLD.transpose(1, 2), 3, stride=1, padding=1).transpose(1, 2)


class ReleasedAveragePool(Operation):
    def forward(self, x_BLD: Tensor) -> Tensor:
        return F.avg_pool1d(x_BLD.transpose(1, 2), 3, stride=1, padding=1).transpose(1, 2)


RELEASED_OPERATIONS: dict[str, Callable[[int], Operation]] = {
    "conv3": partial(ReleasedConv, kernel=3, dilation=1),
    "dilated_conv3": partial(ReleasedConv, kernel=3, dilation=2),
    "causal_dilated_conv3": partial(ReleasedConv, kernel=3, dilation=2, is_causal=True),
    "conv5": partial(ReleasedConv, kernel=5, dilation=1),
    "dilated_conv5": partial(ReleasedConv, kernel=5, dilation=2),
    "causal_dilated_conv5": partial(ReleasedConv, kernel=5, dilation=2, is_causal=True),
    "max_pool3": ReleasedMaxPool,
    "average_pool3": ReleasedAveragePool,
    "identity": Identity,
    "zero": Zero,
}
