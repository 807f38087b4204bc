"""Numbers: NaN is missing, and each value is one that float32 holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.kinds.cell import is_missing, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from artifact.kinds.cell import Encode, EncodeCell, Errors
    from artifact.signature import Column

MAX_NUMBER = math.nextafter(2.0**128 - 2.0**103, 0)
"""The largest number that is finite once it is rounded to float32; `3.4028235e38`, the shortest spelling of
float32's own maximum, is within it."""
MAX_WHOLE = 2.0**53
"""The largest whole number up to which float64 holds all of them."""
_PLAIN = frozenset((int, float))


def encode_column(column: Column, *, single: bool = True) -> Encode:
    """Cells to float64; `single` rounds each to what float32 holds."""
    offset = column.offset
    limit = MAX_WHOLE if column.whole else MAX_NUMBER

    def encode(cells: Sequence[Any], errors: Errors | None) -> NDArray[np.float64]:
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
            values = cells.astype(np.float64)
        elif set(map(type, cells)) <= _PLAIN:
            try:
                values = np.array(cells, np.float64)
            except OverflowError:  # an int beyond float64
                values = np.array([_number(cell) for cell in cells], np.float64)
        else:
            values = np.array([_number(cell) for cell in cells], np.float64)
        refused = ~np.isfinite(values) | (np.abs(values) > limit)
        if column.whole:
            refused |= np.floor(values) != values
        if refused.any():
            _refuse_numbers(column, cells, values, np.flatnonzero(refused).tolist(), errors)
        if offset:
            values = values - offset
        return values.astype(np.float32).astype(np.float64) if single else values

    return encode


def _refuse_numbers(
    column: Column,
    cells: Sequence[Any],
    values: NDArray[np.float64],
    places: list[int],
    errors: Errors | None,
) -> None:
    """Turn what may be missing into NaN, and report the rest."""
    for i in places:
        if errors is not None and not is_missing(cells[i], column.marks):
            value = cells[i]
            is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if is_number and column.whole:
                reason = f"expected a whole number within ±{MAX_WHOLE:.2g}, got {shown(value)}"
                errors.add(i, column.name, reason, "no_number")
            elif is_number:
                errors.add(
                    i,
                    column.name,
                    f"expected a number within ±{MAX_NUMBER:.2g}, got {shown(value)}",
                    "number_too_large",
                )
            else:
                errors.add(
                    i, column.name, f"expected a number{_what(column)}, got {shown(value)}", "no_number"
                )
        elif errors is not None and column.missing == "refuse":
            errors.add(i, column.name, "missing; expected a number", "missing")
        values[i] = np.nan


def _what(column: Column) -> str:
    """What a number of the column is, where the training table does not write it as JSON does."""
    if column.dotted_thousands:
        return " without dots between its thousands"
    return f" ({column.unit})" if column.unit else ""


def _number(cell: object) -> float:
    """The cell as a float; NaN for what is missing or not a number (the caller tells them apart)."""
    if isinstance(cell, (int, float, np.integer, np.floating)) and not isinstance(cell, bool):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    return math.nan


def encode_cell(column: Column) -> EncodeCell:
    absent = (math.nan,) if column.missing == "allow" else None
    offset = column.offset

    def encode(cell: Any) -> Sequence[float] | None:
        kind = type(cell)
        if kind is float or kind is int:
            return (cell,) if -MAX_NUMBER <= cell <= MAX_NUMBER else None
        return absent if cell is None else None

    def encode_shifted(cell: Any) -> Sequence[float] | None:
        found = encode(cell)
        return None if found is None else (float(found[0]) - offset,)

    return encode_shifted if offset else encode
