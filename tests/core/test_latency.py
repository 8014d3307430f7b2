"""The gate's speed-up and its interval."""

from dataclasses import replace

import numpy as np
import pytest

from distilrec.core.latency import Place, median_ratio


def test_the_ratio_is_that_of_the_medians():
    random = np.random.default_rng(0)
    slow, fast = 3.0 + random.random(101), 1.0 + random.random(101)
    ratio = median_ratio(slow, fast, seed=0)
    assert ratio.value == pytest.approx(np.median(slow) / np.median(fast), rel=1e-12)
    assert ratio.low < ratio.value < ratio.high


def test_what_slows_both_in_a_round_does_not_blur_the_ratio():
    of_round = np.random.default_rng(1).exponential(1.0, size=400) + 1.0
    ratio = median_ratio(2.0 * of_round, of_round, seed=0)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0), rel=1e-12)


def test_the_interval_holds_where_slow_seconds_last_for_some_rounds():
    random, covered = np.random.default_rng(2), 0
    for trial in range(100):
        slow = 2.0 * np.repeat(random.lognormal(0.0, 0.2, size=60), 5)  # each disturbance lasts five rounds
        ratio = median_ratio(slow, random.lognormal(0.0, 0.02, size=300), seed=trial, repeats=200)
        covered += ratio.low <= 2.0 <= ratio.high
    assert covered >= 85  # 55 if every round is drawn by itself


def test_a_table_serves_a_catalogue_that_grew_a_little():
    """The scenes of a schedule get new items; a catalogue of another size has another price."""
    place = Place("cpu", "onnxruntime 1", 1, 32, 3, 100, num_items=1000)
    assert place.differences(replace(place, num_items=1099)) == place.differences(replace(place, num_items=910)) == []
    for other in (1101, 900):
        assert place.differences(replace(place, num_items=other)) == [f"num_items 1000, not {other}"]
    assert place.differences(replace(place, num_items=1001, width=64)) == ["width 32, not 64"]
