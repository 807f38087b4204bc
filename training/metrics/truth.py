"""What scores are held against: the labels or values of rows.

Scores are float64 of shape (rows, k): probabilities in the order of the classes, or (rows, 1) for a
regression.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.signature import pick, same_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from artifact.signature import Label


@dataclass(frozen=True)
class Truth:
    """What scores are held against.

    Parameters
    ----------
    y
        Class indices or values, shape (rows,).
    weights
        How often each row counts, shape (rows,).
    positive
        Index of the positive class; for several classes unused.
    threshold
        As in `Signature.threshold`.
    """

    y: NDArray[Any]
    weights: NDArray[np.float64]
    positive: int = 1
    threshold: float | None = None

    def predicted(self, scores: NDArray[np.float64]) -> NDArray[np.intp]:
        """Class indices that the scores decide for."""
        return pick(scores, self.threshold, self.positive)

    def weighed(self, weights: NDArray[np.float64]) -> Truth:
        """The same rows with other weights, shape (rows,)."""
        return replace(self, weights=weights)

    def at(self, rows: NDArray[np.intp]) -> Truth:
        """Some of the rows, by their places."""
        return replace(self, y=self.y[rows], weights=self.weights[rows])


def class_indices(labels: Sequence[Any] | NDArray[Any], classes: Sequence[Label]) -> NDArray[np.intp]:
    """Index of each label in `classes`; ValueError for one that is not there.

    Labels may be of numpy's types; `True` is not `1`.
    """
    plain = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    index = {(isinstance(label, bool), label): i for i, label in enumerate(classes)}
    try:
        return np.array([index[isinstance(label, bool), label] for label in plain], np.intp)
    except KeyError as error:
        raise ValueError(f"the label {error.args[0][1]!r} is not one of {list(classes)}") from error


def truth_of(
    task: str,
    y: Sequence[Any] | NDArray[Any],
    classes: Sequence[Label] = (),
    positive: Label | None = None,
    threshold: float | None = None,
) -> Truth:
    """Labels or values as they stand in the data, ready to be compared; each row counts once."""
    if task == "regression":
        values: NDArray[Any] = np.asarray(y, np.float64)
        return Truth(values, np.ones(len(values)))
    values = class_indices(y, classes)
    place = next((i for i, label in enumerate(classes) if same_label(label, positive)), len(classes) - 1)
    return Truth(values, np.ones(len(values)), place, threshold)
