"""The promotion log: one numbered, create-only object per decision. Creating the next number is the commit.

The MLflow aliases are a projection of this log and can be made again from it.
"""

import json
from dataclasses import asdict, dataclass

from distilrec.io.store import Store


@dataclass(frozen=True)
class Entry:
    """One decision about one scene.

    Attributes:
        version: the registered version that was decided on.
        verdict: promoted or held.
        champion: the version in charge after this decision; empty if there never was one.
        champion_content: the content hash that the registered champion carries as a tag.
        rollback: the version that was in charge before the champion; empty if there was none.
        champion_as_of: the newest event that the champion was trained on, ISO 8601.
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


class PromotionLog:
    def __init__(self, store: Store, scene: str) -> None:
        self.store = store
        self.prefix = f"promotions/{scene}"

    def latest(self) -> Entry | None:
        keys = self.store.keys(self.prefix)
        if not keys:
            return None
        data = json.loads(self.store.get(keys[-1]))
        return Entry(**{**data, "reasons": tuple(data["reasons"])})

    def append(self, entry: Entry) -> bool:
        """False if another process took this number first; nothing is changed then."""
        return self.store.create(f"{self.prefix}/{entry.number:06d}.json", json.dumps(asdict(entry), indent=2).encode())
