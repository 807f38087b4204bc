"""Tables in and out: CSV, Parquet and JSON lines, gzipped or not, a chunk at a time."""

from __future__ import annotations

import csv
import io
import os
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from artifact.kinds.cell import listed
from artifact.nfc import nfc
from deploy.score.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from artifact.signature import Signature
    from deploy.score.rows import Asked

FORMATS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet",
           ".jsonl": "jsonl", ".ndjson": "jsonl"}  # fmt: skip
UNREADABLE = (pa.ArrowException, OSError, EOFError, UnicodeError, zlib.error)
"""What reading a damaged file raises; a gzip file that is cut off raises EOFError."""
CHUNK_ROWS = 50_000
BLOCK_BYTES, PARQUET_BUFFER_BYTES = 8_000_000, 1_000_000
DELIMITERS = (",", ";", "\t", "|")
MAX_RAGGED = 100_000


def format_of(path: Path) -> str:
    """`csv`, `parquet` or `jsonl`, by the end of the name; `.gz` may follow."""
    name = path.name.removesuffix(".gz")
    found = FORMATS.get(Path(name).suffix.lower())
    if found is None or (found == "parquet" and path.suffix == ".gz"):
        raise TableError(f"{path}: expected a name that ends in {', '.join(FORMATS)}, with or without .gz")
    return found


def check_asked(asked: Asked, signature: Signature) -> None:
    """Refuse what a model of this kind does not give."""
    if asked.threshold is not None and signature.task != "binary":
        raise TableError(f"--threshold is for a binary model; this one does a {signature.task} task")
    if asked.probabilities and not signature.classes:
        raise TableError("--probabilities is for a model with classes; this one predicts numbers")


def check_columns(table: str, names: Sequence[str], signature: Signature, asked: Asked) -> None:
    """Refuse a table without the columns that the model needs, or those that are to be kept."""
    there = set(map(nfc, names))
    absent = [
        column.name for column in signature.columns if column.name not in there and column.missing == "refuse"
    ]
    if absent:
        raise TableError(f"{table} lacks {listed(absent)}, which the model needs; it has {listed(names)}")
    unknown = [name for name in asked.columns or () if name not in names]
    if unknown:
        raise TableError(f"{table} has no column {unknown[0]!r}; it has {listed(names)}")


@dataclass
class Source:
    """A table that is read a chunk at a time; a file always in the same chunks.

    Parameters
    ----------
    name
        What messages call it.
    names
        Its columns; None where each record has its own.
    total
        Rows, where the file says so; else None, and `bytes_read` tells how far it is.
    chunks
        Each chunk with its mark: what tells `chunks` to go on behind it, or None.
    identity
        Tells the table from another one: a run goes on only with the same table.
    keyed
        Whether `chunks` goes on behind a mark. Otherwise it gives all chunks again.
    size
        Bytes of a file.
    ragged
        Of a CSV file: the lines that have too many or too few fields, by the place of their row in the file,
        counted from 0, as far as it was read.
    """

    name: str
    kind: str
    names: list[str] | None
    total: int | None
    chunks: Callable[[str | None], Iterator[tuple[Any, str | None]]]
    identity: list[Any] = field(default_factory=list)
    keyed: bool = False
    size: int = 0
    ragged: list[tuple[int, str, str]] = field(default_factory=list)
    delimiter: str = ","
    bytes_read: Callable[[], int] = lambda: 0


def open_source(path: Path, wanted: Sequence[str], *, delimiter: str | None, encoding: str) -> Source:
    """A table by its path.

    Parameters
    ----------
    wanted
        The model's columns, by which the delimiter of a CSV file is recognised.

    Raises
    ------
    TableError
        It does not exist, its format is unknown, or its head cannot be read.
    """
    kind = format_of(path)
    if not path.is_file():
        raise TableError(f"{path} does not exist")
    try:
        if kind == "parquet":
            source = _parquet(path)
        else:
            source = _json_lines(path) if kind == "jsonl" else _csv(path, wanted, delimiter, encoding)
    except UNREADABLE as error:
        raise TableError(f"{path} cannot be read: {error}") from error
    there = path.stat()
    source.identity, source.size = [str(path.resolve()), there.st_size, there.st_mtime_ns], there.st_size
    return source


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse a header that has a name twice."""
    spelt = list(map(nfc, names))
    double = sorted({name for name in spelt if spelt.count(name) > 1})
    if double:
        raise TableError(f"{where}: the header has {double[0]!r} twice")


def _parquet(path: Path) -> Source:
    # Read through buffers: without one, a row group of a million rows is in memory as a whole.
    file = pa.parquet.ParquetFile(path, pre_buffer=False, buffer_size=PARQUET_BUFFER_BYTES)
    names = list(file.schema_arrow.names)

    def chunks(_: str | None = None) -> Iterator[tuple[pa.Table, None]]:
        for batch in file.iter_batches(CHUNK_ROWS):
            yield pa.Table.from_batches([batch]), None

    return Source(str(path), "parquet", names, file.metadata.num_rows, chunks)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The content, and the file itself, whose place says how much of it was read."""
    import gzip

    with path.open("rb") as raw:
        if raw.peek(2)[:2] == b"\x1f\x8b":
            with gzip.open(raw) as content:
                yield content, raw  # type: ignore[misc]
        else:
            yield raw, raw


def _json_lines(path: Path) -> Source:
    place = [0]

    def chunks(_: str | None = None) -> Iterator[tuple[list[bytes], None]]:
        with _opened(path) as (content, raw):
            lines = (line.rstrip(b"\r\n") for line in content)
            there = (line for line in lines if line.strip())
            while chunk := list(islice(there, CHUNK_ROWS)):
                place[0] = raw.tell()
                yield chunk, None

    return Source(str(path), "jsonl", None, None, chunks, bytes_read=lambda: place[0])


def _csv(path: Path, wanted: Sequence[str], delimiter: str | None, encoding: str) -> Source:
    with _opened(path) as (content, _):
        head = content.read(1_000_000)
    text = head.decode(encoding, errors="replace").removeprefix("\ufeff")
    if not text.strip():
        raise TableError(f"{path} is empty; expected a header and rows")
    found = delimiter or delimiter_of(text, wanted)
    names = next(csv.reader(io.StringIO(text), delimiter=found))
    check_names(names, str(path))
    place = [0]
    ragged: list[tuple[int, str, str]] = []
    source = Source(str(path), "csv", names, None, lambda _: iter(()))
    source.ragged, source.delimiter, source.bytes_read = ragged, found, lambda: place[0]

    def unfit(row: Any) -> str:
        if len(ragged) < MAX_RAGGED:
            reason = f"expected {row.expected_columns} fields, got {row.actual_columns}"
            # Row 1 is the header's line.
            ragged.append((row.number - 2, row.text, reason))
        return "skip"

    def chunks(_: str | None = None) -> Iterator[tuple[pa.Table, None]]:
        ragged.clear()
        with _opened(path) as (content, raw):
            reader = pa.csv.open_csv(
                content,
                pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, encoding=encoding),
                pa.csv.ParseOptions(delimiter=found, newlines_in_values=True, invalid_row_handler=unfit),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    strings_can_be_null=False,
                ),
            )
            waiting: list[pa.RecordBatch] = []
            for batch in reader:
                place[0] = raw.tell()
                waiting.append(batch)
                table = pa.Table.from_batches(waiting)
                while table.num_rows >= CHUNK_ROWS:
                    yield table.slice(0, CHUNK_ROWS), None
                    table = table.slice(CHUNK_ROWS)
                waiting = table.to_batches()
            if waiting:
                yield pa.Table.from_batches(waiting), None

    source.chunks = chunks
    return source


def delimiter_of(text: str, wanted: Sequence[str]) -> str:
    """The one that finds most of the model's columns in the header, a comma before others."""
    line = text.splitlines()[0] if text.splitlines() else ""

    def hits(delimiter: str) -> int:
        return len(set(map(nfc, next(csv.reader([line], delimiter=delimiter), []))) & set(wanted))

    return max(DELIMITERS, key=hits)


class FileOutput:
    """A file that appears at once; what an unfinished run has done is in a folder beside it."""

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise TableError(f"{path} is a folder; name a file")
        self.beside, self.shown, self.kind = path, str(path), format_of(path)

    def taken(self) -> bool:
        """Whether it exists."""
        return self.beside.exists()

    def sink(self, delimiter: str) -> Sink:
        """What writes it; `delimiter` of a CSV file."""
        return Sink(self.beside, delimiter)


class Sink:
    """A table that is written a chunk at a time, under another name until it is whole."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self.path, self.kind, self.delimiter = path, format_of(path), delimiter
        self.temporary = path.with_name(f".{path.name}.writing")
        self._stream: Any = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        import gzip

        raw = self.temporary.open("wb")
        self._raw = raw
        self._stream = gzip.open(raw, "wb", compresslevel=4) if self.path.suffix == ".gz" else raw
        return self

    def write(self, chunk: Any) -> None:
        """Append a table, or lines of JSON."""
        if isinstance(chunk, (bytes, memoryview)):
            self._stream.write(chunk)
        elif self.kind == "jsonl":
            self._stream.write(lines_of(chunk))
        else:
            if self._writer is None:
                self._writer = self._open(chunk.schema)
            self._writer.write_table(chunk)

    def _open(self, schema: pa.Schema) -> Any:
        if self.kind == "parquet":
            return pa.parquet.ParquetWriter(self._stream, schema, compression="snappy")
        return pa.csv.CSVWriter(
            self._stream,
            schema,
            write_options=pa.csv.WriteOptions(quoting_style="needed", delimiter=self.delimiter),
        )

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
                self.temporary.replace(self.path)
        finally:
            with suppress(OSError):  # what a full disk had no room for is not written now either
                self._raw.close()
            self.temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._stream is not self._raw:
            self._stream.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())


def lines_of(table: pa.Table) -> bytes:
    """Rows as lines of JSON."""
    encode = msgspec.json.Encoder(enc_hook=str).encode
    return b"".join(encode(record) + b"\n" for record in table.to_pylist())
