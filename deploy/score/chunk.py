"""One chunk of a table, for both engines: the kept rows with their predictions, and the refused rows."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from artifact.nfc import nfc
from deploy.score.rows import Chunk, Refused, answers, columns_of, decoded, score

if TYPE_CHECKING:
    from collections.abc import Container

    from artifact.program import Model
    from deploy.score.rows import Asked


def of_table(
    model: Model, table: pa.Table, asked: Asked, *, texts: bool = False
) -> tuple[pa.Table, list[Refused]]:
    """The kept columns of the rows that the model scores, with its answers; and the other rows.

    Parameters
    ----------
    texts
        Whether the cells are those of a CSV file.
    """
    chunk = Chunk(columns_of(model.signature, table, texts=texts), None, table.num_rows)
    scores, refused = score(model, chunk)
    kept = table if asked.columns is None else table.select(list(asked.columns))
    if refused:
        good = np.ones(table.num_rows, np.bool_)
        good[[each.row for each in refused]] = False
        kept, scores = kept.filter(pa.array(good)), scores[good]
    for name, values in answers(model, scores, asked).items():
        kept = kept.append_column(free_name(name, kept.column_names), values)
    return kept, refused


def of_lines(model: Model, lines: list[bytes], asked: Asked) -> tuple[list[bytes], list[Refused]]:
    """The same for lines of JSON; fields that the model does not know are kept."""
    records, places, refused = [], [], []
    for row, line in enumerate(lines):
        try:
            records.append(decoded(line))
            places.append(row)
        except ValueError as error:
            refused.append(Refused(row, ((None, str(error)),)))
    names = set(model.signature.names)
    spelt = [{nfc(name): cell for name, cell in record.items()} for record in records]
    asked_for = [{name: cell for name, cell in record.items() if name in names} for record in spelt]
    scores, wrong = score(model, Chunk(None, asked_for, len(records)))
    refused += [Refused(places[each.row], each.errors) for each in wrong]
    bad = {each.row for each in wrong}
    good = [i for i in range(len(records)) if i not in bad]
    columns = {name: values.to_pylist() for name, values in answers(model, scores[good], asked).items()}
    written = []
    for place, i in enumerate(good):
        record = records[i]
        kept = record if asked.columns is None else {name: record.get(name) for name in asked.columns}
        added = {free_name(name, kept): each[place] for name, each in columns.items()}
        written.append(msgspec.json.encode({**kept, **added}) + b"\n")
    return written, sorted(refused, key=lambda each: each.row)


def free_name(name: str, taken: Container[str]) -> str:
    """The name of an added column; another one if a column of the table has it already."""
    return name if name not in taken else f"{name}_of_model"


def record_of(chunk: pa.Table | list[bytes], row: int) -> Any:
    """A row as JSON has it; a line that is not JSON as its text."""
    if not isinstance(chunk, list):
        return msgspec.to_builtins(chunk.slice(row, 1).to_pylist()[0], enc_hook=str)
    with suppress(ValueError):
        return decoded(chunk[row])
    return chunk[row].decode(errors="replace")


def refused_line(row: int | None, errors: Any, record: Any) -> bytes:
    """A refused row as a line of JSON: its place in the table, counted from 1, what is wrong, and the row.

    Parameters
    ----------
    row
        Counted from 0; None where the table has no order.
    """
    wrong = [{"column": column, "reason": reason} for column, reason in errors]
    place = {} if row is None else {"row": row + 1}
    return msgspec.json.encode({**place, "errors": wrong, "record": record}) + b"\n"
