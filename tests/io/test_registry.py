"""Tracking and registry on a real MLflow server, its artifacts in a real bucket."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import boto3
import pytest

from distilrec.core.errors import ArtifactError
from distilrec.io.promotions import PromotionLog, entry_after
from distilrec.io.rankers import open_ranker
from distilrec.io.registry import RankerFacts, Registry, RunRecord, StepRecord
from distilrec.io.s3 import S3Store
from distilrec.steps.govern import approve, rollback
from tests.conftest import write_student_rankers
from tests.s3server import s3_environment, s3_server

SCENE = "shop"
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow, pandas and pydantic warn of one another


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of an MLflow server that keeps artifacts in a bucket; its clients need no key of that."""
    folder = tmp_path_factory.mktemp("servers")
    (folder / "s3").mkdir()
    with s3_server(folder / "s3") as endpoint, socket.socket() as free:
        secrets = s3_environment(endpoint)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in secrets.items():
                patch.setenv(name, value)
            client = boto3.client("s3")
            for bucket in ("mlflow", "store"):
                client.create_bucket(Bucket=bucket)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        yield from _mlflow(folder, port, secrets)


def _mlflow(folder, port, secrets):
    command = [Path(sys.executable).parent / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", "s3://mlflow/proxied", "--serve-artifacts"]
    settings = {
        **secrets,
        "MLFLOW_S3_ENDPOINT_URL": secrets["AWS_ENDPOINT_URL"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log.txt").read_text()
                time.sleep(0.2)
        yield address, secrets
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture
def registry(server, monkeypatch):
    address, secrets = server
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    return Registry(address, None, S3Store("s3://store/distilrec"))


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranker")
    write_student_rankers(folder)
    return shutil.copytree(folder / "student_onnx", folder / "ranker")


RUN = RunRecord(
    SCENE,
    "abc",
    {"seed": "0"},
    {"as_of": "2026-01-01"},
    {"ndcg": 0.5},
    [StepRecord("teach", {"seconds": 1.0}, [(1, {"loss": 2.0}), (2, {"loss": 1.0})])],
)
FACTS = RankerFacts((0, 1, 2), exclude_seen=True, default_k=10, has_index=False)


def test_what_is_registered_comes_back_whole_and_the_log_rules_the_aliases(registry, ranker, monkeypatch):
    run = registry.record(RUN)
    assert registry.record(RUN) == run, "recorded once"
    tags = {"content": "abc", "as_of": "2026-01-01"}
    versions = [registry.register(SCENE, run, {"ranker": ranker}, FACTS, tags) for _ in range(2)]
    assert versions == ["1", "2"]
    log = PromotionLog(registry.store, SCENE)
    assert log.append(entry_after(None, SCENE, "1", "promoted", ("good",), "1", "2026-01-01", "abc", ""))
    registry.project(SCENE)
    entry = registry.champion(SCENE)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "")
    folder = registry.ranker_folder(entry)  # the server's own key suffices
    assert open_ranker(folder).recommend([[3, 4]], k=2)[0].items


def test_approved_and_rolled_back_by_hand(registry):
    approved = approve(SCENE, "2", "asked for", registry)
    assert (approved.number, approved.champion, approved.rollback) == (2, "2", "1")
    assert _aliases(registry) == {"challenger": "2", "champion": "2", "rollback": "1"}
    back = rollback(SCENE, "clicks fell", registry)
    assert (back.number, back.champion, back.rollback) == (3, "1", "")
    assert _aliases(registry) == {"challenger": "1", "champion": "1"}
    with pytest.raises(ArtifactError, match="has no version 7"):
        approve(SCENE, "7", "asked for", registry)


def _aliases(registry):
    found = registry._mlflow().MlflowClient().get_registered_model(f"ranker-{SCENE}").aliases
    return {name: str(version) for name, version in found.items()}


def test_a_name_that_takes_other_ids_is_refused_before_anything_is_logged(registry, ranker):
    text = RankerFacts(("a", "b"), exclude_seen=True, default_k=10, has_index=False)
    with pytest.raises(ArtifactError, match="this scene's ranker") as refused:
        registry.register(SCENE, registry.record(RUN), {"ranker": ranker}, text, {})
    assert refused.value.code == "DR-REG-006"
    client = registry._mlflow().MlflowClient()
    assert len(client.search_model_versions(f"name = 'ranker-{SCENE}'")) == 2


def test_a_server_that_does_not_answer_or_refuses_the_host_is_one_sentence(registry, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = registry.tracking_uri.rsplit(":", 1)[1]
    for address in ("http://me:hush@127.0.0.1:9", f"http://mlflow.elsewhere.example:{port}"):
        if "elsewhere" in address:  # no name server here: the request goes to this machine under that name
            monkeypatch.setattr(socket, "getaddrinfo", _to_this_machine)
        with pytest.raises(ArtifactError) as refused:
            Registry(address, None, registry.store).record(RUN)
        assert refused.value.code == "DR-REG-005" and "\n" not in str(refused.value)
        assert address.rsplit("/", 1)[1].removeprefix("me:hush@") in str(refused.value)
        assert "hush" not in str(refused.value)
    assert "Invalid Host header" in str(refused.value)


_real = socket.getaddrinfo


def _to_this_machine(host, *rest, **more):
    return _real("127.0.0.1", *rest, **more)
