"""How long the fits that come after a search take, and so when a search with a timeout has to end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from training.families.catalog import family

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from training.families.layout import Layout
    from training.search.trial import Trial

FINISH_S = 12.0
"""What follows the last fits on an idle machine: test rows, export, pictures, MLflow, gate."""
GAUGE, MAX_BUSY = "boosting", 4.0
"""The family, tried on every table, whose folds tell how many times slower a machine is than an idle one."""
MAX_RESERVE = 0.5
"""At most this fraction of a search's time is kept for what follows it."""
MIN_FIT_FRACTION = 1 / 3
"""The last fits have at least this fraction of what is left, or a busy machine would learn from few rows."""
MEMBERS = 2.0
"""An ensemble's last fits take about this many times as long as the best candidate's."""


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


def finish_s_by(trials: Sequence[Trial], layout: Layout, fold_rows: int) -> float:
    """What follows the last fits takes on this machine, as busy as it was during the search."""
    known = family(GAUGE).fit_seconds
    slower = [
        each.fold_seconds / known(each.params, layout, fold_rows)
        for each in trials
        if each.family == GAUGE and np.isfinite(each.fold_seconds)
    ]
    return FINISH_S * float(np.clip(np.median(slower or [1.0]), 1.0, MAX_BUSY))


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
        self.trials: list[Trial] = []
        self.fit_s = 0.0

    @property
    def reserve_s(self) -> float:
        """The seconds that are kept for what follows the search."""
        if not self.last_rows or self.timeout_s is None:
            return 0.0
        finish_s = finish_s_by(self.trials, self.layout, self.fold_rows)
        return min(MAX_RESERVE * self.timeout_s, finish_s + MEMBERS * self.fit_s)

    def finished(self, trial: Trial, *, best: bool) -> None:
        """Learn how long a trial takes, and from the best so far how long its last fit does."""
        self.trials.append(trial)
        if best and self.timeout_s is not None:
            fit = seconds_by(trial.family, trial.params, self.layout, self.fold_rows, trial.fold_seconds)
            self.fit_s = fit(self.last_rows)

    @property
    def over(self) -> bool:
        """Whether the time of the search is over."""
        return self._over_after(0.0)

    @property
    def over_with_another(self) -> bool:
        """Whether a trial as long as the median of those so far would not end in time."""
        return self._over_after(float(np.median([each.seconds for each in self.trials] or [0.0])))

    def _over_after(self, seconds: float) -> bool:
        if self.timeout_s is None:
            return False
        return time.monotonic() - self.started + seconds > self.timeout_s - self.reserve_s
