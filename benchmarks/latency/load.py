"""The registered model behind MLflow's own server, under 1, 8 and 32 clients on loopback."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.latency.models import NUM_ITEMS, config, write_models
from benchmarks.results import Results
from distilrec.io.mlflow_server import MlflowServer
from distilrec.io.registry import RankerFacts, Registry, model_name
from distilrec.io.store import LocalStore

CLIENTS = (1, 8, 32)
SECONDS = 30.0
WARMUP_SECONDS = 3.0
SECONDS_TO_START = 120.0


@dataclass
class Seen:
    """What the clients of one load measured.

    Attributes:
        resident_mb: of the server's processes, at the beginning and at the end.
    """

    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)


def load(results: Results) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_models(root)
        tracking = _registered(root)
        with _Server(tracking, root / "server.txt") as server:
            _under(server, 1, WARMUP_SECONDS)
            seen = {clients: _under(server, clients, SECONDS) for clients in CLIENTS}
    for clients, one in seen.items():
        note = (
            f"one worker, one thread a request, length {config().max_length}, {NUM_ITEMS:,} items, "
            f"{len(one.milliseconds):,} answers in {SECONDS:.0f} s, clients on the same cores; memory "
            f"{one.resident_mb[0]:.0f} MB before, {one.resident_mb[1]:.0f} MB after"
        )
        prefix = f"load.{clients}_clients"
        results.put(
            f"{prefix}.errors", float(len(one.errors)), "requests", f"{one.errors[:3]}; {note}" if one.errors else note
        )
        results.put(f"{prefix}.p99_ms", float(np.percentile(one.milliseconds, 99)), "ms", note)
        results.put(f"{prefix}.requests_per_second", len(one.milliseconds) / SECONDS, "1/s", note)


def _registered(root: Path) -> str:
    tracking = f"sqlite:///{root / 'mlflow.db'}"
    server, scene = MlflowServer(tracking, root / "mlartifacts"), config().scene
    registry = Registry(server, LocalStore(root / "store"))
    run = server.client().create_run(server.experiment(scene)).info.run_id
    facts = RankerFacts((0, 1, 2), exclude_seen=True, default_k=10, has_index=False)
    registry.register(scene, run, {"ranker": root / "student" / "rankers" / config().serve.timed}, facts, {})
    return tracking


class _Server:
    def __init__(self, tracking: str, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.tracking, self.log = tracking, log

    def __enter__(self) -> "_Server":
        scripts = Path(sys.executable).parent
        model = f"models:/{model_name(config().scene)}/1"
        command = [scripts / "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "--port", self.port]
        settings = {
            "MLFLOW_TRACKING_URI": self.tracking,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": f"{scripts}:{os.environ['PATH']}",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                env={**os.environ, **settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < end:
            try:
                self.ask(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5), "GET", "/ping", None)
            except OSError:
                time.sleep(0.3)
                continue
            return self
        self.__exit__()
        raise SystemExit(self.log.read_text())

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=30)

    def ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> int:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status

    def resident_mb(self) -> float:
        """Of all processes of its session."""
        pages = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
                if int(fields[3]) == self.process.pid:
                    pages += int(fields[21])
            except OSError:
                continue
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _under(server: _Server, clients: int, seconds: float) -> Seen:
    seen, end = Seen(), time.monotonic() + seconds
    seen.resident_mb.append(server.resident_mb())
    workers = [threading.Thread(target=_client, args=(server, number, end, seen)) for number in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seen.resident_mb.append(server.resident_mb())
    return seen


def _client(server: _Server, number: int, end: float, seen: Seen) -> None:
    random = np.random.default_rng(number)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    length = config().max_length
    while time.monotonic() < end:
        history = random.integers(NUM_ITEMS, size=length).tolist()
        body = json.dumps({"dataframe_records": [{"history": history}]}).encode()
        began = time.perf_counter()
        try:
            status = server.ask(connection, "POST", "/invocations", body)
        except (OSError, http.client.HTTPException) as error:
            seen.errors.append(str(error))
            connection.close()
            continue
        if status == 200:
            seen.milliseconds.append((time.perf_counter() - began) * 1e3)
        else:
            seen.errors.append(f"HTTP {status}")
