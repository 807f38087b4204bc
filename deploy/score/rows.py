"""One chunk of a table: its rows are encoded and scored, and those that are refused are put aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from artifact import arrow_cells
from artifact.csv_cells import cells as cells_of_texts
from artifact.encode import BadRows
from artifact.json_text import JsonError, decode
from artifact.kinds.cell import MAX_ERRORS
from artifact.nfc import nfc
from artifact.signature import labels, probabilities

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from artifact.program import Model
    from artifact.signature import Column, Signature

PREDICTION = "prediction"
PROBABILITY = "probability_"


@dataclass(frozen=True)
class Asked:
    """What is written of each row.

    Parameters
    ----------
    columns
        The columns of the table that are kept; None: all.
    probabilities
        Whether the classes' probabilities are written too.
    threshold
        As in a request.
    """

    columns: tuple[str, ...] | None = None
    probabilities: bool = False
    threshold: float | None = None


@dataclass(frozen=True)
class Refused:
    """A row that the model does not score; `row` counts from 0 in its chunk."""

    row: int
    errors: tuple[tuple[str | None, str], ...]


def columns_of(signature: Signature, table: pa.Table, *, texts: bool) -> dict[str, Any]:
    """The model's columns of a chunk, each a list of cells or an array; `texts`: they are of a CSV file."""
    found = {}
    places = {nfc(name): place for place, name in enumerate(table.column_names)}
    for column in signature.columns:
        if column.name in places:
            arrow = table.column(places[column.name]).combine_chunks()
            found[column.name] = _texts(column, arrow) if texts else _typed(column, arrow)
    return found


def _texts(column: Column, cells: pa.Array) -> Any:
    """Cells of a CSV file, read as the server reads them; most columns of numbers take the quick way."""
    if column.kind == "number" and not column.dotted_thousands and not cells.null_count:
        try:
            numbers = cells.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            pass
        else:
            if np.isfinite(numbers).all():
                return numbers
    return cells_of_texts(column, ["" if cell is None else cell for cell in cells.to_pylist()])


def _typed(column: Column, cells: pa.Array) -> Any:
    """Cells of a table with types, as JSON would have them; most columns of numbers take the quick way."""
    kind = cells.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if is_number and column.kind == "number" and not cells.null_count:
        return cells.to_numpy(zero_copy_only=False)
    return arrow_cells.cells(cells, column.kind)


class Chunk:
    """The rows of a chunk, of which any part can be scored.

    Parameters
    ----------
    columns
        By name, equally long; or None for `records`.
    """

    def __init__(self, columns: dict[str, Any] | None, records: Sequence[Any] | None, rows: int) -> None:
        self.columns, self.records, self.rows = columns, records, rows

    def scores(self, model: Model, start: int, stop: int) -> NDArray[np.float64]:
        if self.records is not None:
            return model.scores(self.records[start:stop])
        assert self.columns is not None  # noqa: S101 - the one or the other is there
        return model.scores({name: cells[start:stop] for name, cells in self.columns.items()})


def score(model: Model, chunk: Chunk) -> tuple[NDArray[np.float64], list[Refused]]:
    """Scores of shape (rows, outputs), NaN for the rows that are refused, and these."""
    scores = np.full((chunk.rows, model.signature.outputs), np.nan)
    refused: list[Refused] = []
    for start, stop, found in _parts(model, chunk, 0, chunk.rows):
        if isinstance(found, tuple):
            refused.append(Refused(start, found))
        else:
            scores[start:stop] = found
            lost = start + np.flatnonzero(~np.isfinite(found).all(axis=1))
            refused += [Refused(int(row), ((None, "the model gives no finite number"),)) for row in lost]
    return scores, sorted(refused, key=lambda each: each.row)


def _parts(
    model: Model, chunk: Chunk, start: int, stop: int
) -> Iterator[tuple[int, int, NDArray[np.float64] | tuple[tuple[str | None, str], ...]]]:
    """Parts with their scores, and single rows with what is wrong: halves of halves until it is one."""
    if start >= stop:
        return
    try:
        scores = chunk.scores(model, start, stop)
    except BadRows as error:
        errors = error.errors
        wrong: dict[int, list[tuple[str | None, str]]] = {}
        for each in errors:
            if each.row is None:
                wrong = {}
                break
            wrong.setdefault(each.row, []).append((each.column, each.reason))
        if wrong and len(errors) < MAX_ERRORS:  # these are all
            yield from _around(model, chunk, start, stop, wrong)
            return
        told = tuple((each.column, each.reason) for each in errors)
    except Exception as error:  # noqa: BLE001 - whatever a model raises is told of its row
        told = ((None, f"the model failed: {type(error).__name__}: {str(error)[:300]}"),)
    else:
        yield start, stop, scores
        return
    if stop - start == 1:
        yield start, stop, told
        return
    middle = (start + stop) // 2
    yield from _parts(model, chunk, start, middle)
    yield from _parts(model, chunk, middle, stop)


def _around(
    model: Model, chunk: Chunk, start: int, stop: int, wrong: dict[int, list[tuple[str | None, str]]]
) -> Iterator[Any]:
    """The same with the rows that are known to be wrong, counted from `start`."""
    before = start
    for row in sorted(wrong):
        yield from _parts(model, chunk, before, start + row)
        yield start + row, start + row + 1, tuple(wrong[row])
        before = start + row + 1
    yield from _parts(model, chunk, before, stop)


def answers(model: Model, scores: NDArray[np.float64], asked: Asked) -> dict[str, pa.Array]:
    """The columns that are added to the kept rows; scores of shape (rows, outputs)."""
    signature = model.signature
    if signature.numbers:
        return {name: pa.array(scores[:, i]) for i, name in enumerate(signature.numbers)}
    found = {PREDICTION: pa.array(labels(signature, scores, asked.threshold), _type_of(signature))}
    if asked.probabilities:
        chances = probabilities(signature, scores)
        for i, label in enumerate(signature.classes):
            found[f"{PROBABILITY}{label}"] = pa.array(chances[:, i])
    return found


def _type_of(signature: Signature) -> pa.DataType:
    kinds = {type(label) for label in signature.classes}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()


def decoded(line: bytes) -> dict[str, Any]:
    """A record of a line of JSON, read as a body is (docs/protocols.md); else ValueError with the reason.

    As Python writes them, `NaN` is a missing cell and an infinity a number that every column refuses.
    """
    try:
        record = decode(line, literals=True, keys_in_nfc=False)
    except JsonError as error:
        raise ValueError(f"the line is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"expected an object of columns, got {type(record).__name__}")  # noqa: TRY004 - one kind
    return record
