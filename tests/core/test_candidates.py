"""The sampled protocols against the whole catalogue, and against the law that they are drawn by."""

import numpy as np
import pytest

from distilrec.core.candidates import NONE, PROTOCOLS, Protocol, draw_negatives, ranks_among
from distilrec.core.evaluation import MISS, rank_asked
from distilrec.core.events import Sequences
from distilrec.core.floors import MarkovFloor, PopularityFloor
from distilrec.core.split import UNASKED, Questions, Split
from tests.conftest import chain

NUM_ITEMS = 40
SPLIT = Split.leave_one_out(chain(0.5, num_users=300, num_items=NUM_ITEMS, length=9))
COUNTS = PopularityFloor(SPLIT.train).score_V


def test_among_everything_that_the_user_did_not_have_the_rank_is_the_one_with_seen_items_removed():
    targets = SPLIT.test.targets_U.copy()
    targets[3], targets[5] = UNASKED, NUM_ITEMS
    questions, scorer = Questions(SPLIT.test.past, targets), MarkovFloor(SPLIT.train)
    everything = draw_negatives(Protocol(500), questions, COUNTS, seed=0)
    found = ranks_among(scorer, questions, {"all": everything})["all"]
    np.testing.assert_array_equal(found, rank_asked(scorer, questions).removed)
    assert len(found) == 299 and found[4] == MISS and (everything == NONE).any()


def test_the_protocols_are_those_of_the_papers():
    assert {(name, one.num_negatives, one.by_popularity) for name, one in PROTOCOLS.items()} == {
        ("uniform-100", 100, False),
        ("popular-100", 100, True),
        ("uniform-499", 499, False),
    }


@pytest.mark.parametrize("protocol", [*PROTOCOLS.values(), Protocol(690), Protocol(690, by_popularity=True)])
def test_negatives_are_distinct_and_neither_the_target_nor_what_the_user_had(protocol):
    """With many of 700 items most rows lack some after the first draws."""
    split = Split.leave_one_out(chain(0.5, num_users=40, num_items=700, length=9))
    counts = np.random.default_rng(0).uniform(1, 100, 700)
    drawn = draw_negatives(protocol, split.test, counts, seed=0)
    np.testing.assert_array_equal(drawn, draw_negatives(protocol, split.test, counts, seed=0))
    assert drawn.shape == (40, protocol.num_negatives)
    assert (drawn != draw_negatives(protocol, split.test, counts, seed=1)).any()
    for user, row in enumerate(drawn):
        assert len(set(row)) == len(row) and NONE not in row
        assert not set(row) & {*split.test.past.of(user), split.test.targets_U[user]}


@pytest.mark.parametrize("by_popularity", [False, True])
def test_the_first_and_the_second_negative_follow_their_law(by_popularity):
    """Of two, by the product of their chances: the second from what the first left."""
    num_users, counts = 20_000, np.array([5.0, 1.0, 0.0, 2.0, 8.0, 4.0])
    past = Sequences.flat(np.zeros(num_users, dtype=np.int32), np.ones(num_users, dtype=np.int64), 6)
    questions = Questions(past, np.full(num_users, 5))
    drawn = draw_negatives(Protocol(2, by_popularity), questions, counts, seed=0)
    weights = np.array([0, 1, 0, 2, 8, 0]) if by_popularity else np.array([0, 1, 1, 1, 1, 0])
    left = weights.sum() - weights
    expected = weights[:, None] / weights.sum() * weights[None, :] / left[:, None]
    np.fill_diagonal(expected, 0.0)
    seen = np.zeros((6, 6))
    np.add.at(seen, (drawn[:, 0], drawn[:, 1]), 1 / num_users)
    np.testing.assert_allclose(seen, expected, atol=4 * 0.5 / num_users**0.5)
