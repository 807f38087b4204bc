"""A fit on a large matrix without copies of it: each step writes into the one array that the model reads.

`ColumnTransformer.fit_transform` holds what each step made of the rows and all of it side by side, and a
network copies it once more. The array here is float32 where the model reads float32 anyway or learns as well
from it.
"""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGE_BYTES = 50_000_000
"""Matrices of fewer bytes are prepared by scikit-learn's own `fit_transform`."""
ROWS_AT_ONCE, LEARNT_ROWS = 50_000, 200_000
"""Medians and scales are those of about LEARNT_ROWS rows: scikit-learn copies rows several times for them."""
FLOAT32_MODELS = ("CatBoost", "LGBM", "XGB", "RandomForest", "ExtraTrees", "MLP")
"""Boosters and forests split cells that float32 holds; a network's batches round far more than its input."""


def return_freed_memory() -> None:
    """Give freed memory back to the system: 150 MB after 1,000,000 rows were read; only glibc keeps it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def in_a_file(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same matrix; a large one is mapped from a file without a name, which `unload` takes out of memory.

    Read-only then. Where no file can be written, it stays in memory.
    """
    if matrix.nbytes < LARGE_BYTES:
        return matrix
    with suppress(OSError), TemporaryFile(prefix="okamochi-") as file:
        # Written, not mapped to be written: a full disk is an error here, and would be SIGBUS there.
        for start in range(0, len(matrix), ROWS_AT_ONCE):
            file.write(np.ascontiguousarray(matrix[start : start + ROWS_AT_ONCE]).data)
        file.flush()
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(pages, matrix.dtype).reshape(matrix.shape)
    return matrix


def unload(matrix: NDArray[np.float64]) -> None:
    """Let the system have the pages of a matrix of `in_a_file`; they are read again when they are used."""
    held: Any = matrix
    while isinstance(held, np.ndarray):
        held = held.base
    if isinstance(held, memoryview):
        held = held.obj
    if isinstance(held, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        held.madvise(mmap.MADV_DONTNEED)


def dtype_of(model: Any) -> type[np.floating[Any]]:
    """The type in which a model reads a large matrix."""
    return np.float32 if type(model).__name__.startswith(FLOAT32_MODELS) else np.float64


def prepare(
    columns: Any, matrix: NDArray[Any], rows: NDArray[np.intp], y: NDArray[Any], dtype: type[Any]
) -> NDArray[Any]:
    """Fit a ColumnTransformer of dense steps; what its `fit_transform` gives for these rows of the matrix.

    The matrix may be of float32 and mapped from a file: each step reads float64.
    """
    asked = columns.transformers
    # Fitted on one row, it knows its columns; the steps are fitted one by one below.
    columns.transformers = [(name, "passthrough", places) for name, _, places in asked]
    columns.fit(_cells(matrix, rows[:1], range(matrix.shape[1])))
    columns.transformers = asked
    same = {name: step for name, step, _ in columns.transformers_}
    fitted, made = [], []
    for name, step, places in asked:
        if isinstance(step, str):
            fitted.append((name, same[name], places))
            made.append((None, None))
        elif _reads_the_target(step):
            one = clone(step)
            made.append((None, one.fit_transform(_cells(matrix, rows, places), y)))
            fitted.append((name, one, places))
        else:
            every = 1 if isinstance(step, OneHotEncoder) else -(-len(rows) // LEARNT_ROWS)
            one = clone(step).fit(_cells(matrix, rows[::every], places), y[::every])
            fitted.append((name, one, places))
            made.append((one, None))
    widths = [
        len(places) if one is None and whole is None else _width(one, whole, matrix, rows, places)
        for (one, whole), (_, _, places) in zip(made, asked, strict=True)
    ]
    ends = np.cumsum([0, *widths]).tolist()
    found = np.empty((len(rows), ends[-1]), dtype)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        for i, (one, whole) in enumerate(made):
            cells: Any = _cells(matrix, rows[part], asked[i][2]) if whole is None else whole[part]
            cells = cells if one is None else one.transform(cells)
            found[part, ends[i] : ends[i + 1]] = cells.toarray() if issparse(cells) else cells
    columns.transformers_ = fitted
    columns.output_indices_ = {name: slice(ends[i], ends[i + 1]) for i, (name, _, _) in enumerate(asked)} | {
        "remainder": slice(0, 0)
    }
    return found


def _width(
    one: Any, whole: NDArray[Any] | None, matrix: NDArray[Any], rows: NDArray[np.intp], places: Any
) -> int:
    cells = whole if whole is not None else one.transform(_cells(matrix, rows[:1], places))
    return int(cells.shape[1])


def _cells(matrix: NDArray[Any], rows: NDArray[np.intp], places: Any) -> NDArray[np.float64]:
    """These cells as float64, copied in parts, so that no wider copy is held."""
    found = np.empty((len(rows), len(places)))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        found[part] = matrix[rows[part]][:, list(places)]
    return found


def _reads_the_target(step: Any) -> bool:
    """Whether `fit_transform` is cross-fitted, and so gives other values than `transform`."""
    steps = [each for _, each in step.steps] if isinstance(step, Pipeline) else [step]
    return any(isinstance(each, TargetEncoder) for each in steps)
