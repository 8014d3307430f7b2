"""doctor: what is installed, reachable and permitted here, each with a fix."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from distilrec.core.errors import DistilrecError, StoreError
from distilrec.io.machine import describe_machine, versions
from distilrec.io.registry import Registry
from distilrec.io.s3 import S3Store
from distilrec.io.store import LocalStore, Store

FEWEST_GB = {"memory": 4.0, "disk": 5.0}
"""Below it the demo may not finish."""


@dataclass(frozen=True)
class Finding:
    """Attributes:
    fix: empty if nothing is wrong.
    """

    name: str
    is_well: bool
    sentence: str
    fix: str = ""


def doctor(
    store: Callable[[], Store], registry: Callable[[], Registry], kubeflow: Callable[[], str]
) -> Iterator[Finding]:
    """One finding after the other, as they come. Store and registry are opened here, so that what is wrong with them is
    found; `kubeflow` says what it found of Kubeflow Pipelines."""
    machine = describe_machine()
    yield Finding("versions", True, ", ".join(f"{name} {version}" for name, version in versions().items()))
    yield _enough("memory", machine["memory_gb"], "give the machine, or its container, more")
    yield _enough("disk", shutil.disk_usage(Path.cwd()).free / 2**30, "free some, or work on another disk")
    yield _threads(machine["cores"])
    yield Finding("accelerator", True, f"{machine['accelerator'] or 'none'}; trainings use the processor")
    yield _asked("store", lambda: _store(store()))
    yield _asked("MLflow", lambda: _mlflow(registry()))
    yield _asked("Kubeflow", kubeflow)


def _enough(name: str, gigabytes: float, fix: str) -> Finding:
    least, is_well = FEWEST_GB[name], gigabytes >= FEWEST_GB[name]
    return Finding(name, is_well, f"{gigabytes:.0f} GB; at least {least:.0f} are asked", "" if is_well else fix)


def _threads(cores: int) -> Finding:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > cores:
        fix = f"set OMP_NUM_THREADS to {cores} or less: threads that wait for each other are slower than fewer"
        return Finding("threads", False, f"OMP_NUM_THREADS is {asked}, this process may use {cores} cores", fix)
    return Finding("threads", True, f"{cores} cores may be used")


def _asked(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, look())
    except DistilrecError as error:
        return Finding(name, False, str(error), error.fix)
    except OSError as error:
        return Finding(name, False, f"{error.filename}: {error.strerror}", "check the path and its permissions")


def _store(store: Store) -> str:
    """Written to and read from, and raced for, under a name of its own."""
    key, data = f"probe/{uuid.uuid4().hex}", uuid.uuid4().bytes
    if not store.create(key, data) or store.create(key, data) or store.get(key) != data:
        raise StoreError("DR-STORE-006", "what was written is not what is read, or a second write of it went through")
    store.delete(key)
    if isinstance(store, S3Store):
        return f"{store.location}: reads, writes, and honours conditional puts"
    assert isinstance(store, LocalStore)
    return f"{store.root}: reads and writes"


def _mlflow(registry: Registry) -> str:
    if not registry.server.is_yet_to_be_made:
        registry.ping()
    return f"{registry.server.where}{', a file on this machine' if registry.server.is_file else ' answers'}"
