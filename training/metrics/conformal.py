"""How often intervals at a level hold the outcome, measured on rows that they were not calibrated on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from artifact.calibration import reach, sets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Signature

LEVELS = (0.8, 0.9, 0.95)
SPLITS = 200


@dataclass(frozen=True)
class Coverage:
    """What intervals, or sets of classes, at a level come to.

    Parameters
    ----------
    covered
        The mean fraction of rows whose outcome they hold: rows of one half, calibrated on the other
        half, over `SPLITS` random halvings.
    size
        Half the width of an interval, or the mean number of classes of a set, calibrated on all rows.
    """

    level: float
    covered: float
    size: float


def coverages(
    signature: Signature, missed: NDArray[np.float64], scores: NDArray[np.float64], *, seed: int = 0
) -> list[Coverage]:
    """What each of `LEVELS` comes to that half of the rows can promise."""
    found = []
    ordered = np.sort(missed)
    for level in LEVELS:
        within = reach(ordered, level)
        covered = halved(missed, level, seed=seed)
        if within is None or covered is None:
            continue
        size = within
        if signature.classes:
            size = float(np.mean([len(each) for each in sets(signature, scores, within)]))
        found.append(Coverage(level, covered, size))
    return found


def halved(missed: NDArray[np.float64], level: float, *, seed: int = 0, splits: int = SPLITS) -> float | None:
    """The mean coverage of one half calibrated on the other; None if half the rows are too few."""
    random = np.random.default_rng(seed)
    middle = len(missed) // 2
    found = []
    for _ in range(splits):
        shuffled = random.permutation(missed)
        within = reach(np.sort(shuffled[:middle]), level)
        if within is None:
            return None
        found.append(float((shuffled[middle:] <= within).mean()))
    return float(np.mean(found))
