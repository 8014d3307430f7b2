"""A real S3 server for tests, SeaweedFS, and a proxy before it that loses answers and refuses requests."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY, SECRET = "testkey", "testsecret123"
SECONDS_TO_START = 60.0
ACTIONS = {"writer": ["Admin", "Read", "Write", "List", "Tagging"], "reader": ["Read", "List"]}


def s3_environment(endpoint: str) -> dict[str, str]:
    """Where boto3 looks."""
    return {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Below 20000, since each of the server's ports has a twin 10,000 above."""
    found: list[int] = []
    for port in range(11000 + os.getpid() % 4000, 20000):
        with socket.socket() as one, socket.socket() as twin:
            try:
                one.bind(("127.0.0.1", port))
                twin.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Its endpoint. `KEY` may do everything, "reader" with the same secret only read."""
    identities = [
        {"name": who, "credentials": [{"accessKey": key, "secretKey": SECRET}], "actions": ACTIONS[who]}
        for who, key in (("writer", KEY), ("reader", "reader"))
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    names = ("s3", "filer", "master", "volume")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        Path(sys.executable).parent / "weed",
        "-logtostderr",
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
    ]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=20", f"-s3.config={folder / 's3.json'}"]
    command += ["-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false"]
    command += ["-admin.ui=false", *(f"-{name}.port={port}" for name, port in ports.items())]
    command += [f"-{name}.port.grpc={port + 10000}" for name, port in ports.items()]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(folder)}, start_new_session=True
        )
    try:
        _wait_for(ports["s3"], server, folder / "log.txt")
        yield f"http://127.0.0.1:{ports['s3']}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
    raise AssertionError(log.read_text()[-3000:])


class Faults(ThreadingHTTPServer):
    """Passes requests on to the server at `endpoint`, except for the next ones, which `planned` says what to do with:

    "lost": the request is passed on, its answer is not; any other text is answered as an S3 error of that code.
    """

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = endpoint.removeprefix("http://")
        self.planned: list[str] = []
        self.seen: list[str] = []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


STATUS = {"SlowDown": 503, "InternalError": 500, "ConditionalRequestConflict": 409, "RequestTimeTooSkewed": 403,
          "PermanentRedirect": 301}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    server: Faults
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            fault = self.server.planned.pop(0) if self.server.planned else ""
            self.server.seen.append(f"{self.command} {fault}".strip())
        if fault and fault != "lost":
            answer = f"<Error><Code>{fault}</Code><Message>told to</Message></Error>".encode()
            self._answer(STATUS[fault], {}, answer)
            return
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        upstream.request(self.command, self.path, body, dict(self.headers))
        response = upstream.getresponse()
        answer = response.read()
        upstream.close()
        if fault == "lost":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        headers = {k: v for k, v in response.getheaders() if k.lower() not in ("connection", "transfer-encoding")}
        self._answer(response.status, headers, answer)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        headers = {"Content-Length": str(len(body)), **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass

    def log_message(self, *_: object) -> None:
        pass
