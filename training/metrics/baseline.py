"""Scores that look at no column: the same for every row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training.metrics.truth import class_indices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from artifact.signature import Label


def same_for_all(
    seen: Sequence[Any] | NDArray[Any], classes: Sequence[Label], rows: int
) -> NDArray[np.float64]:
    """How often each class was seen, or for a regression the mean, once for each of `rows`.

    Parameters
    ----------
    seen
        The data's own labels, or values.

    Returns
    -------
    Shape (rows, k), in the order of `classes`; without classes a column for each target.
    """
    if not classes:
        values = np.asarray(seen, np.float64).reshape(len(seen), -1)
        return np.tile(values.mean(axis=0), (rows, 1))
    counts = np.bincount(class_indices(seen, classes), minlength=len(classes)).astype(np.float64)
    return np.tile(counts / max(counts.sum(), 1.0), (rows, 1))
