"""How much a model's answers change when numbers change a little, as a measurement or a typing error does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.signature import decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from artifact.signature import Signature

NOISE = 0.01
"""Standard deviation of the noise, as a fraction of a column's own."""
REPEATS = 10
MAX_ROWS = 500


@dataclass(frozen=True)
class Robustness:
    """What noise in every number column at once does.

    Parameters
    ----------
    changed
        The fraction of rows whose label changes; of numbers, the mean change of a prediction as a fraction
        of the predictions' standard deviation.
    rows
        Rows that were scored with noise.
    """

    changed: float
    rows: int


def robustness(
    score: Callable[[NDArray[Any]], NDArray[np.float64]],
    matrix: NDArray[Any],
    signature: Signature,
    *,
    seed: int = 0,
) -> Robustness | None:
    """Score rows with and without noise; None for a table without number columns that vary."""
    random = np.random.default_rng(seed)
    columns = list(zip(signature.columns, signature.places, strict=True))
    places = [place.start for column, place in columns if column.kind == "number"]
    whole = [column.whole for column in signature.columns if column.kind == "number"]
    if len(matrix) > MAX_ROWS:
        matrix = matrix[np.sort(random.choice(len(matrix), MAX_ROWS, replace=False))]
    numbers = matrix[:, places].astype(np.float64)
    spread = np.array(
        [np.std(each[np.isfinite(each)]) if np.isfinite(each).any() else 0 for each in numbers.T]
    )
    if not len(matrix) or not (spread > 0).any():
        return None
    before = score(matrix)
    width = np.std(before, axis=0)
    width[width == 0] = 1.0
    changes = []
    for _ in range(REPEATS):  # one at a time: the matrix of a text has thousands of columns
        noisy = matrix.copy()
        noise = random.normal(size=numbers.shape) * NOISE * spread
        # Rounded as the encoder rounds what a client sends.
        moved = np.where(whole, np.round(numbers + noise), numbers + noise)
        noisy[:, places] = moved.astype(signature.dtype)
        after = score(noisy)
        if signature.classes:
            changes.append(float((decide(signature, before) != decide(signature, after)).mean()))
        else:
            changes.append(float((np.abs(after - before) / width).mean()))
    return Robustness(float(np.mean(changes)), REPEATS * len(matrix))
