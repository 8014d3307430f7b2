"""Bad files, each refused in one sentence that says what, where and which value."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from distilrec.core.config import FileData, ItemTable
from distilrec.core.errors import DataError
from distilrec.core.events import to_sequences
from distilrec.core.split import Split
from distilrec.io.sources import fingerprint
from distilrec.io.tables import Dataset, canonical_sha256, read_dataset, read_events, read_titles, write_dataset

HEADER = "user_id,item_id,timestamp\n"


def _read(path, **options):
    return read_events(FileData.model_validate({"source": "file", "path": str(path), **options}))


def _refused(path, code, *words, **options):
    with pytest.raises(DataError) as caught:
        _read(path, **options)
    assert caught.value.code == code
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_missing_empty_and_unreadable_files(tmp_path):
    _refused(tmp_path / "none.csv", "DR-DATA-001", "does not exist")
    _refused(tmp_path / f"{'a' * 300}.csv", "DR-DATA-001", "name too long")
    (tmp_path / "empty.csv").write_text("")
    _refused(tmp_path / "empty.csv", "DR-DATA-002", "0 bytes")
    (tmp_path / "header.csv").write_text(HEADER)
    _refused(tmp_path / "header.csv", "DR-DATA-002", "no rows")
    (tmp_path / "ragged.csv").write_text(HEADER + "a,b\n")
    _refused(tmp_path / "ragged.csv", "DR-DATA-002", "csv table")
    (tmp_path / "noise.parquet").write_bytes(b"PAR1 but no more")
    _refused(tmp_path / "noise.parquet", "DR-DATA-002", "parquet")
    (tmp_path / "log.xlsx").write_bytes(b"PK")
    _refused(tmp_path / "log.xlsx", "DR-DATA-002", ".xlsx", ".tsv")
    (tmp_path / "binary.tsv").write_bytes(b"user_id\titem_id\ttimestamp\n\xff\xfe\tb\t1\n")
    _refused(tmp_path / "binary.tsv", "DR-DATA-002", "UTF8")


def test_missing_column(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item_id,timestamp\na,b,1\n")
    _refused(path, "DR-DATA-003", "'user_id'", "'user'")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_column_that_is_there_twice(tmp_path, form):
    path, write = tmp_path / f"log.{form}", {"csv": pa_csv.write_csv, "parquet": pq.write_table}[form]
    names = ["user_id", "item_id", "timestamp", "note", "note"]
    table = pa.Table.from_arrays([pa.array([1])] * 5, names)
    write(table, path)
    assert len(_read(path).users) == 1, "of a column that nobody asks for"
    write(table.rename_columns(names[:3] + names[:2]), path)
    _refused(path, "DR-DATA-003", "2 columns 'user_id'")


def test_quotation_marks_in_a_tsv_are_characters(tmp_path):
    path, items = tmp_path / "log.tsv", tmp_path / "items.tsv"
    rows = ['a\tx\t1\t"running shoes', "b\ty\t2\t", 'c\t"z\t3\t"5"']
    path.write_text("user_id\titem_id\ttimestamp\tnote\n" + "\n".join(rows) + "\n")
    items.write_text('item_id\ttitle\nx\t"Heroes"\n')
    events = _read(path, items={"path": str(items)})
    assert (len(events.users), events.item_ids.to_pylist()) == (3, ["x", "y", '"z'])
    assert events.titles == {"x": '"Heroes"'}
    path.write_text(path.read_text().replace("b\ty", 'b\t"y"'))
    _refused(path, "DR-DATA-002", "'item_id', row 2", '"y"', ".csv")
    items.write_text('item_id\ttitle\n"x"\tEx\n')
    with pytest.raises(DataError, match=r"'item_id', row 1: \"x\""):
        read_titles(ItemTable(path=str(items)))


def test_quoted_values_of_a_csv_may_have_line_breaks_and_must_end(tmp_path):
    path, note = tmp_path / "log.csv", "two\nlines\n" * 4000
    rows = [f'u,i{row},{row},"{note}said ""so"""\n' for row in range(40)]
    path.write_text("user_id,item_id,timestamp,note\n" + "".join(rows))
    assert len(_read(path).users) == 40, "of a file larger than what Arrow reads at a time"
    path.write_text(path.read_text().replace("u,i38,", "u,,"))
    _refused(path, "DR-DATA-004", "'item_id', row 39")
    stray = [f'u,i{row},{row},"running shoes\n' if row in (2, 5) else f"u,i{row},{row},x\n" for row in range(9)]
    path.write_text("user_id,item_id,timestamp,note\n" + "".join(stray))
    _refused(path, "DR-DATA-002", "line 4 ", "quotation mark")
    path.write_text("user_id,item_id,timestamp\n\na,b,1\n\nc,d,2")
    assert len(_read(path).users) == 2, "of a file with empty lines"


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        (",b,1", "DR-DATA-004", ("'user_id'", "row 2")),
        ("a, ,1", "DR-DATA-004", ("'item_id'", "row 2")),
        ("a,b,yesterday", "DR-DATA-005", ("row 2", "'yesterday'")),
        ("a,b,", "DR-DATA-005", ("row 2", "''")),
        ("a,b,-5", "DR-DATA-005", ("row 2", "-5", "1970")),
        ("a,b,1300000000000", "DR-DATA-005", ("row 2", "time_unit")),
        ("a,b,nan", "DR-DATA-005", ("row 2", "nan")),
    ],
)
def test_bad_rows_are_named(tmp_path, row, code, words):
    path = tmp_path / "log.csv"
    path.write_text(f"{HEADER}a,b,1\n{row}\nc,d,3\n")
    _refused(path, code, *words)


def test_bad_rows_in_parquet(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user_id": [1, None], "item_id": [1, 2], "timestamp": [1, 2]}), path)
    _refused(path, "DR-DATA-004", "row 2")
    pq.write_table(pa.table({"user_id": [1.5, 2.0], "item_id": [1, 2], "timestamp": [1, 2]}), path)
    _refused(path, "DR-DATA-003", "double", "user_id")


@pytest.mark.parametrize(
    "times", ["10\n20.5", "1970-01-01T00:00:10\n1970-01-01 00:00:20.5", "1970-01-01T00:00:10Z\n1970-01-01T00:00:20.5Z"]
)
def test_times_as_numbers_and_as_dates(tmp_path, times):
    path = tmp_path / "log.tsv"
    first, second = times.split("\n")
    path.write_text(f"who\twhat\twhen\textra\nu1\t007\t{first}\tx\nu1\ti2\t{second}\ty\n")
    events = _read(path, columns={"user": "who", "item": "what", "time": "when"})
    assert events.times.tolist() == [10.0, 20.5]
    assert events.item_ids.to_pylist() == ["007", "i2"]


@pytest.mark.parametrize(
    ("times", "unit", "said"),
    [
        ("0 20240131 20240201", "s", ("such as 20240131", "write them as 2024-01-31")),
        ("202401312359 202402010000", "s", ("202401312359", "T12:30:00")),
        ("20240131235959 20240201000000", "ms", ("20240131235959", "T12:30:00")),
        ("1700000000 1800000000", "ms", ("such as 1700000000, of 1990 to 2099 in s", "data.time_unit is ms")),
        ("1700000000000 1800000000000", "ns", ("in ms", "data.time_unit is ns")),
    ],
)
def test_numbers_that_would_be_of_1970_and_are_not(tmp_path, times, unit, said):
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "".join(f"a,b,{time}\n" for time in times.split()))
    _refused(path, "DR-DATA-005", "'timestamp'", *said, time_unit=unit)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_numbers_that_count_from_0_are_times(tmp_path, unit):
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "a,b,2000000000\na,b,20240131\na,b,1\na,b,0\n")
    assert _read(path, time_unit=unit).times.argsort().tolist() == [3, 2, 1, 0]


def test_parquet_timestamps_units_and_titles(tmp_path):
    path, items = tmp_path / "log.parquet", tmp_path / "items.csv"
    when = pa.array([1_000_000, 2_000_000], pa.timestamp("us"))
    pq.write_table(pa.table({"user_id": [7, 7], "item_id": [3, 4], "timestamp": when}), path)
    items.write_text("item_id,title\n3,Three\n")
    events = _read(path, items={"path": str(items)})
    assert (events.times.tolist(), events.item_ids.to_pylist(), events.titles) == ([1.0, 2.0], [3, 4], {"3": "Three"})
    pq.write_table(pa.table({"item_id": [3], "title": [["a", "list"]]}), tmp_path / "items.parquet")
    with pytest.raises(DataError, match="a column of an unusable type"):
        _read(path, items={"path": str(tmp_path / "items.parquet")})
    csv = tmp_path / "log.csv"
    csv.write_text(HEADER + "a,b,1500\n")
    assert _read(csv, time_unit="ms").times.tolist() == [1.5]


def test_a_dataset_survives_its_files_and_its_hash_follows_its_content(tmp_path, monkeypatch):
    sequences = to_sequences(np.repeat([0, 1], 4), np.array([0, 1, 2, 0, 2, 2, 1, 0]), np.arange(8.0), 2, 3)
    split = Split.leave_one_out(sequences)
    dataset = Dataset(sequences, pa.array(["u", "v"]), pa.array([10, 20, 30]), ["Ten", "Twenty", "Thirty"], split)
    write_dataset(tmp_path, dataset)
    again = read_dataset(tmp_path)
    assert again.sequences.items.tolist() == sequences.items.tolist()
    assert not again.sequences.items.flags.owndata, "mapped, not copied"
    assert again.sequences.stops.tolist() == sequences.stops.tolist()
    assert (again.titles, again.item_ids.to_pylist()) == (dataset.titles, [10, 20, 30])
    lines = "u\t10 u\t20 u\t30 u\t10 v\t30 v\t30 v\t20 v\t10 ".replace(" ", "\n")
    assert canonical_sha256(dataset) == hashlib.sha256(lines.encode()).hexdigest()
    monkeypatch.setattr("distilrec.io.tables.HASHED_AT_A_TIME", 3)
    assert canonical_sha256(again) == hashlib.sha256(lines.encode()).hexdigest()
    other = Dataset(sequences, pa.array(["u", "w"]), dataset.item_ids, dataset.titles, split)
    assert canonical_sha256(other) != canonical_sha256(dataset)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_sequence_column_orders_events_of_one_time(tmp_path, form):
    path, columns = tmp_path / f"log.{form}", {"sequence": "place"}
    table = pa.table({"user_id": ["a"] * 3, "item_id": ["x", "y", "z"], "timestamp": [5, 5, 5], "place": [10, -9, 2]})
    write = {"csv": pa_csv.write_csv, "parquet": pq.write_table}[form]
    write(table, path)
    found = _read(path, columns=columns)
    assert found.item_ids.take(pa.array(found.items)).to_pylist() == ["y", "z", "x"]
    place = table.column_names.index("place")
    for bad, said in (["1", "2.5", "3"], "'2.5'"), ([1, None, 3], "None" if form == "parquet" else "''"):
        write(table.set_column(place, "place", pa.array(bad)), path)
        with pytest.raises(DataError, match=rf"column 'place', row 2: {said} is not a whole number"):
            _read(path, columns=columns)


@pytest.mark.parametrize("has_sequence", [False, True])
def test_what_is_said_twice_is_said_once(tmp_path, has_sequence):
    """With a sequence column, equal rows are those that are equal in it too."""
    rows = ["u,a,1,1", "u,b,2,2", "u,a,1,1", "u,a,3,3", "w,a,1,1", "u,b,2,9", "u,b,2,2"]
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp,place\n" + "\n".join(rows))
    events = _read(tmp_path / "log.csv", columns={"sequence": "place"} if has_sequence else {})
    names = [events.item_ids[code].as_py() for code in events.items]
    assert events.num_duplicates == (2 if has_sequence else 3)
    assert sorted(zip(names, events.times, strict=True)) == [
        ("a", 1),
        ("a", 1),
        ("a", 3),
        *[("b", 2)] * (1 + has_sequence),
    ]


def test_a_folder_whose_files_a_table_log_governs_is_refused(tmp_path):
    """The log may say that some of them were replaced."""
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / "0.json").write_text("{}")
    (tmp_path / "part.csv").write_text(HEADER + "a,b,1\n")
    _refused(tmp_path, "DR-DATA-002", "_delta_log")


def test_an_item_table_of_other_items_is_refused(tmp_path):
    (tmp_path / "log.csv").write_text(HEADER + "a,1.0,1\n")
    (tmp_path / "items.csv").write_text("item_id,title\n1,One\n")
    items = {"path": str(tmp_path / "items.csv")}
    with pytest.raises(DataError, match=r"items\.csv.* names none of the items of .*log\.csv, such as 1\.0"):
        _read(tmp_path / "log.csv", items=items)


def test_a_folder_is_read_as_one_file_in_the_order_of_names(tmp_path):
    folder = tmp_path / "events"
    for day, rows in (("02", "b,y,2\na,x,1\n"), ("01", "a,y,1\n"), ("03", "")):
        (folder / f"day={day}").mkdir(parents=True)
        (folder / f"day={day}" / "part.csv").write_text(HEADER + rows)
    (folder / "_SUCCESS").write_text("")
    (folder / "day=01" / ".part.csv.crc").write_text("no table")
    events = _read(folder)
    users, items = (ids.take(pa.array(codes)).to_pylist() for ids, codes in (
        (events.user_ids, events.users), (events.item_ids, events.items),
    ))  # fmt: skip
    assert (users, items, events.times.tolist()) == (["a", "b", "a"], ["y", "y", "x"], [1, 2, 1])
    before = fingerprint(FileData(source="file", path=str(folder)))
    (folder / "day=03" / "part.csv").write_text(HEADER + "c,z,oops\n")
    assert fingerprint(FileData(source="file", path=str(folder))) != before
    _refused(folder, "DR-DATA-005", "day=03/part.csv", "row 1", "oops")
    (folder / "day=03" / "part.csv").write_text(HEADER)
    (folder / "later").symlink_to(tmp_path / "elsewhere")
    _refused(folder, "DR-DATA-001", "later does not exist")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    pq.write_table(
        pa.table({"user_id": ["d"], "item_id": ["z"], "timestamp": [3]}), tmp_path / "elsewhere" / "a.parquet"
    )
    assert _read(folder).user_ids.to_pylist() == ["a", "b", "d"], "behind a link, of another kind"
    (folder / "old.csv.gz").write_bytes(b"not read")
    _refused(folder, "DR-DATA-002", "old.csv.gz ends in '.gz'")
    (tmp_path / "none").mkdir()
    _refused(tmp_path / "none", "DR-DATA-001", "has no files")


def test_whole_numbers_and_text_name_the_same_ids_in_a_folder(tmp_path):
    for name, kind in (("1", pa.int64()), ("2", pa.string())):
        table = pa.table({"user_id": [1, 2], "item_id": [7, 8], "timestamp": [int(name), 3]})
        table = table.set_column(1, "item_id", table["item_id"].cast(kind))
        pq.write_table(table, tmp_path / f"{name}.parquet")
    empty = pa.table({name: pa.nulls(0) for name in ("user_id", "item_id", "timestamp")})
    pq.write_table(empty, tmp_path / "0.parquet")
    events = _read(tmp_path)
    assert events.user_ids.to_pylist() == [1, 2] and events.item_ids.to_pylist() == ["7", "8"]
    assert events.items.tolist() == [0, 1, 0] and events.num_duplicates == 1


@pytest.mark.parametrize("bad", ["2020-02-30", "soon", "5"])
def test_the_odd_one_out_among_dates_is_named(tmp_path, bad):
    path = tmp_path / "log.csv"
    path.write_text(f"{HEADER}a,b,2020-01-01\na,b,2020-01-02\na,b,{bad}\n")
    _refused(path, "DR-DATA-005", "row 3", bad)


def test_nanoseconds_spaces_and_strange_ids(tmp_path):
    path = tmp_path / "log.parquet"
    nanoseconds = pa.array([1_600_000_000_123_456_789])
    pq.write_table(pa.table({"user_id": [1], "item_id": [1], "timestamp": nanoseconds}), path)
    assert _read(path, time_unit="ns").times.tolist() == pytest.approx([1_600_000_000.1234567])
    pq.write_table(pa.table({"user_id": [1], "item_id": [1], "timestamp": nanoseconds.cast(pa.timestamp("ns"))}), path)
    assert _read(path).times.tolist() == pytest.approx([1_600_000_000.123456])
    pq.write_table(pa.table({"user_id": [[1]], "item_id": [1], "timestamp": [1]}), path)
    _refused(path, "DR-DATA-002", "unusable type")
    spaced = tmp_path / "log.csv"
    spaced.write_text(HEADER + "a,b, 12\n")
    assert _read(spaced).times.tolist() == [12.0]
