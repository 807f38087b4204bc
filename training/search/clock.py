"""How long the fits that come after a search take, and so when a search with a timeout has to end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from training.families.catalog import family

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from training.families.layout import Layout
    from training.search.trial import Trial

FINISH_S = 12.0
"""What follows the last fits: test rows, export and its check, pictures, MLflow, gate."""
MAX_RESERVE = 0.5
"""Of a search's time at most this fraction is kept for what follows it."""
MEMBERS = 2.0
"""An ensemble's last fits take about so many times the best candidate's."""


def seconds_by(
    name: str, params: Mapping[str, Any], layout: Layout, fold_rows: int, fold_seconds: float | None
) -> Callable[[int], float]:
    """How long a fit on so many rows takes, by what a fold took, else by the family's own figure."""
    one = family(name)

    def known(rows: int) -> float:
        return one.fit_seconds(params, layout, rows)

    if fold_seconds is None or not np.isfinite(fold_seconds):
        return known
    scale = fold_seconds / max(known(fold_rows), 1e-9)
    return lambda rows: scale * known(rows)


class SearchTime:
    """The time that a search has; none is counted where `timeout_s` is None.

    Parameters
    ----------
    last_rows
        How many rows the winner is fitted on afterwards; 0: it is not.
    """

    def __init__(self, timeout_s: float | None, layout: Layout, fold_rows: int, last_rows: int) -> None:
        self.timeout_s, self.layout, self.fold_rows, self.last_rows = timeout_s, layout, fold_rows, last_rows
        self.started = time.monotonic()
        self.reserve_s = 0.0 if timeout_s is None else self._reserve(0.0)
        self.trials: list[float] = []

    def _reserve(self, fit_s: float) -> float:
        if not self.last_rows:
            return 0.0
        return min(MAX_RESERVE * (self.timeout_s or 0.0), FINISH_S + MEMBERS * fit_s)

    def finished(self, trial: Trial, *, best: bool) -> None:
        """Learn how long a trial takes, and from the best so far how long its last fit does."""
        self.trials.append(trial.seconds)
        if best and self.timeout_s is not None:
            fit = seconds_by(trial.family, trial.params, self.layout, self.fold_rows, trial.fold_seconds)
            self.reserve_s = self._reserve(fit(self.last_rows))

    @property
    def over(self) -> bool:
        """Whether the time of the search is over."""
        return (
            self.timeout_s is not None and time.monotonic() - self.started > self.timeout_s - self.reserve_s
        )

    @property
    def over_with_another(self) -> bool:
        """Whether a trial as long as the median of those so far would not end in time."""
        if self.timeout_s is None:
            return False
        spent = time.monotonic() - self.started
        return spent + float(np.median(self.trials or [0.0])) > self.timeout_s - self.reserve_s
