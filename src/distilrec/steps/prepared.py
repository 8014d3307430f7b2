"""A scene's dataset in memory: filtered, ordered, described. Needs no torch, so that a plan, and a refusal, are
quick."""

import hashlib
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from distilrec.core.config import FileData, SceneConfig
from distilrec.core.errors import ConfigError, DataError
from distilrec.core.events import (
    Bools,
    FilterRound,
    Floats,
    Ints,
    Items,
    Sequences,
    UInts,
    filter_to_fixed_point,
    share_of_repeats,
    to_sequences,
)
from distilrec.io.sources import read_source
from distilrec.io.tables import Dataset, RawEvents, canonical_sha256

REPEATS_ARE_REMOVED_BELOW = 0.01
FEWEST_EVENTS_TO_TRAIN = 4


def prepared(config: SceneConfig, as_of: str) -> tuple[Dataset, dict[str, Any]]:
    """The dataset and what is to be said of it, in memory (also used by `plan`)."""
    raw = read_source(config.data)
    is_ordered = config.prepare.order == "time"
    if as_of:
        _require_times(config, as_of)
        raw = raw.select(raw.times < _instant(as_of))
        if not len(raw.times):
            raise DataError("DR-DATA-006", f"no event is before as_of {as_of}")
    raw = raw if is_ordered else raw.select(_is_first(raw))
    kept, rounds = filter_to_fixed_point(
        raw.users, raw.items, config.prepare.min_user_events, config.prepare.min_item_events
    )
    events = raw.select(kept)
    dataset = _to_dataset(events, events.times if is_ordered else _drawn_places(events))
    _require_enough(config, dataset.sequences, rounds)
    _require_training(dataset.sequences)
    repeats = share_of_repeats(dataset.sequences)
    manifest = {
        "scene": config.scene,
        "as_of": datetime.fromtimestamp(float(events.times.max()), UTC).isoformat(),
        "sha256": canonical_sha256(dataset),
        "counts": counts_of(dataset.sequences),
        "counts_before_filtering": {
            "num_users": len(np.unique(raw.users)),
            "num_items": len(np.unique(raw.items)),
            "num_events": len(raw.users),
        },
        "filter_rounds": [asdict(one) for one in rounds],
        "share_of_repeats": repeats,
        "deciding": _deciding(config, repeats),
        "split": "leave-one-out" if is_ordered else "random leave-one-out",
    }
    return dataset, manifest


def _instant(as_of: str) -> float:
    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError:
        raise ConfigError("DR-CONF-003", f"as_of = {as_of!r} is not an ISO 8601 date or time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _require_times(config: SceneConfig, as_of: str) -> None:
    if isinstance(config.data, FileData) and config.data.columns.time is None:
        raise ConfigError("DR-CONF-005", f"as_of = {as_of} needs data.columns.time, which is null")


def _is_first(events: RawEvents) -> Bools:
    """Whether the user did not have the item before, in the order of the file."""
    _, first = np.unique(events.users * len(events.item_ids) + events.items, return_index=True)
    is_first = np.zeros(len(events.users), dtype=bool)
    is_first[first] = True
    return is_first


def _drawn_places(events: RawEvents) -> Floats:
    """A random place for each event, of its user and item alone. So the old events keep their order when new ones come,
    and, as long as none is taken away, no test target of today was in the training data of an earlier champion."""
    users, items = (
        _hashes(ids)[codes] for ids, codes in ((events.user_ids, events.users), (events.item_ids, events.items))
    )
    return (_mixed(users ^ _mixed(items)) >> np.uint64(11)).astype(np.float64)


def _hashes(ids: pa.Array) -> UInts:
    """Of each id, as text."""
    digests = (hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in ids.to_pylist())
    return np.frombuffer(b"".join(digests), dtype="<u8")


def _mixed(numbers: UInts) -> UInts:
    """SplitMix64's finaliser (Steele et al. 2014): a bijection in which every bit depends on all."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def _to_dataset(events: RawEvents, moments: Floats) -> Dataset:
    """Codes made dense again: users in the order of the file, items in that of their first appearance in the
    sequences, so that equal sequences have equal item indices whatever the order of the file's rows."""
    users, user_codes = _dense(events.users)
    ordered = to_sequences(users, events.items, moments, len(user_codes), len(events.item_ids))
    items, item_codes = _by_first_appearance(ordered.items)
    sequences = Sequences.flat(items, ordered.lengths, len(item_codes))
    item_ids = events.item_ids.take(pa.array(item_codes))
    titles = [events.titles.get(item, item) for item in map(str, item_ids.to_pylist())]
    return Dataset(sequences, events.user_ids.take(pa.array(user_codes)), item_ids, titles)


def _dense(codes: Ints) -> tuple[Ints, Ints]:
    present, dense = np.unique(codes, return_inverse=True)
    return dense.astype(np.int64), present


def _by_first_appearance(codes: Items) -> tuple[Ints, Ints]:
    present, first, dense = np.unique(codes, return_index=True, return_inverse=True)
    by_first = np.argsort(first)
    rank = np.empty(len(present), dtype=np.int64)
    rank[by_first] = np.arange(len(present))
    found: Ints = present[by_first].astype(np.int64)
    return rank[dense], found


def _require_enough(config: SceneConfig, sequences: Sequences, rounds: list[FilterRound]) -> None:
    limits = config.prepare
    for what, number, limit in (
        ("users", len(sequences), limits.min_users),
        ("items", sequences.num_items, limits.min_items),
    ):
        if number < limit:
            users_dropped = sum(one.num_users_dropped for one in rounds)
            items_dropped = sum(one.num_items_dropped for one in rounds)
            raise DataError(
                "DR-DATA-006",
                f"{number} {what} are left, prepare.min_{what} is {limit}: "
                f"prepare.min_item_events {limits.min_item_events} removed {items_dropped} items and "
                f"prepare.min_user_events {limits.min_user_events} removed {users_dropped} users",
            )


def _require_training(sequences: Sequences) -> None:
    """Two items are hidden and a training pair takes two more; the search holds a user out."""
    if int((sequences.lengths >= FEWEST_EVENTS_TO_TRAIN).sum()) < 2:
        raise DataError(
            "DR-DATA-006",
            f"fewer than 2 users have {FEWEST_EVENTS_TO_TRAIN} events, the least that leaves one to train on",
        )


def _deciding(config: SceneConfig, repeats: float) -> str:
    if config.evaluate.deciding != "auto":
        return config.evaluate.deciding
    return "removed" if repeats < REPEATS_ARE_REMOVED_BELOW else "kept"


def counts_of(sequences: Sequences) -> dict[str, int]:
    return {"num_users": len(sequences), "num_items": sequences.num_items, "num_events": len(sequences.items)}
