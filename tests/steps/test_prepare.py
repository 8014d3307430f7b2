import hashlib

import numpy as np
import pyarrow as pa
import pytest

from distilrec.core.errors import ConfigError, DataError
from distilrec.core.evaluation import MISS
from distilrec.core.split import Questions, Split
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.io.tables import Dataset, canonical_sha256, read_dataset, write_dataset
from distilrec.steps.evaluate import rank_on_own_catalogue
from distilrec.steps.plan import plan
from distilrec.steps.prepare import floors
from distilrec.steps.prepared import prepared
from tests.conftest import SHARED, chain

SASREC_TARGETS = "88bb49f6e81018e9fd5813b41847e1cc0310a3d3a855276567a6181a9b1f9a9b"
"""sha256 of the sorted lines `user item` of the test targets, once found equal to those of SASRec's own file."""


def test_what_the_filter_removed_is_said_when_too_little_is_left(tmp_path):
    rows = [f"u{user},i{user}-{event},{event}" for user in range(60) for event in range(6)]
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows))
    with pytest.raises(DataError, match=r"0 users are left, prepare.min_users is 50: .*removed 360 items"):
        prepared(load_scene(f"scene: shop\ndata: {{source: file, path: {tmp_path}/log.csv}}\n"), "")


def test_as_of_cuts_and_is_checked():
    scene = load_scene("scene: shop\ndata: {source: synthetic, events_per_user: 30}\n")
    dataset, manifest = prepared(scene, "1970-01-01T00:00:20")
    assert (dataset.sequences.lengths == 20).all()
    assert manifest["as_of"] == "1970-01-01T00:00:19+00:00"
    with pytest.raises(ConfigError, match="'tomorrow' is not an ISO 8601"):
        prepared(scene, "tomorrow")
    with pytest.raises(DataError, match="no event is before"):
        prepared(scene, "1970-01-01")


def test_an_event_of_a_day_to_come_is_refused_unless_as_of_leaves_it_out(tmp_path):
    """It would be the newest of all: every later student would be held as knowing less than its champion."""
    rows = [f"u{user},i{(user * 7 + event * event) % 23},{event}" for user in range(60) for event in range(9)]
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join([*rows, "u0,i3,9999999999"]))
    scene = load_scene(f"scene: shop\ndata: {{source: file, path: {tmp_path}/log.csv}}\n")
    with pytest.raises(
        DataError, match=r"an event of user u0 is of 2286-11-20T17:46:39\+00:00, which has not come yet"
    ):
        prepared(scene, "")
    assert prepared(scene, "2020-01-01")[1]["as_of"] == "1970-01-01T00:00:08+00:00"


def test_equal_data_has_equal_identity_and_the_deciding_variant_follows_the_repeats():
    scene = load_scene("scene: shop\ndata: {source: synthetic}\n")
    (_, one), (_, other) = prepared(scene, ""), prepared(scene, "")
    assert one == other
    assert one["deciding"] == "kept"
    assert one["share_of_repeats"] > 0.01
    assert (
        prepared(load_scene("scene: shop\ndata: {source: synthetic}\n", "evaluate.deciding=removed"), "")[1]["deciding"]
        == "removed"
    )


def test_item_indices_follow_the_sequences_and_not_the_rows_of_the_file(tmp_path):
    rows = [f"u{user},i{(user * 7 + event * event) % 23},{event}" for user in range(60) for event in range(9)]
    found = []
    for name, order in (("up", rows), ("down", [row for u in range(60) for row in reversed(rows[9 * u : 9 * u + 9])])):
        (tmp_path / f"{name}.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(order))
        scene = load_scene(f"scene: shop\ndata: {{source: file, path: {tmp_path}/{name}.csv}}\n")
        dataset, manifest = prepared(scene, "")
        found.append((manifest["sha256"], dataset.item_ids.to_pylist(), dataset.sequences.items.tolist()))
    assert found[0] == found[1]


def test_without_order_a_history_is_a_set_in_an_order_of_the_ids_that_later_events_do_not_change(tmp_path):
    """So that what a model was trained on is never a target when it is compared with its successor."""
    rows = [f"u{user},i{(user * 7 + event * event) % 23}" for user in range(60) for event in range(9)]
    later = [*rows, *(f"u{user},i{(user * 7 + 5) % 23}" for user in range(60))]
    found = []
    for name, order, seed in (("up", rows, 0), ("down", rows[::-1], 1), ("later", later, 0)):
        (tmp_path / f"{name}.csv").write_text("user_id,item_id\n" + "\n".join(order))
        data = f"{{source: file, path: {tmp_path}/{name}.csv, columns: {{time: null}}}}"
        scene = load_scene(f"scene: shop\nseed: {seed}\ndata: {data}\nprepare: {{order: none, min_user_events: 3}}\n")
        dataset, manifest = prepared(scene, "")
        assert manifest["split"] == "random leave-one-out" and manifest["deciding"] == "removed"
        ids = np.array(dataset.item_ids.to_pylist())
        users = dict(zip(dataset.user_ids.to_pylist(), range(len(dataset.user_ids)), strict=True))
        found.append([ids[dataset.sequences.of(users[f"u{user}"])].tolist() for user in range(60)])
    up, down, grown = found
    assert up == down and all(len(row) == len(set(row)) for row in up)
    assert 0 < sum(row[-1] != after[-1] for row, after in zip(up, grown, strict=True)) < 20
    for row, after in zip(up, grown, strict=True):
        assert len(after) == len(row) + 1 and [item for item in after if item in row] == row
    firsts = [row.index(min(row)) / (len(row) - 1) for row in up]
    assert 0.3 < np.mean(firsts) < 0.7, "an order that has nothing to do with the ids themselves"
    assert prepared(scene, "2020-01-01")[1] == manifest, "on Kubeflow it says which day's data they are, no more"
    with pytest.raises(ConfigError, match=r"as_of = 2020-01-01 needs data\.columns\.time"):
        plan(scene, "2020-01-01", LocalStore(tmp_path))
    with pytest.raises(ConfigError, match=r"order time needs data\.columns\.time"):
        load_scene(f"scene: shop\ndata: {data}\n")


def test_of_very_many_users_some_are_asked_and_the_files_say_who(tmp_path):
    scene = load_scene("scene: shop\ndata: {source: synthetic, num_users: 1300}\nprepare: {max_asked_users: 1000}\n")
    (dataset, manifest), (again, other) = prepared(scene, ""), prepared(scene, "")
    assert manifest == other
    whole = Split.leave_one_out(dataset.sequences)
    for name, part, everybody in (("validation", "valid", whole.valid), ("test", "test", whole.test)):
        asked = getattr(dataset.split, part)
        assert len(asked.users) == manifest["asked"][name]["num_users"] == 1000
        assert manifest["asked"][name]["drawn_from"] == len(everybody.users) == 1300
        np.testing.assert_array_equal(asked.targets_U[asked.users], everybody.targets_U[asked.users])
        np.testing.assert_array_equal(asked.past.lengths, everybody.past.lengths)
        np.testing.assert_array_equal(asked.targets_U, getattr(again.split, part).targets_U)
    assert set(dataset.split.valid.users) != set(dataset.split.test.users)
    write_dataset(tmp_path, dataset)
    assert canonical_sha256(read_dataset(tmp_path)) == manifest["sha256"]
    everybody = prepared(load_scene(scene.model_dump_json(), "prepare.max_asked_users=1300"), "")[1]
    assert everybody["sha256"] != manifest["sha256"] and everybody["asked"]["test"]["num_users"] == 1300


class _LastIsBest:
    """Scores item i of its own catalogue by i; stands for a champion with other items."""

    num_items = 4

    def score(self, sequences, users):
        return np.tile(np.arange(4.0), (len(users), 1))


def test_a_champion_is_ranked_on_its_own_catalogue():
    sequences = chain(0.5, num_users=3, num_items=3, length=5)
    ids = pa.array(["u", "v", "w"]), pa.array(["a", "b", "c"])
    dataset = Dataset(sequences, *ids, [], Split.leave_one_out(sequences))
    past = sequences.without_last(1)
    asked = Questions(past, np.array([0, 1, 2]))  # a, b, c
    scorer = _LastIsBest()
    ranks, missing = rank_on_own_catalogue(scorer, ["x", "b", "a", "y"], dataset, asked)
    assert missing == 1
    known = [bool({0, 1} & set(past.of(user).tolist())) for user in range(3)]
    nothing, _ = rank_on_own_catalogue(scorer, ["p", "q", "r", "s"], dataset, asked)
    assert set(nothing.kept) == {MISS}
    assert ranks.kept.tolist() == [2 if known[0] else MISS, 3 if known[1] else MISS, MISS]


@pytest.mark.skipif(not (SHARED / "ml-1m").is_dir(), reason="MovieLens-1M is not here")
def test_movielens_targets_are_those_of_the_literature(tmp_path):
    import gzip

    with gzip.open(SHARED / "ml-1m" / "ratings.dat.gz", "rt") as source, (tmp_path / "r.csv").open("w") as out:
        out.write("user_id,item_id,timestamp\n")
        for line in source:
            user, item, _, when = line.split("::")
            out.write(f"{user},{item},{when}")
    scene = load_scene(f"scene: ml1m\ndata: {{source: file, path: {tmp_path}/r.csv}}\n")
    dataset, manifest = prepared(scene, "")
    assert manifest["counts"] == {"num_users": 6040, "num_items": 3416, "num_events": 999611}
    ours = dict(
        zip(
            dataset.user_ids.to_pylist(),
            dataset.item_ids.take(pa.array(dataset.sequences.target(1))).to_pylist(),
            strict=True,
        )
    )
    theirs = _sasrec_targets()
    assert ours == theirs
    digest = hashlib.sha256("\n".join(f"{user} {ours[user]}" for user in sorted(ours)).encode()).hexdigest()
    assert digest == SASREC_TARGETS
    # peers.md: Markov .1073 kept / .1259 removed, popularity .0079 / .0180.
    found = floors(dataset.split)
    assert found["markov"]["kept"]["ndcg@10"] == pytest.approx(0.1073, abs=0.002)
    assert found["markov"]["removed"]["ndcg@10"] == pytest.approx(0.1259, abs=0.002)
    assert found["popularity"]["removed"]["ndcg@10"] == pytest.approx(0.0180, abs=0.0005)


def _sasrec_targets() -> dict[str, str]:
    """The last item of each user in SASRec's own file, in MovieLens' ids."""
    import gzip

    def table(name):
        with gzip.open(SHARED / "ml-1m" / name, "rt") as file:
            return [line.strip().replace(",", " ").split() for line in file]

    def ids(name):
        return {row[0]: row[1] for row in table(name) if row[0].isdigit()}

    users, items = ids("sasrec-user-map.csv.gz"), ids("sasrec-item-map.csv.gz")
    return {users[user]: items[item] for user, item in table("sasrec-ml-1m.txt.gz")}
