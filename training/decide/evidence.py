"""Which of two models loses less, by a test that stays valid however often one looks at it.

The data are the differences of loss of two models on the same rows. A gambler bets on each difference and
begins with 1. While the mean difference is not above 0, his capital is a supermartingale, so it ever reaches
1/a with a probability of at most a (Ville's inequality), whatever the shape of the distribution. He spreads
his capital over fixed fractions (`BETS`), so it does not depend on the order in which outcomes become known.
Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BETS = 0.98 * 2.0 ** -np.arange(10)
"""The fractions of the capital that are bet on a row. The best one is about the mean difference over its
variance, in units of the bound. Steps of 2 cost the fewest rows: finer ones share the capital among more."""
ROWS_AT_ONCE = 10_000
BISECTIONS = 24
FIRST_ROUND = 0.8
"""The part of alpha that the first round of a comparison may use; the later ones share the rest."""

Better = Literal["champion", "shadow", "undecided"]


@dataclass(frozen=True)
class Evidence:
    """What the rows so far say.

    Parameters
    ----------
    mean
        Mean difference of loss, champion minus shadow: above 0 the shadow is better. NaN without rows.
    for_shadow, for_champion
        Logarithm of the capital of the bets on either.
    needed
        Logarithm of the capital that decides.
    rows_left
        How many more rows decide, if the differences stay as they are; None if they are all 0.
    """

    rows: int
    mean: float
    for_shadow: float
    for_champion: float
    needed: float
    rows_left: int | None

    @property
    def better(self) -> Better:
        """The model that the evidence is for, once it is enough."""
        if max(self.for_shadow, self.for_champion) < self.needed:
            return "undecided"
        return "shadow" if self.for_shadow >= self.for_champion else "champion"


def weigh(differences: NDArray[np.float64], bound: float, alpha: float) -> Evidence:
    """The evidence in differences of loss, champion minus shadow.

    Parameters
    ----------
    differences
        Shape (rows,), within -bound and bound.
    alpha
        The greatest probability of ever deciding for the wrong one of two equal models.
    """
    scaled = _scaled(differences, bound)
    shadow, champion = _log_capitals(scaled), _log_capitals(-scaled)
    capital = _mixed(shadow), _mixed(champion)
    needed = math.log(2 / alpha)
    rows = len(scaled)
    left: int | None = None
    growth = max(shadow.max(), champion.max()) / rows if rows else 0.0
    if max(capital) >= needed:
        left = 0
    elif growth > 0:
        left = max(1, math.ceil((needed - max(capital)) / growth))
    return Evidence(rows, float(differences.mean()) if rows else math.nan, *capital, needed, left)


def interval(differences: NDArray[np.float64], bound: float, alpha: float) -> tuple[float, float]:
    """The confidence sequence of the mean difference: with 1 - alpha it holds the mean at every look.

    It excludes 0 exactly where `weigh` decides.
    """
    scaled = _scaled(differences, bound)
    return (bound * _lowest(scaled, alpha), -bound * _lowest(-scaled, alpha))


def round_alpha(alpha: float, number: int) -> float:
    """The part of alpha for a round of a comparison, from 0. All parts together are alpha."""
    if number <= 0:
        return FIRST_ROUND * alpha
    return (1 - FIRST_ROUND) * alpha / (number * (number + 1))


def _scaled(differences: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    scaled = np.asarray(differences, np.float64) / bound
    if not (np.abs(scaled) <= 1 + 1e-9).all():
        raise ValueError(f"a difference of loss is outside of the bound {bound:g}, or not a number")
    return np.clip(scaled, -1, 1)


def _log_capitals(gains: NDArray[np.float64], mean: float = 0.0) -> NDArray[np.float64]:
    """Logarithm of each bet's capital against means of at most `mean`, shape (bets,)."""
    found = np.zeros(len(BETS))
    for start in range(0, len(gains), ROWS_AT_ONCE):
        part = (gains[start : start + ROWS_AT_ONCE] - mean) / (1 + mean)
        found += np.log1p(np.multiply.outer(BETS, part)).sum(axis=1)
    return found


def _mixed(logs: NDArray[np.float64]) -> float:
    """Logarithm of the mean of the capitals."""
    most = logs.max()
    return float(most + np.log(np.exp(logs - most).mean()))


def _lowest(gains: NDArray[np.float64], alpha: float) -> float:
    """The lowest mean in [-1, 1] that the bets on a higher one do not refute."""
    needed, low, high = math.log(2 / alpha), -1.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _mixed(_log_capitals(gains, middle)) >= needed:
            low = middle
        else:
            high = middle
    return low
