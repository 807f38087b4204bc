"""How far chance alone moves a figure: 95 % bootstrap intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training.metrics.metric import METRICS
from training.metrics.truth import truth_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from artifact.signature import Label


def paired_gain(  # noqa: PLR0917
    metric: str,
    y: Sequence[Any] | NDArray[Any],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    n: int = 1000,
    seed: int = 0,
    *,
    classes: Sequence[Label] = (),
    positive: Label | None = None,
    thresholds: tuple[float | None, float | None] = (None, None),
) -> tuple[float, float, float]:
    """How much better scores `a` are than `b` on the same rows, by a paired bootstrap.

    Parameters
    ----------
    y
        The data's own labels, or values.
    a, b
        Scores of shape (rows, k), a challenger's and a champion's.
    n
        Resamples of the rows.
    thresholds
        Each side's decision threshold.

    Returns
    -------
    The gain on the rows themselves and the ends of its 95 % interval, positive where `a` is better;
    resamples on which the metric is undefined do not count. NaN where it is undefined on the rows.
    """
    found = METRICS[metric]
    task = "regression" if "regression" in found.tasks else "binary" if len(classes) == 2 else "multiclass"
    truths = [truth_of(task, y, classes, positive, threshold) for threshold in thresholds]
    rng = np.random.default_rng(seed)
    rows = len(truths[0].y)

    def gain(weights: NDArray[np.float64]) -> float:
        one, other = (
            found.compute(truth.weighed(weights), scores)
            for truth, scores in zip(truths, (a, b), strict=True)
        )
        return found.sign * (one - other)

    mean = gain(np.ones(rows))
    draws = [gain(np.bincount(rng.integers(0, rows, rows), minlength=rows).astype(float)) for _ in range(n)]
    defined = np.array([draw for draw in draws if np.isfinite(draw)])
    if not np.isfinite(mean) or not defined.size:
        return float("nan"), float("nan"), float("nan")
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(mean), float(low), float(high)
