"""Which trial is best: by the mean of the folds' figures, and within their noise by log loss and by cost.

docs/decisions/0008-which-candidate-wins.md and 0055-cost-and-log-loss-within-noise.md say why.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from training.metrics.metric import METRICS
from training.search.trial import SearchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from training.search.trial import Trial

LABEL_METRICS = frozenset({"accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro"})
RANK_METRICS, MAX_BRIER_LOST = frozenset({"roc_auc", "average_precision"}), 0.1
"""A winner by rank may lose this fraction of the baseline's Brier score against the best trial's."""
MAX_LOG_LOSS = 1.25
"""A winner by rank may have this many times the log loss of a trial that is not measurably worse by rank."""
FREE_ROW_MS = 0.2
"""What a row may cost before a cheaper trial is taken: about what a request costs beside its model."""


def sound_trials(trials: list[Trial], metric: str, baseline: Trial) -> list[Trial]:
    """The trials without those that rank well but have probabilities, and so labels, far from the best."""
    briers = [each.brier for each in trials if each.state == "complete" and np.isfinite(each.brier)]
    if metric not in RANK_METRICS or not briers:
        return trials
    limit = min(briers) + MAX_BRIER_LOST * baseline.brier
    return [each for each in trials if not (each.state == "complete" and each.brier > limit)]


def best_trial(
    trials: list[Trial], metric: str, variance: float, row_ms: Callable[[Trial], float] = lambda _: 0.0
) -> Trial:
    """The trial of the highest mean, the earliest of equals; SearchError where no trial is complete.

    Of those not measurably worse: where the metric counts labels, the trial of the lowest log loss; where it
    ranks, none whose log loss is MAX_LOG_LOSS times another's; and of these one of the lowest `cost_level`.

    Parameters
    ----------
    row_ms
        What a row of a trial costs as served, in milliseconds; by default nothing.
    """
    complete = [each for each in trials if each.state == "complete"]
    if not complete:
        reasons = sorted({f"{each.family}: {each.reason}" for each in trials})
        raise SearchError("no candidate could be trained: " + "; ".join(reasons or ["no trial ran"]))
    sign = METRICS[metric].sign
    first = min(complete, key=lambda each: (-sign * each.score, each.number))
    near = [each for each in complete if not measurably(first.fold_scores, each.fold_scores, variance, sign)]
    if metric in RANK_METRICS:
        near = _of_sound_log_loss(near)

    def key(trial: Trial) -> tuple[int, float, int]:
        figure = trial.log_loss if metric in LABEL_METRICS else -sign * trial.score
        return cost_level(row_ms(trial)), figure, trial.number

    return min(near, key=key, default=first)


def _of_sound_log_loss(near: list[Trial]) -> list[Trial]:
    least = min((each.log_loss for each in near if np.isfinite(each.log_loss)), default=math.inf)
    return [each for each in near if not each.log_loss > MAX_LOG_LOSS * least]


def cost_level(row_ms: float) -> int:
    """0 for what nobody notices, and one more for each doubling: estimates that are nearer tell little."""
    return math.floor(math.log2(max(1.0, row_ms / FREE_ROW_MS)))


def measurably(one: Sequence[float], other: Sequence[float], variance: float, sign: int = 1) -> bool:
    """Whether the figures of `one` are better than those of `other` by more than a standard error.

    `variance` is that of the mean of the folds' differences, in units of a single difference's.
    """
    gains = sign * (np.array(one) - np.array(other))
    gains = gains[np.isfinite(gains)]
    return len(gains) > 1 and bool(gains.mean() > gains.std(ddof=1) * np.sqrt(variance))
