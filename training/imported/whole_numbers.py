"""Columns of whole numbers, which `pandas.read_csv` gives as int64: a model may tell them from floats.

A step of one's own that turns a number into a word makes "10115" of the one and "10115.0" of the other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.python_model import answer_of
from training.imported.answers import LOOKED_AT
from training.tables.sources import read_source

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from artifact.python_model import PythonModel
    from artifact.signature import Signature
    from training.settings import UseCase

_WHOLE = re.compile(r"\s*[+-]?\d+\s*")


def as_read_csv_gives_them(
    model: Any, spec: PythonModel, signature: Signature, rows: NDArray[Any], use_case: UseCase
) -> tuple[PythonModel, Signature]:
    """The spec that gives whole numbers as integers, if the model answers otherwise than with floats.

    Such a column takes only whole numbers then, and none missing: of several rows, one with a fraction would
    change the type of the column, and so the answers to all others.

    Parameters
    ----------
    rows
        Raw rows of the table.
    """
    whole = {
        column.name
        for place, column in enumerate(signature.columns)
        if column.kind == "number" and column.integer and np.isfinite(rows[:, place].astype(float)).all()
    }
    whole &= {each.name for each in spec.inputs if each.dtype == "float"}
    if not spec.frame or not whole:
        return spec, signature
    rows = rows[:LOOKED_AT]
    if _same(_answers(model, spec, signature, rows), _answers(model, _with(spec, whole), signature, rows)):
        return spec, signature
    table = read_source(use_case).frame
    written = {str(name).strip() for place, name in enumerate(table) if _whole(table.iloc[:, place])}
    kept = {
        name
        for name in sorted(whole & written)
        if not _same(
            _answers(model, _with(spec, whole & written), signature, rows),
            _answers(model, _with(spec, (whole & written) - {name}), signature, rows),
        )
    }
    columns = (
        msgspec.structs.replace(each, whole=True, missing="refuse") if each.name in kept else each
        for each in signature.columns
    )
    return _with(spec, kept), msgspec.structs.replace(signature, columns=tuple(columns))


def _with(spec: PythonModel, whole: set[str]) -> PythonModel:
    inputs = (
        msgspec.structs.replace(each, dtype="int") if each.name in whole else each for each in spec.inputs
    )
    return msgspec.structs.replace(spec, inputs=tuple(inputs))


def _whole(cells: pd.Series[Any]) -> bool:
    """Whether every cell is a whole number: of that type, or written without a decimal point."""
    if cells.dtype.kind in "iu":
        return True
    return all(isinstance(cell, str) and _WHOLE.fullmatch(cell) is not None for cell in cells)


def _answers(model: Any, spec: PythonModel, signature: Signature, rows: NDArray[Any]) -> Any:
    """What the model answers, as an array; None if it raises."""
    try:
        found = answer_of(model, spec, signature)(rows)
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found)
    except Exception:  # noqa: BLE001 - whatever the model raises, it does not take the rows
        return None


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    if one.dtype.kind in "fc" and other.dtype.kind in "fc":
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(np.array_equal(one, other))
