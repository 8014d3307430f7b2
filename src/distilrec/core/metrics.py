"""Ranks over the whole catalogue, the metrics made of them, and intervals over users.

Shapes: B users, V items (no padding column), H events of all histories of a batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distilrec.core.events import Floats, Ints, Items

Scores = NDArray[np.floating[Any]]
"""Of any precision."""

CUTOFFS = (1, 5, 10, 20)
VARIANTS = ("kept", "removed")
LARGEST_RATIO = 1e9
"""Stands for infinity, which JSON does not have."""


class NotANumberError(ValueError):
    """A model whose weights are spoilt."""


def ranks_of(scores_BV: Scores, targets_B: Ints) -> Ints:
    """The target's rank, 1 the best. Ties count against it: a constant score ranks it last.

    Raises:
        NotANumberError: a score that is not a number.
    """
    if np.isnan(scores_BV.max()):  # the largest of numbers and NaN is NaN
        raise NotANumberError("a score is not a number")
    target_B1 = np.take_along_axis(scores_BV, targets_B[:, None], axis=1)
    bits = np.packbits(scores_BV >= target_B1, axis=1)
    ranks: Ints = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return ranks


def seen_above(scores_BV: Scores, targets_B: Ints, rows_H: Ints, items_H: Items) -> Ints:
    """How many items of each user's history are ranked before the target, which itself does not count.

    Subtracted from `ranks_of` it gives the rank among what the user has not seen, without a masked copy of the
    scores. `rows_H` and `items_H` are the histories, one after the other; an item that repeats counts once.
    """
    num_items = scores_BV.shape[1]
    target_B = scores_BV[np.arange(len(targets_B)), targets_B]
    above_H = (scores_BV[rows_H, items_H] >= target_B[rows_H]) & (items_H != targets_B[rows_H])
    distinct = np.unique(rows_H[above_H] * num_items + items_H[above_H])
    return np.bincount(distinct // num_items, minlength=len(targets_B))


def remove_seen(scores_BV: Scores, targets_B: Ints, rows_H: Ints, items_H: Items) -> Scores:
    """A copy in which every item of the user's history scores minus infinity, the target excepted."""
    everyone = np.arange(len(targets_B))
    removed_BV = scores_BV.copy()
    removed_BV[rows_H, items_H] = -np.inf
    removed_BV[everyone, targets_B] = scores_BV[everyone, targets_B]
    return removed_BV


def per_user(ranks: Ints, metric: str, cutoff: int) -> Floats:
    """`hr`, `ndcg` or `mrr` at a cut-off, one value per user; one relevant item each, so the ideal DCG is 1."""
    hit = ranks <= cutoff
    if metric == "hr":
        return hit.astype(np.float64)
    if metric == "ndcg":
        return np.where(hit, 1.0 / np.log2(ranks + 1.0), 0.0)
    if metric == "mrr":
        return np.where(hit, 1.0 / ranks, 0.0)
    raise ValueError(f"metric {metric!r} is none of hr, ndcg, mrr")


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def _resamples(num_users: int, generator: np.random.Generator, repeats: int) -> NDArray[np.int32]:
    """How often each user is drawn in each resample, shape (repeats, num_users)."""
    return generator.multinomial(num_users, np.full(num_users, 1.0 / num_users), size=repeats).astype(np.int32)


def bootstrap_mean(values: Floats, seed: int, repeats: int = 1000) -> Interval:
    """Percentile bootstrap over users of a mean."""
    counts = _resamples(len(values), np.random.default_rng(seed), repeats)
    means = counts @ values / len(values)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_ratio(numerator: Floats, denominator: Floats, seed: int, repeats: int = 1000) -> Interval:
    """Paired percentile bootstrap of mean(numerator) / mean(denominator): the same users in both.

    Where the denominator's mean is zero the ratio is `LARGEST_RATIO`, or 1 if the numerator's is zero too.
    """
    assert len(numerator) == len(denominator), "a paired comparison needs the same users"
    counts = _resamples(len(numerator), np.random.default_rng(seed), repeats)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.nan_to_num(counts @ numerator / (counts @ denominator), nan=1.0, posinf=LARGEST_RATIO)
        value = float(np.nan_to_num(numerator.sum() / denominator.sum(), nan=1.0, posinf=LARGEST_RATIO))
    low, high = np.sort(ratios)[[int(0.025 * repeats), int(np.ceil(0.975 * repeats)) - 1]]
    return Interval(value, float(low), float(high))
