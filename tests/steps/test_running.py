"""The beginning and the end of a run: who has the scene, what MLflow shows, who is told."""

import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from distilrec import entry
from distilrec.core.errors import ConfigError, RunError, StoreError
from distilrec.io.leases import Lease
from distilrec.io.mlflow_server import MlflowServer
from distilrec.io.progress import Progress
from distilrec.io.registry import Registry
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.io.tracking import Origin, StepRecord, Tracking
from distilrec.steps import running
from distilrec.steps.adapters import Adapters
from distilrec.steps.running import close_run, open_run

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow, pandas and pydantic warn of one another
CONFIG_TEXT = "scene: shop\ndata: {source: synthetic}\n"
CONFIG = load_scene(CONFIG_TEXT)
OUTCOME = {
    "student_over_teacher": 0.98,
    "p50.teacher_onnx_over_student_onnx": 9.0,
    "p50.teacher_onnx_over_student_int8": 7.0,
    "student.kept.mrr_at_1": 0.1,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


def adapters(place, run, address=""):
    store = LocalStore(place / "store")
    server = MlflowServer(address or f"sqlite:///{place / 'mlflow.db'}", None)
    tracking = Tracking(server, store, Origin(run))
    return Adapters(store, Progress(None, "open-run"), Registry(server, store), tracking, 0.0)


def record(run, step, outcome=None):
    return StepRecord(Origin(run), "shop", step, 1.0, {}, {}, {"seconds": 2.0}, [], outcome or {})


def statuses(place, run):
    client = MlflowServer(f"sqlite:///{place / 'mlflow.db'}", None).client()
    experiment = client.get_experiment_by_name("distilrec/shop").experiment_id
    found = client.search_runs([experiment], f"tags.`distilrec.run` = '{run}'")
    return {each.info.run_name: each.info.status for each in found}


@contextmanager
def webhook():
    """Yields its address and what was posted there."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", posted
    finally:
        server.shutdown()
        server.server_close()


def test_a_run_from_its_opening_to_its_end(place):
    mine, other = adapters(place, "shop-mine"), adapters(place, "shop-other")
    open_run(CONFIG, "", False, mine)
    open_run(CONFIG, "", False, mine)  # another attempt
    assert statuses(place, "shop-mine") == {"shop-mine": "RUNNING"}
    with pytest.raises(RunError, match="shop is being run by shop-mine"):
        open_run(CONFIG, "", False, other)
    outcome = close_run(CONFIG, "FAILED", "", "", other)
    assert outcome["problem"] == "another run has the scene" and outcome["mlflow"] == {}
    assert Lease(mine.store, "shop", "").newest().holder == "shop-mine"
    mine.tracking.keep(record("shop-mine", "teach"))
    mine.tracking.keep(record("shop-mine", "promote", OUTCOME))
    with webhook() as (address, posted):
        outcome = close_run(CONFIG, "SUCCEEDED", "", address, mine)
    assert posted == [outcome] and outcome["metrics"] == dict(list(OUTCOME.items())[:2])
    assert statuses(place, "shop-mine") == {"shop-mine": "FINISHED", "teach": "FINISHED", "promote": "FINISHED"}
    open_run(CONFIG, "", False, other)


def test_a_failed_run_is_shown_as_failed_with_the_training_that_it_left(place):
    mine = adapters(place, "shop-failed")
    Lease(mine.store, "shop", "shop-other").give_back()
    open_run(CONFIG, "", False, mine)
    mine.tracking.keep(record("shop-failed", "prepare"))
    mine.tracking.log_epochs("shop", "teach", {}, [(1, 1.0, {"loss.total": 2.0})])
    outcome = close_run(CONFIG, "FAILED", "teach was killed", "", mine)
    assert (outcome["state"], outcome["problem"], outcome["metrics"]) == ("FAILED", "teach was killed", {})
    assert statuses(place, "shop-failed") == {"shop-failed": "FAILED", "prepare": "FINISHED", "teach": "FAILED"}
    open_run(CONFIG, "", False, mine)
    assert statuses(place, "shop-failed")["shop-failed"] == "RUNNING"
    Lease(mine.store, "shop", "shop-failed").give_back()


def test_neither_mlflow_nor_the_webhook_keeps_a_run_from_its_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(running, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mine = adapters(tmp_path, "shop-alone", address="http://127.0.0.1:9")
    open_run(CONFIG, "", False, mine)
    assert close_run(CONFIG, "SUCCEEDED", "", "http://127.0.0.1:9/secret", mine)["mlflow"] == {}
    assert not Lease(mine.store, "shop", "").newest().holder
    said = capsys.readouterr().out
    assert "untracked" in said and "untold" in said and "secret" not in said


@pytest.mark.parametrize("is_served_as_int8", [False, True])
def test_the_headlines_are_of_what_is_served(tmp_path, is_served_as_int8):
    serve = CONFIG.serve.model_copy(update={"variant": "int8"} if is_served_as_int8 else {})
    config, mine = CONFIG.model_copy(update={"serve": serve}), adapters(tmp_path, "shop-served")
    mine.tracking.keep(record("shop-served", "promote", OUTCOME))
    ratio = f"p50.teacher_onnx_over_{'student_int8' if is_served_as_int8 else 'student_onnx'}"
    metrics = close_run(config, "SUCCEEDED", "", "", mine)["metrics"]
    assert metrics == {name: OUTCOME[name] for name in ("student_over_teacher", ratio)}


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/T0/secret token", "ftp://127.0.0.1:9/secret"])
def test_an_address_that_is_none_is_not_said(monkeypatch, capsys, address):
    monkeypatch.setattr(running, "SECONDS_BETWEEN", 0.0)
    assert not running.told(address, {})
    assert capsys.readouterr() == ("", "")


def test_a_server_that_speaks_no_http_is_not_told(monkeypatch):
    monkeypatch.setattr(running, "SECONDS_BETWEEN", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for _ in range(running.ATTEMPTS):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"SSH-2.0-none\r\n")

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        assert not running.told(f"http://127.0.0.1:{server.getsockname()[1]}/", {})
        answering.join(10)


def test_a_step_of_a_run_that_lost_its_scene_goes_no_further(tmp_path, monkeypatch, capsys):
    """Kubeflow's retry of a failed run begins behind the task that took the scene."""
    monkeypatch.setenv("DISTILREC_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("DISTILREC_RUN", "shop-retried")
    Lease(LocalStore(tmp_path / "store"), "shop", "shop-tonight").take(60.0)
    with pytest.raises(SystemExit) as left:
        entry.prepare(CONFIG_TEXT, "", "", str(tmp_path / "dataset"))
    assert left.value.code == 2 and "shop is being run by shop-tonight" in capsys.readouterr().err
    assert not (tmp_path / "dataset").exists()


def test_a_scene_that_cannot_be_read_is_heard_of(monkeypatch, capsys):
    with webhook() as (address, posted):
        monkeypatch.setenv("DISTILREC_WEBHOOK", address)
        monkeypatch.setenv("DISTILREC_RUN", "shop-typo")
        with pytest.raises(SystemExit):
            entry.close_run("scene: shop\ndata: {source: synthetik}\n", "", "FAILED", "")
    assert [(one["run"], one["state"]) for one in posted] == [("shop-typo", "FAILED")] and "data" in posted[0][
        "problem"
    ]
    assert capsys.readouterr().err.startswith("DR-CONF-003")


def test_runs_that_begin_at_the_same_moment_make_one_database(tmp_path):
    program = (
        "import sys; from distilrec.io.mlflow_server import MlflowServer; MlflowServer(sys.argv[1], None).client()"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, f"sqlite:///{tmp_path / 'mlflow.db'}"]
    several = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    said = [each.communicate()[1] for each in several]
    assert [each.returncode for each in several] == [0, 0, 0], said


@pytest.mark.parametrize(
    "address", ["sqlite:///{}/notes.txt", "sqlite:///{}/notes.txt/mlflow.db", "mysql://me:hush@127.0.0.1/mlflow"]
)
def test_a_database_that_cannot_be_opened_is_refused_before_the_steps(tmp_path, address):
    (tmp_path / "notes.txt").write_text("no database " * 100)
    with pytest.raises(RunError) as refused:
        open_run(CONFIG, "", False, adapters(tmp_path, "shop-nowhere", address.format(tmp_path)))
    words = str(refused.value)
    assert refused.value.code == "DR-REG-008" and "\n" not in words and "hush" not in words


def test_a_lease_that_cannot_be_read_is_refused(tmp_path):
    mine = adapters(tmp_path, "shop-mine")
    mine.store.put("leases/shop/00000001.json", b"half")
    with pytest.raises(StoreError, match=r"leases/shop/00000001\.json in the store cannot be read"):
        open_run(CONFIG, "", False, mine)


@pytest.mark.parametrize("as_of", ["", "latest", "[[ScheduledTime.2006-01-02]]", "2026-02-31", "2999-01-01"])
def test_where_outputs_may_come_from_a_cache_the_day_must_be_said(tmp_path, as_of):
    mine = adapters(tmp_path, "shop-cached")
    with pytest.raises(ConfigError, match=r"as_of (is|=)"):
        open_run(CONFIG, as_of, True, mine)
    with pytest.raises(ConfigError, match="yet to come"):
        open_run(CONFIG, (datetime.now(UTC) + timedelta(minutes=5)).isoformat(), True, mine)
    with pytest.raises(RunError, match="KFP_RUN_ID is empty"):
        open_run(CONFIG, "2026-01-31", True, adapters(tmp_path, ""))
    with pytest.raises(RunError, match="DISTILREC_STORE names no bucket"):
        open_run(CONFIG, "2026-01-31", True, mine)
    in_bucket = SimpleNamespace()
    with pytest.raises(RunError, match="MLFLOW_TRACKING_URI names no server"):
        open_run(CONFIG, "2026-01-31", True, replace(mine, store=in_bucket))
    assert Lease(mine.store, "shop", "").newest() is None


def test_without_times_a_day_means_something_on_kubeflow_alone(tmp_path, monkeypatch):
    """There it is the key of prepare's cache."""
    timeless = "scene: shop\ndata: {source: file, path: x, columns: {time: null}}\nprepare: {order: none}\n"
    mine = adapters(tmp_path, "shop-timeless")
    with pytest.raises(ConfigError, match=r"as_of = 2026-01-31 needs data\.columns\.time"):
        open_run(load_scene(timeless), "2026-01-31", False, mine)
    with pytest.raises(RunError, match="names no bucket"):  # the next thing that it asks for
        open_run(load_scene(timeless), "2026-01-31", True, mine)
