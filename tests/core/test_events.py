import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilrec.core.batching import cut_windows, gather, training_batches
from distilrec.core.events import filter_to_fixed_point, histories, share_of_repeats, to_sequences
from distilrec.core.floors import MarkovFloor, PopularityFloor
from tests.conftest import chain, generator


def test_filter_runs_to_a_fixed_point_and_counts_its_rounds():
    # Item 2 is rare; without it user 1 is short; without user 1 item 1 becomes rare.
    users = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    items = np.array([0, 0, 0, 1, 2, 0, 0, 1])
    keep, rounds = filter_to_fixed_point(users, items, min_user_events=2, min_item_events=2)
    assert keep.tolist() == [True, True, True, False, False, True, True, False]
    assert [(one.num_items_dropped, one.num_users_dropped, one.num_events_dropped) for one in rounds] == [
        (1, 1, 2),
        (1, 0, 1),
    ]


def test_equal_times_keep_the_order_of_the_file():
    users, items, times = np.array([1, 0, 1, 0, 1]), np.array([4, 3, 2, 1, 0]), np.array([5.0, 1.0, 5.0, 1.0, 4.0])
    sequences = to_sequences(users, items, times, num_users=2, num_items=5)
    assert sequences.of(0).tolist() == [3, 1]
    assert sequences.of(1).tolist() == [0, 4, 2]


def test_leave_one_out_hides_the_last_two():
    sequences = to_sequences(np.zeros(5, dtype=np.int64), np.arange(5), np.arange(5.0), 1, 5)
    assert sequences.without_last(2).of(0).tolist() == [0, 1, 2]
    assert (sequences.target(2).tolist(), sequences.target(1).tolist()) == ([3], [4])


def test_share_of_repeats():
    sequences = to_sequences(np.array([0, 0, 0, 1]), np.array([1, 1, 2, 1]), np.arange(4.0), 2, 3)
    assert share_of_repeats(sequences) == pytest.approx(0.25)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 23), min_size=1, max_size=8), max_length=st.integers(1, 9), seed=st.integers(0, 9)
)
def test_windows_cover_every_target_exactly_once(lengths, max_length, seed):
    total = sum(lengths)
    users = np.repeat(np.arange(len(lengths)), lengths)
    sequences = to_sequences(users, np.arange(total), np.arange(float(total)), len(lengths), total)
    windows = cut_windows(sequences, max_length)
    pairs = []
    for batch in training_batches(sequences, windows, 3, generator(seed)):
        real = batch.targets_BL != batch.padding
        assert batch.inputs_BL.shape[1] <= max_length
        assert (batch.inputs_BL[~real] == total).all()
        pairs += zip(batch.inputs_BL[real].tolist(), batch.targets_BL[real].tolist(), strict=True)
    expected = [(item, item + 1) for u, n in enumerate(lengths) for item in sequences.of(u)[: n - 1].tolist()]
    assert sorted(pairs) == expected


def test_the_newest_window_is_full_and_owned():
    sequences = to_sequences(np.zeros(8, dtype=np.int64), np.arange(8), np.arange(8.0), 1, 8)
    windows = cut_windows(sequences, 3)
    batch = gather(sequences, windows.starts, windows.lengths)
    assert batch.targets_BL.tolist() == [[5, 6, 7], [2, 3, 4], [1, 8, 8]]
    assert windows.owners.tolist() == [0, 0, 0]


def test_histories_keep_the_newest_items():
    sequences = to_sequences(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 3]), np.arange(4.0), 2, 4)
    ids, lengths = histories(sequences, np.array([0, 1]), max_length=2)
    assert (ids.tolist(), lengths.tolist()) == ([[1, 2], [3, 4]], [2, 1])


def test_floors_by_hand():
    # Two users: 0 1 0 1 and 0 2. After 0 comes 1 twice and 2 once; 0 and 1 are popular.
    sequences = to_sequences(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 0, 1, 0, 2]), np.arange(6.0), 2, 4)
    popular = PopularityFloor(sequences).score(sequences, np.array([0]))
    assert popular[0].tolist() == [3, 2, 1, 0]
    markov = MarkovFloor(sequences).score(sequences.without_last(1), np.array([0, 1]))
    assert np.argsort(-markov, axis=1).tolist() == [[1, 2, 0, 3], [1, 2, 0, 3]]
    assert markov[0].tolist() == [3 / 4, 2 + 2 / 4, 1 + 1 / 4, 0]


def test_the_chain_is_as_predictable_as_asked():
    sequences = chain(0.7, num_users=500, num_items=20, length=20)
    floor = MarkovFloor(sequences.without_last(1))
    best = floor.score(sequences.without_last(1), np.arange(500)).argmax(axis=1)
    assert (best == sequences.target(1)).mean() == pytest.approx(0.7 + 0.3 / 20, abs=0.06)
