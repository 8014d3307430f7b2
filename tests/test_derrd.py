"""benchmarks/derrd on a split of a few users: the protocol by hand, rows found again, trainings that resume."""

import numpy as np
import pytest
import torch
from benchmarks.derrd import split, trained
from benchmarks.derrd.protocol import PATIENCE, Best, means_of, sampled_ranks, whole_ranks
from benchmarks.derrd.recipes import RECIPES, Recipe
from benchmarks.derrd.trained import Row, Workshop

from distilrec.core.config import DistillationExperts, RelaxedRanking, Terms
from distilrec.core.factors import BPR

NUM_USERS, NUM_ITEMS, NUM_NEGATIVES = 20, 60, 15


@pytest.fixture(scope="module")
def small() -> split.Split:
    """Six items of each user, given in no order; the last item is nobody's in training."""
    random = np.random.default_rng(0)
    items = np.stack([random.permutation(NUM_ITEMS - 1)[:8] for _ in range(NUM_USERS)])
    items[0, 7] = NUM_ITEMS - 1
    order = random.permutation(NUM_USERS * 6)
    users = np.repeat(np.arange(NUM_USERS), 6)[order]
    train = (users, items[:, :6].ravel()[order])
    return split.split_of(train, items[:, 6], items[:, 7], NUM_ITEMS, NUM_NEGATIVES)


def test_negatives_are_different_in_no_part_and_drawn_once(small):
    assert small.negatives_UK.shape == (NUM_USERS, NUM_NEGATIVES)
    for user, negatives in enumerate(small.negatives_UK.tolist()):
        assert len(set(negatives)) == NUM_NEGATIVES
        held = {*small.train.of(user).tolist(), small.valid_U[user], small.test_U[user]}
        assert not held & set(negatives)
    again = split.split_of(
        small.train.events(np.arange(NUM_USERS)), small.valid_U, small.test_U, NUM_ITEMS, NUM_NEGATIVES
    )
    assert again.negatives_sha256 == small.negatives_sha256
    known = {item for user in range(NUM_USERS) for item in small.train.of(user).tolist()}
    cold = [item for item in small.test_U.tolist() if item not in known]
    assert 0 < small.num_cold == len(cold) < NUM_USERS


def test_ranks_by_hand(small):
    """Every item scores its index, for every user; a tie with the target counts against it."""
    model = BPR(NUM_USERS, NUM_ITEMS, 1)
    with torch.no_grad():
        model.users.weight.fill_(1.0)
        model.items.weight.copy_(torch.arange(NUM_ITEMS)[:, None] // 2)
    targets = [small.valid_U, small.test_U]
    rows = small.negatives_UK.tolist()
    expected = [
        [sum(n // 2 >= t // 2 for n in row) + 1 for row, t in zip(rows, one_U, strict=True)] for one_U in targets
    ]
    assert sampled_ranks(model, targets, small.negatives_UK).tolist() == expected
    whole = whole_ranks(model, small)
    target, past = int(small.test_U[3]), set(small.past.of(3).tolist())
    assert whole[3] == 1 + sum(i // 2 >= target // 2 for i in range(NUM_ITEMS) if i not in past and i != target)


def test_it_stops_when_no_cut_off_has_improved(small):
    best = Best()
    assert not best.is_over(0)
    model = BPR(NUM_USERS, NUM_ITEMS, 2)
    assert best.see(1, model, small)
    assert not best.see(2, model, small)
    assert best.epochs == {"5": 1, "10": 1, "20": 1}
    assert not best.is_over(PATIENCE) and best.is_over(PATIENCE + 1)
    assert set(means_of(best.ranks)) >= {"hr@5", "mrr@10", "ndcg@20"}


def test_a_row_of_every_kind_is_trained_once(small, tmp_path):
    shop = Workshop(tmp_path, small, max_epochs=1)
    rows = {name: shop.row("bpr", name, 0) for name in RECIPES["bpr"]}
    rows["neumf"] = shop.trained("derrd", Recipe("neumf", 4, Terms(de=DistillationExperts(), rrd=RelaxedRanking())), 0)
    assert len(rows["neumf"].whole) == NUM_USERS
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("rows/*.json")}
    assert len(written) == len(rows) + 1, "NeuMF's teacher too"
    assert shop.row("bpr", "derrd", 0) == rows["derrd"]
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.glob("rows/*.json")}
    assert rows["derrd"].num_params == rows["student"].num_params == 20 * (NUM_USERS + NUM_ITEMS)


def test_a_killed_training_ends_where_it_would_have_ended(small, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "SECONDS_BETWEEN_SNAPSHOTS", -1.0)
    recipe = Recipe("bpr", 4, Terms(de=DistillationExperts(), rrd=RelaxedRanking()))
    whole = Workshop(tmp_path / "whole", small, max_epochs=4)
    expected = whole.trained("derrd", recipe, 0)
    killed = Workshop(tmp_path / "killed", small, max_epochs=4)
    killed.teacher("bpr")
    see, seen = Best.see, []

    def dies(best, epoch, model, of):
        seen.append(epoch)
        if seen == [1, 2, 3]:
            raise KeyboardInterrupt
        return see(best, epoch, model, of)

    monkeypatch.setattr(Best, "see", dies)
    with pytest.raises(KeyboardInterrupt):
        killed.trained("derrd", recipe, 0)
    again = killed.trained("derrd", recipe, 0)
    assert seen == [1, 2, 3, 3, 4]
    assert _timeless(again) == _timeless(expected)


def _timeless(row: Row) -> dict:
    return {name: value for name, value in vars(row).items() if name != "seconds"}


def test_where_the_data_is_not_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(split, "FOLDER", tmp_path / "nowhere")
    with pytest.raises(SystemExit, match="nowhere is not there"):
        split.citeulike()
