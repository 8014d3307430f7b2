"""Promotions of one scene that happen at the same time."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import boto3
import pytest

from distilrec.io.promotions import PromotionLog
from distilrec.io.s3 import S3Store
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.steps.promote import _commit
from tests.s3server import s3_environment, s3_server

GOOD = {"value": 1.2, "low": 1.1, "high": 1.3}
SUMMARY = {
    "student_over_teacher": GOOD,
    "ndcg10": {"student": {"value": 0.3}, "markov": {"value": 0.2}},
    "p50_ratios": {"teacher_onnx_over_student_onnx": {"value": 9.0, "low": 8.0, "high": 10.0}},
    "num_test_users": 1000,
    "champion": None,
    "int8_loss": 0.0,
    "index_recall": None,
}
CONFIG = load_scene("scene: shop\ndata: {source: synthetic}\n")


def _promoted(store, version):
    """What the log makes of a good student, evaluated when the scene had no champion."""
    adapters = SimpleNamespace(registry=SimpleNamespace(log=lambda scene: PromotionLog(store, scene)))
    summary = {**SUMMARY, "data": {"as_of": f"2026-01-{version:02d}"}, "content": f"content-{version}"}
    return _commit(CONFIG, summary, str(version), adapters)[0].word


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
    history = PromotionLog(store, "shop").history()
    assert [entry.number for entry in history] == list(versions)
    assert {entry.version for entry in history} == {str(version) for version in versions}
    champion = history[0].version
    assert words[int(champion) - 1] == history[0].verdict == "promoted"
    for entry in history:
        assert (entry.champion, entry.champion_content, entry.rollback) == (champion, f"content-{champion}", "")
    for entry in history[1:]:
        assert entry.verdict == "held"
        assert entry.reasons[-1].startswith(f"the champion changed from version none to {champion} since the evalua")
