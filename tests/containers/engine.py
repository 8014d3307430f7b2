"""A real container engine and a real registry of images, for as long as a test needs them. Nothing of them stays:
no bridge and no rules of a firewall are made, and all folders are theirs alone."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mlflowserver import free_port, wait_for

DOCKER = "/usr/bin/docker"
"""Debian's client, which has BuildKit built in."""


@contextmanager
def docker_engine(folder: Path) -> Iterator[str]:
    """The engine's address."""
    address = f"unix://{folder / 'docker.sock'}"
    command = ["dockerd", "--host", address, "--data-root", folder / "data", "--exec-root", folder / "exec"]
    command += ["--pidfile", folder / "pid", "--oom-score-adjust", "0", "--bridge=none", "--iptables=false"]
    with (folder / "dockerd.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        while docker(address, "version", check=False).returncode:
            assert process.poll() is None, (folder / "dockerd.txt").read_text()
            time.sleep(0.2)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        for mount in _mounts_under(folder):
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def docker(address: str, *words: object, check: bool = True) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "DOCKER_HOST": address}
    return subprocess.run([DOCKER, *map(str, words)], env=environment, check=check, capture_output=True, text=True)


@contextmanager
def image_registry(folder: Path) -> Iterator[str]:
    """Its address, as images are named."""
    address = f"127.0.0.1:{free_port()}"
    settings = f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\nhttp: {{addr: '{address}'}}\n"
    (folder / "registry.yaml").write_text(settings)
    log = folder / "registry.txt"
    with log.open("w") as file:
        process = subprocess.Popen(["docker-registry", "serve", folder / "registry.yaml"], stdout=file, stderr=file)
    try:
        wait_for(f"http://{address}/v2/", process, log)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def _mounts_under(folder: Path) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [point for point in reversed(points) if point.startswith(f"{folder}/")]
