"""SASRec (Kang & McAuley 2018) as a teacher: causal self-attention blocks, pre-norm, shared embeddings.

Shapes: B sequences, L positions, D width, H heads.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from distilrec.core.dropout import Dropout
from distilrec.core.sequence_model import Layers, SequenceModel


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); four times wider in the middle."""

    def __init__(self, width: int, num_heads: int, dropout: Dropout) -> None:
        super().__init__()
        assert width % num_heads == 0, "the configuration checks this"
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, 4 * width)
        self.feed_out = nn.Linear(4 * width, width)
        self.dropout = dropout

    def forward(self, x_BLD: Tensor) -> Tensor:
        attended_BLD: Tensor = self.dropout(self._attend(self.attention_norm(x_BLD)))
        x_BLD = x_BLD + attended_BLD
        fed_BLD: Tensor = self.dropout(self.feed_out(F.gelu(self.feed_in(self.feed_norm(x_BLD)))))
        return x_BLD + fed_BLD

    def _attend(self, x_BLD: Tensor) -> Tensor:
        heads = self.query_key_value(x_BLD).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query_BHLd, key_BHLd, value_BHLd = heads.unbind(0)
        mixed_BHLd = F.scaled_dot_product_attention(query_BHLd, key_BHLd, value_BHLd, is_causal=True)
        attended_BLD: Tensor = self.attention_out(mixed_BHLd.transpose(1, 2).flatten(2))
        return attended_BLD


class SASRec(SequenceModel):
    """Exposes the output of every block for distillation; the state is the last one, normalised."""

    def __init__(
        self, num_items: int, width: int, max_length: int, dropout: Dropout, num_blocks: int, num_heads: int
    ) -> None:
        super().__init__(num_items, width, max_length, dropout)
        self.stack = nn.ModuleList(Block(width, num_heads, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)

    @property
    def num_layers(self) -> int:
        return len(self.stack)

    def blocks(self, embedded_BLD: Tensor) -> Layers:
        hidden = [embedded_BLD]
        for block in self.stack:
            hidden.append(block(hidden[-1]))
        return Layers(embedded_BLD, tuple(hidden[1:]), self.norm(hidden[-1]))
