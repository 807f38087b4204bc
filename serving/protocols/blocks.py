"""The numbers of a large body, read a block at a time.

Decoding a large body at once makes millions of Python floats in one call, which holds the interpreter's lock.
In blocks the floats of one are packed and gone before the next is read: they stay in the nearest cache, and
between two blocks the event loop has its turn. 10,000 rows of 30 columns take 15 ms instead of 23.
"""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from artifact.encode import MAX_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BLOCK_BYTES = 32 * 1024
MAX_BEFORE = 1024 * 1024  # the rows must begin within these first bytes of a body; an index may come first

Number = Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]

_token = os.urandom(16).hex()
StandIn: Any = Literal[_token]
"""The placeholder for the numbers in the rest of a body: a text that no client can guess."""

_BEGIN = re.compile(rb'"(?:features|data|instances|inputs)"[ \t\n\r]*:[ \t\n\r]*\[[ \t\n\r]*([\[\-0-9])')
_NEXT = re.compile(rb"[ \t\n\r]*([,\]])[ \t\n\r]*")
_LAST_ROW = re.compile(rb"\](?=[ \t\n\r]*\])")


def rows_of(width: int) -> Any:
    """The msgspec type of at least one row of `width` numbers."""
    row = Annotated[list[Number], Meta(min_length=width, max_length=width)]
    return Annotated[list[row], Meta(min_length=1)]


class Blocks:
    """Reader of bodies with a matrix that is `width` numbers wide, each held as `dtype`."""

    def __init__(
        self, width: int, block_bytes: int = BLOCK_BYTES, *, dtype: type[np.floating[Any]] = np.float32
    ) -> None:
        self._width = width
        self._dtype = dtype
        self._code = "f" if dtype is np.float32 else "d"
        self._block_bytes = block_bytes
        row: Any = tuple[(Number,) * width]  # type: ignore[misc]
        self._rows = msgspec.json.Decoder(Annotated[list[row], Meta(min_length=1)]).decode
        self._cells = msgspec.json.Decoder(Annotated[list[Number], Meta(min_length=1)]).decode
        self._pack = struct.Struct(f"{width}{self._code}").pack

    def read(self, body: bytes, rest: Callable[[bytes], Any]) -> tuple[NDArray[Any], Any] | None:
        """Numbers of shape (n, width), and the result of `rest` for the body without them.

        None if the body has no list of such rows, or of such numbers row by row, if the list is not near the
        beginning, or if `rest` refuses: the caller then decodes the whole body.

        Parameters
        ----------
        rest
            Decoder of the body that takes `StandIn` where the numbers may be, and nowhere else.
        """
        begin = _BEGIN.search(body, 0, MAX_BEFORE)
        if begin is None:
            return None
        nested = begin[1] == b"["
        try:
            packed, end = self._read(body, begin.start(1), self._nested if nested else self._flat)
            opening = body.rindex(b"[", 0, begin.start(1))
            found = rest(b'%b"%b"%b' % (body[:opening], _token.encode(), body[end:]))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, _Unusual):
            return None
        cells = np.frombuffer(b"".join(packed), self._dtype)
        if not len(cells) or len(cells) % self._width:
            return None
        return cells.reshape(-1, self._width), found

    def _read(
        self, body: bytes, at: int, block: Callable[[bytes, int, list[Any]], int]
    ) -> tuple[list[Any], int]:
        """All blocks from `at`, and where the list has ended."""
        packed: list[Any] = []
        while True:
            found = _NEXT.match(body, block(body, at, packed))
            if found is None:
                raise _Unusual
            at = found.end()
            if found[1] == b"]":
                return packed, found.end(1)

    def _nested(self, body: bytes, at: int, packed: list[Any]) -> int:
        """Some rows from `at`, and where they end."""
        stop = body.rfind(b"]", at, at + self._block_bytes) + 1 or body.find(b"]", at) + 1
        try:
            rows = self._rows(b"[%b]" % body[at:stop])
        except msgspec.MsgspecError:
            last = _LAST_ROW.search(body, at, stop)  # the list ended within the block, and more follows it
            if last is None:
                raise
            stop = last.end()
            rows = self._rows(b"[%b]" % body[at:stop])
        pack = self._pack
        packed.append(b"".join([pack(*row) for row in rows]))
        return stop

    def _flat(self, body: bytes, at: int, packed: list[Any]) -> int:
        """Some numbers from `at`, and where they end."""
        stop = body.find(b"]", at, at + self._block_bytes)
        if stop < 0:
            stop = body.rfind(b",", at, at + self._block_bytes)
        if stop < 0:
            raise _Unusual
        cells = self._cells(b"[%b]" % body[at:stop])
        packed.append(struct.pack(f"{len(cells)}{self._code}", *cells))
        return stop


class _Unusual(Exception):  # noqa: N818 - no error: the body is one for the other reader
    pass
