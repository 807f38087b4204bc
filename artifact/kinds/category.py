"""Categories: each is its index in the signature; a missing or unknown one is -1.

Where unknown ones are passed on to the model (`unknown` is "pass") their code is the one after the last.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.kinds.cell import is_missing, listed, shown
from artifact.nfc import nfc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.kinds.cell import Encode, EncodeCell, Errors
    from artifact.signature import Column

MISSING_CODE = -1.0
# A whole number with a fraction of zeros, and a text as spreadsheets write it: training reads both without.
_OTHERWISE = re.compile(r"""([+-]?\d+)\.0*|="(.+)"|'(\d[\d.,]*)""")


def canonical(value: object) -> str:
    """How a category is spelt, whatever type it came in: `1`, `1.0` and `"1"` are one, `True` is `"true"`."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)) and math.isfinite(value) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, np.generic):
        return str(value.item())
    return str(value)


def reader(column: Column) -> Callable[[object], str | None]:
    """What finds the category of a cell that is there; None for an unknown one."""
    known = frozenset(column.categories)
    boolean = known <= {"true", "false"}

    def read(cell: object) -> str | None:
        name = canonical(cell)
        if name in known:
            return name
        if not name.isascii():
            name = nfc(name)
        elif boolean:
            name = name.lower()
        elif column.unknown != "pass":  # what the model gets is then what was sent
            other = _OTHERWISE.fullmatch(name)
            name = other[1] or other[2] or other[3] if other else name
        return name if name in known else None

    return read


def encode_column(column: Column) -> Encode:
    codes: dict[str | None, float] = {
        category: float(code) for code, category in enumerate(column.categories)
    }
    if column.unknown == "pass":
        codes[None] = float(len(codes))
    read = reader(column)

    def code_of(cell: object) -> float | None:
        """Code of a cell that is there, None for an unknown category."""
        return codes.get(read(cell))

    def encode(cells: Sequence[Any], errors: Errors | None) -> NDArray[np.float64]:
        known: dict[object, float] = {}
        values = np.empty(len(cells))
        for i, cell in enumerate(cells):
            try:
                key = (type(cell), cell)
                code = known.get(key)
            except TypeError:  # a list or an object
                key, code = None, None
            if code is None:
                code = _category_code(column, i, cell, code_of, errors)
                if key is not None and code >= 0:
                    known[key] = code
            values[i] = code
        return values

    return encode


def _category_code(
    column: Column, row: int, cell: object, code_of: Callable[[object], float | None], errors: Errors | None
) -> float:
    if is_missing(cell):
        if errors is not None and column.missing == "refuse":
            errors.add(row, column.name, f"missing; expected one of {listed(column.categories)}", "missing")
        return MISSING_CODE
    if isinstance(cell, (list, tuple, dict)):
        if errors is not None:
            errors.add(row, column.name, f"expected a category, got {shown(cell)}", "no_category")
        return MISSING_CODE
    code = code_of(cell)
    if code is None:
        if errors is not None and is_missing(cell, column.marks):
            if column.missing == "refuse":
                errors.add(
                    row, column.name, f"missing; expected one of {listed(column.categories)}", "missing"
                )
        elif errors is not None and column.unknown == "refuse":
            errors.add(
                row,
                column.name,
                f"unknown category {shown(cell)}; expected one of {listed(column.categories)}",
                "unknown_category",
            )
        return MISSING_CODE
    return code


def encode_cell(column: Column) -> EncodeCell:
    codes: dict[object, Sequence[float]] = {name: (float(i),) for i, name in enumerate(column.categories)}
    if column.missing == "allow":
        codes[None] = (MISSING_CODE,)

    def encode(cell: Any) -> Sequence[float] | None:
        return codes.get(cell) if cell is None or type(cell) is str else None

    return encode
