"""Numbers that the float32 matrix would merge: large ones that lie near each other."""

import numpy as np
from numpy.typing import NDArray

MERGED_SHARE = 0.01  # of the different values, from which it matters
SPREAD = 0.5  # of the largest value: a column as wide as that gains nothing by a shift
WHOLE_LIMIT = 2**24


def merged_share(values: NDArray[np.float64], offset: float = 0.0) -> float:
    """The share of the different values that float32 does not tell apart, after `offset` is taken off."""
    distinct = np.unique(values[np.isfinite(values)])
    if len(distinct) < 2:
        return 0.0
    kept = len(np.unique((distinct - offset).astype(np.float32)))
    return 1 - kept / len(distinct)


def offset_of(values: NDArray[np.float64]) -> float:
    """What to take off a column's values so that float32 tells them apart; 0 where that is of no use."""
    there = values[np.isfinite(values)]
    if len(there) < 2:
        return 0.0
    low, high = float(there.min()), float(there.max())
    largest = max(abs(low), abs(high))
    if high - low > SPREAD * largest and largest < WHOLE_LIMIT:
        return 0.0
    before = merged_share(there)
    if before < MERGED_SHARE:
        return 0.0
    offset = float(np.floor(low))
    return offset if merged_share(there, offset) < before / 2 else 0.0
