"""Where things live that outlast a step: one small interface, here in its local-folder form.

Objects appear whole or not at all. `create` is the only way to take a number that another process may want
too: of several writers exactly one succeeds.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from distilrec.core.errors import AlteredError, ArtifactError, RunError, StoreError
from distilrec.io.jsons import read_json, write_json

MANIFEST = "manifest.json"
Kind = TypeVar("Kind")


class Store(Protocol):
    """Keys are relative paths with forward slashes."""

    def put(self, key: str, data: bytes) -> None:
        """Write or replace."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write if nobody has; False if somebody has."""
        ...

    def get(self, key: str) -> bytes:
        """Raises KeyError if there is no such object."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Sorted."""
        ...

    def delete(self, key: str) -> None:
        """No error if it is gone already."""
        ...


def read_as(kind: type[Kind], store: Store, key: str) -> Kind:
    """A dataclass of a JSON object; a list is a tuple. What a newer distilrec says besides is passed over, so that an
    image can be rolled back.

    Raises:
        AlteredError: it is none, or lacks something.
        KeyError: there is no such object.
    """
    data = store.get(key)
    try:
        found, known = json.loads(data), {one.name for one in fields(kind)}  # type: ignore[arg-type]
        given = {name: value for name, value in found.items() if name in known}
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AlteredError("DR-STORE-008", f"{key} in the store cannot be read: {error}") from None


class LocalStore:
    """A folder. Who may enter it may read all of it, as if it were a bucket."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes) -> None:
        self._aside(key, data).replace(self.root / key)

    def create(self, key: str, data: bytes) -> bool:
        aside = self._aside(key, data)
        try:
            (self.root / key).hardlink_to(aside)  # fails if the name is taken, unlike rename
        except FileExistsError:
            return False
        except OSError as error:
            words = f"{self.root / key} cannot be made, which takes hard links: {error.strerror}"
            raise StoreError("DR-RUN-004", words) from None
        finally:
            aside.unlink()
        return True

    def get(self, key: str) -> bytes:
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise StoreError("DR-RUN-004", f"{self.root / key} cannot be read: {error.strerror}") from None

    def keys(self, prefix: str) -> list[str]:
        folder = self.root / prefix
        found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def _aside(self, key: str, data: bytes) -> Path:
        """The data in a hidden file beside its final place, flushed to the disk. Raises StoreError."""
        folder = (self.root / key).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".aside-", delete=False) as file:
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                    os.fchmod(file.fileno(), 0o644)
                except BaseException:
                    Path(file.name).unlink()
                    raise
        except OSError as error:
            raise StoreError("DR-RUN-004", f"{folder} of the store cannot be written: {error.strerror}") from None
        return Path(file.name)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_whole(source: Path, target: Path) -> None:
    """A copy that appears under its name only when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, aside)
    aside.replace(target)


@dataclass(frozen=True)
class Unfinished:
    """A folder being filled.

    Attributes:
        path: where to write; another name than the final one.
        manifest: what `manifest.json` will hold beside the hashes of the files.
    """

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)


def require_place(path: Path) -> None:
    """For `whole_folder`: asked before the work, which would be lost.

    Raises:
        RunError: as there.
    """
    if path.exists() and not (path / MANIFEST).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise RunError("DR-RUN-001", f"{path} exists and is not the output of a step")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RunError("DR-RUN-004", f"{path} cannot be made: {parent} is no folder that can be written to")


@contextmanager
def whole_folder(path: Path) -> Iterator[Unfinished]:
    """A folder that appears under its name only when all is in it, its manifest written last.

    An exception, or a kill, leaves nothing under that name. What an earlier run of a step wrote there is
    replaced; anything else is refused.

    Raises:
        RunError: the name is taken by something that no step wrote, or nothing can be written there.
    """
    require_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        unfinished = Unfinished(aside)
        yield unfinished
        files = sorted(file for file in aside.rglob("*") if file.is_file())
        hashes = {file.relative_to(aside).as_posix(): sha256_of(file) for file in files}
        write_json(aside / MANIFEST, {**unfinished.manifest, "files": hashes})
        aside.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        aside.replace(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def manifest_of(path: Path, step: str = "") -> dict[str, Any]:
    """The manifest of a folder that `whole_folder` wrote, every file verified against it.

    Raises:
        ArtifactError: something is missing, truncated or altered, or another step than `step` wrote it.
    """
    if not (path / MANIFEST).is_file():
        raise ArtifactError("DR-ART-001", f"{path} has no {MANIFEST}: it is not the finished output of a step")
    manifest: dict[str, Any] = read_json(path / MANIFEST)
    if step and manifest.get("step") != step:
        raise ArtifactError("DR-ART-001", f"{path} was written by {manifest.get('step')!r}, not by {step!r}")
    for name, expected in manifest["files"].items():
        if not (path / name).is_file():
            raise ArtifactError("DR-ART-001", f"{path / name} is missing")
        if sha256_of(path / name) != expected:
            raise ArtifactError("DR-ART-001", f"{path / name} is not what the step wrote: its sha256 differs")
    return manifest
