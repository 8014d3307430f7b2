"""publish: a finished run, copied to a bucket as a whole."""

import json
from collections.abc import Callable
from pathlib import Path

from distilrec.core.errors import RunError
from distilrec.io.s3 import S3Store
from distilrec.io.store import MANIFEST, sha256_of


def publish(run: Path, location: str, tell: Callable[[int, int], None]) -> dict[str, str]:
    """Every file of the run, and last `manifest.json` with the sha256 of each: who finds it finds all of them. What is
    there already with the same bytes is not sent again. Returns the files' hashes by name.

    `tell` hears how many files of how many are there.

    Raises:
        RunError: the folder is no finished run.
        StoreError: the bucket cannot be used.
    """
    if not (run / "run.json").is_file() or not (run / "summary.json").is_file():
        raise RunError("DR-RUN-005", f"{run} is not the folder of a finished run")
    store = S3Store(location)
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    hashes: dict[str, str] = {}
    for number, path in enumerate(files, start=1):
        name = path.relative_to(run).as_posix()
        hashes[name] = sha256_of(path)
        if _tag(store, name) != hashes[name]:
            store.put_file(name, path, hashes[name])
        tell(number, len(files))
    store.put(MANIFEST, json.dumps({"files": hashes}, indent=1).encode())
    return hashes


def _tag(store: S3Store, name: str) -> str:
    try:
        return store.describe(name).tag
    except KeyError:
        return ""
