"""What a model is worth: metrics, intervals of a gain, slices, importances and pictures.

Scores are float64 of shape (rows, k): probabilities in the order of the classes, or (rows, 1) for a
regression. Truth is `y`: for classes their indices (`class_indices`), for a regression its values; both of
shape (rows,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.signature import pick, same_label

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Label, Signature

_BINARY = frozenset({"binary"})
_CLASSES = frozenset({"binary", "multiclass"})
_REGRESSION = frozenset({"regression"})
SMALLEST_PROBABILITY = 1e-15
SCORED_FOR_IMPORTANCES = 50_000
CELLS_OF_A_CALL = 2_000_000  # 16 MB


@dataclass(frozen=True)
class Truth:
    """What scores are held against.

    Parameters
    ----------
    y
        Class indices or values, shape (rows,).
    weights
        How often each row counts, shape (rows,).
    positive
        Index of the positive class; for several classes unused.
    threshold
        As in `Signature.threshold`.
    """

    y: NDArray[Any]
    weights: NDArray[np.float64]
    positive: int = 1
    threshold: float | None = None

    def predicted(self, scores: NDArray[np.float64]) -> NDArray[np.intp]:
        """Class indices that the scores decide for."""
        return pick(scores, self.threshold, self.positive)


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
    tasks: frozenset[str]
    compute: Callable[[Truth, NDArray[np.float64]], float]

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.higher_is_better else -1


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _accuracy(truth: Truth, scores: NDArray[np.float64]) -> float:
    return _share(truth.weights @ (truth.predicted(scores) == truth.y), truth.weights.sum())


def _confusion(truth: Truth, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of (actual, predicted), shape (classes, classes)."""
    k = scores.shape[1]
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
        if scores.shape[1] == 2 and not macro:
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
        if scores.shape[1] == 2:
            return area(truth.y == truth.positive, truth.weights, scores[:, truth.positive])
        areas = [area(truth.y == c, truth.weights, scores[:, c]) for c in range(scores.shape[1])]
        return float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")

    return compute


def _log_loss(truth: Truth, scores: NDArray[np.float64]) -> float:
    given = np.clip(scores[np.arange(len(scores)), truth.y.astype(np.intp)], SMALLEST_PROBABILITY, 1.0)
    return _share(-(truth.weights @ np.log(given)), truth.weights.sum())


def _brier(truth: Truth, scores: NDArray[np.float64]) -> float:
    """Squared distance to the truth; of two classes that of the positive alone, as scikit-learn has it."""
    wanted = np.eye(scores.shape[1])[truth.y.astype(np.intp)]
    errors = ((scores - wanted) ** 2).sum(axis=1) / (2 if scores.shape[1] == 2 else 1)
    return _share(truth.weights @ errors, truth.weights.sum())


def _mae(truth: Truth, scores: NDArray[np.float64]) -> float:
    return _share(truth.weights @ np.abs(truth.y - scores[:, 0]), truth.weights.sum())


def _rmse(truth: Truth, scores: NDArray[np.float64]) -> float:
    return float(np.sqrt(_share(truth.weights @ (truth.y - scores[:, 0]) ** 2, truth.weights.sum())))


def _r2(truth: Truth, scores: NDArray[np.float64]) -> float:
    total = truth.weights.sum()
    if total <= 0:
        return float("nan")
    mean = truth.weights @ truth.y / total
    spread = truth.weights @ (truth.y - mean) ** 2
    if spread <= 0:
        return float("nan")
    return float(1 - truth.weights @ (truth.y - scores[:, 0]) ** 2 / spread)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "Accuracy", True, _CLASSES, _accuracy),
        Metric("balanced_accuracy", "Balanced accuracy", True, _CLASSES, _balanced_accuracy),
        Metric("precision", "Precision", True, _CLASSES, _rate(0)),
        Metric("recall", "Recall", True, _CLASSES, _rate(1)),
        Metric("f1", "F1", True, _CLASSES, _rate(2)),
        Metric("f1_macro", "F1, mean of the classes", True, _CLASSES, _rate(2, macro=True)),
        Metric("roc_auc", "ROC AUC", True, _CLASSES, _one_against_rest(_area)),
        Metric("average_precision", "Average precision", True, _CLASSES, _one_against_rest(_precision_area)),
        Metric("log_loss", "Log loss", False, _CLASSES, _log_loss),
        Metric("brier", "Brier score", False, _CLASSES, _brier),
        Metric("mae", "Mean absolute error", False, _REGRESSION, _mae),
        Metric("rmse", "Root mean squared error", False, _REGRESSION, _rmse),
        Metric("r2", "R²", True, _REGRESSION, _r2),
    )
}

DEFAULT_METRIC = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "r2"}


def class_indices(labels: Sequence[Any] | NDArray[Any], classes: Sequence[Label]) -> NDArray[np.intp]:
    """Index of each label in `classes`; ValueError for one that is not there.

    Labels may be of numpy's types; `True` is not `1`.
    """
    plain = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    index = {(isinstance(label, bool), label): i for i, label in enumerate(classes)}
    try:
        return np.array([index[isinstance(label, bool), label] for label in plain], np.intp)
    except KeyError as error:
        raise ValueError(f"the label {error.args[0][1]!r} is none of {list(classes)}") from error


def truth_of(
    task: str,
    y: Sequence[Any] | NDArray[Any],
    classes: Sequence[Label] = (),
    positive: Label | None = None,
    threshold: float | None = None,
) -> Truth:
    """Labels or values as they stand in the data, ready to be compared; each row counts once."""
    if task == "regression":
        values: NDArray[Any] = np.asarray(y, np.float64)
        return Truth(values, np.ones(len(values)))
    values = class_indices(y, classes)
    place = next((i for i, label in enumerate(classes) if same_label(label, positive)), len(classes) - 1)
    return Truth(values, np.ones(len(values)), place, threshold)


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
    task = "regression" if found.tasks == _REGRESSION else "binary" if len(classes) == 2 else "multiclass"
    truths = [truth_of(task, y, classes, positive, threshold) for threshold in thresholds]
    rng = np.random.default_rng(seed)
    rows = len(truths[0].y)

    def gain(weights: NDArray[np.float64]) -> float:
        one, other = (
            found.compute(Truth(t.y, weights, t.positive, t.threshold), s)
            for t, s in zip(truths, (a, b), strict=True)
        )
        return found.sign * (one - other)

    mean = gain(np.ones(rows))
    draws = [gain(np.bincount(rng.integers(0, rows, rows), minlength=rows).astype(float)) for _ in range(n)]
    defined = np.array([draw for draw in draws if np.isfinite(draw)])
    if not np.isfinite(mean) or not defined.size:
        return float("nan"), float("nan"), float("nan")
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(mean), float(low), float(high)


@dataclass(frozen=True)
class SliceFigure:
    """The metric where a sensitive column has one value."""

    column: str
    level: str
    rows: int
    value: float


def slices(
    metric: str,
    y: Sequence[Any] | NDArray[Any],
    scores: NDArray[np.float64],
    sensitive: Any,
    *,
    task: str,
    classes: Sequence[Label] = (),
    positive: Label | None = None,
    threshold: float | None = None,
    most_levels: int = 12,
) -> list[SliceFigure]:
    """The metric for each level of each sensitive column (a data frame, one row a score).

    Numbers of many values are cut at their quartiles. Levels beyond the most frequent are put together as
    "other".
    """
    truth = truth_of(task, y, classes, positive, threshold)
    found: list[SliceFigure] = []
    for name in sensitive.columns:
        levels = _levels(sensitive[name], most_levels)
        for level in sorted(set(levels)):
            rows = np.flatnonzero(np.array([each == level for each in levels]))
            part = Truth(truth.y[rows], truth.weights[rows], truth.positive, truth.threshold)
            value = METRICS[metric].compute(part, scores[rows])
            found.append(SliceFigure(str(name), level, len(rows), value))
    return found


def _levels(column: Any, most: int) -> list[str]:
    missing = column.isna().to_numpy()
    if column.dtype.kind in "fiu" and column.nunique() > most:
        values = column.to_numpy(np.float64)
        edges = np.unique(np.quantile(values[~missing], [0.0, 0.25, 0.5, 0.75, 1.0]))
        place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        return [
            "missing" if gone else f"{edges[i]:g} to {edges[i + 1]:g}"
            for i, gone in zip(place, missing, strict=True)
        ]
    spelt = ["missing" if gone else str(cell) for cell, gone in zip(column, missing, strict=True)]
    counts: dict[str, int] = {}
    for level in spelt:
        counts[level] = counts.get(level, 0) + 1
    kept = set(sorted(counts, key=lambda level: (-counts[level], level))[:most])
    return [level if level in kept else "other" for level in spelt]


@dataclass(frozen=True)
class Importance:
    """How much worse the metric gets when a raw column is shuffled; the mean and spread of the shuffles."""

    column: str
    mean: float
    spread: float


def importances(
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    matrix: NDArray[np.float64],
    y: Sequence[Any] | NDArray[Any],
    signature: Signature,
    metric: str,
    *,
    most_repeats: int = 5,
    most_rows: int = 500,
    seed: int = 0,
) -> list[Importance]:
    """Permutation importance of the raw columns, the highest first; all matrix columns of one move together.

    Rows are drawn, and shuffles are fewer where columns are many, so that some 50,000 rows are scored.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(y, None if signature.task == "regression" else object)
    if len(matrix) > most_rows:
        chosen = np.sort(rng.choice(len(matrix), most_rows, replace=False))
        matrix, labels = matrix[chosen], labels[chosen]
    truth = truth_of(signature.task, labels, signature.classes, signature.positive, signature.threshold)
    found = METRICS[metric]
    whole = found.compute(truth, score(matrix))
    repeats = int(
        np.clip(SCORED_FOR_IMPORTANCES // max(1, len(matrix) * len(signature.columns)), 1, most_repeats)
    )
    shuffles: list[tuple[str, slice]] = []
    start = 0
    for column in signature.columns:
        places = slice(start, start + column.width)
        start += column.width
        shuffles += [(column.name, places)] * (repeats if column.width else 0)
    drops: dict[str, list[float]] = {column.name: [] for column in signature.columns}
    # Many shuffles in one call: a forest takes as long for one row as for hundreds.
    at_once = max(1, CELLS_OF_A_CALL // max(1, matrix.size))
    for first in range(0, len(shuffles), at_once):
        group = shuffles[first : first + at_once]
        stacked = np.tile(matrix, (len(group), 1))
        parts = np.split(stacked, len(group))
        for part, (_, places) in zip(parts, group, strict=True):
            part[:, places] = matrix[rng.permutation(len(matrix)), places]
        for scores, (name, _) in zip(np.split(score(stacked), len(group)), group, strict=True):
            drops[name].append(found.sign * (whole - found.compute(truth, scores)))
    result = [
        Importance(name, float(np.mean(each)) if each else 0.0, float(np.std(each)) if each else 0.0)
        for name, each in drops.items()
    ]
    return sorted(result, key=lambda each: (-each.mean, each.column))
