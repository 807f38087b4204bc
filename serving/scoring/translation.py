"""Rows of one model's matrix as another model's encoder would have made them: a champion's for its shadow.

Two versions of a use case have the same columns, and yet other codes: a category that training saw for the
first time, another vocabulary. Where the encodings are equal, the matrix is used as it is. Else the cells are
recovered from it, or from the request where the prediction log keeps them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from artifact.encode import Encoder
from artifact.kinds.cell import listed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from artifact.signature import Column, Signature

ENCODING = (
    "name",
    "kind",
    "categories",
    "unknown",
    "offset",
    "terms",
    "idf",
    "ngrams",
    "units",
    "letters",
    "letter_idf",
    "counts",
    "parts",
    "clock",
)
"""The fields of a column that decide what its cells become."""


def untranslatable(champion: Signature, other: Signature, *, kept: bool) -> str:
    """Why rows of the champion cannot be given to another model of the same columns; "" if they can.

    Parameters
    ----------
    kept
        The cells of rows are kept as they were sent.
    """
    if kept or champion.raw or _equal(champion, other):
        return ""
    lost = [
        one.name
        for one, two in zip(champion.columns, other.columns, strict=True)
        if one.kind in ("text", "date", "image") and (other.raw or not _alike(one, two))
    ]
    if not lost:
        return ""
    return (
        f"it encodes the columns {listed(lost)} in another way than the champion, and their cells are kept "
        "only where OKAMOCHI_PREDICTION_LOG is set"
    )


def translation(champion: Signature, other: Signature) -> Callable[[Any], NDArray[Any]]:
    """A function from rows of the champion's matrix to the other model's.

    It takes shape (rows, champion.width) and returns shape (rows, other.width), or objects for a model that
    reads raw columns.
    """
    if _equal(champion, other):
        return lambda rows: rows.astype(other.dtype, copy=False) if rows.dtype != object else rows
    encoder = Encoder(other)
    places = None if champion.raw or other.raw else _places(champion, other)

    def translated(rows: Any) -> NDArray[Any]:
        raw = getattr(rows, "raw", None)
        if raw is not None:
            return encoder.columns(
                {name: [raw(row, name) for row in range(len(rows))] for name in champion.names}, lenient=True
            )
        matrix = encoder.columns(decoded(champion, rows), lenient=True)
        for own, place in places or ():
            matrix[:, place] = rows[:, own]
        return matrix

    return translated


def _places(champion: Signature, other: Signature) -> list[tuple[slice, slice]]:
    """The places, in both matrices, of the columns that are encoded alike."""
    columns = zip(champion.columns, champion.places, other.columns, other.places, strict=True)
    return [(own, place) for one, own, two, place in columns if _alike(one, two)]


def decoded(signature: Signature, rows: NDArray[Any]) -> dict[str, list[Any]]:
    """The cells of numbers and categories, by column; None for a missing or unknown one. Others are lost."""
    found: dict[str, list[Any]] = {}
    for column, place in zip(signature.columns, signature.places, strict=True):
        cells = rows[:, place]
        if signature.raw:
            found[column.name] = [None if cell != cell else cell for cell in cells[:, 0].tolist()]  # noqa: PLR0124
        elif column.kind == "number":
            values = (cells[:, 0].astype(float) + column.offset).tolist()
            found[column.name] = [None if value != value else value for value in values]  # noqa: PLR0124
        elif column.kind == "category":
            known = len(column.categories)
            found[column.name] = [
                column.categories[int(code)] if 0 <= code < known else None for code in cells[:, 0].tolist()
            ]
    return found


def _equal(one: Signature, other: Signature) -> bool:
    """Whether both encode all rows alike."""
    return (
        one.raw == other.raw
        and (one.double or not other.double)
        and all(_alike(*pair) for pair in zip(one.columns, other.columns, strict=True))
    )


def _alike(one: Column, other: Column) -> bool:
    return all(getattr(one, field) == getattr(other, field) for field in ENCODING)
