"""The metrics: each is one figure of scores and truth. A new one is a function and a line in `METRICS`.

Its name also goes into `training.settings.METRIC_NAMES`, which gives its tasks. Use cases are checked against
these names without loading numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from training.metrics.truth import truth_of
from training.settings import METRIC_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Label
    from training.metrics.truth import Truth

MIN_PROBABILITY = 1e-15


@dataclass(frozen=True)
class Metric:
    """One figure.

    Parameters
    ----------
    compute
        Truth and scores to the figure; NaN where it is not defined (one class only, no row).
    """

    name: str
    title: str
    higher_is_better: bool
    compute: Callable[[Truth, NDArray[np.float64]], float]

    @property
    def tasks(self) -> frozenset[str]:
        """The tasks that have this metric."""
        return frozenset(task for task, names in METRIC_NAMES.items() if self.name in names)

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.higher_is_better else -1


def _fraction(part: Any, whole: Any) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _accuracy(truth: Truth, scores: NDArray[np.float64]) -> float:
    return _fraction(truth.weights @ (truth.predicted(scores) == truth.y), truth.weights.sum())


def _confusion(truth: Truth, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of (actual, predicted), shape (classes, classes)."""
    k = truth.chances(scores).shape[1]
    flat = truth.y.astype(np.intp) * k + truth.predicted(scores)
    return np.bincount(flat, truth.weights, k * k).reshape(k, k).astype(np.float64)


def _balanced_accuracy(truth: Truth, scores: NDArray[np.float64]) -> float:
    table = _confusion(truth, scores)
    rows = table.sum(axis=1)
    there = rows > 0
    return float(np.mean(np.diag(table)[there] / rows[there])) if there.any() else float("nan")


def _rates(truth: Truth, scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Precision, recall and F1 of each class; 0 where none was predicted, NaN for a class that is absent."""
    table = _confusion(truth, scores)
    hit, predicted, actual = np.diag(table), table.sum(axis=0), table.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(predicted > 0, hit / predicted, 0.0)
        recall = np.where(actual > 0, hit / actual, 0.0)
        f1 = 2 * hit / (predicted + actual)
    absent = predicted + actual == 0
    return tuple(np.where(absent, np.nan, rate) for rate in (precision, recall, f1))


def _rate(which: int, *, macro: bool = False) -> Callable[[Truth, NDArray[np.float64]], float]:
    """The positive class's rate for two classes, the unweighted mean of the classes' for more."""

    def compute(truth: Truth, scores: NDArray[np.float64]) -> float:
        rates = _rates(truth, scores)[which]
        if truth.chances(scores).shape[1] == 2 and not macro:
            return float(np.nan_to_num(rates[truth.positive]))
        return float(np.nanmean(rates)) if np.isfinite(rates).any() else float("nan")

    return compute


def ranked(
    yes: NDArray[np.bool_], weights: NDArray[np.float64], score: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Thresholds from the highest score down, and the weight of hits and false alarms from each on."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.cumsum(weights[order] * yes[order])[last]
    alarms = np.cumsum(weights[order] * ~yes[order])[last]
    return ranked[last], hits, alarms


def _area(yes: NDArray[np.bool_], weights: NDArray[np.float64], score: NDArray[np.float64]) -> float:
    _, hits, alarms = ranked(yes, weights, score)
    if not hits.size or hits[-1] <= 0 or alarms[-1] <= 0:
        return float("nan")
    before = np.concatenate([[0.0], hits[:-1]])
    return float(np.sum(np.diff(alarms, prepend=0.0) * (hits + before) / 2) / (hits[-1] * alarms[-1]))


def _precision_area(
    yes: NDArray[np.bool_], weights: NDArray[np.float64], score: NDArray[np.float64]
) -> float:
    _, hits, alarms = ranked(yes, weights, score)
    if not hits.size or hits[-1] <= 0:
        return float("nan")
    named = hits + alarms
    precision = np.divide(hits, named, out=np.ones_like(hits), where=named > 0)
    return float(np.sum(np.diff(hits, prepend=0.0) * precision) / hits[-1])


def _one_against_rest(
    area: Callable[[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]], float],
) -> Callable[[Truth, NDArray[np.float64]], float]:
    """The positive class's area for two classes; for more the mean over those that are there."""

    def compute(truth: Truth, scores: NDArray[np.float64]) -> float:
        scores = truth.chances(scores)
        if scores.shape[1] == 2:
            return area(truth.y == truth.positive, truth.weights, scores[:, truth.positive])
        areas = [area(truth.y == c, truth.weights, scores[:, c]) for c in range(scores.shape[1])]
        return float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")

    return compute


def _log_loss(truth: Truth, scores: NDArray[np.float64]) -> float:
    given = np.clip(scores[np.arange(len(scores)), truth.y.astype(np.intp)], MIN_PROBABILITY, 1.0)
    return _fraction(-(truth.weights @ np.log(given)), truth.weights.sum())


def _brier(truth: Truth, scores: NDArray[np.float64]) -> float:
    """Squared distance to the truth; of two classes that of the positive alone, as scikit-learn has it."""
    scores = truth.chances(scores)
    wanted = np.eye(scores.shape[1])[truth.y.astype(np.intp)]
    errors = ((scores - wanted) ** 2).sum(axis=1) / (2 if scores.shape[1] == 2 else 1)
    return _fraction(truth.weights @ errors, truth.weights.sum())


def _mean_of_targets(
    one: Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], float],
) -> Callable[[Truth, NDArray[np.float64]], float]:
    """A regression's figure of weights, values and scores; of several targets the unweighted mean."""

    def compute(truth: Truth, scores: NDArray[np.float64]) -> float:
        if truth.y.ndim == 1:
            return one(truth.weights, truth.y, scores[:, 0])
        if not truth.y.shape[1]:
            return float("nan")
        return float(np.mean([one(truth.weights, *pair) for pair in zip(truth.y.T, scores.T, strict=True)]))

    return compute


def _mae(weights: NDArray[np.float64], y: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    return _fraction(weights @ np.abs(y - scores), weights.sum())


def _rmse(weights: NDArray[np.float64], y: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    return float(np.sqrt(_fraction(weights @ (y - scores) ** 2, weights.sum())))


def _r2(weights: NDArray[np.float64], y: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    total = weights.sum()
    if total <= 0:
        return float("nan")
    mean = weights @ y / total
    spread = weights @ (y - mean) ** 2
    if spread <= 0:
        return float("nan")
    return float(1 - weights @ (y - scores) ** 2 / spread)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "Accuracy", True, _accuracy),
        Metric("balanced_accuracy", "Balanced accuracy", True, _balanced_accuracy),
        Metric("precision", "Precision", True, _rate(0)),
        Metric("recall", "Recall", True, _rate(1)),
        Metric("f1", "F1", True, _rate(2)),
        Metric("f1_macro", "F1, mean of the classes", True, _rate(2, macro=True)),
        Metric("roc_auc", "ROC AUC", True, _one_against_rest(_area)),
        Metric("average_precision", "Average precision", True, _one_against_rest(_precision_area)),
        Metric("log_loss", "Log loss", False, _log_loss),
        Metric("brier", "Brier score", False, _brier),
        Metric("mae", "Mean absolute error", False, _mean_of_targets(_mae)),
        Metric("rmse", "Root mean squared error", False, _mean_of_targets(_rmse)),
        Metric("r2", "R²", True, _mean_of_targets(_r2)),
    )
}

DEFAULT_METRIC = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "r2", "scores": "r2"}


def metrics(  # noqa: PLR0917
    task: str,
    y: Sequence[Any] | NDArray[Any],
    scores: NDArray[np.float64],
    classes: Sequence[Label] = (),
    positive: Label | None = None,
    threshold: float | None = None,
) -> dict[str, float]:
    """Every metric of the task.

    Parameters
    ----------
    y
        The data's own labels, or values, shape (rows,).
    scores
        Shape (rows, k).
    """
    truth = truth_of(task, y, classes, positive, threshold)
    return {name: each.compute(truth, scores) for name, each in METRICS.items() if task in each.tasks}
