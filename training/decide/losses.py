"""The loss of each row, by which two models are compared row by row, and its bound.

A bet on a difference of loss needs a bound (`training.decide.evidence`), and the log loss and the errors of a
regression have none: beyond theirs they count as that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.metrics.truth import Truth

MIN_PROBABILITY = 0.01
"""A smaller probability of what came true counts as this one in the log loss."""
MAX_ERROR_RMSE = 3.0
"""An error of a regression above this many RMSE of the champion's test rows counts as this."""


def loss_of(metric: str, task: str) -> str:
    """The loss that stands for a metric of the gate: itself where it is a mean over rows, else the nearest.

    For metrics of ranks and counts, such as `roc_auc` and `f1`, that is the Brier score.
    """
    if task == "regression":
        return "mae" if metric == "mae" else "rmse"
    return metric if metric in {"accuracy", "log_loss"} else "brier"


def losses(
    loss: str, truth: Truth, scores: NDArray[np.float64], max_error: float = math.nan
) -> NDArray[np.float64]:
    """The loss of each row, between 0 and `bound_of`, shape (rows,).

    Parameters
    ----------
    max_error
        For `mae` and `rmse`, whose rows have absolute and squared errors: a larger error counts as this.
    """
    if loss in {"mae", "rmse"}:
        errors: NDArray[np.float64] = np.minimum(np.abs(truth.y - scores[:, 0]), max_error)
        return errors if loss == "mae" else errors * errors
    if loss == "accuracy":
        wrong: NDArray[np.bool_] = truth.predicted(scores) != truth.y
        return wrong.astype(np.float64)
    chances = np.clip(truth.chances(scores), 0.0, 1.0)
    y = truth.y.astype(np.intp)
    if loss == "log_loss":
        given: NDArray[np.float64] = np.maximum(chances[np.arange(len(y)), y], MIN_PROBABILITY)
        return -np.log(given)
    wanted = np.eye(chances.shape[1])[y]
    distances: NDArray[np.float64] = np.minimum(
        ((chances - wanted) ** 2).sum(axis=1), 2.0
    )  # they sum to 1, but for rounding
    return distances / 2 if chances.shape[1] == 2 else distances


def bound_of(loss: str, classes: int, max_error: float = math.nan) -> float:
    """The greatest loss of a row, and so of a difference."""
    return {
        "accuracy": 1.0,
        "log_loss": -math.log(MIN_PROBABILITY),
        "brier": 1.0 if classes == 2 else 2.0,
        "mae": max_error,
        "rmse": max_error**2,
    }[loss]
