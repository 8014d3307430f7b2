"""The three sources of interactions, by the name that the scene gives."""

import pyarrow as pa

from distilrec.core.config import FileData, MovieLensData, SyntheticData
from distilrec.core.synthetic import markov_chain
from distilrec.io.files import user_files
from distilrec.io.movielens import cache_folder, read_movielens
from distilrec.io.store import sha256_of
from distilrec.io.tables import RawEvents, read_events


def read_source(data: FileData | MovieLensData | SyntheticData) -> RawEvents:
    """Raises DataError where the data cannot be used."""
    if isinstance(data, FileData):
        return read_events(data)
    if isinstance(data, MovieLensData):
        return read_movielens(data)
    return _synthesise(data)


def fingerprint(data: FileData | MovieLensData | SyntheticData) -> str:
    """A hash of the raw bytes, cheap beside reading them: which run a folder belongs to."""
    if isinstance(data, FileData):
        tables = [data.path] + ([data.items.path] if data.items else [])
        return "+".join(file.fingerprint for path in tables for file in user_files(path))
    if isinstance(data, MovieLensData):
        return sha256_of(cache_folder() / "inter.tsv") if cache_folder().is_dir() else "not fetched"
    return "synthetic"


def _synthesise(data: SyntheticData) -> RawEvents:
    events = markov_chain(data.num_users, data.num_items, data.events_per_user, data.predictability, data.seed)
    return RawEvents(
        users=events.users,
        items=events.items,
        times=events.times,
        user_ids=pa.array([f"user-{code}" for code in range(data.num_users)]),
        item_ids=pa.array([f"item-{code}" for code in range(data.num_items)]),
        titles={},
    )
