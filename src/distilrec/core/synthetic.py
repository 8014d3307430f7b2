"""Scenes whose answer is known: walks on a random Markov chain of chosen predictability."""

from dataclasses import dataclass

import numpy as np

from distilrec.core.events import Floats, Ints


@dataclass(frozen=True)
class SyntheticEvents:
    """In file order, by user; times are whole seconds, each event of a user one second after the last."""

    users: Ints
    items: Ints
    times: Floats


def markov_chain(
    num_users: int, num_items: int, events_per_user: int, predictability: float, seed: int
) -> SyntheticEvents:
    """Every item has one successor, a random cyclic order; a step follows it with the given chance and is a
    uniformly random item otherwise. At predictability p the best HR@1 is about p + (1 - p) / num_items."""
    generator = np.random.default_rng(seed)
    cycle = generator.permutation(num_items)
    successor = np.empty(num_items, dtype=np.int64)
    successor[cycle] = np.roll(cycle, -1)
    items = np.empty((num_users, events_per_user), dtype=np.int64)
    items[:, 0] = generator.integers(num_items, size=num_users)
    for event in range(1, events_per_user):
        follows = generator.random(num_users) < predictability
        items[:, event] = np.where(
            follows, successor[items[:, event - 1]], generator.integers(num_items, size=num_users)
        )
    users = np.repeat(np.arange(num_users), events_per_user)
    times = np.tile(np.arange(events_per_user, dtype=np.float64), num_users)
    return SyntheticEvents(users, items.ravel(), times)
