"""Statistics of repeated, interleaved timings. The clock itself is read elsewhere."""

from dataclasses import dataclass

import numpy as np

from distilrec.core.events import Floats
from distilrec.core.metrics import Interval


@dataclass(frozen=True)
class Percentiles:
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, samples_ms: Floats) -> "Percentiles":
        return cls(*(float(value) for value in np.percentile(samples_ms, [50, 95, 99])))


def median_ratio(slow_ms: Floats, fast_ms: Floats, seed: int, repeats: int = 1000) -> Interval:
    """median(slow) / median(fast) with a paired percentile bootstrap over the interleaved rounds."""
    assert len(slow_ms) == len(fast_ms), "interleaved timings come in rounds"
    drawn = np.random.default_rng(seed).integers(len(slow_ms), size=(repeats, len(slow_ms)))
    ratios = np.median(slow_ms[drawn], axis=1) / np.median(fast_ms[drawn], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(float(np.median(slow_ms) / np.median(fast_ms)), float(low), float(high))
