"""What counting alone achieves: popularity, and a first-order Markov chain filled up by popularity.

A model below one of them has learnt nothing worth compressing.
"""

import numpy as np
from numpy.typing import NDArray

from distilrec.core.events import Floats, Ints, Items, Sequences, popularity

FLOORS = {"popularity": "popularity", "markov": "first-order Markov"}
"""By their names in results: in words."""


class PopularityFloor:
    """Scores every item by its count, whoever asks."""

    def __init__(self, train: Sequences) -> None:
        self.score_V: Floats = popularity(train).astype(np.float64)

    def score(self, sequences: Sequences, users: Ints) -> Floats:
        """Scores of shape (B, V)."""
        return np.tile(self.score_V, (len(users), 1))


class MarkovFloor:
    """Scores an item by how often it followed the user's last item in training; popularity breaks ties.

    Counts are whole numbers and the popularity part stays below one, so it never outweighs a count.
    """

    def __init__(self, train: Sequences) -> None:
        user_of, items = train.events(np.arange(len(train)))
        follows = user_of[:-1] == user_of[1:]
        source, target = items[:-1][follows], items[1:][follows]
        order = np.lexsort((target, source))
        self._target: Items = target[order]
        self._offsets: NDArray[np.int64] = np.searchsorted(source[order], np.arange(train.num_items + 1))
        counts = popularity(train).astype(np.float64)
        self._popularity: Floats = counts / (counts.max() + 1.0)

    def score(self, sequences: Sequences, users: Ints) -> Floats:
        """Scores of shape (B, V)."""
        scores: Floats = np.tile(self._popularity, (len(users), 1))
        for row, last in enumerate(sequences.items[sequences.stops[users] - 1]):
            np.add.at(scores[row], self._target[self._offsets[last] : self._offsets[last + 1]], 1.0)
        return scores
