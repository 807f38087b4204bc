"""Which trial is best: by the mean of the folds' figures, and where that decides too little, by log loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.metrics.metric import METRICS
from training.search.trial import SearchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.search.trial import Trial

LABEL_METRICS = frozenset({"accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro"})
RANK_METRICS, MAX_BRIER_LOST = frozenset({"roc_auc", "average_precision"}), 0.1
"""A winner by rank may lose this fraction of the baseline's Brier score against the best trial's."""


def sound_trials(trials: list[Trial], metric: str, baseline: Trial) -> list[Trial]:
    """The trials without those that rank well but have probabilities, and so labels, far from the best."""
    briers = [each.brier for each in trials if each.state == "complete" and np.isfinite(each.brier)]
    if metric not in RANK_METRICS or not briers:
        return trials
    limit = min(briers) + MAX_BRIER_LOST * baseline.brier
    return [each for each in trials if not (each.state == "complete" and each.brier > limit)]


def best_trial(trials: list[Trial], metric: str, variance: float) -> Trial:
    """The trial of the highest mean, the earliest of equals; SearchError where no trial is complete.

    Where the metric counts labels: of those not measurably worse, the trial of the lowest log loss.
    """
    complete = [each for each in trials if each.state == "complete"]
    if not complete:
        reasons = sorted({f"{each.family}: {each.reason}" for each in trials})
        raise SearchError("no candidate could be trained: " + "; ".join(reasons or ["no trial ran"]))
    sign = METRICS[metric].sign
    first = min(complete, key=lambda each: (-sign * each.score, each.number))
    if metric not in LABEL_METRICS:
        return first
    near = [each for each in complete if not measurably(first.fold_scores, each.fold_scores, variance, sign)]
    return min(near, key=lambda each: (each.log_loss, each.number), default=first)


def measurably(one: Sequence[float], other: Sequence[float], variance: float, sign: int = 1) -> bool:
    """Whether the figures of `one` are better than those of `other` by more than a standard error.

    `variance` is that of the mean of the folds' differences, in units of a single difference's.
    """
    gains = sign * (np.array(one) - np.array(other))
    gains = gains[np.isfinite(gains)]
    return len(gains) > 1 and bool(gains.mean() > gains.std(ddof=1) * np.sqrt(variance))
