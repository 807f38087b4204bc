"""Where tables come from: a file, a database, OpenML, a set that ships with scikit-learn, generated rows.

Every source gives the table as it is: text cells for a delimited file, its own types otherwise.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd

from training.settings import Bundled, Csv, OpenML, Parquet, Read, Sql, Synthetic, UseCase
from training.tables.reading import UNDECIDED, Decided, Reading, from_keys
from training.tables.synthetic import generate

ROWS_AT_ONCE = 50_000
SNIFFED_ROWS = 200
DELIMITERS = ",;\t|"

csv.field_size_limit(2**30)


class DataError(Exception):
    """Data that cannot be trained on: one or two sentences for the person whose data it is (exit code 2)."""

    exit_code = 2


@dataclass(frozen=True)
class Raw:
    """A table as its source has it.

    Parameters
    ----------
    frame
        Columns of `str` (a delimited file) or of the source's own types; names may be empty or repeated.
    digest
        sha256 of the source's content.
    reading
        How a text file is written, the keys of `[read]` and `[formats]` in it.
    notes
        What was done to read it, as (column or None, text).
    """

    frame: pd.DataFrame
    digest: str
    reading: Reading = UNDECIDED
    notes: tuple[tuple[str | None, str], ...] = field(default=())


def read_source(use_case: UseCase) -> Raw:
    """Read the whole source of a use case. Raises DataError."""
    source = use_case.source
    given = from_keys(use_case.read, use_case.formats)
    match source:
        case Csv():
            return read_delimited(Path(source.path), use_case.read, columns=source.columns, given=given)
        case Parquet():
            return _read_parquet(Path(source.path), given)
        case Bundled():
            frame = _read_bundled(source.name)
        case Synthetic():
            frame = generate(source.name)
        case OpenML():
            frame = _read_openml(source.id)
        case Sql():
            frame = _read_sql(source, Path(use_case.file).parent)
    return Raw(frame, _frame_digest(frame), given)


def read_delimited(
    path: Path,
    read: Read = Read(),  # noqa: B008 - frozen
    *,
    columns: tuple[str, ...] | None = None,
    given: Reading = UNDECIDED,
) -> Raw:
    """Read a delimited text file, gzipped or not, with or without a byte order mark, every cell a text.

    The delimiter is found from the first rows unless given. Raises DataError for a file that is missing,
    empty, no text, in another encoding, or ragged (naming the line).
    """
    content = _read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    encoding, delimiter = read.encoding or "utf-8", read.delimiter
    text = _decode(_unpacked(content, path), encoding, path)
    if not text.strip():
        raise DataError(f"{path} is empty: expected a header line and rows.")
    if said := _other_format(text):
        raise DataError(f"{path} is {said}: expected delimited text (CSV) or Parquet.")
    if line := _SEPARATOR_LINE.match(text):  # as Excel writes and reads it
        delimiter, text = delimiter or line[1], "\n" + text[line.end() :]
    text = _without_comments(text, delimiter)
    delimiter = delimiter or sniff_delimiter(text)
    if delimiter == " ":
        text, delimiter = _spaces_to_tabs(text), "\t"
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=delimiter not in " \t",
        strict=False,
    )
    header = list(columns) if columns else next((row for row in reader if any(c.strip() for c in row)), [])
    notes: list[tuple[str | None, str]] = []
    parts = [_part(rows, path) for rows in _blocks(reader, header, delimiter, path)]
    if not parts:
        raise DataError(f"{path} has a header line and no rows.")
    frame = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    if len(header) == frame.shape[1] - 1:
        if (frame.iloc[:, -1] == "").all():
            frame = frame.iloc[:, :-1]
        else:
            header = ["", *header]
            notes.append(
                (None, "the rows have one more value than the header: the first is taken as a row name")
            )
    frame.columns = pd.Index(header)
    reading = replace(
        given,
        encoding=Decided(encoding, "the text decodes", given=read.encoding is not None),
        delimiter=Decided(delimiter, "it cuts the rows alike", given=read.delimiter is not None),
    )
    return Raw(frame, digest, reading, tuple(notes))


_SEPARATOR_LINE = re.compile(r"\ufeff?sep=(.)\r?\n", re.IGNORECASE)


def _other_format(text: str) -> str:
    """What a text is that begins as no table does; "" for what may be one."""
    start = text[:200].lstrip().lower()
    if start.startswith(("<!doctype", "<html", "<?xml")):
        return "a page of HTML or XML"
    first = text.lstrip().partition("\n")[0].strip()
    if not first.startswith(("{", "[")):
        return ""
    try:
        json.loads(first.removesuffix(","))
    except ValueError:
        return "JSON" if first in {"{", "["} else ""
    return "JSON"


def _without_comments(text: str, delimiter: str | None) -> str:
    """The text with blank lines in place of those at its top that begin with `#`; one may be the header."""
    if not text.startswith("#"):
        return text
    lines = io.StringIO(text, newline="").readlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    if count == 0:
        return text
    delimiter = delimiter or sniff_delimiter("".join(lines[count : count + SNIFFED_ROWS]))
    last, first = csv.reader(lines[count - 1 : count + 1], delimiter=delimiter)
    # What follows a header is a row, with numbers in it.
    kept = count - 1 if len(last) == len(first) and _any_number(first) else count
    return "\n" * kept + "".join(lines[kept:])


def _any_number(row: list[str]) -> bool:
    return bool(pd.to_numeric(pd.Series(row, dtype=object), errors="coerce").notna().any())


def sniff_delimiter(text: str) -> str:
    """Which of `,` `;` tab `|` (else spaces) cuts the first rows into the same number of fields, the most."""
    lines = list(islice((line for line in io.StringIO(text, newline="") if line.strip()), SNIFFED_ROWS))
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter != "\t")
        widths = Counter(len(row) for row in rows)
        width, count = widths.most_common(1)[0]
        if width > 1:
            # All rows agree on a true delimiter; one that only stands in texts cuts each differently.
            score = (round(count / sum(widths.values()), 2), width)
            if score > best_score:
                best, best_score = delimiter, score
    if best_score == (0.0, 0):
        widths = Counter(len(_SPACED.findall(line)) for line in lines)
        width, count = widths.most_common(1)[0]
        if len(lines) > 1 and width > 1 and count == len(lines):
            return " "
    return best


_SPACED = re.compile(r'"[^"]*"|\S+')


def _spaces_to_tabs(text: str) -> str:
    lines = (_SPACED.findall(line) for line in text.splitlines())
    return "\n".join("\t".join(line) for line in lines)


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path}: there is no such file. A path in a TOML file is taken from that file's folder."
        ) from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; source.path must name one file.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if not content:
        raise DataError(f"{path} is empty: expected a header line and rows.")
    return content


def _unpacked(content: bytes, path: Path) -> bytes:
    if content.startswith(b"\x1f\x8b"):
        try:
            return gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise DataError(f"{path} is a damaged gzip file: fetch it again.") from None
    for magic, what in _OTHER_FORMATS.items():
        if content.startswith(magic):
            raise DataError(f"{path} is {what}, no delimited text: save it as CSV (or see source.kind).")
    return content


_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip or Excel file",
    b"PAR1": "a Parquet file",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"%PDF": "a PDF",
    b"BZh9": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"SQLite format 3": "an SQLite database",
}


def _decode(content: bytes, encoding: str, path: Path) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif encoding.lower().replace("_", "-") in {"utf-8", "utf8"}:
        encoding = "utf-8-sig"
    elif encoding.lower().replace("_", "-") in {"latin-1", "latin1", "iso-8859-1"}:
        return _decode_latin(content)
    try:
        return content.decode(encoding)
    except LookupError:
        raise DataError(f'encoding is "{encoding}", which is none; expected such as "latin-1".') from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line} is not {encoding.removesuffix('-sig').upper()}: "
            'set encoding = "latin-1" under [read], or what the file is written in.'
        ) from None


def _decode_latin(content: bytes) -> str:
    """What is called Latin-1 is mostly Windows-1252, which has the euro sign and curly quotes besides."""
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _blocks(reader: Any, header: list[str], delimiter: str, path: Path) -> Any:
    """Rows in blocks, all of one width: the header's, or one more where every row has a row name."""
    width, block, first = len(header), [], True
    try:
        for row in reader:
            if len(row) != width:
                if not row or (len(row) == 1 and not row[0].strip()):
                    continue
                if first and len(row) == width + 1:
                    width += 1
                else:
                    raise DataError(_ragged(path, reader.line_num, len(row), width, delimiter))
            first = False
            block.append(row)
            if len(block) == ROWS_AT_ONCE:
                yield block
                block = []
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num} cannot be read: {error}.") from None
    if block:
        yield block


def _ragged(path: Path, line: int, found: int, expected: int, delimiter: str) -> str:
    name = {"\t": "tab"}.get(delimiter, f'"{delimiter}"')
    return (
        f"{path}, line {line} has {found} values, expected {expected} as in the lines before "
        f"(delimiter {name}): mend that line, or set delimiter under [read]."
    )


def _part(rows: list[list[str]], path: Path) -> pd.DataFrame:
    if any("\x00" in cell for cell in rows[0]):
        raise DataError(f"{path} holds zero bytes: it is no delimited text.")
    return pd.DataFrame(
        {i: pd.array(column, dtype="str") for i, column in enumerate(zip(*rows, strict=True))}, copy=False
    )


def _read_parquet(path: Path, given: Reading) -> Raw:
    content = _read_bytes(path)
    try:
        frame = pd.read_parquet(io.BytesIO(content))
    except Exception as error:  # noqa: BLE001 - pyarrow raises its own kinds, pandas others
        raise DataError(f"{path} is no Parquet file that can be read: {_first_line(error)}.") from None
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    frame.columns = pd.Index([str(name) for name in frame.columns])
    return Raw(frame, hashlib.sha256(content).hexdigest(), given)


def _read_bundled(name: str) -> pd.DataFrame:
    from sklearn import datasets  # a second to import; most sources do without

    if name == "diabetes":
        frame: pd.DataFrame = datasets.load_diabetes(as_frame=True, scaled=False).frame
        return frame.rename(columns={"target": "progression"})
    loaded = getattr(datasets, f"load_{name}")()
    frame = pd.DataFrame(loaded.data, columns=[str(column) for column in loaded.feature_names])
    names = np.array([str(label) for label in loaded.target_names], object)
    if name == "digits":
        frame["digit"] = loaded.target
    else:
        frame[_BUNDLED_TARGETS[name]] = names[loaded.target]
    return frame


_BUNDLED_TARGETS = {"breast_cancer": "diagnosis", "iris": "species", "wine": "cultivar"}


def _read_openml(number: int) -> pd.DataFrame:
    from sklearn.datasets import fetch_openml

    home = os.environ.get("OKAMOCHI_DATA") or None
    try:
        # scikit-learn's "pandas" parser is faster, and fails on classes named 1 and 2 with pandas 3.
        bunch = fetch_openml(data_id=number, as_frame=True, parser="liac-arff", data_home=home)
    except (URLError, OSError) as error:
        raise DataError(
            f"OpenML set {number} cannot be fetched ({_first_line(error)}): is openml.org reachable?"
        ) from None
    except ValueError as error:
        raise DataError(f"OpenML set {number} cannot be read: {_first_line(error)}.") from None
    frame: pd.DataFrame = bunch.frame
    return frame


def _read_sql(source: Sql, folder: Path) -> pd.DataFrame:
    import sqlalchemy as sa  # only this source needs it

    written = os.path.expandvars(source.url)
    unset = re.search(r"\$\{?(\w+)\}?", written)
    if unset:
        raise DataError(f"source.url names the environment variable {unset[1]}, which is not set.")
    try:
        url = sa.make_url(written)
    except sa.exc.ArgumentError:
        raise DataError(
            "source.url is no database URL; expected such as postgresql+psycopg://host/db."
        ) from None
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        path = folder / url.database
        if not path.is_file():
            raise DataError(f"{path}: there is no such database; source.url is relative to the TOML file.")
        url = url.set(database=str(path))
    try:
        engine = sa.create_engine(url)
        try:
            with engine.connect() as connection:
                return pd.read_sql(sa.text(source.query), connection)
        finally:
            engine.dispose()
    except ModuleNotFoundError as error:
        raise DataError(
            f"source.url needs the database driver {error.name}, which is not installed."
        ) from None
    except (sa.exc.SQLAlchemyError, pd.errors.DatabaseError) as error:
        cause = error.__cause__ or error  # pandas wraps what the database said
        reason = _first_line(getattr(cause, "orig", None) or cause)
        raise DataError(
            f"The query of [source] failed at {url.render_as_string(hide_password=True)}: {reason}."
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]


def _frame_digest(frame: pd.DataFrame) -> str:
    """sha256 of the cells as CSV: the same for the same table, whatever made it."""
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()
