"""Two models on the same test rows: their figures, and whether their difference is more than chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from training.metrics.metric import METRICS
from training.metrics.truth import Truth, truth_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.public.ours import Trained

JUDGED = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "rmse"}
"""The metric of each task that the comparison judges by: the one that both were to optimise."""
RESAMPLES, LEVEL = 1_000, 0.95
MAX_AREA_LOST, MAX_ERROR_GROWN = 0.01, 0.02
"""What a significant loss may be: of ROC AUC, and of the error in parts of it."""


@dataclass(frozen=True)
class Compared:
    """Figures of both on the test rows.

    Parameters
    ----------
    gain
        Of ours over theirs by the judged metric: of ROC AUC in its units, of errors in parts of theirs.
    low, high
        Its interval of 95 % by the paired bootstrap of test rows.
    """

    metric: str
    ours: dict[str, float]
    theirs: dict[str, float]
    gain: float
    low: float
    high: float

    @property
    def significantly_worse(self) -> bool:
        """Whether all of the interval is below zero."""
        return self.high < 0

    @property
    def within_the_promise(self) -> bool:
        """Whether it is not significantly worse by more than is promised."""
        most = MAX_AREA_LOST if self.metric == "roc_auc" else MAX_ERROR_GROWN
        return not (self.significantly_worse and self.gain < -most)

    @property
    def better_or_equal(self) -> bool:
        """Whether ours has the better figure, or the difference may be chance."""
        return self.gain >= 0 or not self.significantly_worse


def compare(trained: Trained, theirs: NDArray[np.float64], seed: int = 0) -> Compared:
    """Hold our scores against theirs, of shape (test rows, k) in the order of our classes."""
    table = trained.test.table
    truth = truth_of(table.task, trained.test.truth, trained.classes, table.positive)  # type: ignore[arg-type]
    metric = JUDGED[table.task]
    shown = (metric,) if table.task == "regression" else (metric, "log_loss")
    pair = (np.asarray(trained.scores, float)[:, : theirs.shape[1]], theirs)
    ours_figures, their_figures = ({name: _figure(truth, one, name) for name in shown} for one in pair)
    rng = np.random.default_rng(seed)
    gains = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(theirs), len(theirs))
        part = Truth(truth.y[rows], truth.weights[rows], truth.positive, truth.threshold)
        gains.append(_gain(metric, *(_figure(part, one[rows], metric) for one in pair)))
    low, high = np.nanquantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    gain = _gain(metric, ours_figures[metric], their_figures[metric])
    return Compared(metric, ours_figures, their_figures, gain, float(low), float(high))


def _figure(truth: Any, scores: NDArray[np.float64], metric: str) -> float:
    return METRICS[metric].compute(truth, scores)


def _gain(metric: str, ours: float, theirs: float) -> float:
    if metric == "roc_auc":
        return ours - theirs
    if metric == "accuracy":
        ours, theirs = 1 - ours, 1 - theirs
    return (theirs - ours) / max(theirs, 1e-12)
