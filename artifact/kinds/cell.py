"""What the cells of every kind share: what counts as missing, and how an error names a place and a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ERRORS = 20


Fault = Literal[
    "missing",
    "no_category",
    "no_date",
    "no_number",
    "no_rows",
    "no_text",
    "bad_picture",
    "number_too_large",
    "unknown_category",
    "unknown_column",
    "wrong_width",
    "bad_row",
    "bad_option",
]
"""What kind of error it is: a name that stays, for logs and metrics, where no value of a cell may stand."""


@dataclass(frozen=True)
class CellError:
    """What is wrong at one place of a request; rows count from 0, null where it is not one row or column.

    Parameters
    ----------
    reason
        For the client: it may quote a cell, as may the column where the fault is an unknown one.
    fault
        None where nothing of it may be logged but the row.
    """

    row: int | None
    column: str | None
    reason: str
    fault: Fault | None = None


class BadRows(ValueError):  # noqa: N818 - what it holds is several errors
    """Rows that the signature refuses; `errors` holds the first MAX_ERRORS of them."""

    def __init__(self, errors: Sequence[CellError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        place = [f"row {first.row}"] if first.row is not None else []
        place += [f"column {first.column!r}"] if first.column is not None else []
        super().__init__(", ".join(place) + (": " if place else "") + first.reason)


class Errors:
    """Collects errors, and raises BadRows as soon as there are MAX_ERRORS of them."""

    def __init__(self) -> None:
        self.found: list[CellError] = []

    def add(self, row: int | None, column: str | None, reason: str, fault: Fault) -> None:
        self.found.append(CellError(row, column, reason, fault))
        if len(self.found) >= MAX_ERRORS:
            self.check()

    def check(self) -> None:
        if self.found:
            raise BadRows(self.found)


Encode = Callable[[Sequence[Any], Errors | None], "NDArray[Any]"]
"""Cells of one column, and where errors go, to an array of shape (rows,) or (rows, width).

Without a place for errors a refused cell becomes a missing value.
"""

EncodeCell = Callable[[Any], "Sequence[float] | None"]
"""One plain cell to its part of the line, or None for a cell that the column's `Encode` must look at."""


def is_missing(cell: object, marks: Sequence[str] = ()) -> bool:
    """Null, "", blank text, a mark, or NaN (which a data frame or a tensor can hold, but JSON cannot)."""
    if cell is None or (isinstance(cell, str) and (not cell.strip() or cell.strip() in marks)):
        return True
    if isinstance(cell, (float, np.floating)):
        return math.isnan(cell)
    return type(cell).__name__ in ("NaTType", "NAType")  # of pandas, which is not imported here


def shown(value: object) -> str:
    """A client's value for an error message: shortened, and as JSON spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else text[:57] + "..." + text[0]


def listed(names: Sequence[object]) -> str:
    """The first eight of some names or labels, for a sentence."""
    shown = ", ".join(repr(name) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
