"""The scores of one call of a model, and the predictions that follow from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.signature import decide, labels, probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Signature


class Scores:
    """The scores of one call, for the requests that were in it.

    `values` has shape (rows, outputs). Values that all replies of a batch need are computed once.

    Attributes
    ----------
    shown
        The values that a reply may show: `values` itself, unless probabilities are rounded for the caller.
    rounding
        The largest distance of a shown probability from its value.
    """

    __slots__ = (
        "_chosen",
        "_numbers",
        "_rounded",
        "began",
        "ended",
        "rounding",
        "shown",
        "signature",
        "values",
    )

    def __init__(self, values: NDArray[np.float64], signature: Signature) -> None:
        self.values = self.shown = values
        self.rounding = 0.0
        self._rounded: dict[int, Scores] = {}
        self.signature = signature
        self._chosen: list[int] | None = None
        self._numbers: list[float] | None = None
        self.began = self.ended = 0.0  # of the call, by `time.perf_counter`; for traces

    @property
    def chosen(self) -> list[int]:
        """Index of each row's class, by the signature's own threshold."""
        if self._chosen is None:
            self._chosen = decide(self.signature, self.values).tolist()
        return self._chosen

    @property
    def numbers(self) -> list[float]:
        """The first score of each row: a regression's predictions."""
        if self._numbers is None:
            self._numbers = self.values[:, 0].tolist()
        return self._numbers

    def labels(self, start: int, stop: int, threshold: float | None = None) -> list[Any]:
        """Predictions of some rows.

        A label by the signature's own threshold is the same for every caller. One by a caller's threshold
        comes from the probability that the caller is shown: else a few thresholds would find out the rest.
        """
        if threshold is not None:
            return list(labels(self.signature, self.shown[start:stop], threshold))
        if self.signature.numbers:
            return list(labels(self.signature, self.values[start:stop]))
        if self.signature.task == "regression":
            return self.numbers[start:stop]
        classes = self.signature.classes
        return [classes[i] for i in self.chosen[start:stop]]

    def by_class(self, start: int, stop: int) -> list[dict[str, float]]:
        """Probabilities of some rows as a caller is shown them, each row by its classes."""
        names = [str(label) for label in self.signature.classes]
        rows = probabilities(self.signature, self.shown[start:stop]).tolist()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def rounded(self, digits: int) -> Scores:
        """The same scores for callers whose probabilities are rounded; 0 digits: not rounded."""
        if not digits or not self.signature.classes:
            return self
        found = self._rounded.get(digits)
        if found is None:
            found = self._rounded[digits] = self._with_digits(digits)
            found.shown = np.round(self.values, digits)
            found.rounding = half_unit(digits)
            found.began, found.ended = self.began, self.ended
        return found

    def _with_digits(self, digits: int) -> Scores:  # noqa: ARG002 - `ExplainedScores` rounds by it
        return Scores(self.values, self.signature)


def half_unit(digits: int) -> float:
    """The largest distance of a number from its rounded one."""
    return 0.5 / float(10**digits)
