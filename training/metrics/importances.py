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
MAX_CELLS_OF_A_CALL = 2_000_000  # 16 MB


@dataclass(frozen=True)
class Importance:
    """How much worse the metric gets when a raw column is shuffled.

    Parameters
    ----------
    mean, spread
        The mean and the standard deviation of the shuffles.
    error
        Half the 95 % interval of the mean over shuffles; 0 for a single shuffle, which has none.
    """

    column: str
    mean: float
    spread: float
    error: float = 0.0


def importances(
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    matrix: NDArray[np.float64],
    y: Sequence[Any] | NDArray[Any],
    signature: Signature,
    metric: str,
    *,
    max_repeats: int = 5,
    max_rows: int = 500,
    seed: int = 0,
) -> list[Importance]:
    """Permutation importance of the raw columns, the highest first; all matrix columns of one move together.

    Rows are drawn, and shuffles are fewer where columns are many, so that some 50,000 rows are scored.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(y, None if signature.task == "regression" else object)
    if len(matrix) > max_rows:
        chosen = np.sort(rng.choice(len(matrix), max_rows, replace=False))
        matrix, labels = matrix[chosen], labels[chosen]
    truth = truth_of(signature.task, labels, signature.classes, signature.positive, signature.threshold)
    found = METRICS[metric]
    whole = found.compute(truth, score(matrix))
    repeats = int(np.clip(MAX_SCORED_ROWS // max(1, len(matrix) * len(signature.columns)), 1, max_repeats))
    shuffles: list[tuple[str, slice]] = []
    start = 0
    for column in signature.columns:
        places = slice(start, start + column.width)
        start += column.width
        shuffles += [(column.name, places)] * (repeats if column.width else 0)
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
