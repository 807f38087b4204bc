"""A Parquet file as columns, within bounded memory whatever its bytes are.

pyarrow trusts what a file says of itself: a schema that is nested very deep ends the process, and a file of
2 KB may hold texts of gigabytes. So the lists of the footer are limited, and what each page says that it
expands to is added up before pyarrow reads it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from artifact import arrow_cells
from artifact.nfc import nfc
from serving.errors import Problem
from serving.protocols.csv_table import check_unique

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_BYTES = 64 << 20
"""The largest table in memory: a small file may hold a large table."""
MAX_LISTED = 4_000
"""Columns with all their levels, and groups of rows. At 20,000 pyarrow 25 overran its stack."""
MAX_PAGES = 20_000
_BATCH_ROWS = 64
MAX_VALUES = 200_000
"""Of a footer, so that reading it takes a fraction of a second."""
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 12
"""Kinds of values in Thrift's compact protocol."""
_BITS = {_I16: 15, _I32: 31, _I64: 63}
_LONG_LIST = 0xF0
_Path = tuple[int, ...]
"""The numbers of the fields that lead to a value: of FileMetaData, or of PageHeader behind a 0."""
_ROW_GROUPS, _COLUMNS, _META_DATA = 4, 1, 3
_COLUMN: _Path = (_ROW_GROUPS, _COLUMNS, _META_DATA)
_STORED, _DATA, _DICTIONARY = 7, 9, 11
"""The fields of ColumnMetaData: its size in the file, and where its data and its dictionary begin."""
_PAGE: _Path = (0,)
_EXPANDED, _STORED_PAGE = 2, 3
"""The fields of PageHeader: its page's size in memory and in the file."""
_KINDS: dict[_Path, int] = {
    (_ROW_GROUPS,): _LIST,
    (_ROW_GROUPS, _COLUMNS): _LIST,
    _COLUMN: _STRUCT,
    **{(*_COLUMN, field): _I64 for field in (_STORED, _DATA, _DICTIONARY)},
    **{(*_PAGE, field): _I32 for field in (_EXPANDED, _STORED_PAGE)},
}
"""What these values must be; pyarrow passes over one of another kind."""
_LISTED: dict[_Path, int] = {
    **dict.fromkeys([(2,), (_ROW_GROUPS,), (5,), (7,), (_ROW_GROUPS, _COLUMNS), (_ROW_GROUPS, 4)], _STRUCT),
    **dict.fromkeys([(*_COLUMN, 8), (*_COLUMN, 13)], _STRUCT),
    **dict.fromkeys([(*_COLUMN, 2), (*_COLUMN, 17, 2)], _I32),
    **dict.fromkeys([(*_COLUMN, 16, 2), (*_COLUMN, 16, 3)], _I64),
    (*_COLUMN, 3): _BINARY,
}
"""The elements of each list that a footer has (parquet.thrift)."""
_MAX_DEPTH = 16
_MAX_FIELD = 100


def columns_of(
    content: bytes, what: str, check_rows: Callable[[int], None], kinds: Mapping[str, str]
) -> tuple[dict[str, list[Any]], int]:
    """The cells by column as values of JSON, and the number of rows.

    Parameters
    ----------
    what
        The name of the file, for messages.
    check_rows
        Refuses more rows than one request may hold.
    kinds
        The kind of each column of the model.

    Raises
    ------
    Problem
        400 for a file that cannot be read, 413 for one that is too large, 415 on a server without pyarrow.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise Problem(
            415,
            "This server cannot read Parquet, which needs the package pyarrow; send CSV.",
            reason="bad_content_type",
        ) from None
    try:
        largest = _largest_pages(content, what)
        table = parquet.ParquetFile(io.BytesIO(content), thrift_container_size_limit=MAX_LISTED)
        rows = table.metadata.num_rows
        check_rows(rows)
        # A text may be as large as the largest page of its column: a dictionary has it once, for all rows.
        text_bytes = sum(
            size
            for place, size in largest.items()
            if table.schema.column(place).physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
        )
        return _cells(table, max(1, min(_BATCH_ROWS, MAX_BYTES // max(1, text_bytes))), what, kinds), rows
    except (
        *(pa.ArrowException, ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError),
    ) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Problem(400, f"{what} is no Parquet that can be read: {line[:200]}") from None


def _cells(table: Any, batch_rows: int, what: str, kinds: Mapping[str, str]) -> dict[str, list[Any]]:
    """The cells of each column; in a nested one each is an empty list, which every kind of column refuses.

    Parameters
    ----------
    batch_rows
        So few that their cells are within the limit.
    """
    fields = [field for field in table.schema_arrow if not field.name.startswith("__index_level_")]
    check_unique([nfc(field.name) for field in fields], f"in {what}")
    names = [field.name for field in fields if not field.type.num_fields]
    columns: dict[str, list[Any]] = {nfc(name): [] for name in names}
    columns |= {nfc(field.name): [[]] * table.metadata.num_rows for field in fields if field.type.num_fields}
    size = 0
    for batch in table.iter_batches(batch_rows, columns=names):
        for name, cells in zip(names, batch.columns, strict=True):
            # A dictionary's values count as often as they stand in the table.
            decoded = cells.dictionary_decode() if hasattr(cells, "dictionary_decode") else cells
            size += decoded.nbytes
            if size > MAX_BYTES:
                raise _too_large(what)
            columns[nfc(name)] += arrow_cells.cells(decoded, kinds.get(nfc(name), ""))
    return columns


# ---- pages


def _largest_pages(content: bytes, what: str) -> dict[int, int]:
    """The bytes that each column's largest page expands to; refuses a file whose pages are too much."""
    largest: dict[int, int] = {}
    total = count = 0
    for place, column in _columns(content):
        stored, data, dictionary = (column.get(field, 0) for field in (_STORED, _DATA, _DICTIONARY))
        start = min(data, dictionary) if dictionary > 0 else data
        count += 1
        for size in _pages(content, start, start + stored):
            total, count = total + size, count + 1
            largest[place] = max(largest.get(place, 0), size)
            if total > MAX_BYTES:
                raise _too_large(what)
            if count > MAX_PAGES:
                raise ValueError(f"it has more than {MAX_PAGES} pages")
    return largest


def _columns(content: bytes) -> Iterator[tuple[int, dict[int, Any]]]:
    """The place and ColumnMetaData of each column of each group of rows, by the footer (parquet.thrift).

    pyarrow's own metadata ends the process where a footer contradicts itself.
    """
    size = int.from_bytes(content[-8:-4], "little")
    start = len(content) - 8 - size
    if content[-4:] != b"PAR1" or start < 0:
        raise ValueError("it does not end with a footer")
    footer = _Compact(content, start).struct(())
    for group in footer.get(_ROW_GROUPS, ()):
        for place, chunk in enumerate(group.get(_COLUMNS, ())):
            yield place, chunk.get(_META_DATA, {})


def _too_large(what: str) -> Problem:
    return Problem(
        413, f"{what} has more than {MAX_BYTES >> 20} MB of cells. Send fewer rows.", reason="body_too_large"
    )


def _pages(content: bytes, at: int, end: int) -> Iterator[int]:
    """What each page of a column says that it expands to, in bytes."""
    if at < 0:
        raise ValueError("a column begins before the file")
    while at < end:
        reader = _Compact(content, at)
        header = reader.struct(_PAGE)
        expanded, stored = header.get(_EXPANDED, 0), header.get(_STORED_PAGE, 0)
        if not 0 <= expanded < 2**31 or not 0 <= stored <= end - reader.at:
            raise ValueError("the size of a page is wrong")
        yield expanded
        at = reader.at + stored


class _Compact:
    """Reads Thrift's compact protocol, and refuses what pyarrow could read otherwise.

    Parameters
    ----------
    at
        Where it reads.
    """

    def __init__(self, content: bytes, at: int) -> None:
        self.at = at
        self._content = content
        self._left = MAX_VALUES

    def struct(self, path: _Path) -> dict[int, Any]:
        """The values of a struct by the numbers of their fields; those of texts are left out."""
        found: dict[int, Any] = {}
        field = 0
        while byte := self._byte():
            kind, step = byte & 15, byte >> 4
            field = field + step if step else self._number()
            if not 0 < field <= _MAX_FIELD or field in found:  # pyarrow keeps 16 bits, and the last of two
                raise ValueError("its footer or the header of a page has an unknown field")
            if kind != _KINDS.get((*path, field), kind):
                raise ValueError("its footer or the header of a page has a value of the wrong type")
            is_bool = kind in (_TRUE, _FALSE)
            found[field] = kind == _TRUE if is_bool else self._value(kind, (*path, field))
        return found

    def _value(self, kind: int, path: _Path) -> Any:
        self._left -= 1
        if len(path) > _MAX_DEPTH or not self._left:
            raise ValueError("its footer is too long or nested too deep")
        if kind in _BITS:
            number = self._number()
            if not -(2 ** _BITS[kind]) <= number < 2 ** _BITS[kind]:  # pyarrow would cut it
                raise ValueError("its footer or the header of a page has a number that is too large")
            return number
        if kind == _STRUCT:
            return self.struct(path)
        if kind == _LIST:
            byte = self._byte()
            size = byte >> 4 if byte < _LONG_LIST else self._unsigned()
            if byte & 15 != _LISTED.get(path):  # pyarrow reads the elements as the kind that it expects
                raise ValueError("its footer or the header of a page has an unknown list")
            return [self._value(byte & 15, path) for _ in range(size)]
        if kind == _BINARY:
            size = self._unsigned()
            self.at += size
        elif kind in (_BYTE, _DOUBLE):
            self.at += 1 if kind == _BYTE else 8
        else:
            raise ValueError("its footer or the header of a page has a set or a map")
        return None

    def _byte(self) -> int:
        byte = self._content[self.at]
        self.at += 1
        return byte

    def _unsigned(self) -> int:
        number = shift = 0
        while (byte := self._byte()) > 127:
            number |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("its footer or the header of a page has a number that is too long")
        return number | byte << shift

    def _number(self) -> int:
        unsigned = self._unsigned()
        return (unsigned >> 1) ^ -(unsigned & 1)
