"""A CSV body (RFC 4180, with a header, in UTF-8) as rows of texts, and as columns."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from artifact import csv_cells
from artifact.encode import CellError
from artifact.nfc import nfc
from serving.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from artifact.signature import Signature

csv.field_size_limit(
    2**31 - 1
)  # the body is limited already; Python's own limit would refuse a text of 128 KiB

MAX_NAME = 200
"""Characters of a name in a message."""


class CsvTable(NamedTuple):
    """The header, rows of the same width, and the line on which each row ends; the first line is 1."""

    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def columns(self, signature: Signature) -> dict[str, Any]:
        """The cells by column, as the kinds of the signature read them; other columns stay texts."""
        texts = list(zip(*self.rows, strict=True)) or [()] * len(self.header)
        found: dict[str, Any] = dict(zip(self.header, texts, strict=True))
        for column in signature.columns:
            if column.name in found:
                found[column.name] = csv_cells.cells(column, found[column.name])
        return found


def check_unique(names: Sequence[str], where: str) -> None:
    """Refuse a table that has a column twice.

    Raises
    ------
    Problem
        400.
    """
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise Problem(400, f"The column {twice[:MAX_NAME]!r} stands twice {where}.")


def read(body: bytes, check_rows: Callable[[int], None]) -> CsvTable:
    """The table of a body; empty lines are skipped, as MLflow does.

    Parameters
    ----------
    check_rows
        Refuses more rows than one request may hold.

    Raises
    ------
    Problem
        400 for a body that is not CSV in UTF-8, and the problem of `check_rows`.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem(400, f"The body is not UTF-8 at byte {error.start}.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if not row:
                continue
            if not header:
                header = [nfc(name) for name in row]
                check_unique([name for name in header if name], "in the header")
                continue
            if len(row) != len(header):
                reason = f"line {reader.line_num} has {len(row)} fields, the header has {len(header)}"
                raise Problem(400, reason, errors=[CellError(len(rows), None, reason)])
            rows.append(row)
            lines.append(reader.line_num)
            check_rows(len(rows))
    except csv.Error as error:
        raise Problem(400, f"The body is not CSV: line {reader.line_num}: {error}") from None
    if not header:
        raise Problem(400, "The body is empty; expected CSV with a header.")
    return CsvTable(header, rows, lines)
