"""What a model is asked with. A context is what items are ranked for: a history, or a user known by number.

Either way it is a row of whole numbers and how many of them count, so that what ranks, exports and measures models does
not see the difference.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from distilrec.core.events import Ints, Sequences, histories

HISTORIES, USERS = "ids", "users"
"""As the exported graph calls its first input."""


class Asked(Protocol):
    """A model, as far as asking it goes."""

    @property
    def asked_with(self) -> str:
        """A key of CONTEXTS."""

    @property
    def max_length(self) -> int:
        """Of a context."""


def numbers(sequences: Sequences, users: Ints, max_length: int) -> tuple[Ints, Ints]:  # noqa: ARG001
    """Of some users, each a row of length one: their places among all, the same in training and afterwards."""
    return users[:, None].astype(np.int64), np.ones(len(users), dtype=np.int64)


CONTEXTS: dict[str, Callable[[Sequences, Ints, int], tuple[Ints, Ints]]] = {HISTORIES: histories, USERS: numbers}
"""From sequences and some of their users: ids_BL, padded on the right, and lengths_B."""


def contexts_of(model: Asked, sequences: Sequences, users: Ints) -> tuple[Ints, Ints]:
    """Of some users, no longer than the longest."""
    return CONTEXTS[model.asked_with](sequences, users, model.max_length)
