"""Cells of CSV as the signature's kinds read them: in a body of `/invocations` or a file that is scored.

CSV has neither null nor types, so a missing value and a number have spellings of their own. docs/protocols.md
("What a value may be") has their table; a test holds the two together.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from artifact.encode import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from artifact.signature import Column

MISSING = frozenset(
    {"#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
"""What pandas, and with it MLflow, reads as missing: in numbers, in dates, and in categories unless the model
knows a category of that name. A text is a text."""

# Possessive, so without backtracking, which took 19 s for 30 KB of digits.
_NUMBER = re.compile(r"\s*+[+-]?+(\d++\.?+\d*+|\.\d++)([eE][+-]?+\d++)?+\s*+", re.ASCII)
_DOTTED = re.compile(r"\s*[-+]?[1-9]\d{0,2}(?:\.\d{3})+\s*")
_NUMBERS = re.compile(r"[0-9+\-.eE\s]*+", re.ASCII)


def cells(column: Column, texts: Sequence[str]) -> list[Any]:
    """The cells of one column, None for missing; a cell of another kind stays a text and is refused."""
    return _CELLS[column.kind](column, texts)


def _numbers(column: Column, cells: Sequence[str]) -> list[Any]:
    """Numbers; any other text stays a text, and the encoder refuses it with its place.

    "66.723" is refused too if the training table has dots between thousands: a client may mean either number.
    """
    if column.dotted_thousands:
        return [cell if _DOTTED.fullmatch(cell) else _number(cell) for cell in cells]
    # Python's float also reads "1_0" and "Nan", which are not numbers in CSV; these characters exclude them.
    if _NUMBERS.fullmatch("".join(cells)):
        with suppress(ValueError):
            return list(map(float, cells))
    return [_number(cell) for cell in cells]


def _number(cell: str) -> float | str | None:
    if _NUMBER.fullmatch(cell):
        return float(cell)
    return None if not cell.strip() or cell.strip() in MISSING else cell


def _categories(column: Column, cells: Sequence[str]) -> list[str | None]:
    missing = MISSING - set(column.categories)
    return [None if canonical(cell) in missing else cell for cell in cells]


def _dates(_column: Column, cells: Sequence[str]) -> list[str | None]:
    return [None if cell.strip() in MISSING else cell for cell in cells]


def _texts(_column: Column, cells: Sequence[str]) -> list[str | None]:
    return [cell or None for cell in cells]


_CELLS: dict[str, Callable[[Column, Sequence[str]], list[Any]]] = {
    "number": _numbers,
    "category": _categories,
    "date": _dates,
    "text": _texts,
    "image": _texts,
}
