"""Timing rankers one against the other in one process: the path of a request, and its parts."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from distilrec.core.events import Floats
from distilrec.serving.distilrec_ranker import Id, Ranker

DISTINCT_REQUESTS = 64
FEWEST_ROUNDS = 10
PARTS = ("look_up", "encoder", "scoring", "top_k")

Request = tuple[list[list[Id]], list[Id] | None]
"""Raw item ids of some users, and who they are if the ranker is asked with users."""


@dataclass(frozen=True)
class Pace:
    """How often to measure.

    Attributes:
        seconds: after which no round is begun, once there are `FEWEST_ROUNDS`; None for all rounds.
    """

    warmup: int
    rounds: int
    seconds: float | None = None


def requests(ranker: Ranker, max_length: int, batch_size: int, seed: int) -> list[Request]:
    """Users with full-length histories."""
    random = np.random.default_rng(seed)
    drawn = random.integers(len(ranker.ids), size=(DISTINCT_REQUESTS, batch_size, max_length))
    histories = [[[ranker.ids[index] for index in user] for user in users] for users in drawn.tolist()]
    if ranker.users is None:
        return [(one, None) for one in histories]
    names = ranker.users.ids
    numbers = random.integers(len(names), size=(DISTINCT_REQUESTS, batch_size))
    return [(one, [names[index] for index in row]) for one, row in zip(histories, numbers.tolist(), strict=True)]


def interleaved(rankers: Mapping[str, Ranker], asked: Sequence[Request], pace: Pace) -> dict[str, dict[str, Floats]]:
    """Milliseconds by ranker and part, and of the "whole" request: one value for each round.

    A round asks each of them once, in an order of its own: whoever always came after the same other one would pay for
    what that one left in the caches. Warm-up rounds are not among them.
    """
    samples: dict[str, list[list[float]]] = {name: [] for name in rankers}
    names, random = list(rankers), np.random.default_rng(0)
    began = time.monotonic()
    for turn in range(pace.warmup + pace.rounds):
        is_late = pace.seconds is not None and time.monotonic() - began > pace.seconds
        if is_late and turn >= pace.warmup + FEWEST_ROUNDS:
            break
        request = asked[turn % len(asked)]
        for place in random.permutation(len(names)):
            samples[names[place]].append(_timed(rankers[names[place]], request))
    found = {}
    for name, rows in samples.items():
        table = np.array(rows[pace.warmup :])
        found[name] = {**dict(zip(PARTS, table.T, strict=True)), "whole": table.sum(axis=1)}
    return found


def _timed(ranker: Ranker, request: Request) -> list[float]:
    clock = [time.perf_counter_ns()]
    looked_up = ranker.look_up(*request)
    clock.append(time.perf_counter_ns())
    states_BD = ranker.model.states(looked_up.ids_BL, looked_up.lengths_B)
    clock.append(time.perf_counter_ns())
    scored = ranker.scored(states_BD, looked_up, ranker.default_k, ranker.exclude_seen)
    clock.append(time.perf_counter_ns())
    ranker.best(scored, looked_up, ranker.default_k, ranker.exclude_seen)
    clock.append(time.perf_counter_ns())
    return [(after - before) / 1e6 for before, after in pairwise(clock)]
