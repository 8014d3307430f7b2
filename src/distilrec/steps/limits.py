"""How fast this machine multiplies matrices and moves memory, measured in the run that the figures stand in."""

import time
from collections.abc import Callable

import torch

from distilrec.core.latency import Limits

SIDE = 1024
NUM_BYTES = 2**28
REPEATS = 7


def measured_limits(threads: int) -> Limits:
    """The best of some repeats, single precision, of a matrix product and of a copy."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        one, other, product = (torch.ones(SIDE, SIDE) for _ in range(3))
        source, target = (torch.zeros(NUM_BYTES // 4) for _ in range(2))
        multiplied = _best_seconds(lambda: torch.mm(one, other, out=product))
        moved = _best_seconds(lambda: target.copy_(source))
    finally:
        torch.set_num_threads(before)
    return Limits(operations=2.0 * SIDE**3 / multiplied, bytes=2.0 * NUM_BYTES / moved)


def _best_seconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best
