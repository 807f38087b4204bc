"""Bodies of `/predict` that are files: CSV, Parquet, or a form that holds such a file or pictures.

Each becomes the request that a client would write in JSON. An error names the file and the line too.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from artifact import csv_cells
from artifact.encode import CellError
from artifact.nfc import nfc
from serving.errors import Problem
from serving.protocols import csv_table
from serving.protocols.json_body import decode
from serving.protocols.media import check_charset, media_type
from serving.protocols.options import EXPLAIN_OPTIONS, OPTIONS, SURE_OPTIONS
from serving.protocols.predict import parquet
from serving.protocols.wording import one_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from artifact.encode import BadRows
    from artifact.signature import Signature
    from serving.protocols import Head
    from serving.scoring.catalog import LiveModel

CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
FORM_DATA = "multipart/form-data"
MEDIA_TYPES = (CSV, PARQUET, FORM_DATA)
MAX_PARTS = 1_000
_MAGIC = b"PAR1"
_ALL_OPTIONS = (*OPTIONS, *EXPLAIN_OPTIONS, *SURE_OPTIONS)


class Read(NamedTuple):
    """A file as a request, and the names of its rows in errors, such as "rows.csv, line 7"."""

    request: dict[str, Any]
    places: Sequence[str]


class _Part(NamedTuple):
    name: str
    file: str | None
    media: str
    content: bytes


def is_file(head: Head) -> bool:
    """Whether the content type is that of a file or a form."""
    return _media(head.content_type) in MEDIA_TYPES


def read(body: bytes, head: Head, model: LiveModel) -> Read:
    """A body as a request.

    Raises
    ------
    Problem
        400 for a file or form that cannot be read, 413 for too many rows, 415 for Parquet on a server that
        cannot read it, 422 for a form without a file.
    """
    media = _media(head.content_type)
    if media == CSV:
        return _of_csv(body, "", model)
    if media == PARQUET:
        return _of_parquet(body, "", model)
    most = min(MAX_PARTS, len(model.signature.names) + len(_ALL_OPTIONS) + 1)  # all columns, options, a file
    return _of_form(_parts(body, head.content_type, most), model)


def named(error: BadRows, places: Sequence[str]) -> Problem:
    """422 for rows that the signature refuses, each with its place in the file."""
    errors = [
        CellError(each.row, each.column, f"{place}: {each.reason}" if place else each.reason, each.fault)
        for each in error.errors
        for place in (_place(each, places),)
    ]
    first = error.errors[0]
    where = [_place(first, places), f"column {first.column!r}" if first.column is not None else ""]
    named_by = ", ".join(filter(None, where))
    more = "" if len(errors) == 1 else f" (and {len(errors) - 1} more, see `errors`)"
    return Problem(
        422, f"{named_by}: {first.reason}{more}" if named_by else first.reason + more, errors=errors
    )


def _place(error: CellError, places: Sequence[str]) -> str:
    """The place of an error's row in its file; "" if the error has no row."""
    return "" if error.row is None or error.row >= len(places) else places[error.row]


def _media(content_type: bytes) -> str:
    return media_type(content_type).decode("latin-1")


def _of_csv(content: bytes, file: str, model: LiveModel) -> Read:
    table = csv_table.read(content, model.check_rows)
    columns = table.columns(model.signature)
    columns.pop("", None)  # the row numbers that pandas writes
    prefix = f"{file}, line" if file else "line"
    return Read({"columns": columns}, [f"{prefix} {line}" for line in table.lines])


def _of_parquet(content: bytes, file: str, model: LiveModel) -> Read:
    kinds = {column.name: column.kind for column in model.signature.columns}
    columns, rows = parquet.columns_of(content, file or "The body", model.check_rows, kinds)
    prefix = f"{file}, row" if file else "row"
    return Read({"columns": columns}, [f"{prefix} {row + 1}" for row in range(rows)])


def _of_form(parts: Sequence[_Part], model: LiveModel) -> Read:
    tables = [part for part in parts if _is_table(part)]
    if len(tables) > 1:
        raise Problem(422, f"The form has {len(tables)} tables: {_listed(tables)}; expected one.")
    options: dict[str, Any] = {}
    cells: dict[str, Any] = {}
    signature = model.signature
    for part in parts:
        if part in tables:
            continue
        field = _field(part, signature)
        if field in cells or field in options:
            raise Problem(422, f"The form has the field {field[:100]!r} twice.")
        if field in signature.names:
            cells[field] = _cell(part, field, signature)
        else:
            options[field] = decode(part.content)
    if not tables:
        if not cells:
            raise Problem(422, "The form has no file; expected a CSV or Parquet file of rows.")
        return Read({"records": [cells], **options}, ["the form"])
    if cells:
        field = next(iter(cells))
        raise Problem(
            422, f"The form has the file {tables[0].file!r} and the field {field!r}; expected one of them."
        )
    (part,) = tables
    reader = _of_parquet if _is_parquet(part) else _of_csv
    found = reader(part.content, (part.file or part.name)[:100], model)
    return Read({**found.request, **options}, found.places)


def _field(part: _Part, signature: Signature) -> str:
    """The column or option of a part; the only column of pictures takes a file of any name."""
    for name in (part.name, _unescaped(part.name)):
        if name in signature.names or name in _ALL_OPTIONS:
            return name
    if part.file is not None and len(signature.pictures) == 1:
        return signature.pictures[0]
    expected = ["a file of rows", *signature.names[:8], *_ALL_OPTIONS]
    raise Problem(422, f"The form has the field {part.name[:100]!r}; expected {one_of(expected)}.")


def _unescaped(name: str) -> str:
    """A name without what browsers write for quotes and ends of lines (HTML, multipart/form-data)."""
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _cell(part: _Part, field: str, signature: Signature) -> Any:
    if field in signature.pictures and part.file is not None:
        return base64.b64encode(part.content).decode()
    try:
        text = part.content.decode()
    except UnicodeDecodeError as error:
        raise Problem(400, f"The field {part.name!r} is not UTF-8 at byte {error.start}.") from None
    column = next(each for each in signature.columns if each.name == field)
    return csv_cells.cells(column, [text])[0]


def _is_parquet(part: _Part) -> bool:
    return part.media == PARQUET or part.content.startswith(_MAGIC)


def _is_table(part: _Part) -> bool:
    named_so = part.file is not None and part.file.lower().endswith((".csv", ".parquet", ".pq", ".txt"))
    return named_so or part.media == CSV or (part.file is not None and _is_parquet(part))


def _listed(parts: Sequence[_Part]) -> str:
    return ", ".join(repr((part.file or part.name)[:60]) for part in parts[:4])


def _parts(body: bytes, content_type: bytes, most: int) -> list[_Part]:
    """The parts of a form (RFC 7578), of which it may have so many."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Problem(400, f"Content-Type {FORM_DATA!r} has no boundary.")
    found: list[tuple[dict[bytes, bytes], bytearray]] = []
    header = [b"", b""]

    def begin() -> None:
        if len(found) >= most:
            raise Problem(400, f"The form has more than {most} fields.")
        found.append(({}, bytearray()))

    def end_of_header() -> None:
        found[-1][0][header[0].lower()] = header[1]
        header[:] = b"", b""

    def name_of(data: bytes, start: int, end: int) -> None:
        header[0] += data[start:end]

    def value_of(data: bytes, start: int, end: int) -> None:
        header[1] += data[start:end]

    ended: list[bool] = []
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_part_data": lambda data, start, end: found[-1][1].extend(data[start:end]),
                "on_header_field": name_of,
                "on_header_value": value_of,
                "on_header_end": end_of_header,
                "on_end": lambda: ended.append(True),
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, f"The form cannot be read: {str(error)[:200]}") from None
    if not ended:
        raise Problem(400, "The form is cut off: its last boundary is missing.")
    return [_part(headers, bytes(content)) for headers, content in found]


def _part(headers: Mapping[bytes, bytes], content: bytes) -> _Part:
    from python_multipart.multipart import parse_options_header

    kind, said = parse_options_header(headers.get(b"content-disposition", b""))
    if kind.lower() != b"form-data" or b"name" not in said:
        raise Problem(400, "A field of the form has no Content-Disposition: form-data with a name.")
    content_type = headers.get(b"content-type", b"")
    check_charset(content_type)
    file = said.get(b"filename")
    return _Part(
        nfc(said[b"name"].decode("utf-8", "replace")),
        None if file is None else file.decode("utf-8", "replace"),
        _media(content_type),
        content,
    )


def csv_of(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Equally long columns as CSV (RFC 4180) in UTF-8: numbers as in JSON, null as an empty field."""
    import csv

    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows(zip(*(map(_text, cells) for cells in columns.values()), strict=True))
    return out.getvalue().encode()


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else msgspec.json.encode(cell).decode()
