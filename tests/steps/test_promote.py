"""Promotions of one scene: at the same time, and again."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import SimpleNamespace

import boto3
import pytest

from distilrec.core.errors import StoreError
from distilrec.io.registry import Registry
from distilrec.io.s3 import S3Store
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.steps.promote import _commit, _decision, _verdict_in
from tests.s3server import s3_environment, s3_server

GOOD = {"value": 1.2, "low": 1.1, "high": 1.3}
SUMMARY = {
    "student_over_teacher": GOOD,
    "ndcg10": {"student": {"value": 0.3}, "popularity": {"value": 0.01}, "markov": {"value": 0.2}},
    "p50_ratios": {"teacher_onnx_over_student_onnx": {"value": 9.0, "low": 8.0, "high": 10.0}},
    "num_test_users": 1000,
    "champion": None,
    "int8_loss": 0.0,
    "index_recall": None,
}
CONFIG = load_scene("scene: shop\ndata: {source: synthetic}\n")


def _adapters(store):
    return SimpleNamespace(registry=Registry(None, store))


def _promoted(store, version):
    """What the log makes of a good student, evaluated when the scene had no champion."""
    summary = {**SUMMARY, "data": {"as_of": f"2026-01-{version:02d}"}, "content": f"content-{version}"}
    return _commit(CONFIG, summary, f"run-{version}", str(version), _adapters(store)).verdict


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_sixteen_at_once_make_one_history_that_explains_each(tmp_path, monkeypatch, kind):
    if kind == "folder":
        _require_one_history(LocalStore(tmp_path))
        return
    with s3_server(tmp_path) as endpoint:
        for name, value in s3_environment(endpoint).items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="scenes")
        _require_one_history(S3Store("s3://scenes/store"))


def _require_one_history(store):
    versions = range(1, 17)
    with ThreadPoolExecutor(len(versions)) as pool:
        words = list(pool.map(lambda version: _promoted(store, version), versions))
    assert words.count("promoted") == 1
    history = Registry(None, store).log("shop").history()
    assert [entry.number for entry in history] == list(versions)
    assert {entry.version for entry in history} == {str(version) for version in versions}
    champion = history[0].version
    assert words[int(champion) - 1] == history[0].verdict == "promoted"
    for entry in history:
        assert (entry.champion, entry.champion_content, entry.rollback) == (champion, f"content-{champion}", "")
    for entry in history[1:]:
        assert entry.verdict == "held"
        assert entry.reasons[-1].startswith(f"the champion changed from version none to {champion} since the evalua")


CHAMPION = {"as_of": "2026-01-01", "num_missing_targets": 0, "change": {"value": 0.1, "low": 0.05, "high": 0.2}}


def test_a_run_decides_once_however_often_it_is_attempted(tmp_path):
    """Another run decides anew, be it on the same student: its champion is another."""
    adapters, versions = _adapters(LocalStore(tmp_path)), count(1)

    def decided(run, champion=None):
        evaluated = {"champion": {**CHAMPION, "version": champion} if champion else None}
        summary = {**SUMMARY, **evaluated, "data": {"as_of": "2026-01-01"}, "content": "the-same"}
        return _decision(CONFIG, summary, run, lambda: str(next(versions)), adapters)

    first, second, held = decided("run-1"), decided("run-2", "1"), decided("run-3", "1")
    assert [(one.version, one.verdict, one.champion, one.rollback) for one in (first, second, held)] == [
        ("1", "promoted", "1", ""),
        ("2", "promoted", "2", "1"),
        ("3", "held", "2", "1"),
    ]
    for run, made in (("run-1", first), ("run-2", second), ("run-3", held)):
        assert decided(run, "2") == made
        assert adapters.registry.champion("shop", run) == {1: None, 2: first, 3: second}[made.number]
    assert adapters.registry.champion("shop") == held and next(versions) == 4
    checks = _verdict_in(adapters.registry.log("shop").latest()).checks
    assert [check.name for check in checks if check.passed is False] == ["champion_unchanged"]


def test_an_entry_of_before_is_read_and_one_that_is_none_is_refused(tmp_path):
    store = LocalStore(tmp_path)
    _promoted(store, 1)
    (key,) = store.keys("promotions")
    entry = json.loads(store.get(key))
    store.put(key, json.dumps({name: entry[name] for name in entry.keys() - {"asked_by", "passed"}}).encode())
    assert Registry(None, store).champion("shop", "run-1").champion == "1"
    for data in (b"", b"{}", b"[]"):
        store.put(key, data)
        with pytest.raises(StoreError, match=r"promotions/shop/000001\.json in the store cannot be read"):
            Registry(None, store).champion("shop")
