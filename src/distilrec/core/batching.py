"""Batches of windows over flat sequences: slices and masks, no Python loop per sample.

Shapes: B windows, L positions. Padding stands on the right and has the id `num_items`; every model is
causal, so padding lies in the future of every real position and needs no mask inside the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distilrec.core.events import Bools, Ints, Sequences


@dataclass(frozen=True)
class Batch:
    """Windows with a target at every real position.

    `inputs_BL[b, t]` is an item, `targets_BL[b, t]` the one that followed it; both are padding past the end.
    """

    inputs_BL: Tensor
    targets_BL: Tensor
    padding: int

    @property
    def real_BL(self) -> Tensor:
        return self.targets_BL != self.padding


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
    return Windows(sequences.offsets[owner] + stops - lengths, lengths, owner)


def training_batches(
    sequences: Sequences,
    windows: Windows,
    batch_size: int,
    generator: torch.Generator,
) -> Iterator[Batch]:
    """One epoch in random order; windows of like length share a batch, so that little is padded."""
    chosen = torch.randperm(len(windows), generator=generator).numpy()
    pool = batch_size * 16
    batches: list[Ints] = []
    for first in range(0, len(chosen), pool):
        part = chosen[first : first + pool]
        part = part[np.argsort(windows.lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    for which in torch.randperm(len(batches), generator=generator).tolist():
        yield gather(sequences, windows.starts[batches[which]], windows.lengths[batches[which]])


def gather(sequences: Sequences, starts: Ints, lengths: Ints) -> Batch:
    """The windows as one padded batch, as long as its longest window."""
    positions = np.arange(int(lengths.max()))
    inside = positions < lengths[:, None]
    index = np.where(inside, starts[:, None] + positions, 0)
    inputs = np.where(inside, sequences.items[index], sequences.num_items)
    targets = np.where(inside, sequences.items[np.where(inside, index + 1, 0)], sequences.num_items)
    return Batch(torch.from_numpy(inputs), torch.from_numpy(targets), sequences.num_items)
