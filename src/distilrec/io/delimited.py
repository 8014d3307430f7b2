"""CSV and TSV files. A .csv is quoted as RFC 4180 has it; in a .tsv a quotation mark is a character like any other."""

import csv
import io
import sys

import pyarrow as pa
import pyarrow.csv as pa_csv

from distilrec.core.errors import DataError
from distilrec.io.files import UserFile

DELIMITED = {
    ".csv": pa_csv.ParseOptions(newlines_in_values=True),
    ".tsv": pa_csv.ParseOptions(delimiter="\t", quote_char=False),
}
HEADER_BYTES = 65536
"""Read at a time until the first line ends."""


def header_of(path: UserFile) -> list[str]:
    """Not by `open_csv`: that reads ahead in the background, and may still do so when the file is closed and its number
    is given to the next one, whose place it then moves."""
    read = b""
    with path.open() as file:
        while b"\n" not in read and (more := file.read(HEADER_BYTES)):
            read += more
    line = pa.BufferReader(read.partition(b"\n")[0] + b"\n")
    names: list[str] = pa_csv.read_csv(line, parse_options=DELIMITED[path.suffix]).column_names
    return names


def read_delimited(path: UserFile, wanted: list[str]) -> pa.Table:
    """These columns, as text.

    Raises:
        DataError: quotation marks under which rows would be lost.
        pa.ArrowInvalid: it is no such table otherwise.
    """
    convert = pa_csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()))
    with path.open() as file:
        counted = _Counted(file)
        table = pa_csv.read_csv(counted, parse_options=DELIMITED[path.suffix], convert_options=convert)
    if path.suffix == ".csv" and counted.num_lines != table.num_rows + 1:
        _require_quoted(path)
    return table


class _Counted:
    """A file for Arrow to read, of which one knows the lines afterwards."""

    closed = False

    def __init__(self, file: pa.NativeFile) -> None:
        self.file, self.num_breaks, self.last = file, 0, b""

    def read(self, size: int) -> bytes:
        block: bytes = self.file.read(size)
        self.num_breaks += block.count(b"\n")
        self.last = block[-1:] or self.last
        return block

    @property
    def num_lines(self) -> int:
        return self.num_breaks + (self.last != b"\n")


def _require_quoted(path: UserFile) -> None:
    """Properly: what ends a quoted value is followed by a separator or the line's end. Arrow ends it at the next
    quotation mark anywhere, and takes the rows up to there for part of it. Slow, so asked only of files with more lines
    than rows."""
    csv.field_size_limit(sys.maxsize)
    line = 1
    with path.open() as file:
        rows = csv.reader(io.TextIOWrapper(file, "utf-8-sig", "replace", newline=""), strict=True)
        try:
            for _ in rows:
                line = rows.line_num + 1
        except csv.Error:
            words = 'has a value that begins with a quotation mark and does not end with one; write "x as """x"'
            raise DataError("DR-DATA-002", f"{path}, line {line} {words}") from None
