"""What scores are held against: the labels or values of rows.

Scores are float64 of shape (rows, k): probabilities in the order of the classes, (rows, 1) for a
regression, or a column for each target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.encode import canonical
from artifact.signature import pick

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
        Class indices or values, shape (rows,); of several targets (rows, targets).
    weights
        How often each row counts, shape (rows,).
    positive
        Index of the positive class; for several classes unused.
    threshold
        As in `Signature.threshold`.
    classes
        How many classes the scores have a column for; 0 where each column is one. A column more is
        the index of the class that the model itself predicts.
    """

    y: NDArray[Any]
    weights: NDArray[np.float64]
    positive: int = 1
    threshold: float | None = None
    classes: int = 0

    def chances(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probabilities among the scores, shape (rows, classes)."""
        return scores[:, : self.classes] if self.classes else scores

    def predicted(self, scores: NDArray[np.float64]) -> NDArray[np.intp]:
        """Class indices that the scores decide for."""
        if 0 < self.classes < scores.shape[1]:
            return scores[:, -1].astype(np.intp)
        return pick(scores, self.threshold, self.positive)

    def weighed(self, weights: NDArray[np.float64]) -> Truth:
        """The same rows with other weights, shape (rows,)."""
        return replace(self, weights=weights)

    def at(self, rows: NDArray[np.intp]) -> Truth:
        """Some of the rows, by their places."""
        return replace(self, y=self.y[rows], weights=self.weights[rows])


def class_indices(labels: Sequence[Any] | NDArray[Any], classes: Sequence[Label]) -> NDArray[np.intp]:
    """Index of each label in `classes`; ValueError for one that is not there.

    Labels may be of numpy's types; `True` is not `1`, but a table's 1 is the "1" of a model that knows texts.
    """
    plain = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    index = {(isinstance(label, bool), label): i for i, label in enumerate(classes)}
    if not all((isinstance(label, bool), label) in index for label in plain):
        spelt = {canonical(label): i for i, label in enumerate(classes)}
        unknown = next((label for label in plain if canonical(label) not in spelt), None)
        if unknown is not None:
            raise ValueError(f"the label {unknown!r} is not one of {list(classes)}")
        return np.array([spelt[canonical(label)] for label in plain], np.intp)
    return np.array([index[isinstance(label, bool), label] for label in plain], np.intp)


def truth_of(
    task: str,
    y: Sequence[Any] | NDArray[Any],
    classes: Sequence[Label] = (),
    positive: Label | None = None,
    threshold: float | None = None,
) -> Truth:
    """Labels or values as they stand in the data, ready to be compared; each row counts once."""
    if task in {"regression", "scores"}:
        values: NDArray[Any] = np.asarray(y, np.float64)
        return Truth(values, np.ones(len(values)))
    values = class_indices(y, classes)
    place = len(classes) - 1 if positive is None else int(class_indices([positive], classes)[0])
    return Truth(values, np.ones(len(values)), place, threshold, len(classes))
