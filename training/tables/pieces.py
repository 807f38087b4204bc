"""Tables that are too large to be held: they are read in pieces, and a hash of each row says which are kept.

Which rows are kept depends on their content and on how many there are: neither on their order nor on the size
of a piece. Rows that are equal are kept or left out together.
"""

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.settings import Read
from training.tables.dialect import Dialect, find_dialect, find_layout
from training.tables.hashes import hash_of, mixed, number_hashes, text_hashes
from training.tables.odd_delimiters import UNIT
from training.tables.reading import LookAt

MAX_CELLS = 20_000_000
"""Cells that are read at most unless `max_rows` says otherwise: 1,000,000 rows of 20 columns take 1 GB."""
MIN_CELL_BYTES = 2
"""A cell of a delimited text and its delimiter have at least so many bytes."""
PARQUET_ROWS = 65_536
HEAD_ROWS, HEAD_BYTES, END_ROWS = 60, 1 << 20, 12
"""Rows that are kept whatever their hash: titles, the header, and totals at the end."""
MAX_LINES_OF_ROW = 200
"""A quote that is not closed within so many lines is one that stands for itself, as in 5" pipes."""
BLOCK_BYTES = 1 << 22
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Sampled:
    """How many rows a source has, and how many of them are read."""

    rows: int
    kept: int

    @property
    def told(self) -> LookAt:
        """What a person should know of it."""
        return LookAt(
            None,
            f"{self.kept:,} of {self.rows:,} rows are read, chosen by a hash of each row, since more might "
            "not fit into memory: to read another number of rows, set max_rows under [source]",
        )


def most_rows(columns: int, max_rows: int | None) -> int:
    """How many rows of so many columns are read at most."""
    return max_rows or max(2, MAX_CELLS // max(1, columns))


def digest_of_file(path: Path) -> str:
    """sha256 of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def threshold_of(most: int, rows: int) -> int:
    """A row is kept if its 64-bit hash is below this; then about `most` of so many are."""
    return min(2**64, most * 2**64 // max(1, rows))


# ---------------------------------------------------------------------------------------- delimited text


def sampled_text(path: Path, read: Read, max_rows: int | None) -> tuple[bytes, Sampled] | None:
    """The kept lines of a delimited file; None where it has few enough rows to be read whole.

    Also None for what has no lines that end with one byte, as UTF-16. Raises OSError.
    """
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    if max_rows is None and not packed and path.stat().st_size <= MIN_CELL_BYTES * MAX_CELLS:
        return None
    with _opened(path) as file:
        head = file.read(HEAD_BYTES)
    if b"\0" in head or b"\n" not in head:
        return None
    columns, quote = _shape(head, read)
    with _opened(path) as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK_BYTES), b""))
    most = most_rows(columns, max_rows)
    if lines <= most + HEAD_ROWS:
        return None
    with _opened(path) as file:
        content, kept, rows = kept_rows(file, quote.encode(), threshold_of(most, lines))
    return content, Sampled(rows, kept)


def kept_rows(lines: Iterable[bytes], quote: bytes, threshold: int) -> tuple[bytes, int, int]:
    """The rows below the threshold and those at both ends as one text, their number, and that of all rows."""
    limit = threshold.to_bytes(9, "big")
    rows = rows_of(lines, quote)
    head = list(islice(rows, HEAD_ROWS))
    content, kept, count = bytearray().join(head), len(head), len(head)
    end: list[tuple[bytes, bool]] = []
    for row in rows:
        count += 1
        # The last bytes are those of the end of a line, which is no part of a row.
        below = b"\0" + hashlib.blake2b(row.rstrip(b"\r\n"), digest_size=8).digest() < limit
        end.append((row, below))
        if len(end) > 2 * END_ROWS:
            for settled, stays in end[:END_ROWS]:
                if stays:
                    content += settled
                    kept += 1
            del end[:END_ROWS]
    last = len(end) - END_ROWS
    for place, (row, below) in enumerate(end):
        if below or place >= last:
            content += row
            kept += 1
    return bytes(content), kept, count


def rows_of(lines: Iterable[bytes], quote: bytes) -> Iterator[bytes]:
    """The lines, those together that one quoted cell spans; `quote` may be empty."""
    if not quote:
        yield from lines
        return
    held: list[bytes] = []
    for line in lines:
        odd = line.count(quote) % 2
        if not held and not odd:
            yield line
            continue
        held.append(line)
        if odd and len(held) > 1:
            yield b"".join(held)
            held = []
        elif len(held) >= MAX_LINES_OF_ROW:
            yield from held
            held = []
    yield from held


def _shape(head: bytes, read: Read) -> tuple[int, str]:
    """Columns and quote of a text, by its first lines: delimiters are ASCII in every encoding here."""
    text = head.decode("latin-1")
    text = text[: text.rfind("\n") + 1]
    given = {key: getattr(read, key) for key in ("delimiter", "quote", "escape")}
    known = frozenset(key for key, value in given.items() if value is not None)
    delimiter = read.delimiter or ","
    if len(delimiter) > 1:
        text, delimiter = text.replace(delimiter, UNIT), UNIT
    wanted = Dialect(delimiter, '"' if read.quote is None else read.quote, read.escape or "")
    dialect = find_dialect(text, wanted, known)[0]
    return find_layout(text, dialect, read.skip_lines).width, dialect.quote


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")


# ----------------------------------------------------------------------------------------------- Parquet


def sampled_parquet(
    file: pq.ParquetFile, max_rows: int | None, *, rows_at_once: int = PARQUET_ROWS
) -> tuple[pa.Table, Sampled] | None:
    """The kept rows of a Parquet file; None where it has few enough to be read whole."""
    rows = file.metadata.num_rows
    most = most_rows(len(file.schema_arrow), max_rows)
    if rows <= most:
        return None
    threshold = threshold_of(most, rows)
    kept = []
    for batch in file.iter_batches(batch_size=rows_at_once):
        below = row_hashes(batch) < np.uint64(threshold)
        kept.append(batch.filter(pa.array(below)))
    table = pa.Table.from_batches(kept, file.schema_arrow)
    return table, Sampled(rows, table.num_rows)


def row_hashes(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """A hash of each row by its cells; shape (rows,)."""
    total = np.zeros(batch.num_rows, np.uint64)
    for name, cells in zip(batch.schema.names, batch.columns, strict=True):
        total += mixed(_cell_hashes(cells) ^ hash_of(f"column {name}"))
    return mixed(total)


def _cell_hashes(cells: pa.Array) -> NDArray[np.uint64]:
    """A hash of each cell, by the column's type alone: whether a piece has a missing cell changes none."""
    kind = cells.type
    if pa.types.is_temporal(kind):
        cells = cells.cast(pa.int64() if kind.bit_width == 64 else pa.int32())
    if pa.types.is_boolean(kind):
        cells = cells.cast(pa.uint8())
    if pa.types.is_integer(cells.type) or pa.types.is_floating(kind):
        numbers = pc.cast(cells, pa.float64(), safe=False)
        return number_hashes(np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64))
    values: list[Any] = cells.to_pylist()
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)):
        values = [None if value is None else repr(value) for value in values]
    return text_hashes(values)
