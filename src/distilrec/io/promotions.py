"""The promotion log: one numbered, create-only object per decision. Creating the next number is the commit.

The MLflow aliases and verdicts are a projection of this log and can be made again from it.
"""

import getpass
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import takewhile

from distilrec.core.errors import RunError
from distilrec.core.gate import HELD, PROMOTED
from distilrec.io.store import Store, read_as

APPROVED, ROLLED_BACK, RETIRED = "approved", "rolled back", "retired"
"""The verdicts by hand."""
MOST_SECONDS = 300.0
"""Of trying to take a number that others take."""


@dataclass(frozen=True)
class Entry:
    """One decision about one scene.

    Attributes:
        version: the registered version that was decided on; of a rollback the one that was left (in older entries the
            one that was returned to).
        verdict: promoted or held by the gate; approved or rolled back by hand.
        champion: the version in charge after this decision; empty if there never was one.
        champion_content: the content hash that the registered champion carries as a tag.
        rollback: the version that was in charge before the champion; empty if there was none.
        champion_as_of: the newest event that the champion may know, ISO 8601.
        asked_by: what the gate decided for, as `asked_by` names it; empty of a decision by hand.
        passed: by the name of each check of the gate whether it passed, in the order of the reasons. Older entries have
            neither.
    """

    number: int
    scene: str
    version: str
    verdict: str
    reasons: tuple[str, ...]
    champion: str
    champion_as_of: str
    champion_content: str
    rollback: str
    who: str
    when: str
    asked_by: str = ""
    passed: dict[str, bool | None] = field(default_factory=dict)


def asked_by(run: str, student: str) -> str:
    """A run and the content hash of its student: the same in each attempt. Empty if nobody named the run."""
    return f"{run}/{student}" if run else ""


def entry_after(
    before: Entry | None,
    scene: str,
    version: str,
    verdict: str,
    reasons: tuple[str, ...],
    champion: str,
    champion_as_of: str,
    champion_content: str,
    rollback: str,
) -> Entry:
    """The next one, by this user, now."""
    return Entry(
        number=before.number + 1 if before else 1,
        scene=scene,
        version=version,
        verdict=verdict,
        reasons=reasons,
        champion=champion,
        champion_as_of=champion_as_of,
        champion_content=champion_content,
        rollback=rollback,
        who=_who(),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _who() -> str:
    """A container's user may have a number and no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def in_charge(history: Sequence[Entry]) -> list[Entry]:
    """The decisions that put a version in charge, less those that were rolled back: the last is the champion's, and a
    rollback returns to the one before it. What was before a retirement counts no more."""
    standing: list[Entry] = []
    for entry in history:
        if entry.verdict == ROLLED_BACK and standing:
            standing.pop()
        if entry.verdict == RETIRED:
            standing = []
        if entry.champion and (not standing or standing[-1].champion != entry.champion):
            standing.append(entry)
    return standing


def aliases_of(history: Sequence[Entry]) -> dict[str, str]:
    """By alias the version, empty if there is none. The challenger is the newest that the gate decided on."""
    champions = [entry.champion for entry in in_charge(history)]
    judged = [entry.version for entry in history if entry.verdict in (PROMOTED, HELD)]
    named = {"challenger": judged, "champion": champions, "rollback": champions[:-1]}
    return {alias: versions[-1] if versions else "" for alias, versions in named.items()}


def verdicts_of(history: Sequence[Entry]) -> dict[str, str]:
    """By version the newest verdict on it; that of a rollback is on the version that was left."""
    verdicts, champion = {}, ""
    for entry in history:
        verdicts[champion if entry.verdict == ROLLED_BACK else entry.version] = entry.verdict
        champion = entry.champion
    return verdicts


class PromotionLog:
    def __init__(self, store: Store, scene: str) -> None:
        self.store = store
        self.prefix = f"promotions/{scene}"

    def latest(self) -> Entry | None:
        keys = self.store.keys(self.prefix)
        return self._read(keys[-1]) if keys else None

    def history(self) -> list[Entry]:
        """Oldest first."""
        return [self._read(key) for key in self.store.keys(self.prefix)]

    def latest_before(self, asked_by: str) -> Entry | None:
        """The newest before the decision that an earlier attempt made, if one did."""
        before = list(takewhile(lambda entry: entry.asked_by != asked_by, self.history()))
        return before[-1] if before else None

    def commit(self, decided: Callable[[Entry | None], Entry]) -> Entry:
        """Append what `decided` makes of the newest entry; who loses the race for its number decides again.

        Raises:
            RunError: others took every number for minutes.
        """
        end = time.monotonic() + MOST_SECONDS
        while time.monotonic() < end:
            entry = decided(self.latest())
            if self.append(entry):
                return entry
            time.sleep(random.uniform(0.0, 0.2))
        raise RunError("DR-RUN-002", f"other promotions of {self.prefix.rsplit('/', 1)[1]} took every number")

    def _read(self, key: str) -> Entry:
        return read_as(Entry, self.store, key)

    def append(self, entry: Entry) -> bool:
        """False if another process took this number first; nothing is changed then."""
        return self.store.create(f"{self.prefix}/{entry.number:06d}.json", json.dumps(asdict(entry), indent=2).encode())
