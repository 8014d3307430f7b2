"""A table's column of times, in whatever form: as seconds since 1970."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilrec.core.errors import DataError
from distilrec.core.events import Bools, Floats
from distilrec.io.files import UserFile

YEAR_1990, YEAR_2100, YEAR_10000 = 631_152_000.0, 4_102_444_800.0, 253_402_300_800.0
UNITS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
KINDS = (pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC"))
"""Of text."""


def seconds_of(path: UserFile, name: str, values: pa.ChunkedArray, unit: str) -> Floats:
    """Raises DataError for what is no time, or is of another unit than this one of numbers; names the row."""
    if pa.types.is_temporal(values.type):
        parsed, is_date = _microseconds(values.cast(pa.timestamp("us"), safe=False)), True
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        parsed, is_date = _parsed(path, name, values)
    else:
        parsed, is_date = values.cast(pa.float64(), safe=False), False
    numbers: Floats = parsed.to_numpy()
    if not is_date:
        _require_unit(path, name, numbers, unit)
    times = numbers / UNITS_PER_SECOND["us" if is_date else unit]
    bad = ~((times >= 0) & (times < YEAR_10000))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            "DR-DATA-005",
            f"{path}, column {name!r}, row {row + 1}: {str(values[row])!r} is not a time from 1970 to 9999 "
            f"(data.time_unit says how numbers are read)",
        )
    return times


def _microseconds(times: pa.ChunkedArray) -> pa.ChunkedArray:
    return times.cast(pa.int64()).cast(pa.float64(), safe=False)


def _parsed(path: UserFile, name: str, text: pa.ChunkedArray) -> tuple[pa.ChunkedArray, bool]:
    """All rows as numbers; or all as ISO 8601 without or with a zone: then as microseconds, and true."""
    trimmed = pc.utf8_trim_whitespace(text)
    for kind in KINDS:
        try:
            parsed = trimmed.cast(kind)
        except pa.ArrowInvalid:
            continue
        return (parsed, False) if kind == KINDS[0] else (_microseconds(parsed), True)
    kind = max(KINDS, key=lambda one: sum(_is_time(value, one) for value in trimmed[:1000]))
    row = next(row for row, value in enumerate(trimmed) if not _is_time(value, kind))
    raise DataError(
        "DR-DATA-005", f"{path}, column {name!r}, row {row + 1}: {str(text[row])!r} is not a number or ISO 8601 date"
    )


def _is_time(value: pa.Scalar, kind: pa.DataType) -> bool:
    """Of the kind that most rows are. Only asked when some row is not."""
    try:
        return value.as_py() is not None and value.cast(kind).is_valid
    except pa.ArrowInvalid:
        return False


def _require_unit(path: UserFile, name: str, numbers: Floats, unit: str) -> None:
    """Refused are numbers that would become times of 1970 and are something else for certain. Those that count from 0,
    as a simulation does, or whoever has an order and no times, are taken as they are."""
    some = numbers[:: len(numbers) // 1000 + 1]
    dates = some[_has_digits_of_date(some)]
    if len(dates) > len(some) / 2:
        words = (
            f"numbers such as {dates[0]:.0f}, dates without hyphens; write them as 2024-01-31 or 2024-01-31T12:30:00"
        )
        raise DataError("DR-DATA-005", f"{path}, column {name!r} has {words}")
    for other, per_second in UNITS_PER_SECOND.items():
        oldest, newest = numbers.min() / per_second, numbers.max() / per_second
        if per_second < UNITS_PER_SECOND[unit] and oldest >= YEAR_1990 and newest < YEAR_2100:
            words = (
                f"numbers such as {numbers[0]:.0f}, of 1990 to 2099 in {other}; data.time_unit is {unit}: all of 1970"
            )
            raise DataError("DR-DATA-005", f"{path}, column {name!r} has {words}")


@np.errstate(invalid="ignore")
def _has_digits_of_date(numbers: Floats) -> Bools:
    """Of a day of 1970 to 2099, alone or with the hour and minute, or the second too, behind it. Of numbers that merely
    count, one in thirty has."""
    found = np.zeros(len(numbers), dtype=bool)
    for scale in (1, 10_000, 1_000_000):
        days = numbers // scale
        month, day = days // 100 % 100, days % 100
        found |= (days >= 1970_00_00) & (days < 2100_00_00) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return found
