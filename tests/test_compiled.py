"""What is asked of a pipeline before a cluster may have it, read from the file that `distilrec compile` writes."""

import json

import pytest
import yaml

from distilrec.core.estimate import STEPS
from distilrec.core.tasks import CLOSING, LEASE_HOURS, OPENING, REQUIRING, TASKS
from tests.conftest import ROOT
from tests.test_cli import distilrec

IMAGE = f"registry.example/team/distilrec-steps@sha256:{'0' * 64}"
ONCE = {OPENING, REQUIRING}
CACHED = {"prepare", "teach", "search", "derive", "retrain"}
SECRET_NAMES = ("KEY", "SECRET", "PASSWORD", "TOKEN", "WEBHOOK")


def _compiled(folder, *arguments):
    (folder / "images.lock").write_text(json.dumps({"images": {"steps": IMAGE}}))
    said = distilrec("compile", "pipeline.yaml", *arguments, cwd=folder)
    assert said.returncode == 0, said.stderr
    return list(yaml.safe_load_all((folder / "pipeline.yaml").read_text()))


@pytest.fixture(scope="module", params=["one scene", "many scenes"])
def documents(request, tmp_path_factory):
    return _compiled(tmp_path_factory.mktemp("compiled"), *(["--backfill"] if "many" in request.param else []))


def _containers(specification):
    executors = specification["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


def _platform(platform):
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor for name, executor in executors.items()}


def _tasks(specification):
    handler = specification["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    whole = specification["components"].get("comp-retrain-scene", specification["root"])["dag"]["tasks"]
    return handler | {CLOSING: whole[CLOSING]}


def test_every_task_has_its_image_by_digest_its_limits_and_no_pip(documents):
    containers = _containers(documents[0])
    assert set(containers) == set(TASKS) == {OPENING, *STEPS, REQUIRING, CLOSING}
    for name, container in containers.items():
        assert container["image"] == IMAGE
        assert "pip" not in " ".join([*container["command"], *container.get("args", [])]).split()
        resources = container["resources"]
        for kind in ("Cpu", "Memory"):
            assert resources[f"resource{kind}Request"] == resources[f"resource{kind}Limit"] != "", name


def test_every_task_has_a_timeout_a_user_that_is_not_root_and_no_literal_credential(documents):
    for name, executor in _platform(documents[1]).items():
        assert 0 < int(executor["activeDeadlineSeconds"]) <= LEASE_HOURS * 3600
        assert executor["securityContext"] == {"runAsNonRoot": True, "runAsUser": "10001", "runAsGroup": "0"}
        by_reference = {one["envVar"] for source in executor["secretAsEnv"] for one in source["keyToEnv"]}
        assert ("DISTILREC_WEBHOOK" in by_reference) == (name == CLOSING)
        assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"} <= by_reference
    for container in _containers(documents[0]).values():
        named = [one["name"] for one in container.get("env", [])]
        assert not [name for name in named if any(word in name for word in SECRET_NAMES)]


def test_caching_is_decided_for_every_task_and_the_steps_wait_for_the_scene(documents):
    tasks = _tasks(documents[0])
    assert set(tasks) == set(TASKS)
    for name, task in tasks.items():
        assert task["cachingOptions"].get("enableCache", False) == (name in CACHED), name
        assert not [key for key in str(task.get("inputs")).split() if OPENING in key]
    assert tasks["prepare"]["dependentTasks"] == [OPENING]
    assert tasks[CLOSING]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert all(task["retryPolicy"]["maxRetryCount"] for name, task in tasks.items() if name not in ONCE)
    assert not any("retryPolicy" in tasks[name] for name in ONCE)


def test_the_last_attempt_begins_although_those_before_took_all_of_their_time(documents):
    executors = _platform(documents[1])
    for name, task in _tasks(documents[0]).items():
        if policy := task.get("retryPolicy"):
            window, retries = int(policy["backoffMaxDuration"][:-1]), int(policy["maxRetryCount"])
            assert window >= min(retries * int(executors[name]["activeDeadlineSeconds"]), LEASE_HOURS * 3600), name


def test_a_platforms_own_table(tmp_path):
    (tmp_path / "tasks.yaml").write_text(
        """
teach:
  cpu: "8"
  memory: 64Gi
  accelerator: nvidia.com/gpu
  timeout_minutes: 1440
  node_selector: {pool: gpu}
  tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
"""
    )
    documents = _compiled(tmp_path, "--tasks", "tasks.yaml")
    resources = _containers(documents[0])["teach"]["resources"]
    assert (resources["resourceCpuLimit"], resources["resourceMemoryLimit"]) == ("8", "64Gi")
    accelerator = resources["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "1")
    executor = _platform(documents[1])["teach"]
    assert executor["activeDeadlineSeconds"] == str(1440 * 60)
    assert executor["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert executor["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "nodeSelector" not in _platform(documents[1])["search"]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("teech: {cpu: '8'}", "DR-CONF-002", "no task 'teech'"),
        ("teach: {gpus: 1}", "DR-CONF-003", "gpus"),
        ("teach: {memory: 64}", "DR-CONF-003", "memory = 64"),
        ("teach: {timeout_minutes: 0}", "DR-CONF-003", "timeout_minutes = 0"),
        ("- teach", "DR-CONF-001", "no mapping"),
        ("teach: [", "DR-CONF-001", "not YAML"),
        ("teach: {cpu: '8'}\nteach: {memory: 64Gi}", "DR-CONF-001", "'teach' is written twice"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path, text, code, words):
    (tmp_path / "tasks.yaml").write_text(text)
    (tmp_path / "images.lock").write_text(json.dumps({"images": {"steps": IMAGE}}))
    said = distilrec("compile", "pipeline.yaml", "--tasks", "tasks.yaml", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(code) and words in said.stderr and said.stderr.count("\n") == 1
    assert not (tmp_path / "pipeline.yaml").exists()


def test_the_committed_pipeline_has_the_same_tasks(documents):
    committed = list(yaml.safe_load_all((ROOT / "pipelines" / "retrain_scene" / "pipeline.yaml").read_text()))
    assert _platform(committed[1]) == _platform(documents[1])
