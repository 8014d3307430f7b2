"""Arithmetic written out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilrec.core import metrics
from distilrec.core.events import Sequences
from distilrec.core.metrics import Bootstrap, bootstrap_mean, means, per_user, ranks_of, remove_seen

RANKS = np.array([1, 2, 10, 11, 500])


def test_five_users_by_hand():
    assert per_user(RANKS, "hr", 10).tolist() == [1, 1, 1, 0, 0]
    assert per_user(RANKS, "mrr", 10).tolist() == [1, 0.5, 0.1, 0, 0]
    expected = [1, 1 / math.log2(3), 1 / math.log2(11), 0, 0]
    np.testing.assert_allclose(per_user(RANKS, "ndcg", 10), expected, rtol=1e-12)
    assert per_user(RANKS[:0], "ndcg", 10).tolist() == []


NOTHING_SEEN = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)


def test_the_means_are_those_of_the_users():
    found = means(RANKS)
    assert len(found) == 12
    for name, value in found.items():
        metric, cutoff = name.split("@")
        assert value == pytest.approx(per_user(RANKS, metric, int(cutoff)).mean()), name


def _ranks(scores, targets):
    return ranks_of(scores, targets, *NOTHING_SEEN)[0]


def test_ties_count_against_the_target():
    scores = np.array([[0.5, 0.5, 0.5], [0.1, 0.9, 0.9], [3.0, 2.0, 1.0]])
    assert _ranks(scores, np.array([0, 2, 0])).tolist() == [3, 2, 1]


def test_a_constant_model_scores_nothing():
    ranks = _ranks(np.zeros((4, 100)), np.arange(4))
    assert per_user(ranks, "ndcg", 10).sum() == 0


@pytest.mark.parametrize("spoilt", [(1, slice(None)), (slice(None), 2)])
def test_a_user_or_item_whose_scores_are_no_numbers_is_refused(spoilt):
    scores = np.arange(12.0).reshape(3, 4)
    scores[spoilt] = np.nan
    with pytest.raises(ValueError, match="not a number"):
        _ranks(scores, np.zeros(3, dtype=np.int64))


def test_a_single_score_that_is_no_number_stands_before_the_target():
    assert _ranks(np.array([[1.0, 0.0], [1.0, np.nan]]), np.array([0, 0])).tolist() == [1, 2]


def test_seen_items_are_removed_but_never_the_target():
    past = Sequences.flat(np.array([0, 1, 2, 3]), np.array([3, 1]), 5)
    scores = np.arange(10.0).reshape(2, 5)
    removed = remove_seen(scores, np.array([1, 4]), *past.events(np.arange(2)))
    inf = float("-inf")
    assert removed.tolist() == [[inf, 1, inf, 3, 4], [5, 6, 7, inf, 9]]
    assert scores[0, 0] == 0, "the input is left alone"


@settings(max_examples=50, deadline=None)
@given(data=st.data(), num_items=st.integers(2, 20))
def test_ranking_by_counting_equals_ranking_a_masked_copy(data, num_items):
    """Ties, repeated items and targets that were seen before included."""
    lengths = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=5))
    items = st.integers(0, num_items - 1)
    past = Sequences.flat(
        np.array(data.draw(st.lists(items, min_size=sum(lengths), max_size=sum(lengths))), dtype=np.int64),
        np.array(lengths),
        num_items,
    )
    targets = np.array([data.draw(items) for _ in lengths])
    scores = np.array([[data.draw(st.integers(0, 3)) for _ in range(num_items)] for _ in lengths], dtype=np.float32)
    kept, removed = ranks_of(scores, targets, *past.distinct().events(np.arange(len(past))))
    assert kept.tolist() == [(row >= row[target]).sum() for row, target in zip(scores, targets, strict=True)]
    masked = remove_seen(scores, targets, *past.events(np.arange(len(past))))
    assert removed.tolist() == [(row >= row[target]).sum() for row, target in zip(masked, targets, strict=True)]


def test_paired_bootstrap_of_equal_models_is_exactly_one():
    values = np.random.default_rng(0).random(50)
    ratio = Bootstrap({"one": values, "same": values}, seed=1).ratio("one", "same")
    assert (ratio.value, ratio.low, ratio.high) == (1.0, 1.0, 1.0)


def test_resamples_that_do_not_fit_into_memory_are_drawn_in_parts(monkeypatch):
    one, other = np.random.default_rng(1).random((2, 50))
    whole = Bootstrap({"one": one, "other": other}, 0, 30)
    monkeypatch.setattr(metrics, "MOST_COUNTS", 7 * 50)
    parts = Bootstrap({"one": one, "other": other}, 0, 30)
    assert _limits(parts.mean("one")) == pytest.approx(_limits(whole.mean("one")), rel=1e-12)
    assert _limits(parts.ratio("one", "other")) == pytest.approx(_limits(whole.ratio("one", "other")), rel=1e-12)


def _limits(interval):
    return [interval.value, interval.low, interval.high]


def test_a_paired_ratio_is_the_percentiles_of_resampled_users():
    random = np.random.default_rng(4)
    below = random.random(60)
    above = 0.9 * below + 0.1 * random.random(60)
    interval = Bootstrap({"above": above, "below": below}, seed=5, repeats=4000).ratio("above", "below")
    plainly = []
    for _ in range(4000):
        users = random.integers(60, size=60)
        plainly.append(above[users].mean() / below[users].mean())
    assert interval.value == pytest.approx(above.mean() / below.mean(), rel=1e-12)
    assert [interval.low, interval.high] == pytest.approx(np.quantile(plainly, [0.025, 0.975]).tolist(), abs=3e-3)
    assert interval.high - interval.low < 0.06, "were the users not the same in both, it would be six times as wide"


def test_interval_covers_the_mean_about_as_often_as_it_says():
    random = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        interval = bootstrap_mean(random.normal(1.0, 1.0, size=80), seed=trial, repeats=300)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_ratio_to_nothing_is_large_but_finite():
    compared = Bootstrap({"zeros": np.zeros(5), "ones": np.ones(5)}, seed=0)
    assert compared.ratio("ones", "zeros").value == 1e9
    assert compared.ratio("zeros", "zeros").value == 1.0
