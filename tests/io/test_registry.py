"""Tracking and registry on a real MLflow server, its artifacts in a real bucket."""

import shutil
import socket
from dataclasses import replace

import boto3
import pytest
from mlflow.exceptions import MlflowException

from distilrec.core.errors import ArtifactError
from distilrec.io.mlflow_server import MlflowServer
from distilrec.io.promotions import PromotionLog, entry_after
from distilrec.io.rankers import open_ranker
from distilrec.io.registry import RankerFacts, Registry
from distilrec.io.s3 import S3Store
from distilrec.io.tracking import Origin, StepRecord, Tracking
from distilrec.steps.govern import approve, rollback
from tests.conftest import write_student_rankers
from tests.mlflowserver import mlflow_server
from tests.s3server import s3_environment, s3_server

SCENE = "shop"
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow, pandas and pydantic warn of one another


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of an MLflow server that keeps artifacts in a bucket; its clients need no key of that."""
    folder = tmp_path_factory.mktemp("servers")
    (folder / "s3").mkdir()
    with s3_server(folder / "s3") as endpoint:
        secrets = s3_environment(endpoint)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in secrets.items():
                patch.setenv(name, value)
            client = boto3.client("s3")
            for bucket in ("mlflow", "store"):
                client.create_bucket(Bucket=bucket)
        settings = {**secrets, "MLFLOW_S3_ENDPOINT_URL": endpoint}
        with mlflow_server(folder, "s3://mlflow/proxied", settings) as address:
            yield address, secrets


@pytest.fixture
def registry(server, monkeypatch):
    address, secrets = server
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    return Registry(MlflowServer(address, None), S3Store("s3://store/distilrec"))


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranker")
    write_student_rankers(folder)
    return shutil.copytree(folder / "student_onnx", folder / "ranker")


def record(step, run="shop-1", outcome=None, **more):
    epochs = [(1, 1000.0, {"loss": 2.0}), (2, 1001.0, {"loss": 1.0})]
    params, tags = {"seed": "0"}, {"content": "abc"}
    return StepRecord(Origin(run, **more), SCENE, step, 1002.0, params, tags, {"seconds": 1.0}, epochs, outcome or {})


def tracking_of(registry, run="shop-1", address=None):
    server = MlflowServer(address, None) if address else registry.server
    return Tracking(server, registry.store, Origin(run))


FACTS = RankerFacts((0, 1, 2), exclude_seen=True, default_k=10, has_index=False)


def test_what_is_registered_comes_back_whole_and_the_log_rules_the_aliases(registry, ranker, tmp_path, monkeypatch):
    run = registry.server.client().create_run(registry.server.experiment(SCENE)).info.run_id
    tags = {"content": "abc", "as_of": "2026-01-01"}
    versions = [registry.register(SCENE, run, {"ranker": ranker}, FACTS, tags) for _ in range(2)]
    assert versions == ["1", "2"]
    log = PromotionLog(registry.store, SCENE)
    assert log.append(entry_after(None, SCENE, "1", "promoted", ("good",), "1", "2026-01-01", "abc", ""))
    registry.project(SCENE)
    entry = registry.champion(SCENE)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "")
    folder = registry.ranker_folder(entry, tmp_path)  # the server's own key suffices
    assert open_ranker(folder).recommend([[3, 4]], k=2)[0].items


def test_approved_and_rolled_back_by_hand(registry):
    approved = approve(SCENE, "2", "asked for", registry)
    assert (approved.number, approved.champion, approved.rollback) == (2, "2", "1")
    assert _aliases(registry) == {"challenger": "1", "champion": "2", "rollback": "1"}
    back = rollback(SCENE, "clicks fell", registry)
    assert (back.number, back.champion, back.rollback) == (3, "1", "")
    assert _aliases(registry) == {"challenger": "1", "champion": "1"}
    with pytest.raises(ArtifactError, match="has no version 7"):
        approve(SCENE, "7", "asked for", registry)
    client = registry.server.client()
    one = client.get_model_version(f"ranker-{SCENE}", "1")
    stray = client.create_model_version(one.name, one.source, model_id=one.source.rsplit("/", 1)[1])
    with pytest.raises(ArtifactError, match="lacks the tags of a version that a run registered"):
        approve(SCENE, str(stray.version), "asked for", registry)
    client.delete_model_version(one.name, stray.version)


def _aliases(registry):
    found = registry.server.client().get_registered_model(f"ranker-{SCENE}").aliases
    return {name: str(version) for name, version in found.items()}


def test_a_name_that_takes_other_ids_is_refused_before_anything_is_logged(registry, ranker):
    text = RankerFacts(("a", "b"), exclude_seen=True, default_k=10, has_index=False)
    for other in (text, replace(FACTS, example_users=("ann",))):
        with pytest.raises(ArtifactError, match="this scene's ranker") as refused:
            registry.register(SCENE, "not needed", {"ranker": ranker}, other, {})
        assert refused.value.code == "DR-REG-006"
    client = registry.server.client()
    assert len(client.search_model_versions(f"name = 'ranker-{SCENE}'")) == 2


def test_a_server_that_does_not_answer_or_refuses_the_host_is_one_sentence(registry, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = registry.server.tracking_uri.rsplit(":", 1)[1]
    for address in ("http://me:hush@127.0.0.1:9", f"http://mlflow.elsewhere.example:{port}"):
        if "elsewhere" in address:  # no name server here: the request goes to this machine under that name
            monkeypatch.setattr(socket, "getaddrinfo", _to_this_machine)
        with pytest.raises(ArtifactError) as refused:
            Registry(MlflowServer(address, None), registry.store).ping()
        assert refused.value.code == "DR-REG-005" and "\n" not in str(refused.value)
        assert address.rsplit("/", 1)[1].removeprefix("me:hush@") in str(refused.value)
        assert "hush" not in str(refused.value)
    assert "Invalid Host header" in str(refused.value)


def test_a_run_is_one_parent_and_a_child_per_step_however_often_it_is_logged(registry):
    """An attempt is killed after its first epoch was shown; the next one, and a replay, add what is missing."""
    client, tracking = registry.server.client(), tracking_of(registry)
    tracking.log_epochs(SCENE, "teach", {"seed": "0"}, record("teach").epochs[:1])
    for one in (record("teach"), record("promote", outcome={"ndcg": 0.5})):
        tracking.keep(one)
    tracking.keep_missing(replace(record("teach"), tags={"content": "another's"}))
    parent = tracking.log(SCENE)
    assert tracking_of(registry).log(SCENE) == parent, "and again by another process"
    runs = client.search_runs([registry.server.experiment(SCENE)], "tags.`distilrec.run` = 'shop-1'")
    by_name = {run.info.run_name: run for run in runs}
    assert set(by_name) == {"shop-1", "teach", "promote"} and len(runs) == 3
    assert all(run.info.status == "FINISHED" for run in runs)
    assert by_name["shop-1"].info.run_id == parent and by_name["shop-1"].data.params == {"seed": "0"}
    assert by_name["shop-1"].data.metrics == {"ndcg": 0.5}
    teach = by_name["teach"]
    assert teach.data.tags["mlflow.parentRunId"] == parent and teach.data.tags["content"] == "abc"
    losses = client.get_metric_history(teach.info.run_id, "loss")
    assert [(one.step, one.value) for one in losses] == [(1, 2.0), (2, 1.0)], "no value twice"
    tracking.keep(replace(record("teach"), time=1010.0, metrics={"seconds": 3.0}))
    tracking.log(SCENE)
    again = client.get_run(teach.info.run_id).data.metrics
    assert again["seconds"] == 3.0, "a later attempt's"
    assert len(client.get_metric_history(teach.info.run_id, "loss")) == 2
    page = tracking.url(parent)
    assert page == f"{registry.server.tracking_uri}/#/experiments/{teach.info.experiment_id}/runs/{parent}"


@pytest.mark.parametrize("is_of_the_step", [True, False])
def test_a_run_that_somebody_opened_is_logged_into(registry, is_of_the_step):
    """Kubeflow's plugin opens one for each task; a user may open one for the pipeline."""
    client, name = registry.server.client(), f"given-{is_of_the_step}"
    experiment = client.create_experiment(name)
    outer = client.create_run(experiment).info.run_id
    tags = {"mlflow.parentRunId": outer}
    given = client.create_run(experiment, tags=tags).info.run_id if is_of_the_step else outer
    tracking = tracking_of(registry, name)
    tracking.keep(record("teach", name, mlflow_run_id=given))
    assert tracking.log(SCENE) == outer
    runs = {run.info.run_id: run for run in client.search_runs([experiment])}
    assert len(runs) == 2
    child = runs[given] if is_of_the_step else next(run for id, run in runs.items() if id != outer)
    assert child.data.metrics["loss"] == 1.0 and child.data.tags["mlflow.parentRunId"] == outer


def test_what_could_not_be_logged_is_logged_later(registry, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = tracking_of(registry, "shop-2", "http://127.0.0.1:9")
    away.keep(record("teach", "shop-2"))
    with pytest.raises(ArtifactError):
        away.log(SCENE)
    assert [one.step for one in tracking_of(registry, "shop-2").kept()] == ["teach"]
    parent = tracking_of(registry, "shop-2").log(SCENE)
    assert registry.server.client().get_run(parent).data.tags["distilrec.run"] == "shop-2"


def test_an_outage_in_the_middle_is_made_good(registry, monkeypatch):
    """The server goes away between any two requests; the next attempt ends where an undisturbed one does."""
    real, allowed = type(registry.server.client()), [0]

    class Dying(real):
        def __getattribute__(self, name):
            if name in ("create_run", "log_batch", "set_tag", "set_terminated"):
                if not allowed[0]:
                    raise MlflowException("the server is away")
                allowed[0] -= 1
            return super().__getattribute__(name)

    tracking = tracking_of(registry, "shop-3")
    for one in (record("teach", "shop-3"), record("promote", "shop-3", outcome={"ndcg": 0.5})):
        tracking.keep(one)
    monkeypatch.setattr(tracking.server, "client", Dying)
    attempts = 0
    while attempts < 100:
        attempts, allowed[0] = attempts + 1, attempts + 1
        try:
            tracking.log(SCENE)
            break
        except ArtifactError:
            pass
    assert attempts > 3
    runs = real().search_runs([registry.server.experiment(SCENE)], "tags.`distilrec.run` = 'shop-3'")
    assert len(runs) == 3 and {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert parent.data.params == {"seed": "0"} and parent.data.metrics == {"ndcg": 0.5}


def test_one_given_run_for_several_scenes_and_for_what_kubeflow_reused(registry):
    """A task's own run gets that task's values alone; two scenes below one run have children of their own."""
    client = registry.server.client()
    experiment = client.create_experiment("shared")
    outer = client.create_run(experiment).info.run_id
    for scene in ("shop-a", "shop-b"):
        tracking = tracking_of(registry, "shared")
        tracking.keep(replace(record("teach", "shared", mlflow_run_id=outer), scene=scene))
        assert tracking.log(scene) == outer
    assert len(client.search_runs([experiment])) == 3
    task = client.create_run(experiment, tags={"mlflow.parentRunId": outer}).info.run_id
    promote = Tracking(registry.server, registry.store, Origin("reused", mlflow_run_id=task))
    origin = promote.origin_of_the_run()
    assert origin.mlflow_run_id == outer
    promote.keep_missing(replace(record("teach", "reused"), origin=origin))
    promote.keep(replace(record("promote", "reused"), origin=promote.origin, epochs=[]))
    promote.log(SCENE)
    assert "loss" not in client.get_run(task).data.metrics


_real = socket.getaddrinfo


def _to_this_machine(host, *rest, **more):
    return _real("127.0.0.1", *rest, **more)
