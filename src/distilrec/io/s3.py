"""The store in a bucket, of any endpoint that honours conditional puts. The only module that talks S3.

Credentials, region and endpoint come from where boto3 looks for them: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, a profile, or the instance.
"""

import hashlib
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from distilrec.core.errors import AlteredError, StoreError

SCHEME = "s3://"
ATTEMPTS = 8
"""Of one request, with the client's exponential backoff between them."""
MOST_SECONDS = 30.0
"""Without an answer, and between attempts to create an object that others want too."""
PART = 16 * 2**20
"""Bytes: a larger object goes up in parts."""
RACERS = 4
SHA256, WRITER = "sha256", "writer"
"""Metadata of every object: the hash of its bytes, and who put it."""

REFUSALS = {
    "DR-STORE-001": {
        "AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    },
    "DR-STORE-002": {"NoSuchBucket"},
    "DR-STORE-003": {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"},
    "DR-STORE-004": {"RequestTimeTooSkewed", "RequestExpired"},
}  # fmt: skip
"""By the code of our error, the codes in which servers say it."""
_probed: set[tuple[str, str]] = set()
_probing = threading.Lock()


def split(location: str) -> tuple[str, str]:
    """Bucket and key.

    Raises:
        StoreError: there is no bucket in it.
    """
    bucket, _, key = location.removeprefix(SCHEME).partition("/")
    if not location.startswith(SCHEME) or not bucket:
        raise StoreError("DR-STORE-007", f"{location!r} names no bucket; it is s3://bucket/folder")
    return bucket, key.strip("/")


class S3Store:
    """A folder of a bucket."""

    def __init__(self, location: str) -> None:
        self.bucket, self.prefix = split(location)
        self.location = location.rstrip("/")
        self._client = _client(self.location)

    def put(self, key: str, data: bytes) -> None:
        extra = {"Metadata": _metadata(data, _writer())}
        with self._translated(key):
            if len(data) <= PART:
                self._client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data, **extra)
            else:
                self._upload(BytesIO(data), key, extra)

    def put_file(self, key: str, path: Path, sha256: str) -> None:
        """Streamed, in parts where it is large."""
        extra = {"Metadata": {SHA256: sha256, WRITER: _writer()}}
        with self._translated(key), path.open("rb") as file:
            self._upload(file, key, extra)

    def create(self, key: str, data: bytes) -> bool:
        self.require_conditional_puts()
        return self._create(key, data)

    def get(self, key: str) -> bytes:
        return _got(self._client, f"{self.location}/{key}")

    def describe(self, key: str) -> "Described":
        """Raises KeyError if there is no such object."""
        return _described(self._client, f"{self.location}/{key}")

    def keys(self, prefix: str) -> list[str]:
        return list(self.listed(prefix))

    def listed(self, prefix: str) -> dict[str, "Described"]:
        """By key, in the order of the keys: servers differ in that of a listing."""
        found, name = {}, self._name(prefix).rstrip("/")
        folder = f"{name}/" if name else ""
        start = len(self.prefix) + 1 if self.prefix else 0
        with self._translated(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=folder):
                for entry in page.get("Contents", []):
                    found[entry["Key"][start:]] = Described(int(entry["Size"]), str(entry["ETag"]).strip('"'))
        return dict(sorted(found.items()))

    def delete(self, key: str) -> None:
        with self._translated(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def require_conditional_puts(self) -> None:
        """Several writers race for one new object, once for each folder and process; exactly one may win.

        Raises:
            StoreError: the endpoint lets more of them win, or none.
        """
        with _probing:
            if (self.bucket, self.prefix) not in _probed:
                self._probe()
                _probed.add((self.bucket, self.prefix))

    def _probe(self) -> None:
        key, wins = f"probe/{uuid.uuid4().hex}", []
        gate = threading.Barrier(RACERS)
        failures: list[StoreError] = []

        def race() -> None:
            gate.wait()
            try:
                wins.append(self._create(key, uuid.uuid4().bytes))
            except StoreError as error:
                failures.append(error)

        racers = [threading.Thread(target=race) for _ in range(RACERS)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        if failures:
            raise failures[0]
        self.delete(key)
        if sum(wins) != 1:
            words = f"of {RACERS} writers that raced to create one object {sum(wins)} were told that they won"
            raise StoreError("DR-STORE-006", f"{self.location}: {words}")

    def _create(self, key: str, data: bytes) -> bool:
        writer, end = _writer(), time.monotonic() + MOST_SECONDS
        with self._translated(key):
            while True:
                try:
                    self._client.put_object(
                        Bucket=self.bucket,
                        Key=self._name(key),
                        Body=data,
                        IfNoneMatch="*",
                        Metadata=_metadata(data, writer),
                    )
                    return True
                except self._client.exceptions.ClientError as error:
                    status = error.response["ResponseMetadata"].get("HTTPStatusCode")
                    if status == 412:
                        return self._writer_of(key) == writer  # an earlier attempt of ours, whose answer was lost
                    if status != 409 or time.monotonic() > end:
                        raise
                    time.sleep(random.uniform(0.05, 0.5))

    def _writer_of(self, key: str) -> str:
        answer = self._client.head_object(Bucket=self.bucket, Key=self._name(key))
        return str(answer["Metadata"].get(WRITER, ""))

    def _upload(self, file: Any, key: str, extra: dict[str, Any]) -> None:
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
        self._client.upload_fileobj(file, self.bucket, self._name(key), ExtraArgs=extra, Config=parts)

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        with translated(f"{self.location}/{key}"):
            yield


@dataclass(frozen=True)
class Described:
    """An object, unread.

    Attributes:
        tag: changes with its bytes.
    """

    size: int
    tag: str


def describe(location: str) -> Described:
    """Raises StoreError, or KeyError if there is none."""
    return _described(_client(location), location)


def _described(client: Any, location: str) -> Described:
    bucket, key = split(location)
    with translated(location):
        try:
            answer = client.head_object(Bucket=bucket, Key=key)
        except client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"].get("HTTPStatusCode") == 404:
                raise KeyError(location) from None
            raise
    return Described(int(answer["ContentLength"]), answer["Metadata"].get(SHA256) or str(answer["ETag"]).strip('"'))


def get(location: str) -> bytes:
    """The object's bytes.

    Raises:
        StoreError: it cannot be read.
        AlteredError: it is not what was written.
        KeyError: there is none.
    """
    return _got(_client(location), location)


def _got(client: Any, location: str) -> bytes:
    bucket, key = split(location)
    with translated(location):
        try:
            answer = client.get_object(Bucket=bucket, Key=key)
        except client.exceptions.NoSuchKey:
            raise KeyError(location) from None
        data: bytes = answer["Body"].read()
    expected = answer["Metadata"].get(SHA256)
    if expected and hashlib.sha256(data).hexdigest() != expected:
        raise AlteredError("DR-STORE-008", f"{location} is not what was written: its sha256 differs")
    return data


def _client(location: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=5,
        read_timeout=MOST_SECONDS,
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",  # what older endpoints understand; the sha256 is ours
        response_checksum_validation="when_required",
    )
    try:
        with translated(location):
            return boto3.session.Session().client("s3", config=config)
    except ValueError as error:  # boto3 of an address without http:// or https://
        raise StoreError("DR-STORE-005", f"{location}: {_first(str(error))}") from None


@contextmanager
def translated(location: str) -> Iterator[None]:
    """What boto3 raises becomes one sentence with a fix."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectTimeoutError,
        EndpointConnectionError,
        NoCredentialsError,
        PartialCredentialsError,
        ReadTimeoutError,
    )

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        ours = next((ours for ours, theirs in REFUSALS.items() if code in theirs), "DR-STORE-010")
        words = str(error.response.get("Error", {}).get("Message") or code)
        raise StoreError(ours, f"{location}: {_first(words)}") from None
    except (NoCredentialsError, PartialCredentialsError):
        raise StoreError("DR-STORE-001", f"{location}: there are no credentials in the environment") from None
    except (EndpointConnectionError, ConnectTimeoutError, ReadTimeoutError) as error:
        raise StoreError("DR-STORE-005", f"{location}: {_first(str(error))}") from None
    except (BotoCoreError, Boto3Error) as error:
        raise StoreError("DR-STORE-010", f"{location}: {_first(str(error))}") from None


def _first(words: str) -> str:
    return " ".join(words.split())[:200].rstrip(".")


def _metadata(data: bytes, writer: str) -> dict[str, str]:
    return {SHA256: hashlib.sha256(data).hexdigest(), WRITER: writer}


def _writer() -> str:
    """Of one put: its attempts share it."""
    return uuid.uuid4().hex
