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
    """A matrix with the rows that it was encoded from."""

    raw: Callable[[int, str], Any] | None = None  # (row, column) to the cell as it was sent


class Remembering(Encoder):
    """An encoder for the log: it keeps texts, which cannot be recovered from the matrix.

    It also keeps sensitive columns that are not features, which are hashed.
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


def _remember(matrix: NDArray[Any], raw: Callable[[int, str], Any]) -> NDArray[Any]:
    remembered = matrix.view(Remembered)
    remembered.raw = raw
    return remembered


def with_cells_of(matrix: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """Rows made of a matrix row by row, with the cells that the matrix was encoded from, if it has them."""
    raw = getattr(matrix, "raw", None)
    return rows if raw is None else _remember(rows, raw)


def encoder(signature: Signature, settings: Settings) -> Encoder:
    """The encoder of a model; it keeps the rows if the log is on and needs more than the matrix."""
    if settings.prediction_log and (signature.sensitive or not signature.numeric):
        return Remembering(signature)
    return Encoder(signature)
