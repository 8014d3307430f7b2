"""Tables: the user's raw interactions in, the dataset's files out and in again."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distilrec.core.config import FileData, ItemTable
from distilrec.core.errors import ArtifactError, DataError
from distilrec.core.events import Bools, Floats, Ints, Sequences, popularity
from distilrec.core.split import Split
from distilrec.io.delimited import DELIMITED, header_of, read_delimited
from distilrec.io.files import UserFile, user_files
from distilrec.io.times import seconds_of

READABLE = (*DELIMITED, ".parquet")
SPLIT = ("num_trained", "num_known", "valid_target", "test_target")
"""Columns of a dataset that is not split by leave-one-out, or does not ask everybody."""
HASHED_AT_A_TIME = 1_000_000
"""Events: their ids are in memory as text, which takes some hundred bytes each."""


@dataclass(frozen=True)
class RawEvents:
    """Interactions in the order of the file. Codes point into the lists of ids; times are seconds.

    Attributes:
        num_duplicates: rows that said again what another one said.
    """

    users: Ints
    items: Ints
    times: Floats
    user_ids: pa.Array
    item_ids: pa.Array
    titles: dict[str, str]
    num_duplicates: int = 0

    def select(self, mask: Bools | Ints) -> "RawEvents":
        """By a mask, or by places."""
        return RawEvents(
            self.users[mask],
            self.items[mask],
            self.times[mask],
            self.user_ids,
            self.item_ids,
            self.titles,
            self.num_duplicates,
        )


def read_events(data: FileData) -> RawEvents:
    """Read and check the user's file, or files: one after the other by their names.

    Raises:
        DataError: missing, unreadable or empty file, missing column, missing id, bad timestamp; the message
            names file, column, row (counted from 1 below the header) and value.
    """
    tables = [table for path in user_files(data.path) if (table := _checked(path, data))]
    if not tables:
        raise DataError("DR-DATA-002", f"{data.path} has a header but no rows")
    with _usable(data.path):
        (users, user_ids), (items, item_ids) = (_codes([table[name] for table in tables]) for name in ("user", "item"))
    times, places = (
        np.concatenate([table[name].to_numpy() for table in tables]) if name in tables[0].column_names else None
        for name in ("time", "sequence")
    )
    titles = read_titles(data.items) if data.items else {}
    if data.items and titles.keys().isdisjoint(map(str, item_ids.to_pylist())):
        words = f"names none of the items of {data.path}, such as {item_ids[0].as_py()}"
        raise DataError("DR-DATA-003", f"{data.items.path}, column {data.items.item!r}, {words}")
    events = RawEvents(users, items, np.zeros(len(users)) if times is None else times, user_ids, item_ids, titles)
    if times is None:
        return events
    said_once = _said_once([users, items, times] + ([] if places is None else [places]))
    in_order = np.arange(len(users)) if places is None else np.argsort(places, kind="stable")
    kept = in_order[said_once[in_order]]
    return replace(events.select(kept), num_duplicates=len(users) - len(kept))


def _said_once(columns: list[Floats | Ints]) -> Bools:
    """Without the rows that another one before them equals: a log that is delivered at least once has them, and a
    target that is in the history too would be no target."""
    order = np.lexsort(columns)
    is_again = np.logical_and.reduce([column[order[1:]] == column[order[:-1]] for column in columns])
    said_once = np.ones(len(order), dtype=bool)
    said_once[order[1:][is_again]] = False
    return said_once


def _checked(path: UserFile, data: FileData) -> pa.Table | None:
    """Its columns, under our names: ids as text or whole numbers, seconds, places. None if it has no rows: then its
    types say nothing."""
    columns = data.columns
    table = _read(path, [name for name in (columns.user, columns.item, columns.time, columns.sequence) if name])
    if not table.num_rows:
        return None
    with _usable(path):
        found = {"user": _ids(path, columns.user, table), "item": _ids(path, columns.item, table)}
        if columns.time:
            found["time"] = pa.array(seconds_of(path, columns.time, table[columns.time], data.time_unit))
        if columns.sequence:
            found["sequence"] = _whole_numbers(path, columns.sequence, table[columns.sequence])
    return pa.table(found)


def read_titles(table: ItemTable) -> dict[str, str]:
    """Title by item id."""
    found: dict[str, str] = {}
    for path in user_files(table.path):
        rows = _read(path, [table.item, table.title])
        with _usable(path):
            ids, titles = (rows[name].cast(pa.string()) for name in (table.item, table.title))
        _require_unquoted(path, table.item, ids)
        pairs = zip(ids.to_pylist(), titles.to_pylist(), strict=True)
        found |= {item: title for item, title in pairs if item and title}
    return found


@contextmanager
def _usable(path: UserFile | str) -> Iterator[None]:
    """A column that Arrow cannot convert becomes one sentence."""
    try:
        yield
    except pa.ArrowException as error:
        raise DataError("DR-DATA-002", f"{path} has a column of an unusable type: {_one_line(error)}") from None


def _read(path: UserFile, wanted: list[str]) -> pa.Table:
    suffix, wanted = path.suffix, list(dict.fromkeys(wanted))
    if suffix not in READABLE:
        raise DataError("DR-DATA-002", f"{path} ends in {suffix or 'nothing'!r}; readable are .csv, .tsv and .parquet")
    try:
        if suffix in DELIMITED:
            _require(path, wanted, header_of(path))
            return read_delimited(path, wanted)
        with path.open() as file:
            _require(path, wanted, pq.read_schema(file).names)
            return pq.read_table(file, columns=wanted)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise DataError("DR-DATA-002", f"{path} cannot be read as a {suffix[1:]} table: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _require(path: UserFile, wanted: list[str], present: list[str]) -> None:
    for name in wanted:
        if name not in present:
            raise DataError("DR-DATA-003", f"{path} has no column {name!r}; it has {', '.join(map(repr, present))}")
        if present.count(name) > 1:
            raise DataError("DR-DATA-003", f"{path} has {present.count(name)} columns {name!r}; one of them must go")


def _require_unquoted(path: UserFile, name: str, ids: pa.ChunkedArray) -> None:
    """In a .tsv: there a quotation mark is part of the id, which whoever quoted it did not mean."""
    if path.suffix != ".tsv":
        return
    first = pc.index(pc.and_(pc.starts_with(ids, '"'), pc.ends_with(ids, '"')), True).as_py()
    if first >= 0:
        words = "quotation marks around it, which a .tsv takes as part of it; leave them out, or write a .csv"
        raise DataError("DR-DATA-002", f"{path}, column {name!r}, row {first + 1}: {ids[first].as_py()} has {words}")


MARKS_OF_NOTHING = ("NULL", "null", "NaN", "nan", "None", "\\N", "<NA>")


def _ids(path: UserFile, name: str, table: pa.Table) -> pa.ChunkedArray:
    """Text, or whole numbers (Parquet). Never joined: an array takes 2 GiB of text at most."""
    column = table[name]
    if not pa.types.is_integer(column.type):
        if pa.types.is_floating(column.type):
            raise DataError(
                "DR-DATA-003", f"{path}, column {name!r} holds {column.type} numbers; ids are text or whole numbers"
            )
        column = column.cast(pa.string())
        _require_unquoted(path, name, column)
        missing = pc.or_kleene(pc.is_null(column), pc.equal(pc.utf8_trim_whitespace(column), ""))
    else:
        column = column.cast(pa.int64())
        missing = pc.is_null(column)
    first = pc.index(missing.fill_null(True), True).as_py()
    if first >= 0:
        raise DataError("DR-DATA-004", f"{path}, column {name!r}, row {first + 1} has no value")
    if pa.types.is_string(column.type):
        first = pc.index(pc.is_in(column, pa.array(MARKS_OF_NOTHING)), True).as_py()
        if first >= 0:
            words = f"has {column[first].as_py()!r}, which databases and pandas write where there is no value"
            raise DataError("DR-DATA-004", f"{path}, column {name!r}, row {first + 1} {words}")
    return column


def _codes(columns: list[pa.ChunkedArray]) -> tuple[Ints, pa.Array]:
    """Codes in order of first appearance, and the ids they stand for: text, if one file has text."""
    kinds = {column.type for column in columns}
    kind = kinds.pop() if len(kinds) == 1 else pa.string()
    chunks = [chunk for column in columns for chunk in column.cast(kind).chunks]
    encoded = pa.chunked_array(chunks, kind).dictionary_encode().chunks  # of one dictionary
    codes = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in encoded]
    return np.concatenate(codes).astype(np.int64), encoded[0].dictionary


def _whole_numbers(path: UserFile, name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_integer(values.type):
        values = pc.utf8_trim_whitespace(values.cast(pa.string()))
    for row, value in enumerate(values if values.null_count or not _is_whole(values) else ()):
        if not value.is_valid or not _is_whole(value):
            raise DataError(
                "DR-DATA-005", f"{path}, column {name!r}, row {row + 1}: {value.as_py()!r} is not a whole number"
            )
    return values.cast(pa.int64())


def _is_whole(values: pa.ChunkedArray | pa.Scalar) -> bool:
    try:
        values.cast(pa.int64())
    except pa.ArrowInvalid:
        return False
    return True


@dataclass(frozen=True)
class Dataset:
    """A prepared scene in memory. Item index i is row i of the item table."""

    sequences: Sequences
    user_ids: pa.Array
    item_ids: pa.Array
    titles: list[str]
    split: Split


def write_dataset(folder: Path, dataset: Dataset) -> None:
    """Sequences as an Arrow file that can be mapped into memory as it is, items as Parquet."""
    sequences = dataset.sequences
    _, items = sequences.events(np.arange(len(sequences)))
    offsets = np.concatenate([[0], np.cumsum(sequences.lengths)])
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(items, pa.int32()))
    rows = pa.table({"user": dataset.user_ids, "items": lists, **_columns_of(dataset.split)}).combine_chunks()
    with pa.ipc.new_file(folder / "sequences.arrow", rows.schema) as file:
        file.write_table(rows)
    table = {
        "item": dataset.item_ids,
        "title": pa.array(dataset.titles, pa.string()),
        "num_events": popularity(dataset.split.train),
    }
    pq.write_table(pa.table(table), folder / "items.parquet")


def read_dataset(folder: Path) -> Dataset:
    """Events stay in the file, mapped into memory: processes share them, and take no memory of their own."""
    path = folder / "sequences.arrow"
    if not path.is_file():
        raise ArtifactError("DR-ART-001", f"{path} is missing: an older version wrote this dataset")
    rows = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    flat, offsets = rows["items"].values.to_numpy(), rows["items"].offsets.to_numpy()
    items = pq.read_table(folder / "items.parquet")
    sequences = Sequences(flat, offsets[:-1], offsets[1:], items.num_rows)
    if SPLIT[0] in rows.schema.names:
        split = Split.of_columns(sequences, *(rows[name].to_numpy() for name in SPLIT))
    else:
        split = Split.leave_one_out(sequences)
    return Dataset(sequences, rows["user"], items["item"].combine_chunks(), items["title"].to_pylist(), split)


def _columns_of(split: Split) -> dict[str, Ints]:
    return {} if split.is_whole else dict(zip(SPLIT, split.columns(), strict=True))


def canonical_sha256(dataset: Dataset) -> str:
    """Over the lines `user<TAB>item` in the dataset's order: equal data has equal hashes, whatever the file."""
    sequences = dataset.sequences
    user_of, item_of = sequences.events(np.arange(len(sequences)))
    users, items = (ids.cast(pa.large_string()) for ids in (dataset.user_ids, dataset.item_ids))
    digest = hashlib.sha256()
    for begin in range(0, len(user_of), HASHED_AT_A_TIME):
        some = slice(begin, begin + HASHED_AT_A_TIME)
        names = users.take(pa.array(user_of[some])), items.take(pa.array(item_of[some]))
        for line in pc.binary_join_element_wise(*names, pa.scalar("\t", pa.large_string())).to_pylist():
            digest.update(line.encode() + b"\n")
    for name, column in _columns_of(dataset.split).items():
        digest.update(f"{name} {column.tolist()}\n".encode())
    return digest.hexdigest()
