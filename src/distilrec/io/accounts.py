"""What a scene's last run took, kept beside its checkpoints for the next one to be compared with."""

import json
from dataclasses import asdict, dataclass

from distilrec.io.store import Store, read_as

ACCOUNTED = ("seconds", "cpu_seconds", "peak_memory_mb")
"""Wall seconds, processor seconds, and megabytes of memory at most, of a step's process."""


@dataclass(frozen=True)
class Account:
    """Of a finished run.

    Attributes:
        spent: by measure of `ACCOUNTED` and step.
    """

    run: str
    spent: dict[str, dict[str, float]]


def last_account(store: Store, scene: str) -> Account | None:
    try:
        return read_as(Account, store, _key(scene))
    except KeyError:
        return None


def keep_account(store: Store, scene: str, account: Account) -> None:
    store.put(_key(scene), json.dumps(asdict(account)).encode())


def _key(scene: str) -> str:
    return f"accounts/{scene}.json"
