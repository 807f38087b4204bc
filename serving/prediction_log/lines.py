"""One file of the prediction log: its lines are in the order of their ids and rows."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from serving import ids
from serving.prediction_log.record import Found

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(rb'\{"id":"[0-9a-f]{12}-([0-9a-f]+)(?:-[0-9a-f]{32})?","row":(\d+),')
_decode = msgspec.json.Decoder(Found).decode


def line_of(file: BinaryIO, path: Path, one: str, row: int | None) -> Found | None:
    """The line of an id and row in a file that is sorted by both; for row None, the id's first line.

    A binary search: it reads about two lines for each halving of the file.
    """
    place = (ids.place_of(one)[1], -1 if row is None else row)
    low, high = 0, file.seek(0, os.SEEK_END)
    while low < high:  # the last byte from which the next whole line is before `place`
        middle = (low + high) // 2
        at, line = _line_from(file, middle)
        if not line or place_of(line) >= place:
            high = middle
        else:
            low = at + len(line)
    at, line = _line_from(file, low)
    start = b'{"id":"%s",' % one.encode() if row is None else b'{"id":"%s","row":%d,' % (one.encode(), row)
    if not line.startswith(start):
        return None
    return msgspec.structs.replace(_decode(line), place=(path, os.fstat(file.fileno()).st_ino, at))


def _line_from(file: BinaryIO, start: int) -> tuple[int, bytes]:
    """The first line that begins at `start` or later, and its position; b"" if no line is whole."""
    file.seek(max(0, start - 1))
    if start:
        file.readline()
    at = file.tell()
    line = file.readline()
    return at, line if line.endswith(b"\n") else b""


def place_of(line: bytes) -> tuple[int, int]:
    """Time of the id and row of a line; (-1, -1) for one that is damaged."""
    found = _LINE.match(line)
    return (int(found[1], 16), int(found[2])) if found else (-1, -1)
