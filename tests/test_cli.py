"""What a person meets at the command line when something is wrong: one sentence, exit code 2, nothing written."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from distilrec import entry
from distilrec.runner import last_words
from tests.conftest import ROOT

DISTILREC = str(Path(sys.executable).parent / "distilrec")
SYNTHETIC = "scene: shop\ndata: {source: synthetic, num_users: 60, num_items: 20, events_per_user: 8}\n"


def distilrec(*arguments, cwd, **environment):
    return subprocess.run(
        [DISTILREC, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


def _refused(result, code, *words):
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"{code}: ")
    assert "Fix: " in lines[0]
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("scene", "code", "words"),
    [
        ("scene: shop\ndata: {source: file, path: none.csv}\n", "DR-DATA-001", ("none.csv",)),
        ("scene: shop\ndata: {source: file, path: log.csv}\n", "DR-DATA-003", ("log.csv", "'item_id'")),
        (SYNTHETIC + "teach: {width: 33}\n", "DR-CONF-005", ("33",)),
        (SYNTHETIC + "prepare: {min_users: 100}\n", "DR-DATA-006", ("60 users", "100")),
        ("scene: Shop\n", "DR-CONF-004", ("Shop",)),
        ("scene: shop\ndata: {source: movielens-1m, ages: 25-34}\n", "DR-DATA-007", ("has not been fetched",)),
    ],
)
def test_refused_before_any_work(tmp_path, scene, code, words):
    (tmp_path / "log.csv").write_text("user_id,item,timestamp\na,b,1\n")
    (tmp_path / "scene.yaml").write_text(scene)
    _refused(distilrec("run", "scene.yaml", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache")), code, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "scene.yaml"]


def test_an_output_folder_of_something_else(tmp_path):
    (tmp_path / "scene.yaml").write_text(SYNTHETIC)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    _refused(distilrec("run", "scene.yaml", "--out", "mine", cwd=tmp_path), "DR-RUN-001", "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_two_scenes_of_one_name(tmp_path):
    (tmp_path / "scene.yaml").write_text(SYNTHETIC)
    _refused(distilrec("run", "scene.yaml", "scene.yaml", cwd=tmp_path), "DR-CONF-005", "shop")


def test_steps_refuse_what_no_step_wrote(tmp_path):
    (tmp_path / "scene.yaml").write_text(SYNTHETIC)
    (tmp_path / "empty").mkdir()
    result = distilrec("teach", "--scene", "scene.yaml", "--dataset", "empty", "--teacher", "out", cwd=tmp_path)
    _refused(result, "DR-ART-001", "empty")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("place", "code"), [("afile", "DR-RUN-001"), ("afile/data", "DR-RUN-004"), ("mine", "DR-RUN-001")]
)
def test_a_place_where_nothing_can_be_written_is_refused_before_the_work(tmp_path, place, code):
    (tmp_path / "scene.yaml").write_text(SYNTHETIC)
    (tmp_path / "afile").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    step = distilrec("prepare", "--scene", "scene.yaml", "--dataset", place, cwd=tmp_path)
    _refused(step, code, place)
    assert not step.stdout, "nothing was begun"
    run = distilrec("run", "scene.yaml", "--out", place, cwd=tmp_path)
    _refused(run, code, place)
    table = distilrec("profile", "--scene", "scene.yaml", "--dataset", "data", "--latency-table", "mine", cwd=tmp_path)
    _refused(table, "DR-RUN-004", "mine cannot be written: it is a folder")


def test_a_run_json_of_something_else(tmp_path):
    (tmp_path / "scene.yaml").write_text(SYNTHETIC)
    (tmp_path / "mine").mkdir()
    for text in ("[]", "{}"):
        (tmp_path / "mine" / "run.json").write_text(text)
        _refused(distilrec("run", "scene.yaml", "--out", "mine", cwd=tmp_path), "DR-RUN-001", "run.json")
        _refused(distilrec("track", "mine", cwd=tmp_path), "DR-RUN-006", "mine")


def test_a_step_keeps_things_where_a_run_does(tmp_path, monkeypatch):
    for name in ("DISTILREC_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISTILREC_RUNS", str(tmp_path))
    registry = entry._registry()
    assert registry.store.root == tmp_path / "store"
    assert registry.server.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_step_alone_and_a_plan(tmp_path):
    (tmp_path / "scene.yaml").write_text(SYNTHETIC)
    done = distilrec("prepare", "--scene", "scene.yaml", "--dataset", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "items.parquet",
        "manifest.json",
        "sequences.arrow",
    ]
    plan = distilrec("plan", "scene.yaml", "--set", "teach.max_epochs=3", cwd=tmp_path)
    assert "60 users" in plan.stdout and "up to 3 epochs" in plan.stdout


def test_what_is_asked_of_runs_and_scenes_that_are_not_there(tmp_path):
    for code, command in (
        ("DR-REG-003", ["models", "shop"]),
        ("DR-REG-004", ["rollback", "shop"]),
        ("DR-REG-001", ["approve", "shop", "--version", "1", "--because", "x"]),
    ):
        _refused(distilrec(*command, cwd=tmp_path), code, "shop")
    _refused(distilrec("publish", "nowhere", "s3://bucket/run", cwd=tmp_path), "DR-RUN-005", "nowhere")
    (tmp_path / "shop").mkdir()
    for name in ("run.json", "summary.json", "shop/summary.json"):
        (tmp_path / name).write_text('{"scenes": ["shop"]}')
    _refused(distilrec("publish", ".", "bucket/run", cwd=tmp_path), "DR-STORE-007", "'bucket/run'")


def test_the_doctor_says_what_is_wrong_and_how_to_mend_it(tmp_path):
    well = distilrec("doctor", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert well.returncode == 0, well.stdout
    assert [line.split()[0] for line in well.stdout.splitlines()] == ["well"] * 8
    wrong = {
        "OMP_NUM_THREADS": "9999",
        "DISTILREC_STORE": "s3:///nowhere",
        "MLFLOW_TRACKING_URI": "http://me:hush@127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "KF_PIPELINES_ENDPOINT": "http://127.0.0.1:9",
    }
    ill = distilrec("doctor", cwd=tmp_path, **wrong)
    assert ill.returncode == 2 and "hush" not in ill.stdout + ill.stderr
    lines = ill.stdout.splitlines()
    wrongs = [line.split()[1] for line in lines if line.startswith("wrong")]
    assert wrongs == ["threads:", "store:", "MLflow:", "Kubeflow:"]
    assert sum(line.startswith("      fix: ") for line in lines) == 4


def test_version_and_help():
    assert distilrec("--version", cwd=ROOT).stdout.startswith("distilrec 0.")
    text = distilrec("--help", cwd=ROOT, COLUMNS="120").stdout
    for command in (
        "run",
        "plan",
        "fetch",
        "prepare",
        "teach",
        "search",
        "derive",
        "retrain",
        "evaluate",
        "benchmark",
        "promote",
        "models",
        "rollback",
        "approve",
        "publish",
        "doctor",
    ):
        assert command in text


@pytest.mark.parametrize("lock", [None, "not json", '{"images": {"steps": "distilrec-steps:latest"}}'])
def test_a_pipeline_without_digests_is_not_compiled(tmp_path, lock):
    if lock:
        (tmp_path / "images.lock").write_text(lock)
    _refused(distilrec("compile", "pipeline.yaml", cwd=tmp_path), "DR-CONF-008", "images.lock")
    assert not (tmp_path / "pipeline.yaml").exists()


def test_a_run_of_which_nothing_is_kept_cannot_be_tracked(tmp_path):
    _refused(distilrec("track", "shop-1a2b3c4d", cwd=tmp_path), "DR-RUN-006", "shop-1a2b3c4d")


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        ({"DISTILREC_STORE": "gs://bucket/folder"}, "DR-STORE-007", "gs://bucket/folder"),
        ({"MLFLOW_TRACKING_URI": "mlruns"}, "DR-REG-008", "mlruns"),
        ({"MLFLOW_TRACKING_URI": "oracle://me:hush@host/db"}, "DR-REG-008", "is host/db"),
    ],
)
def test_a_place_of_a_kind_that_there_is_not_is_no_folder(tmp_path, environment, code, words):
    result = distilrec("models", "shop", cwd=tmp_path, **environment)
    _refused(result, code, words)
    assert "hush" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (["    Traceback", "    OSError: 28"], ["teach said last:", "Traceback", "OSError: 28"]),
        ([], ["teach ended without a word, as when the system kills a process for the memory that it takes"]),
    ],
)
def test_of_a_failure_that_nobody_foresaw_the_steps_last_words_are_shown(tmp_path, said, shown):
    """As KFP's local runner logs it, colours included; the closing task and a traceback of its own come after."""
    status = "Task \x1b[96m'{}'\x1b[0m finished with status \x1b[{}\x1b[0m"
    dump = ["    [KFP Executor INFO]: Got executor_input:", "    {", '        "inputs": {}', "    }"]
    before = [*dump, "    warm words", status.format("prepare", "92mSUCCESS"), *dump, *said, "    "]
    after = [status.format("teach", "91mFAILURE"), *dump, "Traceback", "RuntimeError: kfp"]
    (tmp_path / "pipeline.log").write_text("\n".join([*before, *after]))
    assert last_words(SimpleNamespace(folder=tmp_path)).splitlines() == shown
    (tmp_path / "pipeline.log").write_text("ImportError\n")
    assert last_words(SimpleNamespace(folder=tmp_path)) == "ImportError"
