"""The pipeline as companies run it: images of our own, in a real engine, over a real S3 and a real MLflow server with
PostgreSQL behind it. `make test-containers`."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from distilrec.core.synthetic import markov_chain
from tests.conftest import ROOT
from tests.containers.engine import DOCKER, docker, docker_engine, image_registry
from tests.mlflowserver import free_port, mlflow_server, postgres
from tests.s3server import s3_environment, s3_server

SCENE, RUN, EPOCHS = "containers", "containers-by-hand", 12
BASE = "localhost/python:3.11-slim"
CONFIG = f"""
scene: {SCENE}
data: {{source: file, path: s3://raw/events.csv}}
max_length: 24
teach: {{width: 64, num_blocks: 2, max_epochs: {EPOCHS}, patience: {EPOCHS}, batch_size: 16, learning_rate: 0.005}}
search: {{width: 16, num_cells: 2, epochs: 3, batch_size: 16, learning_rate: 0.02, cost_weight: 0.03}}
retrain: {{max_epochs: 4, batch_size: 16, learning_rate: 0.02}}
benchmark: {{seconds: 0.1}}
gate:
  above_floors: false
  min_speedup_low: 0
  min_student_over_teacher: 0
  min_student_over_teacher_low: 0
"""
pytestmark = pytest.mark.timeout(1500)


@dataclass(frozen=True)
class Place:
    """Where everything is."""

    engine: str
    registry: str
    lock: dict
    secrets: dict[str, str]
    mlflow: str
    folder: Path

    @property
    def settings(self) -> dict[str, str]:
        """Of a step's container."""
        return {
            **self.secrets,
            "DISTILREC_STORE": "s3://store/distilrec",
            "DISTILREC_RUN": RUN,
            "MLFLOW_TRACKING_URI": self.mlflow,
        }

    def keys(self, bucket: str) -> list[str]:
        return [entry["Key"] for entry in _client(self.secrets).list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    for name in ("s3", "registry", "root"):
        (folder / name).mkdir()
    engine_folder = Path(tempfile.mkdtemp(prefix="dockerd-"))  # a socket's path must be short
    with (
        docker_engine(engine_folder) as engine,
        image_registry(folder / "registry") as registry,
        s3_server(folder / "s3") as endpoint,
        postgres() as database,
    ):
        secrets = s3_environment(endpoint)
        client = _client(secrets)
        for bucket in ("raw", "store", "mlflow"):
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket="raw", Key="events.csv", Body=_events())
        lock = _built(folder / "images.lock", engine, registry)
        settings = {**secrets, "MLFLOW_S3_ENDPOINT_URL": endpoint}
        with mlflow_server(folder, "s3://mlflow/proxied", settings, database) as mlflow:
            yield Place(engine, registry, lock, secrets, mlflow, folder)


def _client(secrets):
    return boto3.client(
        "s3",
        endpoint_url=secrets["AWS_ENDPOINT_URL"],
        aws_access_key_id=secrets["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=secrets["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )


def _events() -> bytes:
    events = markov_chain(300, 60, 24, 0.9, seed=0)
    rows = zip(events.users.tolist(), events.items.tolist(), events.times.tolist(), strict=True)
    return ("user_id,item_id,timestamp\n" + "\n".join(f"u{u},i{i},{t}" for u, i, t in rows) + "\n").encode()


def _built(lock: Path, engine: str, registry: str) -> dict:
    """As a platform engineer does it."""
    environment = {**os.environ, "DOCKER": DOCKER, "DOCKER_HOST": engine}
    subprocess.run([ROOT / "images" / "base.sh", BASE], env=environment, check=True)
    command = [sys.executable, ROOT / "images" / "build.py", "--base", BASE, "--registry", f"{registry}/test"]
    subprocess.run([*command, "--lock", lock], env=environment, check=True)
    return json.loads(lock.read_text())


def test_the_lock_names_what_the_registry_has_and_the_images_are_plain(place):
    assert set(place.lock["images"]) == {"steps", "serve"}
    for image in place.lock["images"].values():
        name, digest = image.removeprefix(f"{place.registry}/").split("@")
        kinds = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
        asked = urllib.request.Request(f"http://{place.registry}/v2/{name}/manifests/{digest}", headers=kinds)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert answer.headers["Docker-Content-Digest"] == digest
        (found,) = json.loads(docker(place.engine, "inspect", image).stdout)
        assert found["Config"]["User"] == "10001:0"
        assert found["Config"]["Labels"]["org.opencontainers.image.revision"] == place.lock["revision"]
        inside = docker(
            place.engine, "run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", "ls /opt/distilrec/bin"
        )
        assert "pip" not in inside.stdout.split() and "python3" in inside.stdout.split()
        assert not [line for line in found["Config"]["Env"] if "KEY" in line or "SECRET" in line]


def test_a_killed_step_resumes_when_kubeflow_retries_it_and_the_champion_is_served(place):
    job = _job(place)
    with _pipeline(place, job) as running:
        killed = _kill_the_teacher(place, running)
        returned = running.wait(timeout=900)
    log = (place.folder / "pipeline.txt").read_text()
    assert returned == 0, log[-5000:]
    assert killed["HostConfig"]["ReadonlyRootfs"] and killed["Config"]["User"] == "10001:0"
    assert '"event": "resumed"' in log and "pip install" not in log
    _require_given_back(place)
    parts = ("checkpoints/containers/teach-", "checkpoints/containers/retrain-", "promotions/containers/000001.json")
    for part in parts:
        assert [key for key in place.keys("store") if key.startswith(f"distilrec/{part}")], part
    assert [key for key in place.keys("mlflow") if key.endswith("artifacts/ranker/encoder.onnx")]
    _require_tracked(place)
    _require_served(place)


def _job(place) -> Path:
    pipeline, image = place.folder / "pipeline.yaml", place.lock["images"]["steps"]
    distilrec = Path(sys.executable).parent / "distilrec"
    subprocess.run([distilrec, "compile", pipeline, "--lock", place.folder / "images.lock"], check=True)
    text = pipeline.read_text()
    assert text.count(f"image: {image}") == 11 == text.count("image: ")
    tag = f"localhost/distilrec-steps:{place.lock['version']}"  # KFP's local runner finds images by their tags only
    docker(place.engine, "tag", image, tag)
    pipeline.write_text(text.replace(image, tag))
    (place.folder / "root").chmod(0o777)
    job = {
        "pipeline": str(pipeline),
        "pipeline_root": str(place.folder / "root"),
        "environment": place.settings,
        "parameters": {"scene": CONFIG, "as_of": "", "overrides": "", "require_promotion": True},
    }
    path = place.folder / "job.json"
    path.write_text(json.dumps(job))
    return path


@contextmanager
def _pipeline(place, job: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "tests.containers.running", job]
    with (place.folder / "pipeline.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "DOCKER_HOST": place.engine}, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.kill()


def _kill_the_teacher(place, pipeline) -> dict:
    """With SIGKILL, once its first checkpoint is in the bucket. Returns what the engine knew of it."""
    prefix = f"distilrec/checkpoints/{SCENE}/teach-"
    while not [key for key in place.keys("store") if key.startswith(prefix) and key.endswith(".json")]:
        assert pipeline.poll() is None, (place.folder / "pipeline.txt").read_text()[-5000:]
        time.sleep(0.1)
    (running,) = docker(place.engine, "ps", "--quiet").stdout.split()
    (found,) = json.loads(docker(place.engine, "inspect", running).stdout)
    assert "entry.teach(" in str(found["Config"]["Cmd"]) + str(found["Args"])
    docker(place.engine, "kill", "--signal=KILL", running)
    return found


def _require_given_back(place):
    """Taken by the opening task, given back by the closing one."""
    prefix = f"distilrec/leases/{SCENE}/"
    states = sorted(key for key in place.keys("store") if key.startswith(prefix))
    holders = [json.loads(_client(place.secrets).get_object(Bucket="store", Key=key)["Body"].read()) for key in states]
    assert [held["holder"] for held in holders] == [RUN, ""]


def _require_tracked(place):
    """One parent, eight children, every epoch of the teacher once."""
    from mlflow import MlflowClient

    client = MlflowClient(place.mlflow)
    experiment = client.get_experiment_by_name(f"distilrec/{SCENE}").experiment_id
    runs = client.search_runs([experiment], f"tags.`distilrec.run` = '{RUN}'")
    assert len(runs) == 9 and {run.info.status for run in runs} == {"FINISHED"}
    (teach,) = (run for run in runs if run.info.run_name == "teach")
    epochs = [metric.step for metric in client.get_metric_history(teach.info.run_id, "loss.total")]
    assert epochs == list(range(1, EPOCHS + 1))


def _require_served(place):
    """By the other image, which knows nothing of the scene but its name."""
    port, model = free_port(), f"models:/ranker-{SCENE}@champion"
    options = ["--detach", "--network=host", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"]
    started = docker(
        place.engine, "run", *options, "--env", f"MLFLOW_TRACKING_URI={place.mlflow}",
        place.lock["images"]["serve"], "-m", model, "--port", port,
    )  # fmt: skip
    container = started.stdout.strip()
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
            break
        except OSError:
            logs = docker(place.engine, "logs", container)
            assert docker(place.engine, "ps", "--quiet").stdout.strip(), logs.stdout + logs.stderr
            time.sleep(0.2)
    asked = {"dataframe_records": [{"history": ["i3", "i4"]}], "params": {"k": 3}}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        (found,) = json.load(answer)["predictions"]
    assert len(found["items"]) == 3 and not found["is_fallback"]
    docker(place.engine, "kill", container)
