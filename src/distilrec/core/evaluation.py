"""Ranking test users against the whole catalogue, a batch of users at a time."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from distilrec.core.events import Ints, Sequences
from distilrec.core.metrics import CUTOFFS, VARIANTS, Scores, per_user, ranks_of, remove_seen

USERS_PER_BATCH = 256


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
        return {
            variant: {
                f"{metric}@{cutoff}": float(per_user(self.variant(variant), metric, cutoff).mean())
                for metric in ("hr", "ndcg", "mrr")
                for cutoff in CUTOFFS
            }
            for variant in VARIANTS
        }


def rank_users(scorer: Scorer, past: Sequences, targets: Ints) -> Ranks:
    """Rank each user's target given everything before it."""
    kept, removed = [], []
    for first in range(0, len(past), USERS_PER_BATCH):
        users = np.arange(first, min(first + USERS_PER_BATCH, len(past)))
        targets_B = targets[users]
        scores_BV = scorer.score(past, users)
        kept.append(ranks_of(scores_BV, targets_B))
        removed.append(ranks_of(remove_seen(scores_BV, past, users, targets_B), targets_B))
    return Ranks(np.concatenate(kept), np.concatenate(removed))


def mean_ndcg10(ranks: Ranks, variant: str) -> float:
    return float(per_user(ranks.variant(variant), "ndcg", 10).mean())
