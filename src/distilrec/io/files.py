"""The user's files where they lie: on this machine or in a bucket."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from distilrec.core.errors import DataError
from distilrec.io.s3 import SCHEME, Described, describe, split
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


def fingerprint_of(name: str) -> str:
    """Of its bytes: the sha256, or what the bucket calls this version of it."""
    if name.startswith(SCHEME):
        return _described(name).tag
    return sha256_of(Path(user_file(name).path))


def _described(name: str) -> Described:
    try:
        return describe(name)
    except KeyError:
        raise DataError("DR-DATA-001", f"{name} does not exist") from None


def _endpoint() -> str | None:
    """As boto3 takes it."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
