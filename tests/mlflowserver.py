"""A real MLflow server for tests, and a real PostgreSQL to keep its tables."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@contextmanager
def mlflow_server(folder: Path, artifacts: str, settings: dict[str, str], database: str = "") -> Iterator[str]:
    """Its address. Clients send artifacts through it, so they need no key of the bucket. `database`: default SQLite."""
    scripts, port = Path(sys.executable).parent, free_port()
    command = [scripts / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database or f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", artifacts, "--serve-artifacts"]
    environment = {
        **os.environ,
        **settings,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{scripts}:{os.environ['PATH']}",
    }
    with (folder / "mlflow.txt").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health", process, folder / "mlflow.txt")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@contextmanager
def postgres() -> Iterator[str]:
    """An address for SQLAlchemy."""
    assert POSTGRES, "PostgreSQL is not installed"
    tools, port = POSTGRES[-1], free_port()
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        data, as_user = Path(folder) / "data", []
        if os.getuid() == 0:  # which PostgreSQL refuses to be
            shutil.chown(folder, "postgres", "postgres")
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        make = [*as_user, tools / "initdb", "-D", data, "-A", "trust", "-U", "mlflow", "--no-sync"]
        subprocess.run(make, check=True, capture_output=True)
        options = ["-k", folder, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        log = Path(folder) / "log.txt"
        with log.open("w") as file:
            process = subprocess.Popen([*as_user, tools / "postgres", "-D", data, *options], stdout=file, stderr=file)
        try:
            ask = [tools / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"]
            while subprocess.run(ask, capture_output=True).returncode:
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until it answers with 200."""
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")
