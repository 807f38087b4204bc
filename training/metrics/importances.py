"""How much a model relies on each column: what the metric loses when the column is shuffled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from training.metrics.metric import METRICS
from training.metrics.truth import truth_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature

MAX_SCORED_ROWS = 50_000
MIN_REPEATS, MAX_REPEATS = 3, 5
"""A single shuffle would have no interval."""
MIN_ROWS, MAX_ROWS = 100, 500
MAX_CELLS_OF_A_CALL = 2_000_000  # 16 MB


@dataclass(frozen=True)
class Importance:
    """How much worse the metric gets when a raw column is shuffled.

    Parameters
    ----------
    mean, spread
        The mean and the standard deviation of the shuffles.
    error
        Half the 95 % interval of the mean over shuffles.
    """

    column: str
    mean: float
    spread: float
    error: float = 0.0


def importances(
    score: Callable[[NDArray[Any]], NDArray[np.float64]],
    matrix: NDArray[Any],
    y: Sequence[Any] | NDArray[Any],
    signature: Signature,
    metric: str,
    *,
    max_scored: int = MAX_SCORED_ROWS,
    seed: int = 0,
) -> list[Importance]:
    """Permutation importance of the raw columns, the highest first; all matrix columns of one move together.

    Rows are drawn, and shuffles are fewer where columns are many, so that some `max_scored` rows are scored.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(y, object if signature.classes else None)
    columns = len(signature.columns)
    max_rows = int(np.clip(max_scored // (MIN_REPEATS * columns), MIN_ROWS, MAX_ROWS))
    if len(matrix) > max_rows:
        chosen = np.sort(rng.choice(len(matrix), max_rows, replace=False))
        matrix, labels = matrix[chosen], labels[chosen]
    truth = truth_of(signature.task, labels, signature.classes, signature.positive, signature.threshold)
    found = METRICS[metric]
    whole = found.compute(truth, score(matrix))
    repeats = int(np.clip(max_scored // max(1, len(matrix) * columns), MIN_REPEATS, MAX_REPEATS))
    shuffles: list[tuple[str, slice]] = []
    for name, places in zip(signature.names, signature.places, strict=True):
        shuffles += [(name, places)] * (repeats if places.stop > places.start else 0)
    drops: dict[str, list[float]] = {column.name: [] for column in signature.columns}
    # Many shuffles in one call: a forest takes as long for one row as for hundreds.
    at_once = max(1, MAX_CELLS_OF_A_CALL // max(1, matrix.size))
    for first in range(0, len(shuffles), at_once):
        group = shuffles[first : first + at_once]
        stacked = np.tile(matrix, (len(group), 1))
        parts = np.split(stacked, len(group))
        for part, (_, places) in zip(parts, group, strict=True):
            part[:, places] = matrix[rng.permutation(len(matrix)), places]
        for scores, (name, _) in zip(np.split(score(stacked), len(group)), group, strict=True):
            drops[name].append(found.sign * (whole - found.compute(truth, scores)))
    result = [
        Importance(
            name,
            float(np.mean(each)) if each else 0.0,
            float(np.std(each)) if each else 0.0,
            _half_interval(each),
        )
        for name, each in drops.items()
    ]
    return sorted(result, key=lambda each: (-each.mean, each.column))


def _half_interval(drops: Sequence[float]) -> float:
    """Half the 95 % interval of the mean, by Student's t."""
    n = len(drops)
    if n < 2:
        return 0.0
    return float(stats.t.ppf(0.975, n - 1) * np.std(drops, ddof=1) / np.sqrt(n))
