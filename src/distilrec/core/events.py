"""From interaction events to sequences: filtering to a fixed point, and order.

Events are three equally long arrays: user codes (int64, dense), item codes (int64, dense) and times
(float64, seconds). Codes are positions in the lists of raw ids that the caller keeps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
UInts = NDArray[np.uint64]
Items = NDArray[np.int32] | NDArray[np.int64]
"""Item indices. Int32 at rest: half the bytes, and what the file holds."""


@dataclass(frozen=True)
class FilterRound:
    """What one pass of the filter removed: items first, then users."""

    num_items_dropped: int
    num_users_dropped: int
    num_events_dropped: int


def filter_to_fixed_point(
    users: Ints, items: Ints, min_user_events: int, min_item_events: int
) -> tuple[Bools, list[FilterRound]]:
    """Drop rare items, then short users, again and again until nothing more falls.

    Returns the mask of the events that stay, and the rounds that removed something.
    """
    keep = np.ones(len(users), dtype=bool)
    rounds: list[FilterRound] = []
    while True:
        before = int(keep.sum())
        num_items_dropped = _drop_rare(keep, items, min_item_events)
        num_users_dropped = _drop_rare(keep, users, min_user_events)
        dropped = before - int(keep.sum())
        if not dropped:
            return keep, rounds
        rounds.append(FilterRound(num_items_dropped, num_users_dropped, dropped))


def _drop_rare(keep: Bools, codes: Ints, minimum: int) -> int:
    counts = np.bincount(codes[keep], minlength=int(codes.max(initial=-1)) + 1)
    rare = (counts > 0) & (counts < minimum)
    keep &= ~rare[codes]
    return int(rare.sum())


@dataclass(frozen=True)
class Sequences:
    """Every user's items in order, as slices of one flat array, which may be a memory-mapped file.

    `items[starts[u]:stops[u]]` are the items of user u, oldest first, values 0 .. num_items - 1.
    The padding id of every model is `num_items`.
    """

    items: Items
    starts: Ints
    stops: Ints
    num_items: int

    @classmethod
    def flat(cls, items: Items, lengths: Ints, num_items: int) -> "Sequences":
        """From users that follow each other without gaps."""
        stops = np.cumsum(lengths, dtype=np.int64)
        return cls(items.astype(np.int32, copy=False), stops - lengths, stops, num_items)

    def __len__(self) -> int:
        return len(self.starts)

    def of(self, user: int) -> Items:
        return self.items[self.starts[user] : self.stops[user]]

    @property
    def lengths(self) -> Ints:
        return self.stops - self.starts

    def events(self, users: Ints) -> tuple[Ints, Items]:
        """All events of some users: the row of each in `users`, and its item."""
        lengths = self.lengths[users]
        rows = np.repeat(np.arange(len(users)), lengths)
        first = np.cumsum(lengths) - lengths
        return rows, self.items[np.arange(len(rows)) + (self.starts[users] - first)[rows]]

    def distinct(self) -> "Sequences":
        """Each user's items once, in ascending order."""
        rows, items = self.events(np.arange(len(self)))
        pairs = np.unique(rows * self.num_items + items)
        lengths = np.bincount(pairs // self.num_items, minlength=len(self))
        return Sequences.flat(pairs % self.num_items, lengths, self.num_items)

    def without_last(self, count: int) -> "Sequences":
        """The same users, each without its last `count` items (leave-one-out hides 2, then 1). Copies nothing."""
        assert int(self.lengths.min(initial=count)) >= count, "a user is shorter than what the split hides"
        return Sequences(self.items, self.starts, self.stops - count, self.num_items)

    def first(self, counts_U: Ints) -> "Sequences":
        """The same users, each with so many of its first items. Copies nothing."""
        return Sequences(self.items, self.starts, self.starts + counts_U, self.num_items)

    def target(self, from_end: int) -> Ints:
        """One item of each user, counted from the end: 1 the last (test), 2 the last but one (validation)."""
        return self.items[self.stops - from_end].astype(np.int64)


def order_events(users: Ints, times: Floats) -> Ints:
    """The stable order by (user, time): equal times keep the order of the file.

    More than half of MovieLens' neighbouring events share a second; any other rule for ties changes
    about a quarter of the leave-one-out targets.
    """
    return np.lexsort((times, users))  # lexsort is stable; the last key is the primary one


def to_sequences(users: Ints, items: Ints, times: Floats, num_users: int, num_items: int) -> Sequences:
    order = order_events(users, times)
    lengths = np.bincount(users, minlength=num_users).astype(np.int64)
    return Sequences.flat(items[order], lengths, num_items)


def share_of_repeats(sequences: Sequences) -> float:
    """The share of events whose item the same user had before."""
    return 1.0 - int(sequences.distinct().lengths.sum()) / max(1, int(sequences.lengths.sum()))


def popularity(train: Sequences) -> Ints:
    """Events of each item in the training part, shape (V,)."""
    return np.bincount(train.events(np.arange(len(train)))[1], minlength=train.num_items).astype(np.int64)


def histories(sequences: Sequences, users: Ints, max_length: int) -> tuple[Ints, Ints]:
    """The newest items of some users: ids_BL, as long as the longest, padded on the right, and lengths_B."""
    stops = sequences.stops[users]
    lengths = np.minimum(sequences.lengths[users], max_length)
    positions = np.arange(int(lengths.max()))
    inside = positions < lengths[:, None]
    index = np.where(inside, (stops - lengths)[:, None] + positions, 0)
    return np.where(inside, sequences.items[index], np.int64(sequences.num_items)), lengths
