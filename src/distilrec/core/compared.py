"""Methods beside one another, each the mean over its runs, user by user."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distilrec.core.events import Floats
from distilrec.core.metrics import Interval, bootstrap_mean

SEED, REPEATS = 0, 1000


@dataclass(frozen=True)
class Compared:
    """Attributes:
    runs: the names of one method's runs.
    mean: over runs and users.
    by_run: of each run.
    beyond: what it has beyond the first method, user by user; None of the first.
    """

    runs: tuple[str, ...]
    mean: Interval
    by_run: tuple[float, ...]
    beyond: Interval | None


def compared(methods: Sequence[tuple[Sequence[str], Sequence[Floats]]]) -> list[Compared]:
    """Of each method the names of its runs and what each gives every user, the users in one order. Intervals are over
    users and do not know how runs differ."""
    means = [np.mean(values, axis=0) for _, values in methods]
    return [
        Compared(
            tuple(names),
            bootstrap_mean(mean, SEED, REPEATS),
            tuple(float(each.mean()) for each in values),
            bootstrap_mean(mean - means[0], SEED, REPEATS) if number else None,
        )
        for number, ((names, values), mean) in enumerate(zip(methods, means, strict=True))
    ]
