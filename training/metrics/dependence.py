"""Partial dependence: the mean score of rows when one column is set to each of its values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Column, Signature

MAX_COLUMNS = 4
MAX_POINTS = 20
MIN_POINTS = 2
MAX_ROWS = 100


@dataclass(frozen=True)
class Dependence:
    """The curve of one column.

    Parameters
    ----------
    values
        Numbers, or the names of categories.
    scores
        The mean score at each value, shape (values, outputs).
    """

    column: str
    values: tuple[float | str, ...]
    scores: NDArray[np.float64]


def dependences(
    score: Callable[[NDArray[Any]], NDArray[np.float64]],
    matrix: NDArray[Any],
    signature: Signature,
    wanted: Sequence[str],
    *,
    seed: int = 0,
) -> list[Dependence]:
    """The curves of the first number and category columns of `wanted`, at most `MAX_COLUMNS`."""
    if len(matrix) > MAX_ROWS:
        chosen = np.random.default_rng(seed).choice(len(matrix), MAX_ROWS, replace=False)
        matrix = matrix[np.sort(chosen)]
    places = dict(zip(signature.names, signature.places, strict=True))
    columns = {column.name: column for column in signature.columns}
    found: list[Dependence] = []
    for name in wanted:
        column = columns[name]
        if column.kind not in {"number", "category"} or len(found) == MAX_COLUMNS:
            continue
        place = places[name].start
        points = _points(column, matrix[:, place], signature)
        if len(points) < MIN_POINTS:
            continue
        means = []
        for _, cell in points:  # one at a time: the matrix of a text has thousands of columns
            moved = matrix.copy()
            moved[:, place] = cell
            means.append(score(moved).mean(axis=0))
        found.append(Dependence(name, tuple(value for value, _ in points), np.array(means)))
    return found


def _points(column: Column, cells: NDArray[Any], signature: Signature) -> list[tuple[float | str, Any]]:
    """The values of a curve, each with its cell in the matrix."""
    if column.kind == "category" and signature.raw:
        counts = Counter(cell for cell in cells.tolist() if isinstance(cell, str))
        return [(word, word) for word, _ in counts.most_common(MAX_POINTS)]
    if column.kind == "category":
        return [(word, float(code)) for code, word in enumerate(column.categories[:MAX_POINTS])]
    numbers = cells.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return []
    ends = np.quantile(numbers, np.linspace(0.02, 0.98, MAX_POINTS))
    if column.whole:
        ends = np.round(ends)
    points = np.unique(ends).astype(signature.dtype).astype(np.float64)
    return [(point + column.offset, point) for point in points.tolist()]
