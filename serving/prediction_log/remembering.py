"""Rows as the client sent them, for the prediction log: beside the matrix that they were encoded to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.encode import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from serving.settings import Settings


class Remembered(np.ndarray[Any, Any]):
    """A matrix that knows the rows it was made of."""

    raw: Callable[[int, str], Any] | None = None  # row and column to the cell that came


class Remembering(Encoder):
    """An encoder for the log: of a text the matrix holds nothing that could be read again.

    Sensitive columns that are no features are remembered too, to be hashed.
    """

    def rows(self, rows: Sequence[Sequence[Any]], *, lenient: bool = False) -> NDArray[np.float64]:
        """See `Encoder`."""
        places = {name: i for i, name in enumerate(self.signature.names)}

        def raw(row: int, name: str) -> Any:
            return rows[row][places[name]] if name in places else None

        return _remember(super().rows(rows, lenient=lenient), raw)

    def records(self, records: Sequence[Mapping[str, Any]], *, lenient: bool = False) -> NDArray[np.float64]:
        """See `Encoder`."""
        matrix = super().records(records, lenient=lenient)
        return _remember(matrix, lambda row, name: records[row].get(name))

    def columns(self, columns: Mapping[str, Any], *, lenient: bool = False) -> NDArray[np.float64]:
        """See `Encoder`."""
        return _remember(
            super().columns(columns, lenient=lenient),
            lambda row, name: columns[name][row] if name in columns else None,
        )


def _remember(matrix: NDArray[np.float64], raw: Callable[[int, str], Any]) -> NDArray[np.float64]:
    remembered = matrix.view(Remembered)
    remembered.raw = raw
    return remembered


def encoder(signature: Signature, settings: Settings) -> Encoder:
    """The encoder of a model: one that remembers, where the log is on and the matrix does not say all."""
    if settings.prediction_log and (signature.sensitive or not signature.numeric):
        return Remembering(signature)
    return Encoder(signature)
