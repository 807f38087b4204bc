"""Cells for a model that reads the raw columns itself: checked by the signature, and else as they came.

A number is a float64, a text a `str` in NFC, a date an ISO 8601 text, and a missing cell NaN or None.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.kinds.category import canonical, reader
from artifact.kinds.cell import is_missing, listed, shown
from artifact.kinds.date import parse_date
from artifact.kinds.number import encode_column as encode_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.kinds.cell import Encode, Errors
    from artifact.signature import Column

EXPECTED = {"category": "a category", "text": "a text", "date": "a date"}


def encode_column(column: Column) -> Encode:
    """Cells of one column to an array of shape (rows,): float64 for a number, else of objects."""
    if column.kind == "number":
        return encode_numbers(column, single=False)
    read = _READ[column.kind](column)
    expected = EXPECTED[column.kind]

    def encode(cells: Sequence[Any], errors: Errors | None) -> NDArray[Any]:
        found = np.empty(len(cells), object)
        for i, cell in enumerate(cells):
            if is_missing(cell, column.marks):
                if errors is not None and column.missing == "refuse":
                    errors.add(i, column.name, f"missing; expected {expected}", "missing")
                if column.kind == "text" and isinstance(cell, str):
                    found[i] = ""  # a text vectorizer accepts an empty text and fails on NaN
                continue
            value = None if isinstance(cell, (list, tuple, dict)) else read(cell)
            if value is None and errors is not None:
                _refuse(column, i, cell, errors)
            found[i] = value
        return found

    return encode


def _refuse(column: Column, row: int, cell: object, errors: Errors) -> None:
    if column.kind == "category" and not isinstance(cell, (list, tuple, dict)):
        reason = f"unknown category {shown(cell)}; expected one of {listed(column.categories)}"
        errors.add(row, column.name, reason, "unknown_category")
    elif column.kind == "date":
        errors.add(row, column.name, f"expected a date such as {column.middle}, got {shown(cell)}", "no_date")
    elif column.kind == "category":
        errors.add(row, column.name, f"expected a category, got {shown(cell)}", "no_category")
    else:
        errors.add(row, column.name, f"expected a text, got {shown(cell)}", "no_text")


def _category(column: Column) -> Callable[[Any], str | None]:
    known = reader(column)

    def read(cell: Any) -> str | None:
        name = known(cell)
        if name is None and column.unknown == "pass":
            return unicodedata.normalize("NFC", canonical(cell))
        return name

    return read


def _text(_column: Column) -> Callable[[Any], str | None]:
    return lambda cell: unicodedata.normalize("NFC", cell) if isinstance(cell, str) else None


def _date(column: Column) -> Callable[[Any], str | None]:
    def read(cell: Any) -> str | None:
        found = parse_date(cell, column.formats)
        return None if found is None else found.isoformat()

    return read


_READ: dict[str, Callable[[Column], Callable[[Any], str | None]]] = {
    "category": _category,
    "text": _text,
    "date": _date,
}
