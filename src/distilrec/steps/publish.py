"""publish: a finished run, copied to a bucket as a whole."""

import json
from collections.abc import Callable
from pathlib import Path

from distilrec.core.errors import RunError
from distilrec.io.jsons import read_json
from distilrec.io.locks import locked
from distilrec.io.s3 import S3Store
from distilrec.io.store import MANIFEST, sha256_of


def publish(run: Path, location: str, tell: Callable[[int, int], None]) -> dict[str, str]:
    """Every file of the run, and last `manifest.json` with the sha256 of each: who finds it finds all of them, so that
    of an earlier run goes first. What is there already with the same bytes is not sent again. Returns the files' hashes
    by name.

    `tell` hears how many files of how many are there.

    Raises:
        RunError: the folder is no finished run, or somebody works in it.
        StoreError: the bucket cannot be used.
    """
    if not (run / "run.json").is_file() or not (run / "summary.json").is_file():
        raise RunError("DR-RUN-005", f"{run} is not the folder of a finished run")
    with locked(run):
        _require_finished(run)
        return _copied(run, S3Store(location), tell)


def _require_finished(run: Path) -> None:
    """Every scene that the run was asked for, and the page that joins them."""
    asked, joined = _scenes_in(run / "run.json"), _scenes_in(run / "summary.json")
    missing = [scene for scene in asked if scene not in joined or not (run / scene / "summary.json").is_file()]
    if missing or not asked:
        words = f"without a summary of {', '.join(missing)}" if missing else "whose run.json names no scene"
        raise RunError("DR-RUN-005", f"{run} is a run {words}")


def _scenes_in(path: Path) -> list[str]:
    there = read_json(path)
    return list(there.get("scenes", [])) if isinstance(there, dict) else []


def _copied(run: Path, store: S3Store, tell: Callable[[int, int], None]) -> dict[str, str]:
    store.delete(MANIFEST)
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
