"""Cells of Arrow, as of Parquet and of databases, as values of JSON.

The arrays are given, so that this needs no pyarrow.
"""

from __future__ import annotations

import base64
import datetime as dt
from decimal import Decimal
from typing import Any

NARROW = ("halffloat", "float")
"""Arrow's types whose cells Python shows with digits of float64."""


def cells(array: Any, kind: str) -> list[Any]:
    """The cells of an array; one that has no form in JSON is an empty list, which every column refuses.

    Parameters
    ----------
    kind
        Of the column. Bytes of an image are given in base64, other bytes as the text in UTF-8 that many
        programs store so. A float32 in a column of other kinds than numbers keeps its own digits: 0.1, not
        0.10000000149.
    """
    plain = array.dictionary_decode() if hasattr(array, "dictionary_decode") else array
    found = plain.to_pylist()
    if kind != "number" and str(plain.type) in NARROW:
        shortest = map(str, plain.to_numpy(zero_copy_only=False))  # of float32, or of float16
        return [None if cell is None else float(text) for cell, text in zip(found, shortest, strict=True)]
    return [_plain(cell, kind) for cell in found]


def _plain(cell: Any, kind: str) -> Any:
    if cell is None or isinstance(cell, str | int | float | list | dict):
        return cell
    if isinstance(cell, bytes):
        return base64.b64encode(cell).decode() if kind == "image" else _text(cell)
    if isinstance(cell, Decimal):
        return float(cell)
    return cell.isoformat() if isinstance(cell, dt.date | dt.time) else []


def _text(cell: bytes) -> Any:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return []
