"""recommend: ask the champion of a scene, on this machine, as the served model would be asked."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distilrec.core.errors import ConfigError, RunError
from distilrec.io.rankers import open_ranker, titles_of
from distilrec.io.registry import Registry
from distilrec.serving.distilrec_ranker import Id, Names, RankerError, Recommendation


@dataclass(frozen=True)
class Answer:
    """Attributes:
    scene: its name.
    version: the registered version that answered.
    titles: of the recommended items, in their order.
    """

    scene: str
    version: str
    recommendation: Recommendation
    titles: list[str]


def recommend(
    scene: str,
    history: Sequence[str],
    k: int | None,
    exclude_seen: bool | None,
    exclude: Sequence[str],
    allow: Sequence[str],
    user: str | None,
    registry: Registry,
) -> Answer:
    """Ids are as they are typed; those of a scene with numbers for ids become numbers.

    Raises:
        RunError: the scene has no champion.
        ConfigError: what is asked cannot be answered.
    """
    entry = registry.champion(scene)
    if entry is None:
        raise RunError("DR-REG-002", f"scene {scene} has no champion")
    with tempfile.TemporaryDirectory() as fetched:
        folder = registry.ranker_folder(entry, Path(fetched))
        ranker, titles = open_ranker(folder), titles_of(folder)
    lists = [_typed(ranker.items, ids) for ids in (history, exclude, allow)]
    users = None if user is None else _typed(ranker.users, [user]) if ranker.users else [user]
    try:
        (found,) = ranker.recommend([lists[0]], k, exclude_seen, lists[1], lists[2] or None, users)
    except RankerError as error:
        raise ConfigError("DR-CONF-003", str(error)) from None
    return Answer(scene, entry.champion, found, [titles[item] for item in found.items])


def _typed(names: Names, ids: Sequence[str]) -> list[Id]:
    if names.kind is str:
        return list(ids)
    return [_number(name, names.what) for name in ids]


def _number(name: str, what: str) -> int:
    try:
        return int(name)
    except ValueError:
        words = f"{name[:40]!r} is no whole number, and the {what} of this scene are"
        raise ConfigError("DR-CONF-003", words) from None
