"""A scene's dataset in memory: filtered, ordered, described. Needs no torch, so that a plan, and a refusal, are
quick."""

import hashlib
from dataclasses import asdict, dataclass
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
from distilrec.core.split import UNASKED, Cuts, Questions, Split, first_of_each
from distilrec.io.sources import read_source
from distilrec.io.tables import Dataset, RawEvents, canonical_sha256

REPEATS_ARE_REMOVED_BELOW = 0.01
SECONDS_A_DAY = 86_400.0


def prepared(config: SceneConfig, as_of: str) -> tuple[Dataset, dict[str, Any]]:
    """The dataset and what is to be said of it, in memory (also used by `plan`)."""
    raw = _read(config, as_of)
    cuts = _cuts(config, raw, as_of) if config.prepare.split == "temporal" else None
    known = raw.select(raw.times < cuts.test) if cuts else raw
    events, rounds = _filtered(config, known, known.times < cuts.valid if cuts else np.ones(len(known.times), bool))
    made = _made_dense(events, events.times if config.prepare.order == "time" else _drawn_places(events))
    _require_enough(config, made.sequences, rounds, cuts)
    split = _split_at(cuts, raw, events, made) if cuts else Split.leave_one_out(made.sequences)
    _require_training(split, 1 if config.teach.knows_users else 2)
    if cuts:
        _require_asked(config, split)
    dataset = _dataset(events, made, split.asking_at_most(config.prepare.max_asked_users, config.seed))
    repeats = share_of_repeats(dataset.sequences)
    manifest = {
        "scene": config.scene,
        "as_of": _iso(float(events.times.max())),
        "sha256": canonical_sha256(dataset),
        "counts": counts_of(dataset.sequences),
        "counts_before_filtering": {
            "num_users": len(np.unique(known.users)),
            "num_items": len(np.unique(known.items)),
            "num_events": len(known.users),
        },
        "num_duplicates": raw.num_duplicates,
        "filter_rounds": [asdict(one) for one in rounds],
        "share_of_repeats": repeats,
        "deciding": _deciding(config, repeats),
        "split": "random leave-one-out" if config.prepare.order == "none" else config.prepare.split,
        "asked": {
            "validation": _asked(split.valid, dataset.split.valid, split.train, cuts.valid if cuts else None),
            "test": _asked(split.test, dataset.split.test, split.train, cuts.test if cuts else None),
        },
    }
    return dataset, manifest


def _read(config: SceneConfig, as_of: str) -> RawEvents:
    """What is before `as_of`, which of data without times only says which day's they are; without order, of each user's
    items the first event."""
    raw = read_source(config.data)
    if as_of and has_times(config):
        raw = raw.select(raw.times < instant_of(as_of))
        if not len(raw.times):
            raise DataError("DR-DATA-006", f"no event is before as_of {as_of}")
    if has_times(config) and (newest := float(raw.times.max())) > datetime.now(UTC).timestamp() + SECONDS_A_DAY:
        user = raw.user_ids[int(raw.users[raw.times.argmax()])]
        raise DataError("DR-DATA-010", f"an event of user {user} is of {_iso(newest)}, which has not come yet")
    return raw if config.prepare.order == "time" else raw.select(_is_first(raw))


def instant_of(as_of: str) -> float:
    """Seconds since 1970; of a time without a zone, in UTC.

    Raises:
        ConfigError: it is none.
    """
    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError:
        raise ConfigError("DR-CONF-003", f"as_of = {as_of!r} is not an ISO 8601 date or time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def require_times(config: SceneConfig, as_of: str) -> None:
    """Of whoever asks for what was before a day."""
    if as_of and not has_times(config):
        raise ConfigError("DR-CONF-005", f"as_of = {as_of} needs data.columns.time, which is null")


def has_times(config: SceneConfig) -> bool:
    return not (isinstance(config.data, FileData) and config.data.columns.time is None)


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


def _cuts(config: SceneConfig, raw: RawEvents, as_of: str) -> Cuts:
    """Raises DataError if nothing is before them."""
    end = instant_of(as_of) if as_of else float(raw.times.max(initial=0.0))
    test = end - config.prepare.test_days * SECONDS_A_DAY
    cuts = Cuts(test - config.prepare.valid_days * SECONDS_A_DAY, test)
    if not (raw.times < cuts.valid).any():
        words = "no event is before validation, which begins prepare.valid_days and prepare.test_days before the end"
        raise DataError("DR-DATA-006", f"{words}: {_iso(cuts.valid)}")
    return cuts


def _filtered(config: SceneConfig, known: RawEvents, is_trained: Bools) -> tuple[RawEvents, list[FilterRound]]:
    """Counted are the events of training alone: what came later says nothing of who and what is trained."""
    trained, limits = known.select(is_trained), config.prepare
    kept, rounds = filter_to_fixed_point(trained.users, trained.items, limits.min_user_events, limits.min_item_events)
    has_user, has_item = np.zeros(len(known.user_ids), dtype=bool), np.zeros(len(known.item_ids), dtype=bool)
    has_user[trained.users[kept]], has_item[trained.items[kept]] = True, True
    return known.select(has_user[known.users] & has_item[known.items]), rounds


def _split_at(cuts: Cuts, raw: RawEvents, events: RawEvents, made: "_Dense") -> Split:
    """The targets are of all events: what the filter removed, or training lacks, is missed and not passed over."""
    num_trained = np.bincount(made.users[events.times < cuts.valid], minlength=len(made.user_codes)).astype(np.int64)
    parts = cuts.parts_of(raw.times)
    valid, test = (_targets(raw.select(parts == part), made) for part in (1, 2))
    return Split.of_columns(made.sequences, num_trained, made.sequences.lengths, valid, test)


@dataclass(frozen=True)
class _Dense:
    """Sequences whose codes are dense again: users in the order of the file, items in that of their first appearance
    in the sequences, so that equal sequences have equal item indices whatever the order of the file's rows.

    Attributes:
        users: of each event, in the order of the file.
        user_codes: what they were, by user.
        item_codes: by item.
    """

    sequences: Sequences
    users: Ints
    user_codes: Ints
    item_codes: Ints


def _made_dense(events: RawEvents, moments: Floats) -> _Dense:
    users, user_codes = _dense(events.users)
    ordered = to_sequences(users, events.items, moments, len(user_codes), len(events.item_ids))
    items, item_codes = _by_first_appearance(ordered.items)
    return _Dense(Sequences.flat(items, ordered.lengths, len(item_codes)), users, user_codes, item_codes)


def _targets(events: RawEvents, made: _Dense) -> Ints:
    """By user the item of the first of these events: UNASKED without one, `num_items` for an item that is not there."""
    users, items = first_of_each(events.users, events.items, events.times)
    item_at = np.full(len(events.item_ids), len(made.item_codes), dtype=np.int64)
    item_at[made.item_codes] = np.arange(len(made.item_codes))
    target_of = np.full(len(events.user_ids), UNASKED, dtype=np.int64)
    target_of[users] = item_at[items]
    found: Ints = target_of[made.user_codes]
    return found


def _dataset(events: RawEvents, made: _Dense, split: Split) -> Dataset:
    item_ids = events.item_ids.take(pa.array(made.item_codes))
    titles = [events.titles.get(item, item) for item in map(str, item_ids.to_pylist())]
    return Dataset(made.sequences, events.user_ids.take(pa.array(made.user_codes)), item_ids, titles, split)


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


def _require_enough(config: SceneConfig, sequences: Sequences, rounds: list[FilterRound], cuts: Cuts | None) -> None:
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
                f"prepare.min_user_events {limits.min_user_events} removed {users_dropped} users"
                + (f", counted before validation, which begins {_iso(cuts.valid)}" if cuts else ""),
            )


def _require_training(split: Split, fewest: int) -> None:
    """A pair of an item and the next takes two events, one of a user and an item a single one; the search holds a user
    out."""
    if int((split.train.lengths >= fewest).sum()) < 2:
        asked = "besides those that validation and test ask for"
        raise DataError("DR-DATA-006", f"fewer than 2 users have {fewest} events left to train on, {asked}")


def _require_asked(config: SceneConfig, split: Split) -> None:
    """By time not everybody has a target."""
    limits = config.prepare
    for name, questions in (("valid", split.valid), ("test", split.test)):
        if len(questions.answerable) < limits.min_users:
            words = f"users with a history and, within prepare.{name}_days, an item that training knows"
            found = f"{len(questions.answerable)}; prepare.min_users is {limits.min_users}"
            raise DataError("DR-DATA-006", f"{words}: {found}. Lengthen the days, or give a longer log")


def _deciding(config: SceneConfig, repeats: float) -> str:
    if config.evaluate.deciding != "auto":
        return config.evaluate.deciding
    return "removed" if repeats < REPEATS_ARE_REMOVED_BELOW else "kept"


def _asked(everybody: Questions, drawn: Questions, train: Sequences, since: float | None) -> dict[str, Any]:
    """Who is asked, of how many, and how many of their targets never occur in training."""
    return {
        "since": None if since is None else _iso(since),
        "num_users": len(drawn.users),
        "drawn_from": len(everybody.users),
        "num_unseen_targets": drawn.num_unseen(train),
    }


def counts_of(sequences: Sequences) -> dict[str, int]:
    return {"num_users": len(sequences), "num_items": sequences.num_items, "num_events": len(sequences.items)}
