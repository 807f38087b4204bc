"""The scores of one call of a model, and the predictions that follow from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from artifact.signature import decide, labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from artifact.signature import Signature


class Scores:
    """The scores of one call, for the requests that were in it.

    `values` has shape (rows, outputs). Values that all replies of a batch need are computed once.
    """

    __slots__ = ("_chosen", "_numbers", "began", "ended", "signature", "values")

    def __init__(self, values: NDArray[np.float64], signature: Signature) -> None:
        self.values = values
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

    def labels(self, start: int, stop: int) -> list[Any]:
        """Predictions of some rows, by the signature's own threshold."""
        if self.signature.numbers:
            return list(labels(self.signature, self.values[start:stop]))
        if self.signature.task == "regression":
            return self.numbers[start:stop]
        classes = self.signature.classes
        return [classes[i] for i in self.chosen[start:stop]]
