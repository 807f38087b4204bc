"""What is unusual about valid rows: the warnings of the option `warnings`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from artifact.kinds.category import reader
from artifact.kinds.cell import is_missing, shown
from serving.observe import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from artifact.signature import Column
    from serving.scoring.catalog import LiveModel

MAX_WARNINGS = 100
KINDS = ("outside_training", "unknown_category", "drift")


class Warned(NamedTuple):
    """One warning; `row` is None where it is about the last rows of the model."""

    row: int | None
    column: str
    kind: str
    detail: str


def warned(
    model: LiveModel, matrix: NDArray[Any], cell: Callable[[int, str], Any]
) -> tuple[list[Warned], int]:
    """The first warnings, by column, and how many more there are; all of them are counted in the metrics.

    Parameters
    ----------
    cell
        Gives the cell of a row and a column as it was sent.
    """
    found: list[Warned] = []
    counts = dict.fromkeys(KINDS, 0)
    for each in _every(model, np.asarray(matrix), cell):
        counts[each.kind] += 1
        if len(found) < MAX_WARNINGS:
            found.append(each)
    for kind, count in counts.items():
        if count:
            metrics.WARNINGS.labels(model.name, model.version, kind).inc(count)
    return found, sum(counts.values()) - len(found)


def _every(model: LiveModel, matrix: NDArray[Any], cell: Callable[[int, str], Any]) -> Iterator[Warned]:
    signature = model.signature
    for name in sorted(model.drift.alarmed) if model.drift is not None else ():
        detail = "the last rows that this server scored differ from the training rows"
        yield Warned(None, name, "drift", f"{detail} in this column" if name else f"{detail} in their scores")
    for column, place in zip(signature.columns, signature.places, strict=True):
        values = matrix[:, place.start]
        if column.kind == "number":
            yield from _outside(column, values, signature.dtype)
        elif column.kind == "category" and column.unknown != "refuse":
            yield from _unknown(column, values, cell, raw=signature.raw)


def _outside(column: Column, values: NDArray[Any], dtype: type[np.floating[Any]]) -> Iterator[Warned]:
    if column.minimum is None or column.maximum is None:
        return
    # The bounds, rounded as the matrix is.
    low, high = (float(dtype(bound - column.offset)) for bound in (column.minimum, column.maximum))
    numbers = values.astype(np.float64)
    for row in np.flatnonzero((numbers < low) | (numbers > high)).tolist():
        value = f"{numbers[row] + column.offset:.7g}"
        detail = f"{value} is outside the training rows' {column.minimum:g} to {column.maximum:g}"
        yield Warned(row, column.name, "outside_training", detail)


def _unknown(
    column: Column, values: NDArray[Any], cell: Callable[[int, str], Any], *, raw: bool
) -> Iterator[Warned]:
    known = reader(column)
    some = list(range(len(values)))
    if not raw:
        codes = values.astype(np.float64)
        some = np.flatnonzero((codes < 0) | (codes >= len(column.categories))).tolist()
    taken = "is passed on to the model" if column.unknown == "pass" else "counts as missing"
    for row in some:
        sent = cell(row, column.name)
        if not is_missing(sent, column.marks) and known(sent) is None:
            yield Warned(row, column.name, "unknown_category", f"{shown(sent)} is unknown and {taken}")
