"""Batches of windows over flat sequences: slices and masks, no Python loop per sample.

Shapes: B windows, L positions, N real positions taken together, D width. Padding stands on the right and has
the id `num_items`; every model is causal, so padding lies in the future of every real position and needs no
mask inside the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from distilrec.core.events import Bools, Ints, Sequences
from distilrec.core.parallel import ALONE, Processes

POOL = 64
"""Batches drawn together and sorted by length: up to 6 % of the tokens are padding, with 16 up to a quarter."""


@dataclass(frozen=True)
class Batch:
    """Windows with a target at every real position.

    Attributes:
        inputs_BL: items.
        targets_BL: the item that followed each; both are `padding` past the end.
        places_BL: where each input stands in the flat array of all items.
        share: of the real positions that all processes have in this batch, how many are here.
    """

    inputs_BL: Tensor
    targets_BL: Tensor
    places_BL: Tensor
    padding: int
    share: float = 1.0

    @cached_property
    def real(self) -> Tensor:
        """Indices of the real positions in the flattened B x L, shape (N,)."""
        return (self.targets_BL.flatten() != self.padding).nonzero().squeeze(1)

    @property
    def num_tokens(self) -> int:
        """Padding included."""
        return self.targets_BL.numel()

    def take(self, x: Tensor) -> Tensor:
        """The real positions of a (B, L) or (B, L, D) tensor, shape (N,) or (N, D)."""
        flat = x.flatten(0, 1)
        return flat if len(self.real) == len(flat) else flat.index_select(0, self.real)


@dataclass(frozen=True)
class Windows:
    """Where each training window begins and how many targets it has.

    A history of n items has n - 1 (input, target) pairs. They are cut from the end into windows of at
    most `max_length` pairs, so that every target is covered once and the newest window is full.
    """

    starts: Ints
    lengths: Ints
    owners: Ints
    """The user of each window: a split of users splits windows by it."""

    def __len__(self) -> int:
        return len(self.starts)

    def select(self, mask: Bools) -> "Windows":
        return Windows(self.starts[mask], self.lengths[mask], self.owners[mask])


def cut_windows(sequences: Sequences, max_length: int) -> Windows:
    pairs = np.maximum(sequences.lengths - 1, 0)
    counts = -(-pairs // max_length)
    owner = np.repeat(np.arange(len(sequences)), counts)
    index = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)  # 0 is the newest
    stops = pairs[owner] - index * max_length
    lengths = np.minimum(stops, max_length)
    return Windows(sequences.starts[owner] + stops - lengths, lengths, owner)


def training_batches(
    sequences: Sequences,
    windows: Windows,
    batch_size: int,
    generator: torch.Generator,
    processes: Processes = ALONE,
) -> Iterator[Batch]:
    """One epoch in random order; windows of like length share a batch, so that little is padded."""
    chosen = torch.randperm(len(windows), generator=generator).numpy()
    pool = batch_size * POOL
    batches: list[Ints] = []
    for first in range(0, len(chosen), pool):
        part = chosen[first : first + pool]
        part = part[np.argsort(windows.lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    for which in torch.randperm(len(batches), generator=generator).tolist():
        rows = batches[which]
        mine = processes.part(rows)
        share = float(windows.lengths[mine].sum() / windows.lengths[rows].sum())
        if not len(mine):
            mine = rows[:1]
        yield gather(sequences, windows.starts[mine], windows.lengths[mine], share)


def ordered_batches(sequences: Sequences, windows: Windows, batch_size: int) -> Iterator[Batch]:
    """Every window once, shortest first."""
    order = np.argsort(windows.lengths, kind="stable")
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        yield gather(sequences, windows.starts[rows], windows.lengths[rows])


def gather(sequences: Sequences, starts: Ints, lengths: Ints, share: float = 1.0) -> Batch:
    """The windows as one padded batch, as long as its longest window."""
    positions = np.arange(int(lengths.max()))
    inside = positions < lengths[:, None]
    padding = np.int64(sequences.num_items)
    places = np.where(inside, starts[:, None] + positions, 0)
    inputs = np.where(inside, sequences.items[places], padding)
    targets = np.where(inside, sequences.items[np.where(inside, places + 1, 0)], padding)
    inputs_BL, targets_BL, places_BL = (torch.from_numpy(array) for array in (inputs, targets, places))
    return Batch(inputs_BL, targets_BL, places_BL, sequences.num_items, share)
