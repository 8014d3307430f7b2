"""Dropout that draws from a generator of its own, which the training loop seeds at every epoch: a training
resumes bit for bit, processes draw different masks, and nothing is global."""

import torch
from torch import Tensor, nn

LEVELS = 256


class Dropout(nn.Module):
    """Like torch.nn.Dropout, with the probability rounded to 1/256: one byte decides for one element.

    Drawing 64-bit words and reading them as bytes takes about an eighth of the time of drawing elements.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        assert 0.0 <= probability <= 0.99, "the configuration checks this"
        self.threshold = round(probability * LEVELS)
        self.generator = torch.Generator()

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.threshold:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
        bytes_ = words.random_(-(2**63), None, generator=self.generator).view(torch.uint8)[: x.numel()]
        kept = (bytes_ >= self.threshold).view(x.shape)
        return x * kept * (LEVELS / (LEVELS - self.threshold))
