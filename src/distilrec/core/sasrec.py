"""SASRec (Kang & McAuley 2018) as a teacher: causal self-attention blocks, pre-norm, shared embeddings.

Shapes: B sequences, L positions, D width, H heads.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from distilrec.core.dropout import Dropout
from distilrec.core.sequence_model import SequenceModel


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); `inner` times wider in the middle."""

    def __init__(self, width: int, num_heads: int, inner: int, dropout: Dropout) -> None:
        super().__init__()
        assert width % num_heads == 0, "the configuration checks this"
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, inner * width)
        self.feed_out = nn.Linear(inner * width, width)
        self.dropout = dropout

    def forward(self, x_BLD: Tensor, visible_B11L: Tensor | None = None) -> Tensor:
        """Each position sees itself and what is before it; with `visible`, all positions that are true there."""
        attended_BLD: Tensor = self.dropout(self._attend(self.attention_norm(x_BLD), visible_B11L))
        x_BLD = x_BLD + attended_BLD
        fed_BLD: Tensor = self.dropout(self.feed_out(F.gelu(self.feed_in(self.feed_norm(x_BLD)))))
        return x_BLD + fed_BLD

    def _attend(self, x_BLD: Tensor, visible_B11L: Tensor | None) -> Tensor:
        heads = self.query_key_value(x_BLD).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query_BHLd, key_BHLd, value_BHLd = heads.unbind(0)
        mixed_BHLd = F.scaled_dot_product_attention(
            query_BHLd, key_BHLd, value_BHLd, attn_mask=visible_B11L, is_causal=visible_B11L is None
        )
        attended_BLD: Tensor = self.attention_out(mixed_BHLd.transpose(1, 2).flatten(2))
        return attended_BLD


class SASRec(SequenceModel):
    """Exposes the output of every block for distillation; the state is the last one, normalised."""

    def __init__(
        self,
        num_items: int,
        width: int,
        max_length: int,
        dropout: Dropout,
        num_blocks: int,
        num_heads: int,
        inner: int = 4,
        num_positions: int | None = None,
    ) -> None:
        super().__init__(num_items, width, max_length, dropout, num_positions or max_length)
        self.layers = nn.ModuleList(Block(width, num_heads, inner, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)
        self.inner = inner

    def macs_per_position(self) -> int:
        block = (4 + 2 * self.inner) * self.width**2 + 2 * self.max_length * self.width
        return len(self.layers) * block
