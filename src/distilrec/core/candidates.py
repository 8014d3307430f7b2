"""The sampled protocols of the papers: the target among a few items that the user did not have. They are for comparison
with published numbers alone, since they need not order models as the whole catalogue does (Krichene & Rendle 2020).

Shapes: B users of a batch, U users who are asked, V items, K negatives.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from distilrec.core.evaluation import MISS, Scorer, users_at_once
from distilrec.core.events import Bools, Floats, Ints
from distilrec.core.split import Questions

NONE = -1
"""In place of a negative, where a user has fewer."""


@dataclass(frozen=True)
class Protocol:
    """Negatives are drawn without replacement, uniformly or by how often an item occurs in training."""

    num_negatives: int
    by_popularity: bool = False


PROTOCOLS = {
    "uniform-100": Protocol(100),
    "popular-100": Protocol(100, by_popularity=True),
    "uniform-499": Protocol(499),
}
"""Of SASRec, BERT4Rec and DE-RRD."""


def draw_negatives(protocol: Protocol, questions: Questions, popularity_V: Floats, seed: int) -> Ints:
    """Shape (U, K), of those who are asked; the same for every model that is ranked among them."""
    generator, users, size = np.random.default_rng(seed), questions.users, users_at_once(len(popularity_V))
    weights_V = popularity_V if protocol.by_popularity else np.ones(len(popularity_V))
    batches = [users[first : first + size] for first in range(0, len(users), size)]
    number = min(protocol.num_negatives, len(weights_V))
    drawn = [_draw(number, weights_V, _is_taken(questions, batch), generator) for batch in batches]
    return np.concatenate(drawn)


def _is_taken(questions: Questions, users: Ints) -> Bools:
    """Shape (B, V): what the user had, and the target."""
    is_taken = np.zeros((len(users), questions.past.num_items + 1), dtype=bool)
    is_taken[questions.past.events(users)] = True
    is_taken[np.arange(len(users)), questions.targets_U[users]] = True
    return is_taken[:, :-1]


def _draw(number: int, weights_V: Floats, is_taken_BV: Bools, generator: np.random.Generator) -> Ints:
    """One after the other without replacement: with replacement, and whatever is taken or came before is passed over. A
    row that lacks some after twice as many is finished from what is left to it."""
    shares_V = weights_V.cumsum() / weights_V.sum()
    shares_V[np.flatnonzero(weights_V)[-1] :] = 1.0  # rounding left out
    tried_BM = np.searchsorted(shares_V, generator.random((len(is_taken_BV), 2 * number)), side="right")
    is_new_BM = ~np.take_along_axis(is_taken_BV, tried_BM, axis=1) & _is_first_of_row(tried_BM)
    place_BM = is_new_BM.cumsum(axis=1) - 1
    row_N, tried_N = np.nonzero(is_new_BM & (place_BM < number))
    drawn_BK = np.full((len(is_taken_BV), number), NONE, dtype=np.int64)
    drawn_BK[row_N, place_BM[row_N, tried_N]] = tried_BM[row_N, tried_N]
    is_taken_BV[row_N, tried_BM[row_N, tried_N]] = True
    for row in np.flatnonzero((drawn_BK == NONE).any(axis=1)):
        lacks = drawn_BK[row] == NONE
        drawn_BK[row, lacks] = _from_what_is_left(int(lacks.sum()), weights_V, is_taken_BV[row], generator)
    return drawn_BK


def _is_first_of_row(ids_BM: Ints) -> Bools:
    """Of equal ids in a row the one that came first."""
    order_BM = np.argsort(ids_BM, axis=1, kind="stable")
    sorted_BM = np.take_along_axis(ids_BM, order_BM, axis=1)
    is_first = np.ones(ids_BM.shape, dtype=bool)
    is_first[:, 1:] = sorted_BM[:, 1:] != sorted_BM[:, :-1]
    found = np.empty_like(is_first)
    np.put_along_axis(found, order_BM, is_first, axis=1)
    return found


def _from_what_is_left(number: int, weights_V: Floats, is_taken_V: Bools, generator: np.random.Generator) -> Ints:
    """The smallest of exponential times with these rates: without replacement (Efraimidis & Spirakis 2006)."""
    left = np.flatnonzero(~is_taken_V & (weights_V > 0))
    times = generator.exponential(size=len(left)) / weights_V[left]
    drawn = left[np.argsort(times)[:number]]
    return np.concatenate([drawn, np.full(number - len(drawn), NONE)])


def ranks_among(scorer: Scorer, questions: Questions, negatives: Mapping[str, Ints]) -> dict[str, Ints]:
    """By protocol the target's rank of each user who is asked, 1 the best; ties count against it, and an item that the
    catalogue lacks is a MISS."""
    if not negatives:
        return {}
    asked, size = questions.users, users_at_once(questions.past.num_items)
    is_known = questions.targets_U[asked] < questions.past.num_items
    ranks = {name: np.full(len(is_known), MISS, dtype=np.int64) for name in negatives}
    rows = np.flatnonzero(is_known)
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        users = asked[batch]
        scores_BV = scorer.score(questions.past, users)
        target_B1 = scores_BV[np.arange(len(users)), questions.targets_U[users]][:, None]
        for name, negatives_UK in negatives.items():
            negatives_BK = negatives_UK[batch]
            is_below = np.take_along_axis(scores_BV, np.maximum(negatives_BK, 0), axis=1) < target_B1
            ranks[name][batch] = 1 + (~is_below & (negatives_BK != NONE)).sum(axis=1)
    return ranks
