"""Partial dependence: the mean score of rows when one column is set to each of its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature

MAX_COLUMNS = 4
MAX_POINTS = 20
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
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    matrix: NDArray[np.float64],
    signature: Signature,
    columns: Sequence[str],
    *,
    seed: int = 0,
) -> list[Dependence]:
    """The curves of the first number and category columns of `columns`, at most `MAX_COLUMNS`."""
    if len(matrix) > MAX_ROWS:
        chosen = np.random.default_rng(seed).choice(len(matrix), MAX_ROWS, replace=False)
        matrix = matrix[np.sort(chosen)]
    places, start = {}, 0
    for column in signature.columns:
        if column.kind in {"number", "category"}:
            places[column.name] = (start, column)
        start += column.width
    found: list[Dependence] = []
    for name in columns:
        if name not in places or len(found) == MAX_COLUMNS:
            continue
        place, column = places[name]
        cells = matrix[:, place]
        names: tuple[float | str, ...]
        if column.kind == "category":
            points = np.arange(min(len(column.categories), MAX_POINTS), dtype=np.float64)
            names = column.categories[: len(points)]
        else:
            there = cells[np.isfinite(cells)]
            points = (
                np.unique(np.quantile(there, np.linspace(0.02, 0.98, MAX_POINTS))) if len(there) else there
            )
            points = points.astype(signature.dtype).astype(np.float64)
            names = tuple((points + column.offset).tolist())
        if len(points) < 2:
            continue
        means = []
        for point in points:  # one at a time: the matrix of a text has thousands of columns
            moved = matrix.copy()
            moved[:, place] = point
            means.append(score(moved).mean(axis=0))
        found.append(Dependence(name, names, np.array(means)))
    return found
