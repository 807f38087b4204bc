"""The forms of `/invocations` to encoded rows: a split frame, records, columns, and tensors by position."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from artifact.encode import CellError
from artifact.nfc import nfc
from serving.errors import Problem
from serving.protocols.blocks import Number
from serving.protocols.csv_table import MAX_NAME, check_unique
from serving.protocols.wording import described, keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from serving.scoring.catalog import LiveModel

MAX_HINTS = 20
MAX_IGNORED = 10_000
"""Columns that a frame may have beside the model's own: they are ignored, but take memory."""


def rows_of_form(form: str, value: object, model: LiveModel) -> NDArray[Any]:
    """The value of one of `FORMS` to encoded rows.

    Raises
    ------
    Problem
        400 for a value that is not of the form, 413 for too many rows, 422 for a misspelt column.
    BadRows
        Rows that the signature refuses.
    """
    return _READERS[form](value, form, model)


def _split(value: object, form: str, model: LiveModel) -> NDArray[Any]:
    if not isinstance(value, dict) or "data" not in value or not value.keys() <= {"columns", "data", "index"}:
        got = keys(list(value)) if isinstance(value, dict) else described(value)
        raise Problem(
            400, f'"{form}" must be an object with "data" and, if wanted, "columns" and "index"; got {got}.'
        )
    data, names, index = value["data"], value.get("columns"), value.get("index")
    if not isinstance(data, list):
        raise Problem(400, f'"{form}": expected "data" to be a list of rows, got {described(data)}.')
    if index is not None and (not isinstance(index, list) or len(index) != len(data)):
        raise Problem(400, f'"{form}": expected "index" to be a list as long as "data", {len(data)}.')
    if names is None:
        return _rows(data, model)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Problem(400, f'"{form}": expected "columns" to be a list of names.')
    names = [nfc(name) for name in names]
    if tuple(names) == model.signature.names:
        return _rows(data, model)
    check_names(names, f'in "columns" of "{form}"', model)
    if len(names) == 1:
        data = [row if isinstance(row, list) else [row] for row in data]
    _check_widths(data, len(names))
    cells = list(zip(*data, strict=True)) or [()] * len(names)
    return from_columns(dict(zip(names, cells, strict=True)), model)


def _records(value: object, form: str, model: LiveModel) -> NDArray[Any]:
    if not isinstance(value, list):
        raise Problem(400, f'"{form}" must be a list of records, got {described(value)}.')
    model.check_rows(len(value))
    signature = model.signature
    accepted = frozenset(signature.names) | frozenset(signature.ignored)
    known = frozenset(signature.names)
    records: list[Any] = []
    unknown: dict[str, set[str]] = {}
    for record in value:
        if isinstance(record, dict) and not record.keys() <= accepted:
            absent = known - record.keys()
            if absent and len(unknown) < MAX_HINTS:
                unknown |= dict.fromkeys(record.keys() - accepted, absent)
            records.append({name: cell for name, cell in record.items() if name in accepted})
        else:
            records.append(record)
    _check_spelling(unknown)
    if records and not any(record.keys() & known for record in records if isinstance(record, dict)):
        # Every column may be missing; MLflow has no frame to score either.
        model.encoder.columns({}) if all(isinstance(record, dict) for record in records) else None
    return model.encoder.records(records)


def _tensor(value: object, form: str, model: LiveModel) -> NDArray[Any]:
    """`instances` or `inputs`: both take rows, records and columns, whatever their names say."""
    if isinstance(value, dict):
        _check_width(len(value), f'in "{form}"', model)
        return from_columns(_full(value, model), model)
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return _records(value, form, model)
        return _rows(value, model)
    raise Problem(
        400, f'"{form}" must be a list of rows or records, or an object of columns; got {described(value)}.'
    )


_READERS: dict[str, Callable[[Any, str, LiveModel], NDArray[Any]]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _tensor,
    "inputs": _tensor,
}


def _rows(rows: list[Any], model: LiveModel) -> NDArray[Any]:
    """Rows by position; for a one-column model also bare values, for numbers also a nested tensor."""
    model.check_rows(len(rows))
    signature = model.signature
    if len(signature.columns) == 1 and rows and not any(isinstance(row, (list, dict)) for row in rows):
        rows = [[row] for row in rows]
    elif signature.numeric and rows and all(map(_nested, rows)):
        rows = _flat(rows, signature.width)
    return model.encoder.rows(rows)


def _nested(row: object) -> bool:
    return isinstance(row, list) and bool(row) and all(isinstance(cell, list) for cell in row)


def _flat(rows: list[Any], width: int) -> list[Any]:
    """Images and the like: each row a rectangle of numbers, read line by line."""
    try:
        tensor = np.array(rows, dtype=object)
    except ValueError:
        raise Problem(422, "The nested lists are ragged; expected a rectangular tensor.") from None
    cells = tensor.reshape(-1)  # `flat` stops at 32 dimensions
    if tensor.size != len(rows) * width or any(isinstance(cell, list) for cell in cells):
        raise Problem(422, f"Expected {width} values a row, got a tensor of shape {list(tensor.shape)}.")
    return cast("list[Any]", cells.reshape(len(rows), width).tolist())


def _full(columns: dict[str, Any], model: LiveModel) -> dict[str, Any]:
    """Columns in which a single value stands for the whole column, or for the only row."""
    lengths = [len(cells) for cells in columns.values() if isinstance(cells, list)]
    n = max(lengths, default=1)
    model.check_rows(n)
    accepted = model.signature.names
    return {
        name: [cells] * n if name in accepted and not isinstance(cells, (list, dict)) else cells
        for name, cells in columns.items()
    }


def from_columns(columns: Mapping[str, Any], model: LiveModel) -> NDArray[Any]:
    signature = model.signature
    model.check_rows(max((len(cells) for cells in columns.values() if hasattr(cells, "__len__")), default=0))
    absent = {name for name in signature.names if name not in columns}
    accepted = frozenset(signature.names) | frozenset(signature.ignored)
    if absent:
        _check_spelling({name: absent for name in columns if name not in accepted})
    # The shape of an ignored column does not matter.
    kept = {name: columns[name] for name in signature.names if name in columns}
    if signature.numeric and not absent:
        matrix = _numbers(list(kept.values()), signature.dtype)
        if matrix is not None:
            return matrix
    return model.encoder.columns(kept)


def _numbers(columns: list[Any], dtype: type[np.floating[Any]]) -> NDArray[Any] | None:
    """The matrix of columns that are lists of numbers only, 20 times as fast as the encoder."""
    try:
        values = [msgspec.convert(cells, list[Number]) for cells in columns]
        matrix = np.array(values, dtype).T
    except (msgspec.ValidationError, ValueError):
        return None
    return np.ascontiguousarray(matrix) if matrix.size and np.isfinite(matrix).all() else None


def _check_width(width: int, where: str, model: LiveModel) -> None:
    own = len(model.signature.names)
    if width > own + MAX_IGNORED:
        raise Problem(400, f"There are {width} columns {where}; {model.name!r} has {own}.")


def check_names(names: Sequence[str], where: str, model: LiveModel) -> None:
    """Refuse a frame with a duplicate column or with too many columns."""
    _check_width(len(names), where, model)
    check_unique(names, where)


def _check_spelling(unknown: Mapping[str, Iterable[str]]) -> None:
    """Refuse a column that MLflow would ignore, if it is a misspelt name of a missing column."""
    for name, absent in list(unknown.items())[:MAX_HINTS]:
        near = difflib.get_close_matches(name, absent, 1, 0.8) if len(name) <= MAX_NAME else []
        if near:
            reason = f"unknown column; did you mean {near[0]!r}?"
            raise Problem(422, f"column {name!r}: {reason}", errors=[CellError(None, name, reason)])


def _check_widths(rows: Sequence[Any], width: int) -> None:
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            got = len(row) if isinstance(row, list) else described(row)
            reason = f"expected {width} values, one for each of the columns, got {got}"
            raise Problem(422, f"row {i}: {reason}", errors=[CellError(i, None, reason)])


FORMS = tuple(_READERS)
