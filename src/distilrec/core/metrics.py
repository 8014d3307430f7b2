"""Ranks over the whole catalogue, the metrics made of them, and intervals over users.

Shapes: B users, V items (no padding column), H events of all histories of a batch.
"""

from collections.abc import Callable, Mapping
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


def ranks_of(scores_BV: Scores, targets_B: Ints, rows_H: Ints, items_H: Items) -> tuple[Ints, Ints]:
    """The target's rank, 1 the best, with seen items kept in the ranking and removed from it.

    Ties count against the target: a constant score ranks it last. So does a single score that is no number.
    Counting needs neither a top-k nor a masked copy of the scores: what was seen is subtracted.

    Args:
        rows_H: the row of each event of the histories, ascending.
        items_H: its item; no item twice in one row.

    Raises:
        NotANumberError: a user's scores, or an item's, are no numbers.
    """
    num_users, num_items = scores_BV.shape
    everyone = np.arange(num_users)
    target_B = scores_BV[everyone, targets_B]
    if np.isnan(target_B).any() or np.isnan(scores_BV[0]).any():  # a spoilt state is a row, a spoilt vector a column
        raise NotANumberError("a score is not a number")
    below_BV = np.less(scores_BV, target_B[:, None])
    bits = np.packbits(below_BV, axis=1)
    kept: Ints = num_items - np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    below_BV[everyone, targets_B] = True  # a target that was seen does not stand before itself
    is_before = ~below_BV.ravel()[rows_H * num_items + items_H]
    num_before = np.concatenate([[0], np.cumsum(is_before)])
    ends = np.searchsorted(rows_H, everyone, side="right")
    starts = np.searchsorted(rows_H, everyone, side="left")
    return kept, kept - (num_before[ends] - num_before[starts])


def remove_seen(scores_BV: Scores, targets_B: Ints, rows_H: Ints, items_H: Items) -> Scores:
    """A copy in which every item of the user's history scores minus infinity, the target excepted."""
    everyone = np.arange(len(targets_B))
    removed_BV = scores_BV.copy()
    removed_BV[rows_H, items_H] = -np.inf
    removed_BV[everyone, targets_B] = scores_BV[everyone, targets_B]
    return removed_BV


GAINS: dict[str, Callable[[Ints], Floats]] = {
    "hr": lambda ranks: np.ones(len(ranks)),
    "ndcg": lambda ranks: 1.0 / np.log2(ranks + 1.0),
    "mrr": lambda ranks: 1.0 / ranks,
}
"""Of a target at its rank, if that is within the cut-off; one relevant item each, so the ideal DCG is 1."""


def per_user(ranks: Ints, metric: str, cutoff: int) -> Floats:
    """`hr`, `ndcg` or `mrr` at a cut-off, one value per user."""
    if metric not in GAINS:
        raise ValueError(f"metric {metric!r} is none of hr, ndcg, mrr")
    return np.where(ranks <= cutoff, GAINS[metric](ranks), 0.0)


def means(ranks: Ints) -> dict[str, float]:
    """The mean of every metric at every cut-off, by names such as `ndcg@10`."""
    gain_MU = np.stack([gain(ranks) for gain in GAINS.values()])
    hit_UK = (ranks[:, None] <= np.array(CUTOFFS)).astype(np.float64)
    mean_MK = gain_MU @ hit_UK / len(ranks)
    return {
        f"{metric}@{cutoff}": float(mean_MK[row, column])
        for row, metric in enumerate(GAINS)
        for column, cutoff in enumerate(CUTOFFS)
    }


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


MOST_COUNTS = 2**24
"""Of how often a user is drawn, held at once: 128 MB."""


class Bootstrap:
    """Percentile intervals over users, of several models' values for the same users: each resample is drawn once and
    is the same for all of them, so that every comparison is paired."""

    def __init__(self, values: Mapping[str, Floats], seed: int, repeats: int = 1000) -> None:
        values_NU = np.stack(list(values.values()))
        generator, num_users = np.random.default_rng(seed), values_NU.shape[1]
        chances = np.full(num_users, 1.0 / num_users)
        at_once = max(1, MOST_COUNTS // num_users)
        sizes = [min(at_once, repeats - done) for done in range(0, repeats, at_once)]
        sums_NR = [values_NU @ generator.multinomial(num_users, chances, size).T for size in sizes]
        resampled_NR = np.concatenate(sums_NR, axis=1) / num_users
        self._means = dict(zip(values, values_NU.mean(axis=1).tolist(), strict=True))
        self._resampled = dict(zip(values, resampled_NR, strict=True))

    def mean(self, name: str) -> Interval:
        low, high = np.quantile(self._resampled[name], [0.025, 0.975])
        return Interval(self._means[name], float(low), float(high))

    def ratio(self, above: str, below: str) -> Interval:
        """Of means. Where the lower one is zero it is `LARGEST_RATIO`, or 1 if the upper one is zero too."""
        ratios = _ratio(self._resampled[above], self._resampled[below])
        low, high = np.sort(ratios)[[int(0.025 * len(ratios)), int(np.ceil(0.975 * len(ratios))) - 1]]
        value = _ratio(np.array(self._means[above]), np.array(self._means[below]))
        return Interval(float(value), float(low), float(high))


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(above / below, nan=1.0, posinf=LARGEST_RATIO)


def bootstrap_mean(values: Floats, seed: int, repeats: int = 1000) -> Interval:
    """Of one alone."""
    return Bootstrap({"": values}, seed, repeats).mean("")
