"""HPACK (RFC 7541): header blocks of clients to fields, and ours to bytes.

A client that sends another deadline in each call changes its table of fields with each block, so blocks are
not remembered by their bytes; a block of the usual eight indexes takes 2 us. Ours use no table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpack import huffman_table as huffman
from hpack.table import HeaderTable

if TYPE_CHECKING:
    from collections.abc import Iterable

Field = tuple[bytes, bytes]

TABLE_BYTES = 4_096
"""The size of a client's table: the default, which our settings do not change."""
ENTRY_BYTES = 32
"""What a field counts beside its name and its value."""

_STATIC: tuple[Field, ...] = ((b"", b""), *HeaderTable.STATIC_TABLE)
_FIRST_DYNAMIC = len(_STATIC)


class BlockError(ValueError):
    """A header block that is not valid; the connection cannot go on, since both tables may differ now."""


class TooLarge(Exception):  # noqa: N818 - the block is valid
    """The fields of a block have more bytes than are accepted; the table has them, so others can follow."""


class Decoder:
    """Reads the header blocks of one connection.

    Parameters
    ----------
    max_bytes
        Of the fields of a block, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    """

    __slots__ = ("_bytes", "_limit", "_max_bytes", "_table")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._table: list[Field] = []  # the newest is the last
        self._bytes = 0
        self._limit = TABLE_BYTES

    def decode(self, block: bytes) -> list[Field]:  # noqa: C901, PLR0912 - the hot loop: a call less a field
        """The fields of a whole block.

        Raises
        ------
        BlockError
            It is not valid.
        TooLarge
            It is valid, and its fields are too large.
        """
        fields: list[Field] = []
        table, end, place, size = self._table, len(block), 0, 0
        most = self._max_bytes
        try:
            while place < end:
                first = block[place]
                if first >= 0x80:  # an index alone, nearly always of one byte
                    index, place = first & 0x7F, place + 1
                    if index == 0x7F:
                        index, place = _rest(block, place, 0x7F)
                    if 0 < index < _FIRST_DYNAMIC:
                        field = _STATIC[index]
                    elif _FIRST_DYNAMIC <= index < _FIRST_DYNAMIC + len(table):
                        field = table[_FIRST_DYNAMIC - 1 - index]
                    else:
                        raise BlockError(f"no field has the index {index}")
                elif first >= 0x40:
                    field, place = self._literal(block, place, 0x3F)
                    self._add(field)
                elif first >= 0x20:
                    if fields or size:
                        raise BlockError("a change of the table's size behind a field")
                    place = self._resize(block, place)
                    continue
                else:
                    field, place = self._literal(block, place, 0x0F)
                size += len(field[0]) + len(field[1]) + ENTRY_BYTES
                if size <= most:
                    fields.append(field)
        except IndexError:
            raise BlockError("the block ends within a field") from None
        if size > most:
            raise TooLarge
        return fields

    def _dynamic(self, index: int) -> Field:
        place = index - _FIRST_DYNAMIC
        if index == 0 or place >= len(self._table):
            raise BlockError(f"no field has the index {index}")
        return self._table[-1 - place]

    def _literal(self, block: bytes, place: int, mask: int) -> tuple[Field, int]:
        index, place = block[place] & mask, place + 1
        if index == mask:
            index, place = _rest(block, place, mask)
        if index == 0:
            name, place = _text(block, place)
        elif index < _FIRST_DYNAMIC:
            name = _STATIC[index][0]
        else:
            name = self._dynamic(index)[0]
        value, place = _text(block, place)
        return (name, value), place

    def _add(self, field: Field) -> None:
        size = len(field[0]) + len(field[1]) + ENTRY_BYTES
        self._table.append(field)
        self._bytes += size
        if self._bytes > self._limit:
            self._evict()

    def _evict(self) -> None:
        """Drop the oldest fields until the rest has room."""
        drop = 0
        for name, value in self._table:
            if self._bytes <= self._limit:
                break
            self._bytes -= len(name) + len(value) + ENTRY_BYTES
            drop += 1
        del self._table[:drop]

    def _resize(self, block: bytes, place: int) -> int:
        size, place = block[place] & 0x1F, place + 1
        if size == 0x1F:
            size, place = _rest(block, place, 0x1F)
        if size > TABLE_BYTES:
            raise BlockError(f"a table of {size} bytes, expected at most {TABLE_BYTES}")
        self._limit = size
        self._evict()
        return place


def _rest(block: bytes, place: int, value: int) -> tuple[int, int]:
    """The rest of a number that did not fit into the first byte (5.1)."""
    shift = 0
    while True:
        part = block[place]
        place += 1
        value += (part & 0x7F) << shift
        if part < 0x80:
            return value, place
        shift += 7
        if shift > 28:
            raise BlockError("a number of more than four bytes")


def _text(block: bytes, place: int) -> tuple[bytes, int]:
    first = block[place]
    length, place = first & 0x7F, place + 1
    if length == 0x7F:
        length, place = _rest(block, place, 0x7F)
    end = place + length
    if end > len(block):
        raise BlockError("the block ends within a text")
    text = block[place:end]
    return (_expanded(text) if first >= 0x80 else text), end


_steps: dict[int, tuple[int, bytes, bool]] = {}


def _expanded(text: bytes) -> bytes:
    """A text in Huffman's code; hpack's own takes two steps a byte, each three times as long as these."""
    state, complete, parts = 0, True, []
    for byte in text:
        key = state << 8 | byte
        found = _steps.get(key)
        if found is None:
            found = _steps[key] = _step(state, byte)
        state, part, complete = found
        parts.append(part)
    if not complete:
        raise BlockError("a text that ends within a code")
    return b"".join(parts)


def _step(state: int, byte: int) -> tuple[int, bytes, bool]:
    """By one byte from a state of hpack's table: the next state, the text, and whether it may end here."""
    found = bytearray()
    for half in (byte >> 4, byte & 0xF):
        state, flags, symbol = huffman.HUFFMAN_TABLE[state * 16 + half]
        if flags & huffman.HUFFMAN_FAIL:
            raise BlockError("a text that is not a valid Huffman code")
        if flags & huffman.HUFFMAN_EMIT_SYMBOL:
            found.append(symbol)
    return state, bytes(found), bool(flags & huffman.HUFFMAN_COMPLETE)


# ---- out


def encoded(fields: Iterable[Field]) -> bytes:
    """Fields as literals, which neither side puts into a table."""
    return b"".join(
        [b"\0" + _length(len(name)) + name + _length(len(value)) + value for name, value in fields]
    )


def _length(size: int) -> bytes:
    if size < 0x7F:
        return bytes((size,))
    found, size = bytearray((0x7F,)), size - 0x7F
    while size >= 0x80:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    found.append(size)
    return bytes(found)
