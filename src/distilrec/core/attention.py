"""Attention of the transformer students: three ways to mix the values of a sequence, by name.

Linear attention (LinRec; dnsrec-derrd.md A.3) replaces softmax(q k) by the product of ELU(q) and ELU(k), each of length
one over a head's features, so that the sum over positions is a d x d state:

    causal       out_t = sum over s <= t of (q_t . k_s) v_s / (number of real positions up to t)
    as-released  out_t = sum over all real s of (q_t . k_s) v_s / sqrt(d); both directions

The release counts padding among the positions and masks nothing. It sees one prefix of a history at a time, so nothing
leaks; here the model gives each prefix its own forward (transformer.py).

Shapes: B sequences, H heads, L positions, d features of a head, N chunks, C positions of a chunk.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-6
"""Under the root of a length: what is zero stays zero, and has a gradient."""
MOST_CHUNK = 64
"""Positions whose pairs are multiplied out; between chunks a d x d state is carried."""


def features(x_BHLd: Tensor) -> Tensor:
    """ELU, then length one over a head's features."""
    x_BHLd = F.elu(x_BHLd)
    squares_BHL1 = (x_BHLd * x_BHLd).sum(dim=3, keepdim=True)
    return x_BHLd * (squares_BHL1 + EPSILON).rsqrt()


def chunks_of(length: int) -> tuple[int, int]:
    """How many chunks, and positions in each, padding of the last included."""
    count = -(-length // MOST_CHUNK)
    return count, -(-length // count)


def linear_attention(query_BHLd: Tensor, key_BHLd: Tensor, value_BHLd: Tensor, real_BL: Tensor) -> Tensor:
    """Causal. Time and memory grow with L: pairs inside a chunk, and one state a chunk for all that is before it."""
    length = query_BHLd.shape[2]
    count, size = chunks_of(length)
    real_B1L1 = real_BL[:, None, :, None].to(query_BHLd.dtype)
    query, key = features(query_BHLd), features(key_BHLd) * real_B1L1

    def chunked(x_BHLd: Tensor) -> Tensor:
        missing = count * size - length
        padded = F.pad(x_BHLd, (0, 0, 0, missing)) if missing else x_BHLd
        return padded.reshape(*padded.shape[:2], count, size, padded.shape[3])

    query_BHNCd, key_BHNCd, value_BHNCd = chunked(query), chunked(key), chunked(value_BHLd)
    pairs_BHNCC = (query_BHNCd @ key_BHNCd.transpose(3, 4)).tril()
    mixed_BHNCd = pairs_BHNCC @ value_BHNCd
    if count > 1:
        state_BHNdd = key_BHNCd.transpose(3, 4) @ value_BHNCd
        before_BHNdd = state_BHNdd.cumsum(dim=2) - state_BHNdd
        mixed_BHNCd = mixed_BHNCd + query_BHNCd @ before_BHNdd
    return mixed_BHNCd.flatten(2, 3)[:, :, :length] / real_B1L1.cumsum(dim=2).clamp_min(1.0)


def released_attention(query_BHLd: Tensor, key_BHLd: Tensor, value_BHLd: Tensor, real_BL: Tensor) -> Tensor:
    """Every position sees every real one: for one prefix at a time."""
    key = features(key_BHLd) * real_BL[:, None, :, None]
    state_BHdd = key.transpose(2, 3) @ value_BHLd
    mixed_BHLd: Tensor = features(query_BHLd) @ state_BHdd / query_BHLd.shape[3] ** 0.5
    return mixed_BHLd


def softmax_attention(query_BHLd: Tensor, key_BHLd: Tensor, value_BHLd: Tensor, _real_BL: Tensor) -> Tensor:
    """Causal. Padding stands behind every real position, so none looks at it."""
    return F.scaled_dot_product_attention(query_BHLd, key_BHLd, value_BHLd, is_causal=True)


def linear_macs(width: int, head_width: int, length: int) -> int:
    """Multiply-adds of one position: both products inside its chunk, and of the state if there are several."""
    count, size = chunks_of(length)
    return 2 * size * width + (2 * head_width * width if count > 1 else 0)


def released_macs(width: int, head_width: int, _length: int) -> int:
    return 2 * head_width * width


def softmax_macs(width: int, _head_width: int, length: int) -> int:
    return 2 * length * width


ATTENTIONS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], Callable[[int, int, int], int]]] = {
    "linear": (linear_attention, linear_macs),
    "softmax": (softmax_attention, softmax_macs),
    "as-released": (released_attention, released_macs),
}
"""The function, and its multiply-adds for a position from width, head width and length."""
