"""What of a dataset is trained on, who is asked for validation and test, and what the answers are: leave-one-out, for
comparison with papers, or by time, for a scene that runs on a schedule.

Shapes: U users, E events.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distilrec.core.events import Floats, Ints, Sequences, order_events, popularity

UNASKED = -1
"""In place of the target of a user who is not asked."""


@dataclass(frozen=True)
class Questions:
    """The next item of some users.

    Attributes:
        past: of every user, the events that are known when it is asked.
        targets_U: `num_items` for an item that the catalogue lacks.
    """

    past: Sequences
    targets_U: Ints

    @cached_property
    def users(self) -> Ints:
        """Who is asked."""
        return np.flatnonzero(self.targets_U != UNASKED)

    @cached_property
    def answerable(self) -> Ints:
        """Those of them whose target the catalogue has."""
        return np.flatnonzero((self.targets_U != UNASKED) & (self.targets_U < self.past.num_items))

    def asking_at_most(self, number: int, generator: np.random.Generator) -> "Questions":
        users = self.users
        drawn = users if len(users) <= number else generator.choice(users, size=number, replace=False)
        targets_U = np.full_like(self.targets_U, UNASKED)
        targets_U[drawn] = self.targets_U[drawn]
        return Questions(self.past, targets_U)

    def num_unseen(self, train: Sequences) -> int:
        """Of the targets, how many never occur in training."""
        return len(self.users) - int((popularity(train)[self.targets_U[self.answerable]] > 0).sum())


@dataclass(frozen=True)
class Split:
    """Attributes:
    is_whole: leave-one-out of everybody, which the sequences alone say.
    """

    train: Sequences
    valid: Questions
    test: Questions
    is_whole: bool = False

    @classmethod
    def leave_one_out(cls, sequences: Sequences) -> "Split":
        """The last item is the test's, the one before it validation's, and part of the input at test time."""
        train, past = sequences.without_last(2), sequences.without_last(1)
        return cls(train, Questions(train, sequences.target(2)), Questions(past, sequences.target(1)), is_whole=True)

    @classmethod
    def of_columns(
        cls, sequences: Sequences, num_trained_U: Ints, num_known_U: Ints, valid_U: Ints, test_U: Ints
    ) -> "Split":
        """By user: how many of its first events are before validation's question, how many before the test's, and both
        targets."""
        train, past = (sequences.first(number_U) for number_U in (num_trained_U, num_known_U))
        return cls(train, Questions(train, valid_U), Questions(past, test_U))

    def columns(self) -> tuple[Ints, Ints, Ints, Ints]:
        """What `of_columns` takes."""
        return self.train.lengths, self.test.past.lengths, self.valid.targets_U, self.test.targets_U

    def asking_at_most(self, number: int, seed: int) -> "Split":
        """With each question put to no more users, drawn by the seed."""
        if max(len(self.valid.users), len(self.test.users)) <= number:
            return self
        generator = np.random.default_rng(seed)
        valid, test = (one.asking_at_most(number, generator) for one in (self.valid, self.test))
        return Split(self.train, valid, test)


@dataclass(frozen=True)
class Cuts:
    """Seconds since 1970: training is before `valid`; a user's target is its first event from a cut on, that of
    validation before the other cut."""

    valid: float
    test: float

    def parts_of(self, times_E: Floats) -> Ints:
        """Of each event: 0 in training, 1 in validation's days, 2 in the test's."""
        return np.searchsorted(np.array([self.valid, self.test]), times_E, side="right")


def first_of_each(users_E: Ints, items_E: Ints, times_E: Floats) -> tuple[Ints, Ints]:
    """Every user that occurs, and the item of its first event; of events at one time the first of the file."""
    order = order_events(users_E, times_E)
    users, first = np.unique(users_E[order], return_index=True)
    return users, items_E[order][first]
