"""A Parquet file as columns, within bounded memory whatever its bytes are.

pyarrow trusts what a file says of itself: a schema that is nested very deep ends the process, and a file of
2 KB may hold texts of gigabytes. So the lists of the footer are limited, and what each page says that it
expands to is added up before pyarrow reads it.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from artifact.nfc import nfc
from serving.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_BYTES = 64 << 20
"""The largest table in memory: a small file may hold a large table."""
MAX_LISTED = 4_000
"""Columns with all their levels, and groups of rows. At 20,000 pyarrow 25 overran its stack."""
MAX_PAGES = 20_000
_BATCH_ROWS = 64
_EXPANDED, _STORED = 2, 3
"""The fields of a page's header that say its size in memory and in the file."""
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
"""Kinds of values in Thrift's compact protocol."""
_MAX_DEPTH = 16
_MAX_FIELD = 100


def columns_of(
    content: bytes, what: str, check_rows: Callable[[int], None]
) -> tuple[dict[str, list[Any]], int]:
    """The cells by column as values of JSON, and the number of rows.

    Parameters
    ----------
    what
        The name of the file, for messages.
    check_rows
        Refuses more rows than one request may hold.

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
        table = parquet.ParquetFile(io.BytesIO(content), thrift_container_size_limit=MAX_LISTED)
        rows = table.metadata.num_rows
        check_rows(rows)
        cell_bytes = _check_pages(content, table.metadata, what)
        return _cells(table, max(1, min(_BATCH_ROWS, MAX_BYTES // max(1, cell_bytes))), what), rows
    except (
        *(pa.ArrowException, ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError),
    ) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Problem(400, f"{what} is no Parquet that can be read: {line[:200]}") from None


def _cells(table: Any, batch_rows: int, what: str) -> dict[str, list[Any]]:
    """The cells of each column; in a nested one each is an empty list, which every kind of column refuses.

    Parameters
    ----------
    batch_rows
        So few that their cells are within the limit.
    """
    fields = [field for field in table.schema_arrow if not field.name.startswith("__index_level_")]
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
            columns[nfc(name)] += map(_plain, decoded.to_pylist())
    return columns


def _plain(cell: Any) -> Any:
    """A cell as a value of JSON."""
    if isinstance(cell, bytes):
        return base64.b64encode(cell).decode()
    if hasattr(cell, "isoformat"):
        return cell.isoformat()
    return float(cell) if type(cell).__name__ == "Decimal" else cell


# ---- pages


def _check_pages(content: bytes, metadata: Any, what: str) -> int:
    """Refuse a file whose pages expand to too much; give the bytes that the texts of one row have at most.

    A text may be as large as the largest page of its column: a dictionary has it once, for all of the rows.
    """
    largest = [0] * metadata.num_columns
    total = count = 0
    for group in range(metadata.num_row_groups):
        of = metadata.row_group(group)
        for place in range(metadata.num_columns):
            column = of.column(place)
            is_text = column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
            first = column.dictionary_page_offset
            start = min(column.data_page_offset, first) if first else column.data_page_offset
            count += 1
            for size in _pages(content, start, start + column.total_compressed_size):
                total, count = total + size, count + 1
                largest[place] = max(largest[place], size * is_text)
                if total > MAX_BYTES:
                    raise _too_large(what)
                if count > MAX_PAGES:
                    raise ValueError(f"it has more than {MAX_PAGES} pages")
    return sum(largest)


def _too_large(what: str) -> Problem:
    return Problem(
        413, f"{what} has more than {MAX_BYTES >> 20} MB of cells. Send fewer rows.", reason="body_too_large"
    )


def _pages(content: bytes, at: int, end: int) -> Iterator[int]:
    """What each page of a column says that it expands to, in bytes."""
    if at < 0:
        raise ValueError("a column begins before the file")
    while at < end:
        at, expanded, stored = _page_header(content, at)
        if not 0 <= expanded < 2**31 or not 0 <= stored <= end - at:
            raise ValueError("the size of a page is wrong")
        yield expanded
        at += stored


def _page_header(content: bytes, at: int) -> tuple[int, int, int]:
    """The end of a header (PageHeader of parquet.thrift), and its page's size in memory and in the file."""
    found = {_EXPANDED: 0, _STORED: 0}
    field = 0
    while byte := content[at]:
        at += 1
        kind, step = byte & 15, byte >> 4
        field += step
        if not step:
            at, field = _number(content, at)
        if not 0 < field <= _MAX_FIELD:  # pyarrow keeps 16 bits of it, so it could mean another field there
            raise ValueError("the header of a page has an unknown field")
        if kind == _I32 and field in found:
            at, found[field] = _number(content, at)
        else:
            at = _skipped(content, at, kind, _MAX_DEPTH)
    return at + 1, found[_EXPANDED], found[_STORED]


def _number(content: bytes, at: int) -> tuple[int, int]:
    """The end of a signed number, and the number."""
    at, unsigned = _unsigned(content, at)
    return at, (unsigned >> 1) ^ -(unsigned & 1)


def _unsigned(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte = content[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return at, number
        shift += 7
    raise ValueError("a number of a page is too long")


def _skipped(content: bytes, at: int, kind: int, depth: int) -> int:
    """The end of a value of Thrift's compact protocol."""
    if not depth:
        raise ValueError("the header of a page is nested too deep")
    if kind in (_TRUE, _FALSE):  # the kind is the value
        return at
    if kind == _BYTE:
        return at + 1
    if kind == _DOUBLE:
        return at + 8
    if kind in (_I16, _I32, _I64):
        return _unsigned(content, at)[0]
    if kind == _BINARY:
        at, size = _unsigned(content, at)
        return at + size
    if kind == _STRUCT:
        while byte := content[at]:
            at += 1
            if not byte >> 4:
                at = _unsigned(content, at)[0]
            at = _skipped(content, at, byte & 15, depth - 1)
        return at + 1
    raise ValueError("the header of a page has a list, which Parquet does not put there")
