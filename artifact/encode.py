"""Rows of any shape to one matrix, by the signature: the same code for training and for serving.

The matrix is float64, shape (rows, `signature.width`), and each value is one that float32 holds:
scikit-learn's trees compare their input as float32, so training and serving must round it alike. A model that
was made elsewhere (`signature.double`) gets numbers unrounded. A model that
reads raw columns (`signature.raw`) gets them as they came: a matrix of objects, or of float64 where all are
numbers. `artifact.kinds` has a module for each kind of column.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.kinds import category, date, image, number, raw, text
from artifact.kinds.category import canonical
from artifact.kinds.cell import BadRows, CellError, Encode, EncodeCell, Errors, Fault, listed, shown
from artifact.kinds.date import parse_date
from artifact.kinds.number import MAX_NUMBER
from artifact.kinds.text import MAX_TERMS, learn_text, words
from artifact.nfc import nfc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Column, Signature

MAX_NAME = 200  # characters of an unknown column's name that an error repeats
FEW_ROWS = 8

_CELLS: dict[str, Callable[[Column], EncodeCell]] = {
    "number": number.encode_cell,
    "category": category.encode_cell,
    "date": date.encode_cell,
}
_COLUMNS: dict[str, Callable[[Column], Encode]] = {
    "number": number.encode_column,
    "category": category.encode_column,
    "text": text.encode_column,
    "date": date.encode_column,
    "image": image.encode_column,
}


class Encoder:
    """Turns rows into the matrix of `signature`.

    Every method takes raw values as they come out of JSON or a data frame's columns, and raises `BadRows` for
    what the signature refuses. `lenient=True` turns each cell that would be
    refused into a missing value, for the held-out rows that training scores.
    """

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._accepted = frozenset(signature.names) | frozenset(signature.ignored)
        self._names = frozenset(signature.names)
        self._encoders: list[tuple[Column, slice, Encode]] = []
        plain = not signature.raw and all(column.kind in _CELLS for column in signature.columns)
        self._cells = [_CELLS[column.kind](column) for column in signature.columns] if plain else None
        for column, place in zip(signature.columns, signature.places, strict=True):
            encode = raw.encode_column if signature.raw else _COLUMNS[column.kind]
            if column.kind == "number":
                encode = partial(number.encode_column, single=signature.dtype is np.float32)
            self._encoders.append((column, place, encode(column)))

    def rows(self, rows: Sequence[Sequence[Any]], *, lenient: bool = False) -> NDArray[np.float64]:
        """Rows by position, each as wide as the signature has columns."""
        width = len(self.signature.columns)
        errors = Errors()
        if not rows:
            errors.add(None, None, "expected at least one row, got none", "no_rows")
        for i, row in enumerate(rows):
            if not isinstance(row, (list, tuple, np.ndarray)):
                errors.add(i, None, f"expected a list of {width} values, got {shown(row)}", "bad_row")
            elif len(row) != width:
                errors.add(i, None, f"expected {width} values, got {len(row)}", "wrong_width")
        errors.check()
        quick = self._few(rows)
        if quick is not None:
            return quick
        return self._matrix(len(rows), list(zip(*rows, strict=True)), lenient=lenient)

    def records(self, records: Sequence[Mapping[str, Any]], *, lenient: bool = False) -> NDArray[np.float64]:
        """Rows by name; an absent key is a missing value."""
        errors = Errors()
        respelt: dict[int, Mapping[str, Any]] = {}
        if not records:
            errors.add(None, None, "expected at least one record, got none", "no_rows")
        for i, record in enumerate(records):
            if not isinstance(record, Mapping):
                errors.add(i, None, f"expected an object of columns, got {shown(record)}", "bad_row")
            elif not record.keys() <= self._accepted:
                respelt[i] = _with_names_in_nfc(record)
                for name in respelt[i].keys() - self._accepted:
                    errors.add(i, str(name)[:MAX_NAME], self._unknown(name), "unknown_column")
        errors.check()
        if respelt:
            records = [respelt.get(i, record) for i, record in enumerate(records)]
        names = self.signature.names
        if len(records) <= FEW_ROWS:
            quick = self._few([[record.get(name) for name in names] for record in records])
            if quick is not None:
                return quick
        values = [[record.get(name) for record in records] for name in names]
        return self._matrix(len(records), values, lenient=lenient)

    def columns(self, columns: Mapping[str, Any], *, lenient: bool = False) -> NDArray[np.float64]:
        """Columns by name: equally long lists or one-dimensional arrays; an absent one is all missing."""
        errors = Errors()
        if not self._accepted.issuperset(columns.keys()):  # of a data frame too
            columns = _with_names_in_nfc(columns)
        lengths: dict[str, int] = {}
        for name, values in columns.items():
            if name not in self._accepted:
                errors.add(None, str(name)[:MAX_NAME], self._unknown(name), "unknown_column")
            elif isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
                errors.add(None, name, f"expected a list of values, got {shown(values)}", "bad_row")
            else:
                lengths[name] = len(values)
        errors.check()
        rows = next((lengths[name] for name in self.signature.names if name in lengths), None)
        if rows is None:
            errors.add(
                None, None, f"expected at least one of the columns {listed(self.signature.names)}", "no_rows"
            )
            errors.check()
        if rows == 0:
            errors.add(None, None, "expected at least one row, got none", "no_rows")
        for name, length in lengths.items():
            if length != rows:
                errors.add(
                    None, name, f"expected {rows} values as in the other columns, got {length}", "wrong_width"
                )
        errors.check()
        assert rows is not None  # noqa: S101 - errors.check() has raised
        values = [columns[name] if name in columns else [None] * rows for name in self.signature.names]
        return self._matrix(rows, values, lenient=lenient)

    def _few(self, rows: Sequence[Sequence[Any]]) -> NDArray[np.float64] | None:
        """The matrix of a few rows without anything unusual, else None: 6 us for 30 columns instead of 400.

        `_matrix` goes by column through numpy, which costs 10 us a column however few the rows.
        """
        if len(rows) > FEW_ROWS or self._cells is None:
            return None
        lines: list[list[float]] = []
        for row in rows:
            line: list[float] = []
            for encode, cell in zip(self._cells, row, strict=True):
                value = encode(cell)
                if value is None:
                    return None
                line += value
            lines.append(line)
        return np.array(lines, self.signature.dtype).astype(np.float64, copy=False)

    def _matrix(self, rows: int, values: Sequence[Any], *, lenient: bool) -> NDArray[np.float64]:
        errors = Errors()
        objects = self.signature.raw and any(column.kind != "number" for column in self.signature.columns)
        matrix = np.empty((rows, self.signature.width), object if objects else np.float64)
        for (column, place, encode), cells in zip(self._encoders, values, strict=True):
            found = cells.to_numpy() if hasattr(cells, "to_numpy") else cells
            if column.kind != "number" and isinstance(found, np.ndarray):
                found = found.tolist()
            before = len(errors.found)
            encoded = encode(found, None if lenient else errors)
            if len(errors.found) == before:
                matrix[:, place] = encoded.reshape(rows, place.stop - place.start)
        errors.check()
        return matrix

    def _unknown(self, name: object) -> str:
        near = difflib.get_close_matches(str(name)[:MAX_NAME], self.signature.names, 1)
        if near:
            return f"unknown column; did you mean {near[0]!r}?"
        return f"unknown column; expected {listed(self.signature.names)}"


def _with_names_in_nfc(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {nfc(name) if isinstance(name, str) else name: cell for name, cell in cells.items()}


__all__ = [
    "MAX_NUMBER",
    "MAX_TERMS",
    "BadRows",
    "CellError",
    "Encoder",
    "Fault",
    "canonical",
    "learn_text",
    "parse_date",
    "words",
]
