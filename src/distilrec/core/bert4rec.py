"""BERT4Rec (Sun et al. 2019) as a teacher: trained first to fill masked items in, with attention to both sides, then
fine-tuned to predict the next item, with attention to the past alone.

The AdaRec release keeps attention to both sides in the fine-tuning, so position t reads its own label at t + 1; here
the fine-tuned model is SASRec's stack, causal everywhere, that began from the masked model's weights.

Shapes: B sequences, L positions of a window, M = L + 1 items of it with the last target, D width.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distilrec.core.batching import Batch
from distilrec.core.dropout import Dropout
from distilrec.core.events import Ints, Sequences, histories
from distilrec.core.sasrec import SASRec

SHARE_REPLACED, SHARE_RANDOM = 0.8, 0.1  # of the items to guess; the rest is shown as it is (Devlin et al. 2019)


class BERT4Rec(SASRec):
    """One position more than its length: the masked model guesses the item after a full history."""

    def __init__(
        self, num_items: int, width: int, max_length: int, dropout: Dropout, num_blocks: int, num_heads: int, inner: int
    ) -> None:
        super().__init__(num_items, width, max_length, dropout, num_blocks, num_heads, inner, max_length + 1)
        self.mask = nn.Embedding(1, width)

    def fill_in(self, ids_BM: Tensor, is_masked_BM: Tensor) -> Tensor:
        """States of shape (B, M, D) that see every item but masked ones and padding; a masked place scores its own."""
        embedded_BMD = self.placed(torch.where(is_masked_BM[..., None], self.mask.weight, self.items(ids_BM)))
        visible_B11M = (is_masked_BM | (ids_BM != self.num_items))[:, None, None]
        return self.run(embedded_BMD, [partial(block, visible_B11L=visible_B11M) for block in self.layers]).state_BLD


@dataclass(frozen=True)
class Masked:
    """Sequences with items to guess.

    Attributes:
        ids_BM: what is shown; `is_masked_BM` places show the mask instead.
        guessed_N: places to guess in the flattened B x M.
        targets_N: the items there.
    """

    ids_BM: Tensor
    is_masked_BM: Tensor
    guessed_N: Tensor
    targets_N: Tensor


def mask(batch: Batch, share: float, generator: torch.Generator) -> Masked:
    """Each item of a window, its last target included, is to be guessed with chance `share`; one at least is."""
    ids_BM = torch.cat([batch.inputs_BL[:, :1], batch.targets_BL], dim=1)
    is_real_BM = ids_BM != batch.padding
    chance_BM = torch.rand(ids_BM.shape, generator=generator).masked_fill(~is_real_BM, 2.0)
    is_guessed_BM = (chance_BM < share) | (chance_BM == chance_BM.min(dim=1, keepdim=True).values)
    fate_BM = torch.rand(ids_BM.shape, generator=generator)
    is_masked_BM = is_guessed_BM & (fate_BM < SHARE_REPLACED)
    is_random_BM = is_guessed_BM & (fate_BM >= SHARE_REPLACED) & (fate_BM < SHARE_REPLACED + SHARE_RANDOM)
    random_BM = torch.randint(batch.padding, ids_BM.shape, generator=generator)
    guessed_N = is_guessed_BM.flatten().nonzero().squeeze(1)
    return Masked(torch.where(is_random_BM, random_BM, ids_BM), is_masked_BM, guessed_N, ids_BM.flatten()[guessed_N])


class MaskedScorer:
    """The masked model's guess of the item after each history."""

    def __init__(self, model: BERT4Rec) -> None:
        self.model = model.eval()

    def score(self, sequences: Sequences, users: Ints) -> NDArray[np.float32]:
        """Shape (B, V)."""
        ids_BL, lengths_B = histories(sequences, users, self.model.max_length)
        ids_BM = torch.from_numpy(np.pad(ids_BL, ((0, 0), (0, 1)), constant_values=self.model.num_items))
        rows_B, last_B = torch.arange(len(users)), torch.from_numpy(lengths_B)
        is_masked_BM = torch.zeros_like(ids_BM, dtype=torch.bool)
        is_masked_BM[rows_B, last_B] = True
        with torch.inference_mode():
            states_BMD = self.model.fill_in(ids_BM, is_masked_BM)
            scores: NDArray[np.float32] = self.model.score(states_BMD[rows_B, last_B]).numpy()
        return scores
