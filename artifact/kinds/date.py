"""Dates: calendar parts as they are written, whatever the time zone; NaN is missing."""

from __future__ import annotations

import math
from datetime import date, datetime
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.kinds.cell import is_missing, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.kinds.cell import Encode, EncodeCell, Errors
    from artifact.signature import Column

_PARTS: dict[str, Callable[[datetime], int]] = {
    "year": lambda d: d.year,
    "month": lambda d: d.month,
    "day": lambda d: d.day,
    "weekday": lambda d: d.weekday(),
    "day_of_year": lambda d: d.timetuple().tm_yday,
    "hour": lambda d: d.hour,
    "minute": lambda d: d.minute,
}


def parse_date(value: object, formats: Sequence[str] = ()) -> datetime | None:
    """A date as it is written, without regard to its time zone; None for what is none."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - the calendar as written
    if not isinstance(value, str):
        return None
    text = value.strip()
    for form in formats:
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 - the calendar as written
        except ValueError:
            continue
    if len(text) < 8 or text.isdigit():  # "2024" and "20240101" are numbers to whoever reads them
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def encode_column(column: Column) -> Encode:
    parts = [_PARTS[part] for part in column.parts]
    nothing = tuple(repeat(math.nan, len(parts)))

    def encode(cells: Sequence[Any], errors: Errors | None) -> NDArray[np.float64]:
        known: dict[object, tuple[float, ...]] = {}
        values = []
        for i, cell in enumerate(cells):
            row = known.get(cell) if isinstance(cell, str) else None
            if row is None:
                found = None if is_missing(cell) else parse_date(cell, column.formats)
                row = nothing if found is None else tuple(float(part(found)) for part in parts)
                if found is not None and isinstance(cell, str):
                    known[cell] = row
                elif found is None and errors is not None:
                    if not is_missing(cell, column.marks):
                        errors.add(
                            i,
                            column.name,
                            f"expected a date such as {column.middle}, got {shown(cell)}",
                            "no_date",
                        )
                    elif column.missing == "refuse":
                        errors.add(
                            i, column.name, f"missing; expected a date such as {column.middle}", "missing"
                        )
            values.append(row)
        return np.array(values, np.float64).reshape(len(cells), len(parts))

    return encode


def encode_cell(column: Column) -> EncodeCell:
    parts = [_PARTS[part] for part in column.parts]

    def encode(cell: Any) -> Sequence[float] | None:
        found = parse_date(cell, column.formats) if type(cell) is str else None
        return None if found is None else [part(found) for part in parts]

    return encode
