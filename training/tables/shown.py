"""A column as a person checks it: its first cells as they are written, beside what they are read as."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from training.tables.cleaned import Cleaned
from training.tables.reading import LookAt

SHOWN_ROWS = 20
SHOWN_MARKS = 3
MAX_MARK = 20


@dataclass(frozen=True)
class ShownColumn:
    """The first cells of a column; `raw` as text or None, `parsed` as number, text or None."""

    name: str
    kind: str
    read_as: str
    raw: tuple[str | None, ...]
    parsed: tuple[Any, ...]


def show_column(
    name: str, cells: "pd.Series[Any]", column: Cleaned, rows: int = SHOWN_ROWS, left_out: str = ""
) -> ShownColumn:
    """Lay the raw cells beside the parsed ones, and say how they are read."""
    said = [column.read_as, f"in {column.unit}" if column.unit else ""]
    if column.formats:
        said.append("as " + ", ".join(column.formats))
    said += [became_missing(cells, column), left_out]
    if column.kind == "image":
        shown = tuple("" if _is_none(cell) else "(a picture)" for cell in cells.head(rows))
        return ShownColumn(name, column.kind, "; ".join(filter(None, said)), shown, shown)
    return ShownColumn(
        name,
        column.kind,
        "; ".join(filter(None, said)),
        raw_cells(cells.head(rows)),
        tuple(map(plain, column.cells.head(rows))),
    )


def became_missing(cells: "pd.Series[Any]", column: Cleaned) -> str:
    """How many cells that are not blank are missing now, and what stands in them; "" where there are none."""
    if not column.marks:
        return ""
    gone = cells.reset_index(drop=True)[column.cells.isna().to_numpy()].dropna()
    count = sum(bool(str(cell).strip()) for cell in gone)
    marks = ", ".join(f'"{mark[:MAX_MARK]}"' for mark in column.marks[:SHOWN_MARKS])
    more = " ..." if len(column.marks) > SHOWN_MARKS else ""
    return f"{count:,} cells that are not blank ({marks}{more}) are missing"


def words_taken_for_missing(name: str, cells: "pd.Series[Any]", column: Cleaned) -> tuple[LookAt, ...]:
    """Words for a missing value that may be values of a category: "NA" is a country, "Null" a surname."""
    words = [mark for mark in column.marks if mark[0].isalpha()]
    if column.kind not in {"category", "text"} or not words:
        return ()
    counts = cells.str.strip().isin(words).sum() if pd.api.types.is_string_dtype(cells.dtype) else len(words)
    shown = ", ".join(f'"{word}"' for word in words)
    text = (
        f"{shown} in {int(counts):,} cells is taken for a missing value: where it is a value, set "
        f"not_missing = [{shown}] under [read]"
    )
    return (LookAt(name, text),)


def raw_cells(cells: "pd.Series[Any]") -> tuple[str | None, ...]:
    """Cells as text, None where a source that has types has none."""
    return tuple(None if _is_none(cell) else str(cell) for cell in cells.astype(object))


def plain(value: Any) -> Any:
    """A cell as JSON has it: whole numbers without a fraction."""
    if _is_none(value):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value.item() if hasattr(value, "item") else value


def _is_none(value: Any) -> bool:
    return (
        value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))
    )


def not_obvious(columns: Iterable[ShownColumn], look_at: Iterable[LookAt]) -> list[ShownColumn]:
    """The columns that are read otherwise than they are written, or of which something is unsure."""
    open_ = {each.column for each in look_at}
    return [column for column in columns if column.read_as or column.name in open_]
