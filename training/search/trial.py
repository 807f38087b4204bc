"""A candidate and its figures on the folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from training.families.catalog import family
from training.families.ensemble import ENSEMBLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.families.layout import Layout


class SearchError(ValueError):
    """No model can be trained on this table; the message says why."""


@dataclass(frozen=True)
class Trial:
    """One candidate.

    Parameters
    ----------
    number
        From 0; -1 is the baseline's, and an ensemble's is one more than the last.
    family
        Name of a family, or "ensemble": then `params["members"]` lists its members' family, params, weight.
    fold_scores
        The metric of each fold that ran, in its own units.
    score
        Their mean; NaN for a failed trial.
    state
        "complete", "pruned" or "failed".
    reason
        Why it failed or was pruned.
    log_loss, brier
        The means of the folds', for classes.
    fold_seconds
        What fitting and scoring a fold took in its process, in the mean.
    """

    number: int
    family: str
    params: dict[str, Any]
    fold_scores: tuple[float, ...]
    score: float
    seconds: float
    state: str
    reason: str = ""
    log_loss: float = float("nan")
    brier: float = float("nan")
    fold_seconds: float = float("nan")

    @property
    def title(self) -> str:
        """Its family's name for people."""
        if self.family != ENSEMBLE:
            return family(self.family).title
        return "Ensemble of " + ", ".join(
            family(member["family"]).title.lower() for member in self.params["members"]
        )


def members_of(trial: Trial) -> list[dict[str, Any]]:
    """The family, params and weight of each member of an ensemble, or of a single candidate."""
    if trial.family == ENSEMBLE:
        return list(trial.params["members"])
    return [{"family": trial.family, "params": trial.params, "weight": 1}]


def row_ms_of(trial: Trial, layout: Layout, rows: int) -> float:
    """About what a row costs as served by ONNX, in milliseconds, if the model is fitted on so many rows."""
    total = 0.0
    for member in members_of(trial):
        one = family(member["family"])
        fitted = min(rows, one.max_fit_rows(member["params"], layout))
        total += one.row_us(member["params"], layout, fitted) / 1000
    return total


def mean_of(figures: Sequence[float]) -> float:
    """The mean of the folds on which the metric is defined."""
    defined = [figure for figure in figures if np.isfinite(figure)]
    return float(np.mean(defined)) if defined else float("nan")
