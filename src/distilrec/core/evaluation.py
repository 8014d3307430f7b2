"""Ranking test users against the whole catalogue, a batch of users at a time."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from distilrec.core.events import Ints, Sequences
from distilrec.core.metrics import VARIANTS, Scores, means, per_user, ranks_of
from distilrec.core.split import Questions

MOST_USERS, MOST_SCORES = 256, 16_000_000
"""Of a batch: 64 MB of scores, 16 users at a million items."""
MISS = 2**40
"""The rank of a target that a catalogue lacks, or of a user of whom a model knows nothing."""


class Scorer(Protocol):
    """Anything that scores the catalogue for some users' histories."""

    def score(self, sequences: Sequences, users: Ints) -> Scores:
        """Shape (B, V)."""
        ...


@dataclass(frozen=True)
class Ranks:
    """The target's rank of each user, with seen items kept in the ranking and removed from it. Shape (U,)."""

    kept: Ints
    removed: Ints

    def variant(self, name: str) -> Ints:
        assert name in VARIANTS, name
        return self.kept if name == "kept" else self.removed

    def metrics(self) -> dict[str, dict[str, float]]:
        """Mean HR, NDCG and MRR at every cut-off, of both variants."""
        return {variant: means(self.variant(variant)) for variant in VARIANTS}


def users_at_once(num_items: int) -> int:
    return max(1, min(MOST_USERS, MOST_SCORES // num_items))


def rank_users(scorer: Scorer, past: Sequences, targets: Ints, users: Ints | None = None) -> Ranks:
    """Rank the target of each of the `users` (by default all) given everything before it.

    Scores of one batch exist at a time; of them only the ranks are kept. Users of like length share a batch.
    """
    users = np.arange(len(past)) if users is None else users
    seen = Sequences(past.items, past.starts[users], past.stops[users], past.num_items).distinct()
    order = np.argsort(past.lengths[users], kind="stable")
    size = users_at_once(past.num_items)
    kept, removed = np.empty(len(users), dtype=np.int64), np.empty(len(users), dtype=np.int64)
    for first in range(0, len(users), size):
        rows = order[first : first + size]
        batch = users[rows]
        kept[rows], removed[rows] = ranks_of(scorer.score(past, batch), targets[batch], *seen.events(rows))
    return Ranks(kept, removed)


def rank_asked(scorer: Scorer, questions: Questions, users: Ints | None = None) -> Ranks:
    """Of those who are asked, or of `users` among them: an item that the catalogue lacks is a MISS."""
    users = questions.users if users is None else users
    is_known = questions.targets_U[users] < questions.past.num_items
    found = rank_users(scorer, questions.past, questions.targets_U, users[is_known])
    if len(found.kept) == len(users):
        return found
    spread = {variant: np.full(len(users), MISS, dtype=np.int64) for variant in VARIANTS}
    for variant, ranks in spread.items():
        ranks[is_known] = found.variant(variant)
    return Ranks(**spread)


def mean_ndcg10(ranks: Ranks, variant: str) -> float:
    return float(per_user(ranks.variant(variant), "ndcg", 10).mean())
