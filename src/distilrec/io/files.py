"""The user's files where they lie, one or a folder of them: on this machine or in a bucket."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from distilrec.core.errors import DataError
from distilrec.io.s3 import SCHEME, Described, S3Store, describe, split
from distilrec.io.store import sha256_of


@dataclass(frozen=True)
class UserFile:
    """A file with something in it.

    Attributes:
        name: as the user gave it.
        path: within its file system.
    """

    name: str
    filesystem: fs.FileSystem
    path: str

    def __str__(self) -> str:
        return self.name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix.lower()

    def open(self) -> pa.NativeFile:
        return self.filesystem.open_input_file(self.path)


def user_files(name: str, suffixes: Collection[str]) -> list[UserFile]:
    """The file, or all of a folder that end so, by their names; in a bucket a folder ends in "/". What begins with "_"
    or "." is not looked at: the marks that Spark and others leave.

    Raises:
        DataError: there is none, they are of several kinds, or one may not be read.
        StoreError: the bucket may not be read.
    """
    if name.startswith(SCHEME) and name.endswith("/"):
        inside = S3Store(name).keys("")
    elif not name.startswith(SCHEME) and Path(name).is_dir():
        inside = sorted(path.relative_to(name).as_posix() for path in Path(name).rglob("*") if path.is_file())
    else:
        return [user_file(name)]
    folder = name.rstrip("/")
    shown = (one for one in inside if not any(part.startswith(("_", ".")) for part in PurePosixPath(one).parts))
    wanted = [one for one in shown if PurePosixPath(one).suffix.lower() in suffixes]
    kinds = sorted({PurePosixPath(one).suffix.lower() for one in wanted})
    if len(kinds) != 1:
        found = (
            f"files of several kinds, {' and '.join(kinds)}" if kinds else f"no file that ends in {_any_of(suffixes)}"
        )
        raise DataError("DR-DATA-002", f"the folder {name} has {found}")
    return [user_file(f"{folder}/{one}") for one in wanted]


def _any_of(words: Collection[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"


def user_file(name: str) -> UserFile:
    """Raises DataError or StoreError unless it is a file with something in it that may be read."""
    if name.startswith(SCHEME):
        if _described(name).size == 0:
            raise DataError("DR-DATA-002", f"{name} is empty (0 bytes)")
        return UserFile(name, fs.S3FileSystem(endpoint_override=_endpoint()), "/".join(split(name)))
    path = Path(name)
    if not path.is_file():
        raise DataError("DR-DATA-001", f"{path} does not exist or is not a file")
    if not os.access(path, os.R_OK):
        raise DataError("DR-DATA-001", f"{path} may not be read by this user")
    if path.stat().st_size == 0:
        raise DataError("DR-DATA-002", f"{path} is empty (0 bytes)")
    return UserFile(name, fs.LocalFileSystem(), str(path))


def fingerprint_of(file: UserFile) -> str:
    """Of its bytes: the sha256, or what the bucket calls this version of it."""
    return _described(file.name).tag if file.name.startswith(SCHEME) else sha256_of(Path(file.path))


def _described(name: str) -> Described:
    try:
        return describe(name)
    except KeyError:
        raise DataError("DR-DATA-001", f"{name} does not exist") from None


def _endpoint() -> str | None:
    """As boto3 takes it."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
