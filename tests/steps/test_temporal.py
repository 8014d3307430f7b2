"""Scenes split by time: who is asked what, by the plain words of the protocol, and all the way to the evaluation."""

from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from distilrec.core.errors import ArtifactError, ConfigError, DataError
from distilrec.core.evaluation import MISS, rank_asked
from distilrec.core.floors import PopularityFloor
from distilrec.core.split import UNASKED
from distilrec.io.jsons import read_json, write_json
from distilrec.io.mlflow_server import MlflowServer
from distilrec.io.progress import Progress
from distilrec.io.registry import Registry
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.io.tables import canonical_sha256, read_dataset, write_dataset
from distilrec.steps.adapters import Adapters
from distilrec.steps.derive import derive
from distilrec.steps.evaluate import evaluate, rank_on_own_catalogue
from distilrec.steps.prepare import prepare
from distilrec.steps.prepared import prepared
from distilrec.steps.retrain import retrain
from distilrec.steps.search import search
from distilrec.steps.teach import teach
from tests.conftest import UNTRACKED

DAY = 86_400
NUM_USERS, NUM_DAYS = 220, 30
VALID, TEST = (NUM_DAYS - 11) * DAY, (NUM_DAYS - 6) * DAY
FEWEST = 3
"""Events of a user and of an item."""
SCENE = """
scene: shop
data: {{source: file, path: {folder}/log.csv}}
max_length: 10
threads: 1
prepare: {{split: temporal, valid_days: 5, test_days: 6, min_user_events: 3, min_item_events: 3}}
teach: {{width: 8, num_blocks: 1, num_heads: 1, max_epochs: 1}}
search: {{width: 8, num_cells: 1, epochs: 1, architecture_after: 0}}
retrain: {{max_epochs: 1}}
evaluate: {{sampled: [uniform-100, popular-100]}}
"""


def _log():
    """Of quarters of a day, so that events are on the cuts, and several at one time. Users come and go, items too: some
    are rare before a cut and not after it."""
    generator = np.random.default_rng(0)
    log = []
    for user in range(NUM_USERS):
        first, last = np.sort(generator.uniform(0, NUM_DAYS, 2)) if user % 3 else (0.0, NUM_DAYS)
        for when in generator.uniform(first, last, 10):
            is_new = when > NUM_DAYS - 14 and generator.random() < 0.2
            item = f"new{generator.integers(40)}" if is_new else f"i{generator.integers(25)}"
            log.append((f"u{user}", item, int(4 * when) * DAY // 4))
    log.append(("u0", "i0", NUM_DAYS * DAY))
    log = list(dict.fromkeys(log))
    return [log[row] for row in generator.permutation(len(log))]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("temporal")
    rows = [f"{user},{item},{when}" for user, item, when in _log()]
    (folder / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows))
    return folder


def _scene(shop, overrides=""):
    return load_scene(SCENE.format(folder=shop), overrides)


def _without_rare(events):
    """Over and over, until nothing falls."""
    while True:
        rare_items = {item for item, count in Counter(item for _, item, _ in events).items() if count < FEWEST}
        left = [event for event in events if event[1] not in rare_items]
        rare_users = {user for user, count in Counter(user for user, _, _ in left).items() if count < FEWEST}
        left = [event for event in left if event[0] not in rare_users]
        if left == events:
            return events
        events = left


def test_each_user_is_asked_for_its_first_event_after_the_cut(shop):
    """Against the protocol's words, one user at a time."""
    log = [event for event in _log() if event[2] < NUM_DAYS * DAY]
    dataset, manifest = prepared(_scene(shop), datetime.fromtimestamp(NUM_DAYS * DAY, UTC).isoformat())
    trained = _without_rare([event for event in log if event[2] < VALID])
    catalogue = {item for _, item, _ in trained}
    assert set(dataset.item_ids.to_pylist()) == catalogue
    assert set(dataset.user_ids.to_pylist()) == {user for user, _, _ in trained} < {user for user, _, _ in log}
    ids, split, seen = [*dataset.item_ids.to_pylist(), "missed"], dataset.split, {"valid": [], "test": []}
    for user, name in enumerate(dataset.user_ids.to_pylist()):
        own = sorted((event for event in log if event[0] == name), key=lambda event: event[2])  # ties as in the file
        for sequences, until in ((split.train, VALID), (split.valid.past, VALID), (split.test.past, TEST)):
            plain = [item for _, item, when in own if when < until and item in catalogue]
            assert [ids[item] for item in sequences.of(user)] == plain
        for part, since, until in (("valid", VALID, TEST), ("test", TEST, np.inf)):
            after = [item if item in catalogue else "missed" for _, item, when in own if since <= when < until]
            target = getattr(split, part).targets_U[user]
            seen[part].append(None if target == UNASKED else ids[target])
            assert seen[part][-1] == (after[0] if after else None)
    assert all({None, "missed"} < set(found) for found in seen.values())
    assert {VALID, TEST} < {when for _, _, when in log}
    for part, since, found in (("validation", VALID, seen["valid"]), ("test", TEST, seen["test"])):
        asked = manifest["asked"][part]
        assert datetime.fromisoformat(asked["since"]).timestamp() == since
        assert asked["num_users"] == len(found) - found.count(None)
        assert asked["num_unseen_targets"] == found.count("missed")
    known = [event for event in log if event[2] < TEST]
    assert manifest["counts_before_filtering"]["num_events"] == len(known)
    newest = max(when for user, item, when in known if user in set(dataset.user_ids.to_pylist()) and item in catalogue)
    assert datetime.fromisoformat(manifest["as_of"]).timestamp() == newest


def test_without_as_of_the_days_end_with_the_newest_event(shop):
    _, manifest = prepared(_scene(shop), "")
    assert datetime.fromisoformat(manifest["asked"]["test"]["since"]).timestamp() == TEST


class _ByNumber:
    """Scores item i of its own catalogue by i; stands for a champion with other items."""

    def __init__(self, num_items):
        self.num_items = num_items

    def score(self, sequences, users):
        return np.tile(np.arange(float(self.num_items)), (len(users), 1))


def test_a_champion_lacks_only_what_the_student_has(shop):
    dataset, _ = prepared(_scene(shop), "")
    test, ids = dataset.split.test, dataset.item_ids.to_pylist()
    own = ["another", *ids[1:]]
    ranks, missing = rank_on_own_catalogue(_ByNumber(len(own)), own, dataset, test)
    assert missing == (test.targets_U == 0).sum() > 0
    assert len(ranks.kept) == len(test.users)
    is_missed = (test.targets_U[test.users] == 0) | (test.targets_U[test.users] == len(ids))
    np.testing.assert_array_equal(ranks.kept == MISS, is_missed)


def test_an_item_that_the_catalogue_lacks_is_missed(shop):
    dataset, _ = prepared(_scene(shop), "")
    test = dataset.split.test
    ranks = rank_asked(PopularityFloor(dataset.split.train), test)
    lacks = test.targets_U[test.users] == dataset.sequences.num_items
    np.testing.assert_array_equal(ranks.removed == MISS, lacks)
    assert 0 < lacks.sum() < len(lacks)


def test_the_split_is_in_the_files_and_in_their_identity(shop, tmp_path):
    dataset, manifest = prepared(_scene(shop), "")
    write_dataset(tmp_path, dataset)
    again = read_dataset(tmp_path)
    assert not again.split.is_whole
    for one, other in ((dataset.split.valid, again.split.valid), (dataset.split.test, again.split.test)):
        np.testing.assert_array_equal(one.targets_U, other.targets_U)
        np.testing.assert_array_equal(one.past.lengths, other.past.lengths)
    assert canonical_sha256(again) == manifest["sha256"]
    others = (prepared(_scene(shop, f"prepare.{name}_days=5.5"), "")[1]["sha256"] for name in ("valid", "test"))
    assert len({manifest["sha256"], *others}) == 3


def test_what_has_no_times_or_too_few_users_in_its_days_is_refused(shop):
    with pytest.raises(ConfigError, match="split temporal needs order time"):
        _scene(shop, "prepare.order=none")
    with pytest.raises(
        DataError, match=r"within prepare.test_days, an item that training knows: \d+; prepare.min_users is 50"
    ):
        prepared(_scene(shop, "prepare.test_days=0.01"), "")
    with pytest.raises(
        DataError, match=r"prepare.min_items is 39: .*, counted before validation, which begins 1970-01-20"
    ):
        prepared(_scene(shop, "prepare.min_items=39"), "")
    with pytest.raises(DataError, match=r"no event is before validation, .*: 1970-01-01T00:00:00"):
        prepared(_scene(shop, "prepare.valid_days=24"), "")


def test_a_scene_split_by_time_goes_through_every_step(shop, tmp_path):
    config, store = _scene(shop), LocalStore(tmp_path / "store")
    registry = Registry(MlflowServer(f"sqlite:///{tmp_path}/mlflow.db", None), store)
    adapters = Adapters(store, Progress(tmp_path, "teach"), registry, UNTRACKED, 0.0)
    dataset, teacher, found, genotype, student, quality = (tmp_path / name for name in "dtfgsq")
    manifest = prepare(config, "", dataset, adapters)
    teach(config, dataset, teacher, adapters)
    search(config, dataset, teacher, found, adapters)
    derive(config, found, genotype, adapters)
    retrain(config, dataset, teacher, genotype, student, adapters)
    evaluate(config, dataset, student, quality, adapters)
    seen, rows = read_json(quality / "quality.json"), pq.read_table(quality / "ranks.parquet")
    asked = manifest["asked"]["test"]
    assert len(rows) == seen["num_test_users"] == asked["num_users"] < manifest["counts"]["num_users"]
    missed = (rows["student_removed"].to_numpy() == MISS).sum()
    assert missed == asked["num_unseen_targets"] == (rows["teacher_kept"].to_numpy() == MISS).sum() > 0
    assert 0 < seen["models"]["student"]["kept"]["hr@20"] < 1
    assert set(seen["sampled"]) == {"uniform-100", "popular-100"}
    whole, few = (seen["sampled"]["uniform-100"]["student"], seen["models"]["student"]["removed"])
    assert whole == pytest.approx(few), "the catalogue has fewer items"
    before = {key: value for key, value in read_json(dataset / "manifest.json").items() if key != "asked"}
    write_json(dataset / "manifest.json", before)
    with pytest.raises(ArtifactError, match="an older version wrote the dataset"):
        teach(config, dataset, teacher, adapters)
