"""Scenes split by time: who is asked what, by the plain words of the protocol, and all the way to the evaluation."""

from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from distilrec.core.errors import ConfigError, DataError
from distilrec.core.evaluation import MISS, rank_asked
from distilrec.core.floors import PopularityFloor
from distilrec.core.split import UNASKED
from distilrec.io.jsons import read_json
from distilrec.io.mlflow_server import MlflowServer
from distilrec.io.progress import Progress
from distilrec.io.registry import Registry
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.io.tables import canonical_sha256, read_dataset, write_dataset
from distilrec.steps.adapters import Adapters
from distilrec.steps.derive import derive
from distilrec.steps.evaluate import evaluate
from distilrec.steps.prepare import prepare
from distilrec.steps.prepared import prepared
from distilrec.steps.retrain import retrain
from distilrec.steps.search import search
from distilrec.steps.teach import teach
from tests.conftest import UNTRACKED

DAY = 86_400
NUM_USERS, NUM_DAYS = 150, 30
SCENE = """
scene: shop
data: {{source: file, path: {folder}/log.csv}}
max_length: 10
threads: 1
prepare: {{split: temporal, valid_days: 5, test_days: 6, min_user_events: 3, min_item_events: 1}}
teach: {{width: 8, num_blocks: 1, num_heads: 1, max_epochs: 1}}
search: {{width: 8, num_cells: 1, epochs: 1, architecture_after: 0}}
retrain: {{max_epochs: 1}}
"""


def _log():
    """Users of different days and habits; an item in ten is new in the last two weeks."""
    generator = np.random.default_rng(0)
    log = []
    for user in range(NUM_USERS):
        first, last = np.sort(generator.uniform(0, NUM_DAYS, 2)) if user % 3 else (0.0, NUM_DAYS)
        for when in generator.uniform(first, last, 12):
            is_new = when > NUM_DAYS - 14 and generator.random() < 0.1
            log.append((f"u{user}", f"new{user % 7}" if is_new else f"i{generator.integers(25)}", int(when * DAY)))
    log.append(("u0", "i0", NUM_DAYS * DAY - 1))
    return [log[row] for row in generator.permutation(len(log))]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("temporal")
    rows = [f"{user},{item},{when}" for user, item, when in _log()]
    (folder / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows))
    return folder


def _scene(shop, overrides=""):
    return load_scene(SCENE.format(folder=shop), overrides)


def test_each_user_is_asked_for_its_first_event_after_the_cut(shop):
    end = datetime.fromtimestamp(NUM_DAYS * DAY, UTC).isoformat()
    dataset, manifest = prepared(_scene(shop), end)
    valid, test = (NUM_DAYS - 11) * DAY, (NUM_DAYS - 6) * DAY
    catalogue = {item for _, item, when in _log() if when < valid}
    assert set(dataset.item_ids.to_pylist()) == catalogue
    ids = [*dataset.item_ids.to_pylist(), "not there"]
    split, seen = dataset.split, []
    for user, name in enumerate(dataset.user_ids.to_pylist()):
        own = sorted((when, item) for who, item, when in _log() if who == name)  # no two at one time
        before = [(when, item) for when, item in own if when < test and item in catalogue]
        trained = [item for when, item in before if when < valid]
        for sequences, plain in ((split.train, trained), (split.test.past, [item for _, item in before])):
            assert [ids[item] for item in sequences.of(user)] == plain
        for questions, since, until in ((split.valid, valid, test), (split.test, test, np.inf)):
            asked = [item if item in catalogue else "not there" for when, item in own if since <= when < until]
            target = questions.targets_U[user]
            seen.append(None if target == UNASKED else ids[target])
            assert seen[-1] == (asked[0] if asked and len(questions.past.of(user)) else None)
    assert {None, "not there"} < set(seen)
    newcomers = {user for user, _, _ in _log()} - set(dataset.user_ids.to_pylist())
    assert newcomers and all(when >= test for user, item, when in _log() if user in newcomers and item in catalogue)
    assert split.valid.past is split.train
    asked = manifest["asked"]
    assert datetime.fromisoformat(asked["test"]["since"]).timestamp() == test
    assert asked["test"]["num_users"] == len(split.test.users) == sum(one is not None for one in seen[1::2])
    assert asked["test"]["num_unseen_targets"] == seen[1::2].count("not there") > 0


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
    assert again.split.is_by_time
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
    with pytest.raises(DataError, match=r"no event is before validation, .*: 1970-01-0"):
        prepared(_scene(shop, "prepare.valid_days=23.99"), "")


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
