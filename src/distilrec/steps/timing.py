"""Timing exported models one against the other in one process."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.io.exported import OnnxScorer

DISTINCT_REQUESTS = 64

Request = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Items of shape (1, max_length), and their number."""


def requests(num_items: int, max_length: int, seed: int) -> list[Request]:
    """Single users with full-length histories."""
    drawn = np.random.default_rng(seed).integers(num_items, size=(DISTINCT_REQUESTS, 1, max_length))
    return [(ids, np.array([max_length], dtype=np.int64)) for ids in drawn]


def exported(path: Path, threads: int) -> Callable[[Request], object]:
    scorer = OnnxScorer(path, threads)
    return lambda request: scorer.run(*request)


def interleaved(
    candidates: Mapping[str, Callable[[Request], object]], asked: list[Request], warmup: int, repeats: int
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each candidate in each round, A B C D A B C D ..., warm-up rounds not among them."""
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warmup + repeats):
        request = asked[turn % len(asked)]
        for name, answer in candidates.items():
            began = time.perf_counter_ns()
            answer(request)
            samples[name].append((time.perf_counter_ns() - began) / 1e6)
    return {name: np.array(values[warmup:]) for name, values in samples.items()}
