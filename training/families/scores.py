"""The scores that a fitted pipeline gives to rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def scores_of(pipeline: Any, matrix: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """Scores of shape (rows, k), k = classes or 1 for a regression (classes = 0)."""
    if not classes:
        return np.asarray(pipeline.predict(matrix), np.float64).reshape(len(matrix), 1)
    found = np.asarray(pipeline.predict_proba(matrix), np.float64)
    if found.shape[1] == classes:
        return found
    scores = np.zeros((len(matrix), classes))  # a fold without a row of some class
    scores[:, np.asarray(pipeline.classes_, np.intp)] = found
    return scores
