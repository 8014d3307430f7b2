"""The sampled protocols against the whole catalogue, and against the law that they are drawn by."""

import numpy as np
import pytest

from distilrec.core.candidates import NONE, PROTOCOLS, Protocol, draw_negatives, ranks_among
from distilrec.core.evaluation import MISS, rank_asked
from distilrec.core.events import Sequences, popularity
from distilrec.core.floors import MarkovFloor
from distilrec.core.split import UNASKED, Questions, Split
from tests.conftest import chain

NUM_ITEMS = 40
SPLIT = Split.leave_one_out(chain(0.5, num_users=300, num_items=NUM_ITEMS, length=9))
COUNTS = popularity(SPLIT.train)


def test_among_everything_that_the_user_did_not_have_the_rank_is_the_one_with_seen_items_removed():
    targets = SPLIT.test.targets_U.copy()
    targets[3], targets[5] = UNASKED, NUM_ITEMS
    questions, scorer = Questions(SPLIT.test.past, targets), MarkovFloor(SPLIT.train)
    everything = draw_negatives(Protocol(500), questions, COUNTS, seed=0)
    found = ranks_among(scorer, questions, {"all": everything})["all"]
    np.testing.assert_array_equal(found, rank_asked(scorer, questions).removed)
    assert len(found) == 299 and found[4] == MISS and (everything == NONE).any()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_negatives_are_distinct_and_neither_the_target_nor_what_the_user_had(name):
    protocol = Protocol(20, PROTOCOLS[name].by_popularity)
    drawn = draw_negatives(protocol, SPLIT.test, COUNTS, seed=0)
    np.testing.assert_array_equal(drawn, draw_negatives(protocol, SPLIT.test, COUNTS, seed=0))
    assert drawn.shape == (300, 20) and (drawn != draw_negatives(protocol, SPLIT.test, COUNTS, seed=1)).any()
    for user, row in enumerate(drawn):
        assert len(set(row)) == 20 and not set(row) & {*SPLIT.test.past.of(user), SPLIT.test.targets_U[user]}


@pytest.mark.parametrize("by_popularity", [False, True])
def test_the_first_negative_follows_its_law(by_popularity):
    num_users, counts = 6000, np.array([5, 1, 0, 2, 8, 4])
    past = Sequences.flat(np.zeros(num_users, dtype=np.int32), np.ones(num_users, dtype=np.int64), 6)
    questions = Questions(past, np.full(num_users, 5))
    drawn = draw_negatives(Protocol(1, by_popularity), questions, counts, seed=0)[:, 0]
    expected = np.array([0, 1, 0, 2, 8, 0]) / 11 if by_popularity else np.array([0, 1, 1, 1, 1, 0]) / 4
    shares = np.bincount(drawn, minlength=6) / num_users
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / num_users**0.5)
