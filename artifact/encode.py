"""Rows of any shape to one matrix, by the signature: the same code for training and for serving.

The matrix is float64, shape (rows, `signature.width`), and each value is one that float32 holds, so that a
tree splits alike in training and in its float32 ONNX form. A missing number or date part is NaN, a category
is its index in the signature, a missing or unknown one is -1, text is its TF-IDF row.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Column, Signature

MAX_ERRORS = 20
MAX_TERMS = 5_000
MAX_NAME = 200  # of a client's own name for a column, in what it is told
LONG_TEXT = 20_000
MISSING_CODE = -1.0
FEW_ROWS = 8
FLOAT32_MAX = float(np.finfo(np.float32).max)

_WORD = re.compile(r"\w\w+")
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_PLAIN = frozenset((int, float))


@dataclass(frozen=True)
class CellError:
    """What is wrong at one place of a request; rows count from 0, null where it is not one row or column."""

    row: int | None
    column: str | None
    reason: str


class BadRows(ValueError):  # noqa: N818 - what it holds is several errors
    """Rows that the signature refuses; `errors` holds at most 20 of them, the first found first."""

    def __init__(self, errors: Sequence[CellError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        place = [f"row {first.row}"] if first.row is not None else []
        place += [f"column {first.column!r}"] if first.column is not None else []
        super().__init__(", ".join(place) + (": " if place else "") + first.reason)


def canonical(value: object) -> str:
    """How a category is spelt, whatever type it came in: `1`, `1.0` and `"1"` are one, `True` is `"true"`."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)) and math.isfinite(value) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, np.generic):
        return str(value.item())
    return str(value)


def words(text: str, ngrams: int) -> list[str]:
    """The terms of a text: lower-case runs of one to `ngrams` words of two letters or more."""
    found = _WORD.findall(text.lower())
    return list(
        chain(
            found,
            *(map(" ".join, zip(*(found[i:] for i in range(n)), strict=False)) for n in range(2, ngrams + 1)),
        )
    )


def _words_one_by_one(text: str, ngrams: int) -> Iterator[str]:
    """`words`, in the same order, in no memory: a list of those of 16 MB takes 450."""
    text = text.lower()
    for n in range(1, ngrams + 1):
        last: deque[str] = deque(maxlen=n)
        for match in _WORD.finditer(text):
            last.append(match[0])
            if len(last) == n:
                yield " ".join(last)


def learn_text(
    texts: Iterable[str | None], *, ngrams: int = 1, max_terms: int = MAX_TERMS, min_documents: int = 2
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Vocabulary and idf of training texts: the terms in most documents, ln((1 + n) / (1 + df)) + 1 each.

    Returns
    -------
    Terms in alphabetical order and their idf, equally long; no term if none stands in `min_documents`.
    """
    documents: Counter[str] = Counter()
    count = 0
    for text in texts:
        count += 1
        documents.update(set(words(text or "", ngrams)))
    often = ((term, df) for term, df in documents.items() if df >= min_documents)
    kept = sorted(sorted(often, key=lambda pair: (-pair[1], pair[0]))[:max_terms])
    return tuple(term for term, _ in kept), tuple(math.log((1 + count) / (1 + df)) + 1 for _, df in kept)


class _Errors:
    """Collects what is wrong, and stops at the most that a reply names."""

    def __init__(self) -> None:
        self.found: list[CellError] = []

    def add(self, row: int | None, column: str | None, reason: str) -> None:
        self.found.append(CellError(row, column, reason))
        if len(self.found) >= MAX_ERRORS:
            self.check()

    def check(self) -> None:
        if self.found:
            raise BadRows(self.found)


class Encoder:
    """Turns rows into the matrix of `signature`.

    Every method takes raw values as they come out of JSON or a data frame's columns, and raises `BadRows` for
    what the signature refuses. `lenient=True` codes whatever a policy or a kind refuses as missing: for
    held-out rows that training scores.
    """

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._accepted = frozenset(signature.names) | frozenset(signature.ignored)
        self._names = frozenset(signature.names)
        self._encoders: list[tuple[Column, slice, _Encode]] = []
        texts = any(column.kind == "text" for column in signature.columns)
        self._cells = None if texts else [_CELLS[column.kind](column) for column in signature.columns]
        start = 0
        for column in signature.columns:
            self._encoders.append(
                (column, slice(start, start + column.width), _ENCODERS[column.kind](column))
            )
            start += column.width

    def floats(self, rows: Sequence[Sequence[float]]) -> NDArray[np.float64] | None:
        """The matrix of rows that are floats and nothing else, or None where `rows` must say what is wrong.

        Only for a signature whose columns are all numbers. Costs a tenth of `rows`.
        """
        try:
            with np.errstate(over="ignore"):
                single = np.array(rows, np.float32)
        except (ValueError, OverflowError):
            return None
        if single.ndim != 2 or single.shape[1] != self.signature.width or not np.isfinite(single).all():
            return None
        return single.astype(np.float64)

    def rows(self, rows: Sequence[Sequence[Any]], *, lenient: bool = False) -> NDArray[np.float64]:
        """Rows by position, each as wide as the signature has columns."""
        width = len(self.signature.columns)
        errors = _Errors()
        if not rows:
            errors.add(None, None, "expected at least one row, got none")
        for i, row in enumerate(rows):
            if not isinstance(row, (list, tuple, np.ndarray)):
                errors.add(i, None, f"expected a list of {width} values, got {_shown(row)}")
            elif len(row) != width:
                errors.add(i, None, f"expected {width} values, got {len(row)}")
        errors.check()
        quick = self._few(rows)
        if quick is not None:
            return quick
        return self._matrix(len(rows), list(zip(*rows, strict=True)), lenient=lenient)

    def records(self, records: Sequence[Mapping[str, Any]], *, lenient: bool = False) -> NDArray[np.float64]:
        """Rows by name; an absent key is a missing value."""
        errors = _Errors()
        if not records:
            errors.add(None, None, "expected at least one record, got none")
        for i, record in enumerate(records):
            if not isinstance(record, Mapping):
                errors.add(i, None, f"expected an object of columns, got {_shown(record)}")
            elif not record.keys() <= self._accepted:
                for name in record.keys() - self._accepted:
                    errors.add(i, str(name)[:MAX_NAME], self._unknown(name))
        errors.check()
        names = self.signature.names
        if len(records) <= FEW_ROWS:
            quick = self._few([[record.get(name) for name in names] for record in records])
            if quick is not None:
                return quick
        values = [[record.get(name) for record in records] for name in names]
        return self._matrix(len(records), values, lenient=lenient)

    def columns(self, columns: Mapping[str, Any], *, lenient: bool = False) -> NDArray[np.float64]:
        """Columns by name: equally long lists or one-dimensional arrays; an absent one is all missing."""
        errors = _Errors()
        lengths: dict[str, int] = {}
        for name, values in columns.items():
            if name not in self._accepted:
                errors.add(None, str(name)[:MAX_NAME], self._unknown(name))
            elif isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
                errors.add(None, name, f"expected a list of values, got {_shown(values)}")
            else:
                lengths[name] = len(values)
        errors.check()
        rows = next((lengths[name] for name in self.signature.names if name in lengths), None)
        if rows is None:
            errors.add(None, None, f"expected at least one of the columns {_listed(self.signature.names)}")
            errors.check()
        if rows == 0:
            errors.add(None, None, "expected at least one row, got none")
        for name, length in lengths.items():
            if length != rows:
                errors.add(None, name, f"expected {rows} values as in the other columns, got {length}")
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
        return np.array(lines, np.float32).astype(np.float64)

    def _matrix(self, rows: int, values: Sequence[Any], *, lenient: bool) -> NDArray[np.float64]:
        errors = _Errors()
        matrix = np.empty((rows, self.signature.width))
        for (column, place, encode), cells in zip(self._encoders, values, strict=True):
            raw = cells.to_numpy() if hasattr(cells, "to_numpy") else cells
            if column.kind != "number" and isinstance(raw, np.ndarray):
                raw = raw.tolist()
            before = len(errors.found)
            encoded = encode(raw, None if lenient else errors)
            if len(errors.found) == before:
                matrix[:, place] = encoded.reshape(rows, column.width)
        errors.check()
        return matrix

    def _unknown(self, name: object) -> str:
        near = difflib.get_close_matches(str(name)[:MAX_NAME], self.signature.names, 1)
        if near:
            return f"unknown column; did you mean {near[0]!r}?"
        return f"unknown column; expected {_listed(self.signature.names)}"


# Cells of one column, and where errors go (None: whatever is refused is coded as missing), to an array of
# shape (rows,) or (rows, width).
_Encode = Callable[[Sequence[Any], _Errors | None], "NDArray[np.float64]"]


def _numbers(column: Column) -> _Encode:
    def encode(cells: Sequence[Any], errors: _Errors | None) -> NDArray[np.float64]:
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
            values = cells.astype(np.float64)
        elif set(map(type, cells)) <= _PLAIN:
            try:
                values = np.array(cells, np.float64)
            except OverflowError:  # an int beyond float64
                values = np.array([_number(cell) for cell in cells], np.float64)
        else:
            values = np.array([_number(cell) for cell in cells], np.float64)
        refused = ~np.isfinite(values) | (np.abs(values) > FLOAT32_MAX)
        if refused.any():
            _refuse_numbers(column, cells, values, np.flatnonzero(refused).tolist(), errors)
        return values.astype(np.float32).astype(np.float64)

    return encode


def _refuse_numbers(
    column: Column,
    cells: Sequence[Any],
    values: NDArray[np.float64],
    places: list[int],
    errors: _Errors | None,
) -> None:
    """Code as missing what may be, name the rest."""
    for i in places:
        if errors is not None and not _is_missing(cells[i], column.marks):
            value = cells[i]
            if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
                errors.add(
                    i, column.name, f"expected a number within ±{FLOAT32_MAX:.2g}, got {_shown(value)}"
                )
            else:
                errors.add(i, column.name, f"expected a number, got {_shown(value)}")
        elif errors is not None and column.missing == "refuse":
            errors.add(i, column.name, "missing; expected a number")
        values[i] = np.nan


def _number(cell: object) -> float:
    """The cell as a float; NaN for what is missing or no number (the caller tells them apart)."""
    if isinstance(cell, (int, float, np.integer, np.floating)) and not isinstance(cell, bool):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    return math.nan


def _categories(column: Column) -> _Encode:
    codes = {category: float(code) for code, category in enumerate(column.categories)}
    boolean = codes.keys() <= {"true", "false"}

    def code_of(cell: object) -> float | None:
        """Code of a cell that is there, None for an unknown category."""
        name = canonical(cell)
        code = codes.get(name)
        if code is not None:
            return code
        if boolean:
            return codes.get(name.lower())
        whole = _WHOLE.fullmatch(name)
        return codes.get(whole[1]) if whole else None

    def encode(cells: Sequence[Any], errors: _Errors | None) -> NDArray[np.float64]:
        known: dict[object, float] = {}
        values = np.empty(len(cells))
        for i, cell in enumerate(cells):
            try:
                key = (type(cell), cell)
                code = known.get(key)
            except TypeError:  # a list or an object
                key, code = None, None
            if code is None:
                code = _category_code(column, i, cell, code_of, errors)
                if key is not None and code >= 0:
                    known[key] = code
            values[i] = code
        return values

    return encode


def _category_code(
    column: Column, row: int, cell: object, code_of: Callable[[object], float | None], errors: _Errors | None
) -> float:
    if _is_missing(cell):
        if errors is not None and column.missing == "refuse":
            errors.add(row, column.name, f"missing; expected one of {_listed(column.categories)}")
        return MISSING_CODE
    if isinstance(cell, (list, tuple, dict)):
        if errors is not None:
            errors.add(row, column.name, f"expected a category, got {_shown(cell)}")
        return MISSING_CODE
    code = code_of(cell)
    if code is None:
        if errors is not None and _is_missing(cell, column.marks):
            if column.missing == "refuse":
                errors.add(row, column.name, f"missing; expected one of {_listed(column.categories)}")
        elif errors is not None and column.unknown == "refuse":
            errors.add(
                row,
                column.name,
                f"unknown category {_shown(cell)}; expected one of {_listed(column.categories)}",
            )
        return MISSING_CODE
    return code


def _texts(column: Column) -> _Encode:
    index = {term: i for i, term in enumerate(column.terms)}
    idf = np.array(column.idf)

    def encode(cells: Sequence[Any], errors: _Errors | None) -> NDArray[np.float64]:
        single = np.zeros((len(cells), len(index)), np.float32)
        for i, cell in enumerate(cells):
            if not isinstance(cell, str) or not cell:
                if errors is not None and not _is_missing(cell):
                    errors.add(i, column.name, f"expected a text, got {_shown(cell)}")
                elif errors is not None and column.missing == "refuse":
                    errors.add(i, column.name, "missing; expected a text")
                continue
            read = words if len(cell) < LONG_TEXT else _words_one_by_one
            counts = Counter(map(index.get, read(cell, column.ngrams)))
            counts.pop(None, None)
            if counts:
                places = np.fromiter(counts, np.intp, len(counts))
                weights = np.fromiter(counts.values(), np.float64, len(counts)) * idf[places]
                single[i, places] = weights / math.sqrt(float(weights @ weights))
        return single.astype(np.float64)

    return encode


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


def _dates(column: Column) -> _Encode:
    parts = [_PARTS[part] for part in column.parts]
    nothing = tuple(repeat(math.nan, len(parts)))

    def encode(cells: Sequence[Any], errors: _Errors | None) -> NDArray[np.float64]:
        known: dict[object, tuple[float, ...]] = {}
        values = []
        for i, cell in enumerate(cells):
            row = known.get(cell) if isinstance(cell, str) else None
            if row is None:
                found = None if _is_missing(cell) else parse_date(cell, column.formats)
                row = nothing if found is None else tuple(float(part(found)) for part in parts)
                if found is not None and isinstance(cell, str):
                    known[cell] = row
                elif found is None and errors is not None:
                    if not _is_missing(cell, column.marks):
                        errors.add(
                            i, column.name, f"expected a date such as {column.middle}, got {_shown(cell)}"
                        )
                    elif column.missing == "refuse":
                        errors.add(i, column.name, f"missing; expected a date such as {column.middle}")
            values.append(row)
        return np.array(values, np.float64).reshape(len(cells), len(parts))

    return encode


# One plain cell to its part of the line, or None for a cell that the column's own encoder must look at.
_EncodeCell = Callable[[Any], "Sequence[float] | None"]


def _number_cell(column: Column) -> _EncodeCell:
    absent = (math.nan,) if column.missing == "allow" else None

    def encode(cell: Any) -> Sequence[float] | None:
        kind = type(cell)
        if kind is float or kind is int:
            return (cell,) if -FLOAT32_MAX <= cell <= FLOAT32_MAX else None
        return absent if cell is None else None

    return encode


def _category_cell(column: Column) -> _EncodeCell:
    codes: dict[object, Sequence[float]] = {name: (float(i),) for i, name in enumerate(column.categories)}
    if column.missing == "allow":
        codes[None] = (MISSING_CODE,)

    def encode(cell: Any) -> Sequence[float] | None:
        return codes.get(cell) if cell is None or type(cell) is str else None

    return encode


def _date_cell(column: Column) -> _EncodeCell:
    parts = [_PARTS[part] for part in column.parts]

    def encode(cell: Any) -> Sequence[float] | None:
        found = parse_date(cell, column.formats) if type(cell) is str else None
        return None if found is None else [part(found) for part in parts]

    return encode


_CELLS: dict[str, Callable[[Column], _EncodeCell]] = {
    "number": _number_cell,
    "category": _category_cell,
    "date": _date_cell,
}
_ENCODERS: dict[str, Callable[[Column], _Encode]] = {
    "number": _numbers,
    "category": _categories,
    "text": _texts,
    "date": _dates,
}


def _is_missing(cell: object, marks: Sequence[str] = ()) -> bool:
    """Null, "", blank text and marks, and NaN (which JSON cannot say, but a data frame or a tensor can)."""
    if cell is None or (isinstance(cell, str) and (not cell.strip() or cell.strip() in marks)):
        return True
    if isinstance(cell, (float, np.floating)):
        return math.isnan(cell)
    return type(cell).__name__ in ("NaTType", "NAType")  # of pandas, which is not imported here


def _shown(value: object) -> str:
    """A client's value in a sentence: short, and as JSON spells it."""
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


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


__all__ = ["MAX_TERMS", "BadRows", "CellError", "Encoder", "canonical", "learn_text", "parse_date", "words"]
