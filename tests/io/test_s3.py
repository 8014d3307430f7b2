"""The store in a bucket: a real SeaweedFS, and before it a proxy that misbehaves on demand."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from distilrec.core.config import Columns, FileData
from distilrec.core.errors import ConfigError, DataError, RunError, StoreError
from distilrec.core.latency import LatencyTable
from distilrec.core.snapshot import Snapshot
from distilrec.io import s3
from distilrec.io.checkpoints import Checkpoints
from distilrec.io.leases import Lease
from distilrec.io.locks import locked
from distilrec.io.s3 import PART, S3Store
from distilrec.io.scenes import load_scene
from distilrec.io.sources import fingerprint, read_source
from distilrec.io.store import LocalStore
from distilrec.runner import open_run
from distilrec.steps.latency_table import latency_table, place_of
from distilrec.steps.publish import publish
from tests.s3server import KEY, SECRET, Faults, s3_environment, s3_server

BUCKET = "scenes"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as endpoint:
        client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        )
        client.create_bucket(Bucket=BUCKET)
        yield endpoint


@pytest.fixture(autouse=True)
def environment(server, monkeypatch):
    """Where boto3 looks, and nothing of the developer's own."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in s3_environment(server).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def store(request):
    return S3Store(f"s3://{BUCKET}/{request.node.name.replace('[', '-').replace(']', '')}")


@pytest.fixture
def faults(server, monkeypatch):
    with Faults(server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy
        proxy.shutdown()


def test_it_keeps_what_it_is_given(store):
    large = os.urandom(PART + 1)
    for key, data in {"a/one": b"1", "a/b/two": b"", "other": large}.items():
        store.put(key, data)
        assert store.get(key) == data
    store.put("a/one", b"2")
    assert store.get("a/one") == b"2"
    assert store.keys("a") == ["a/b/two", "a/one"]
    assert store.keys("oth") == store.keys("none") == [], "a prefix is a folder"
    for _ in range(2):
        store.delete("other")
    with pytest.raises(KeyError):
        store.get("other")


def test_only_one_of_many_creates_a_key(store):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.create("a/1.json", str(i).encode()), range(8)))
    assert won.count(True) == 1
    assert store.get("a/1.json") == str(won.index(True)).encode()
    assert store.keys("probe") == []


def test_an_answer_that_was_lost_is_recognised_as_ones_own(faults):
    store = S3Store(f"s3://{BUCKET}/lost")
    store.require_conditional_puts()
    faults.planned = ["lost"]
    assert store.create("1.json", b"mine")
    assert faults.seen[-3:] == ["PUT lost", "PUT", "HEAD"]
    faults.planned = ["lost"]
    assert not store.create("1.json", b"another's")
    assert store.get("1.json") == b"mine"


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_scene_is_run_by_one_run_at_a_time(store, tmp_path, kind):
    now = [1000.0]
    place = store if kind == "bucket" else LocalStore(tmp_path)
    leases = {f"run-{index}": Lease(place, "shop", f"run-{index}", lambda: now[0]) for index in range(4)}

    def took(lease):
        try:
            lease.take(600.0)
        except RunError as refused:
            return str(refused)
        return None

    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(leases, pool.map(took, leases.values()), strict=True))
    (winner,) = (name for name, answer in answers.items() if answer is None)
    loser = next(name for name in leases if name != winner)
    assert answers[loser] == f"scene shop is being run by {winner}, for at most 10 minutes more"
    leases[loser].give_back()
    assert leases[loser].newest().holder == winner, "only its holder gives it back"
    now[0] += 300.0
    leases[winner].take(600.0)  # a second attempt of the same run
    now[0] += 599.0
    assert "at most 0 minutes" in took(leases[loser])
    now[0] += 2.0
    assert took(leases[loser]) is None, "a run that died holds nothing for ever"
    leases[loser].give_back()
    assert took(leases[winner]) is None


@pytest.mark.parametrize("fault", ["SlowDown", "InternalError", "ConditionalRequestConflict", "lost"])
def test_what_passes_is_tried_again(faults, fault):
    store = S3Store(f"s3://{BUCKET}/again-{fault}")
    store.require_conditional_puts()
    faults.planned = [fault, fault]
    assert store.create("1.json", b"1")
    if fault != "ConditionalRequestConflict":
        faults.planned = [fault]
        store.put("2.json", b"2")
        faults.planned = [fault]
        assert store.get("2.json") == b"2"


@pytest.mark.parametrize(
    ("fault", "code"), [("RequestTimeTooSkewed", "DR-STORE-004"), ("PermanentRedirect", "DR-STORE-003")]
)
def test_what_does_not_pass_is_one_sentence(faults, fault, code):
    """A fake answer: this server neither knows regions nor can its clock be turned."""
    store = S3Store(f"s3://{BUCKET}/refused")
    faults.planned = [fault] * 20
    with pytest.raises(StoreError, match="told to") as refused:
        store.put("1.json", b"1")
    assert refused.value.code == code


def test_an_endpoint_that_lets_every_racer_win_is_refused(store, monkeypatch):
    """A fake: conditional puts are made unconditional, as four of seven servers treat them."""
    real = store._client.put_object
    monkeypatch.setattr(store._client, "put_object", lambda IfNoneMatch, **rest: real(**rest))
    with pytest.raises(StoreError, match="of 4 writers that raced to create one object 4 were told that they won"):
        store.create("1.json", b"1")
    assert store.keys("") == []


@pytest.mark.parametrize(
    ("change", "location", "code"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, f"s3://{BUCKET}/x", "DR-STORE-001"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, f"s3://{BUCKET}/x", "DR-STORE-001"),
        ({"AWS_ACCESS_KEY_ID": "reader"}, f"s3://{BUCKET}/x", "DR-STORE-001"),
        ({"AWS_ACCESS_KEY_ID": ""}, f"s3://{BUCKET}/x", "DR-STORE-001"),
        ({}, "s3://no-such-bucket/x", "DR-STORE-002"),
        ({}, "s3:///x", "DR-STORE-007"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, f"s3://{BUCKET}/x", "DR-STORE-005"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:9"}, f"s3://{BUCKET}/x", "DR-STORE-005"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_sentence(monkeypatch, change, location, code):
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError) as refused:
        S3Store(location).put("1.json", b"1")
    assert refused.value.code == code
    assert SECRET not in str(refused.value) and "\n" not in str(refused.value)


def test_what_was_altered_is_refused(store):
    store.put("a", b"1234")
    tampered = {"Metadata": {"sha256": hashlib.sha256(b"1234").hexdigest()}}
    store._client.put_object(Bucket=BUCKET, Key=f"{store.prefix}/a", Body=b"1235", **tampered)
    with pytest.raises(StoreError, match="sha256 differs"):
        store.get("a")


def test_a_checkpoint_that_was_altered_is_passed_over(store):
    checkpoints = Checkpoints(store, "shop", "teach", "abc")
    for epoch in (1, 2):
        checkpoints.save(epoch, Snapshot({"w": torch.ones(2)}, {"epoch": epoch}), [{"epoch": epoch}])
    key = f"{store.prefix}/{checkpoints.prefix}/000002.safetensors"
    kept = store._client.head_object(Bucket=BUCKET, Key=key)["Metadata"]
    store._client.put_object(Bucket=BUCKET, Key=key, Body=b"half", Metadata=kept)
    assert checkpoints.latest()[0].values == {"epoch": 1}


def _write_table(store, name, rows):
    table, sink = pa.table(rows), pa.BufferOutputStream()
    if name.endswith(".parquet"):
        pq.write_table(table, sink)
    else:
        pa.csv.write_csv(table, sink)
    store.put(name, sink.getvalue().to_pybytes())
    return f"{store.location}/{name}"


def test_a_latency_table_is_read_where_it_lies(store):
    scene = load_scene(
        f"scene: shop\ndata: {{source: synthetic}}\nsearch: {{latency_table: {store.location}/table.json}}"
    )
    with pytest.raises(ConfigError, match=r"table\.json cannot be read: No such file"):
        latency_table(scene, 3)
    store.put("table.json", b"[]")
    with pytest.raises(ConfigError, match="is not a latency table"):
        latency_table(scene, 3)
    table = LatencyTable(place_of(scene, 3), 0.1, 0.05, {"zero": 0.0}, 0.0)
    store.put("table.json", json.dumps(table.to_json()).encode())
    assert latency_table(scene, 3) == table


@pytest.mark.parametrize("name", ["events.csv", "events.parquet"])
def test_tables_are_read_where_they_lie(store, name):
    rows = {"user": ["a", "a", "b"], "item": ["x", "y", "x"], "time": [1, 2, 3]}
    location = _write_table(store, name, rows)
    data = FileData(source="file", path=location, columns=Columns(user="user", item="item", time="time"))
    events = read_source(data)
    assert events.item_ids.to_pylist() == ["x", "y"] and events.times.tolist() == [1.0, 2.0, 3.0]
    before = fingerprint(data)
    _write_table(store, name, {**rows, "time": [1, 2, 4]})
    assert fingerprint(data) != before
    with pytest.raises(DataError, match="does not exist"):
        read_source(data.model_copy(update={"path": location + ".gz"}))


def test_a_run_is_published_whole_and_only_once(store, tmp_path, faults):
    run = tmp_path / "run"
    (run / "shop" / "kfp").mkdir(parents=True)
    described = {"run.json": b'{"scenes": ["shop"]}', "summary.json": b'{"scenes": {"shop": {}}}'}
    files = described | {"shop/kfp/weights": os.urandom(PART + 5), "shop/summary.json": b"{}"}
    for name, data in files.items():
        (run / name).write_bytes(data)
    told = []
    hashes = publish(run, store.location, lambda *both: told.append(both))
    assert hashes == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert json.loads(store.get("manifest.json")) == {"files": hashes}
    assert store.keys("") == sorted([*files, "manifest.json"])
    assert store.get("shop/kfp/weights") == files["shop/kfp/weights"]
    faults.seen.clear()
    assert publish(run, store.location, lambda *both: told.append(both)) == hashes
    changes = [one for one in faults.seen if one.startswith(("PUT", "POST", "DELETE"))]
    assert changes == ["DELETE", "PUT"], "the manifest alone, which is gone while files change"


def test_a_run_that_is_not_finished_is_not_published(tmp_path):
    def refused(run):
        with pytest.raises(RunError) as refused:
            publish(run, "s3://not/reached", lambda *both: None)
        return refused.value.code, str(refused.value)

    configs = [load_scene(f"scene: {name}\ndata: {{source: synthetic}}\n") for name in ("shop", "shelf")]
    run = open_run(configs, "", tmp_path, None).folder
    assert refused(run)[0] == "DR-RUN-005"
    (run / "shop").mkdir()
    for name in ("summary.json", "shop/summary.json"):
        (run / name).write_text('{"scenes": {"shop": {}}}')
    assert refused(run) == ("DR-RUN-005", f"{run} is a run without a summary of shelf")
    with locked(run):
        assert refused(run)[0] == "DR-RUN-002"
    (run / "run.json").write_text("{}")
    assert "whose run.json names no scene" in refused(run)[1]


def test_a_scene_is_read_where_it_lies(store):
    store.put("shop.yaml", b"scene: shop\ndata: {source: file, path: s3://bucket/events.csv}\n")
    config = load_scene(f"{store.location}/shop.yaml", "seed=3")
    assert (config.scene, config.seed, config.data.path) == ("shop", 3, "s3://bucket/events.csv")


def test_a_folder_of_events_is_read_where_it_lies(store):
    for name, row in (("day=2/b.csv", "u,y,2"), ("day=1/a.csv", "u,x,1"), ("_SUCCESS", ""), ("day=2/", "")):
        store.put(f"events/{name}", f"user_id,item_id,timestamp\n{row}\n".encode())
    data = FileData(source="file", path=f"{store.location}/events/")
    events = read_source(data)
    assert (events.item_ids.to_pylist(), events.times.tolist()) == (["x", "y"], [1.0, 2.0])
    before = fingerprint(data)
    store.put("events/day=2/b.csv", b"user_id,item_id,timestamp\nu,z,2\n")
    assert fingerprint(data) != before
    with pytest.raises(DataError, match="has no files"):
        read_source(FileData(source="file", path=f"{store.location}/nothing/"))
