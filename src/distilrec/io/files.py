"""The user's files where they lie, one or a folder of them: on this machine or in a bucket."""

import os
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from distilrec.core.errors import DataError
from distilrec.io.s3 import SCHEME, Described, S3Store, describe, get, split
from distilrec.io.store import sha256_of


@dataclass(frozen=True)
class UserFile:
    """A file with something in it.

    Attributes:
        name: as the user gave it.
        path: within its file system.
        tag: what the bucket calls this version of it; empty outside buckets.
    """

    name: str
    filesystem: fs.FileSystem
    path: str
    tag: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix.lower()

    @property
    def fingerprint(self) -> str:
        """Of its bytes: the sha256, or the tag."""
        return self.tag or sha256_of(Path(self.path))

    def open(self) -> pa.NativeFile:
        return self.filesystem.open_input_file(self.path)


def text_at(location: str) -> str:
    """Of a file on this machine or in a bucket.

    Raises:
        OSError: it cannot be read.
        StoreError: the bucket may not be read.
        UnicodeDecodeError: it is no text.
    """
    if not location.startswith(SCHEME):
        return Path(location).read_text(encoding="utf-8")
    try:
        return get(location).decode("utf-8")
    except KeyError:
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), location) from None


TABLE_LOGS = ("_delta_log", ".hoodie")
"""Folders that say which of the other files count."""


def user_files(name: str) -> list[UserFile]:
    """The file, or all of a folder by their names; in a bucket a folder ends in "/". What begins with "_" or "." is not
    looked at: the marks that Spark and others leave.

    Raises:
        DataError: there is none, or one may not be read.
        StoreError: the bucket may not be read.
    """
    in_bucket = name.startswith(SCHEME)
    if not (name.endswith("/") if in_bucket else _is_folder(name)):
        return [_in_bucket(name, _described(name)) if in_bucket else _here(name)]
    listed = S3Store(name).listed("") if in_bucket else dict.fromkeys(_inside(name))
    if logged := next((part for one in listed for part in PurePosixPath(one).parts if part in TABLE_LOGS), None):
        words = f"{name} has {logged}: files of it that its table no longer has would be read; export the table's rows"
        raise DataError("DR-DATA-002", words)
    wanted = {one: about for one, about in listed.items() if not _is_mark(one)}
    if not wanted:
        raise DataError("DR-DATA-001", f"the folder {name} has no files")
    whole = {f"{name.rstrip('/')}/{one}": about for one, about in wanted.items()}
    return [_in_bucket(one, about) if about else _here(one) for one, about in whole.items()]


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # what cannot be looked at is refused by whoever opens it
        return False


def _is_mark(key: str) -> bool:
    """In a bucket a folder may be an object too, whose key ends in "/"."""
    return key.endswith("/") or any(part.startswith(("_", ".")) for part in PurePosixPath(key).parts)


def _inside(folder: str) -> list[str]:
    """Files at any depth, behind links too. Raises DataError for what may not be looked into."""

    def refuse(error: OSError) -> None:
        raise DataError("DR-DATA-001", f"{error.filename} may not be read by this user: {error.strerror}")

    found, seen = [], set()
    for path, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        seen.add(os.path.realpath(path))
        folders[:] = [one for one in folders if os.path.realpath(Path(path, one)) not in seen]
        found += [Path(path, one).relative_to(folder).as_posix() for one in files]
    return sorted(found)


def _in_bucket(name: str, about: Described) -> UserFile:
    if about.size == 0:
        raise DataError("DR-DATA-002", f"{name} is empty (0 bytes)")
    return UserFile(name, fs.S3FileSystem(endpoint_override=_endpoint()), "/".join(split(name)), about.tag)


def _here(name: str) -> UserFile:
    path = Path(name)
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise DataError("DR-DATA-001", f"{path} cannot be read: {error.strerror}") from None
    if size is None:
        raise DataError("DR-DATA-001", f"{path} does not exist or is not a file")
    if not os.access(path, os.R_OK):
        raise DataError("DR-DATA-001", f"{path} may not be read by this user")
    if size == 0:
        raise DataError("DR-DATA-002", f"{path} is empty (0 bytes)")
    return UserFile(name, fs.LocalFileSystem(), str(path))


def _described(name: str) -> Described:
    try:
        return describe(name)
    except KeyError:
        raise DataError("DR-DATA-001", f"{name} does not exist; a folder in a bucket ends in '/'") from None


def _endpoint() -> str | None:
    """As boto3 takes it."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
