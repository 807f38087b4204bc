"""Columns that have a type of their own, as Parquet and SQL give them, and the types that ours have."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact.encode import canonical
from training.tables.numbers import EXACT
from training.tables.reading import LookAt


def as_text(value: object) -> str:
    """A value as the text that a category of it has."""
    return value if isinstance(value, str) else canonical(value)


def typed(cells: "pd.Series[Any]") -> "pd.Series[Any]":
    """Objects as the one type they have; text where they have several."""
    kind = pd.api.types.infer_dtype(cells, skipna=True)
    if kind == "integer":
        return _integers(cells)
    if kind == "decimal" and any(_loses_whole_digits(value) for value in cells.dropna()):
        return cells.map(str, na_action="ignore").astype("str")
    if kind in {"floating", "mixed-integer-float", "decimal"}:
        return pd.to_numeric(cells.map(float, na_action="ignore"), errors="coerce")
    if kind == "boolean":
        return cells.astype("boolean") if cells.hasnans else cells.astype(bool)
    if kind in {"date", "datetime", "datetime64"}:
        return pd.to_datetime(cells, errors="coerce")
    if kind == "empty":
        return pd.Series(np.nan, index=cells.index, dtype="float64")
    return cells.map(as_text, na_action="ignore").astype("str")


def _loses_whole_digits(value: Any) -> bool:
    """Whether a decimal number is so large that float64 rounds it before its decimal point."""
    return bool(abs(value) > EXACT and Decimal(float(value)) != value)


def with_plain_cells(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[LookAt]]:
    """The table with bytes as texts, and lists and records as JSON, which is told."""
    changed: dict[int, Any] = {}
    told = []
    for place in range(frame.shape[1]):
        cells = frame.iloc[:, place]
        if not pd.api.types.is_object_dtype(cells.dtype):
            continue
        first = next((cell for cell in cells if cell is not None), None)
        if isinstance(first, bytes):
            changed[place] = cells.map(_decoded, na_action="ignore")
        elif isinstance(first, (list, tuple, dict, set, np.ndarray)):
            changed[place] = cells.map(_as_json)
            told.append(
                LookAt(
                    str(frame.columns[place]),
                    "each cell holds a list or a record, and is taken as one text: write its parts as "
                    "columns of their own, or leave the column out under [kinds]",
                )
            )
    if not changed:
        return frame, told
    columns: list[Any] = [changed.get(place, frame.iloc[:, place]) for place in range(frame.shape[1])]
    plain: pd.DataFrame = pd.concat(columns, axis=1).set_axis(frame.columns, axis=1)
    return plain, told


def _decoded(cell: Any) -> str:
    return cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)


def _as_json(cell: Any) -> str | None:
    if cell is None:
        return None
    if isinstance(cell, (np.ndarray, set, tuple)):
        cell = list(cell)
    return json.dumps(cell, ensure_ascii=False, default=_json_of)


def _json_of(value: Any) -> Any:
    """What JSON has of a value that it does not know: the list of an array, else its text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _integers(cells: "pd.Series[Any]") -> "pd.Series[Any]":
    """Whole numbers as float64 where that holds them exactly, else as texts."""
    if all(float(value) == value for value in cells.dropna()):
        return pd.to_numeric(cells.map(float, na_action="ignore"), errors="coerce")
    return cells.map(as_text, na_action="ignore").astype("str")


def objects(cells: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column of objects, None where missing."""
    values = cells.astype(object)
    return values.where(values.notna(), None)


def canonical_numbers(values: NDArray[np.float64]) -> "pd.Series[Any]":
    """Numbers as the texts that categories of them have."""
    codes, distinct = pd.factorize(values)
    table = np.empty(len(distinct) + 1, object)
    table[:-1] = [canonical(float(value)) for value in distinct]
    table[-1] = None
    return pd.Series(table[codes])


def beyond_float(cells: "pd.Series[Any]") -> bool:
    """Whether whole numbers of a typed column lose digits as float64."""
    if not pd.api.types.is_integer_dtype(cells.dtype):
        return False
    values = cells.dropna().to_numpy()
    return (
        len(values) > 0 and bool((values.astype(np.float64).astype(object) != values.astype(object)).any())
        if _large(values)
        else False
    )


def _large(values: NDArray[Any]) -> bool:
    return len(values) > 0 and max(abs(int(values.min())), abs(int(values.max()))) > 2**53


def one_clock(cells: "pd.Series[Any]") -> tuple["pd.Series[Any]", str | None, bool]:
    """Moments on one clock, its offset from UTC, and whether they had several, which are brought to UTC."""
    if cells.dt.tz is None:
        return cells, None, False
    wall = cells.dt.tz_localize(None)
    utc = cells.dt.tz_convert("UTC").dt.tz_localize(None)
    offsets = (wall - utc).dropna().unique()
    if len(offsets) != 1:
        return utc, "+00:00", True
    minutes = int(offsets[0].total_seconds() // 60)
    sign = "-" if minutes < 0 else "+"
    return wall, f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}", False


def iso(moments: NDArray[np.datetime64]) -> list[str | None]:
    """ISO 8601 to the second, or to the day where every moment is at midnight; None for NaT."""
    seconds = moments.astype("datetime64[s]")
    there = ~np.isnat(seconds)
    days = seconds.astype("datetime64[D]")
    midnight = bool((seconds[there] == days[there]).all())
    texts = np.datetime_as_string(seconds, unit="D" if midnight else "s").astype(object)
    texts[~there] = None
    return list(texts)
