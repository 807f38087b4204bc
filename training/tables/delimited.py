"""A delimited text file becomes a table of text cells."""

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa

from training.settings import Read
from training.tables.dialect import (
    Dialect,
    Layout,
    cut,
    dialects_that_part,
    find_dialect,
    find_layout,
    lines_of,
    prepared,
    unmasked,
)
from training.tables.encoding import decode
from training.tables.odd_delimiters import (
    Rewritten,
    at,
    first_lines,
    of_fixed_width,
    of_one_character,
    of_several_characters,
    without_quotes_around_rows,
)
from training.tables.pieces import Sampled, digest_of_file, sampled_text
from training.tables.raw import DataError, Raw
from training.tables.reading import UNDECIDED, Decided, LookAt, Reading, number_of

ROWS_AT_ONCE = 50_000
MAX_FOOTER_LINES = 10
MAX_TOTALS = 3
MIN_BELOW_HEADER, MAX_BELOW_HEADER = 5, 200  # rows
SHOWN_LINE = 60
TOTALS = frozenset(
    {
        "total", "totals", "grand total", "sum", "subtotal", "sub total", "overall", "average", "mean",
        "summe", "gesamt", "insgesamt", "gesamtsumme", "durchschnitt", "mittelwert", "totale", "somme",
        "moyenne", "media", "suma", "total general", "promedio", "soma", "totaal", "summa", "yhteensä",
        "i alt", "razem",
        "ogółem", "celkem", "összesen", "toplam", "итого", "всего", "сумма", "среднее", "разом",
        "合计", "总计", "合計", "総計", "总和", "합계", "총계",
    }
)  # fmt: skip

csv.field_size_limit(2**30)


@dataclass
class _Odd:
    """Lines that are no rows: comments, and what stands below the table."""

    comments: list[tuple[int, list[str]]] = field(default_factory=list)
    headers: list[int] = field(default_factory=list)
    footers: list[tuple[int, list[str]]] = field(default_factory=list)


def read_delimited(
    path: Path,
    read: Read = Read(),  # noqa: B008 - frozen
    *,
    columns: tuple[str, ...] | None = None,
    given: Reading = UNDECIDED,
    max_rows: int | None = None,
) -> Raw:
    """Read a delimited text file, gzipped or not, every cell a text in NFC.

    How it is written is found out but for what `read` says. Of a file with more than `max_rows` rows, or too
    many to hold, as many rows are read, chosen by a hash. Raises DataError for a file that is missing,
    empty, no text, in another encoding, or ragged (naming the line).
    """
    check_readable(path)
    try:
        found = sampled_text(path, read, max_rows)
    except (OSError, EOFError, zlib.error):
        found = None  # the reading of the whole says why
    if found is None:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return _read_content(_unpacked(content, path), digest, path, read, columns, given)
    content, sampled = found
    try:
        raw = _read_content(content, digest_of_file(path), path, read, columns, given)
    except DataError as error:
        told = f"Lines are counted among the {sampled.kept:,} of {sampled.rows:,} that are read."
        raise DataError(f"{error} {told}") from None
    rows = len(raw.frame)  # without the header and what else is no row
    told_rows = Sampled(sampled.rows - (sampled.kept - rows), rows).told
    return replace(raw, reading=replace(raw.reading, look_at=(told_rows, *raw.reading.look_at)))


def _read_content(  # noqa: PLR0917
    content: bytes,
    digest: str,
    path: Path,
    read: Read,
    columns: tuple[str, ...] | None,
    given: Reading,
) -> Raw:
    """The table in an unpacked file's content."""
    decoded = decode(content, path, read.encoding)
    del content
    text = decoded.text
    if "\0" in text[:100_000]:
        raise DataError(f"{path} contains bytes of value zero, so it is not a delimited text file.")
    if not text.strip():
        raise DataError(f"{path} is empty: expected a header line and rows.")
    if said := _other_format(text):
        raise DataError(f"{path} is {said}: expected delimited text (CSV) or Parquet.")
    delimiter = read.delimiter
    if line := _SEPARATOR_LINE.match(text):  # as Excel writes and reads it
        delimiter, text = delimiter or line[1], "\n" + text[line.end() :]
    told: list[LookAt] = []
    text = _without_quotes_around_rows(text, read, told)
    rewritten = _rewritten(text, delimiter, read.skip_lines)
    if rewritten is not None:
        text, delimiter = rewritten.text, rewritten.delimiter
    wanted, known = _wanted(read, delimiter)
    text = _without_comments(text, wanted, known) if read.skip_lines is None else text
    dialects = dialects_that_part(_below(text, read.skip_lines), wanted, known)
    if "delimiter" not in known and (rewritten := _rewritten_last(text, dialects, read.skip_lines, path)):
        text, dialects = rewritten.text, [Dialect(rewritten.delimiter, wanted.quote, wanted.escape)]
    try:
        table = _first_whole(text, dialects or [wanted], read.skip_lines, columns, path)
    except DataError as error:
        raise _as_written(error, rewritten) from None
    if rewritten is not None:
        given = replace(given, delimiter=given.delimiter or Decided(rewritten.shown, _ONE_WIDTH))
        told += [LookAt(None, rewritten.told)] if rewritten.told else []
    if not table.look_at and table.frame.shape[1] == 1:
        told.append(LookAt(str(table.frame.columns[0]), _ONE_COLUMN))
    reading = _reading(given, decoded.encoding, table, line is not None)
    look_at = (*reading.look_at, *decoded.look_at, *told, *table.look_at)
    return Raw(table.frame, digest, replace(reading, look_at=look_at), tuple(table.notes))


def _wanted(read: Read, delimiter: str | None) -> tuple[Dialect, frozenset[str]]:
    """What keys say of how the rows are cut, and which of them say it."""
    keys = (("delimiter", delimiter), ("quote", read.quote), ("escape", read.escape))
    known = frozenset(key for key, value in keys if value is not None)
    return Dialect(delimiter or ",", '"' if read.quote is None else read.quote, read.escape or ""), known


def _as_written(error: DataError, rewritten: Rewritten | None) -> DataError:
    """The error with the delimiter of the file in place of the one that stands for it."""
    if rewritten is None or rewritten.shown == rewritten.delimiter:
        return error
    return DataError(str(error).replace(rewritten.delimiter, rewritten.shown))


_ONE_WIDTH = "it cuts the rows into cells of one width"
_ONE_COLUMN = (
    "the file is read as one column, since no delimiter stands in its lines equally often: if it has "
    "several, set delimiter under [read]"
)


def _without_quotes_around_rows(text: str, read: Read, told: list[LookAt]) -> str:
    if read.quote is not None or not text.startswith(('"', "\n")):
        return text
    bare = without_quotes_around_rows(text, first_lines(lines_of(text)))
    if bare is None:
        return text
    told.append(
        LookAt(
            None,
            "each line stands in quotes as a whole, and they are taken off: if each is a single value, set "
            "quote = '\"' under [read]",
        )
    )
    return bare


def _rewritten(text: str, delimiter: str | None, skip: int | None) -> Rewritten | None:
    """The text where a delimiter of several characters parts its cells, named by a key or found."""
    if delimiter is not None:
        return at(text, delimiter) if len(delimiter) > 1 else None
    return of_several_characters(text, first_lines(lines_of(_below(text, skip))))


def _rewritten_last(text: str, dialects: list[Dialect], skip: int | None, path: Path) -> Rewritten | None:
    """The text with an unusual delimiter or columns of fixed width, where no usual delimiter parts it."""
    spaces = bool(dialects) and dialects[0].delimiter == " "
    if dialects and not spaces:
        return None
    if spaces:
        layout = find_layout(prepared(text, dialects[0]), dialects[0], skip)
        if not layout.row_names:
            return None
    below = _below(text, skip)
    lines = first_lines(lines_of(below))
    try:
        found = None if spaces else of_one_character(below, lines)
        return found or of_fixed_width(below, lines)
    except DataError as error:
        raise DataError(f"{path}, {error}") from None


@dataclass
class _Table:
    frame: pd.DataFrame
    dialect: Dialect
    layout: Layout
    path: Path
    notes: list[tuple[str | None, str]] = field(default_factory=list)
    look_at: list[LookAt] = field(default_factory=list)


def _reading(given: Reading, encoding: Decided[str], table: _Table, separator_line: bool) -> Reading:
    dialect = table.dialect
    why = "the file's first line says so" if separator_line else _ONE_WIDTH
    delimiter = given.delimiter or Decided(dialect.delimiter, why)
    quote = given.quote or Decided(dialect.quote, "cells that hold the delimiter stand in it")
    escape = given.escape or Decided(dialect.escape, "it stands before quotes inside of quotes")
    skip = given.skip_lines or Decided(table.layout.skip, "the first line as wide as the rows is the header")
    return replace(
        given,
        encoding=given.encoding or encoding,
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        skip_lines=skip,
    )


def _below(text: str, skip: int | None) -> str:
    if not skip:
        return text
    return "".join(line for number, line in enumerate(lines_of(text)) if number >= skip)


def _first_whole(
    text: str, dialects: list[Dialect], skip: int | None, columns: tuple[str, ...] | None, path: Path
) -> _Table:
    """Read by the first of the dialects that reads the whole; where none does, say what stopped the first."""
    stopped: DataError | None = None
    for dialect in dialects[:4]:
        try:
            return _read_by(text, dialect, skip, columns, path)
        except DataError as error:
            stopped = stopped or error
    assert stopped is not None  # noqa: S101 - there is always a dialect
    raise stopped


def _read_by(
    text: str, dialect: Dialect, skip: int | None, columns: tuple[str, ...] | None, path: Path
) -> _Table:
    text = prepared(text, dialect)
    layout = Layout(len(columns), skip or 0, None) if columns else find_layout(text, dialect, skip)
    odd = _Odd()
    look_at: list[LookAt] = []
    try:
        parts = [
            _part(rows, dialect)
            for rows in _blocks(text, dialect, layout, odd, path, strict=bool(dialect.quote))
        ]
    except csv.Error:
        text, changed = _inner_quotes_doubled(text, dialect)
        odd = _Odd()
        try:
            parts = [_part(rows, dialect) for rows in _blocks(text, dialect, layout, odd, path, strict=False)]
        except csv.Error as error:
            raise DataError(f"{path} cannot be read: {error}.") from None
        if changed:
            look_at.append(
                LookAt(
                    None,
                    f"quotes inside of quoted cells are not doubled in some lines ({len(changed):,}; the "
                    f"first is line {changed[0]}): a quote is taken to end a cell only where a delimiter "
                    "follows it; if that is wrong, mend the lines or set quote and escape under [read]",
                )
            )
    if not parts:
        raise DataError(f"{path} has a header line and no rows.")
    frame = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    table = _Table(frame, dialect, layout, path, [], look_at)
    _name_columns(table, columns)
    _say_titles(table, text, skip)
    _say_odd(table, odd)
    _say_second_header(table)
    _leave_totals_out(table)
    return table


def _name_columns(table: _Table, columns: tuple[str, ...] | None) -> None:
    frame, layout = table.frame, table.layout
    header = columns or layout.header
    if header is None and layout.skip and len(layout.above) > 1:
        raise DataError(
            f"{table.path}, line {layout.skip}: the header has {len(layout.above)} values and the rows have "
            f"{layout.width}. If a comma is the decimal mark, another delimiter or quotes must part the "
            "cells; else mend the header, or name the columns by columns = [...] under [source]."
        )
    if header and table.dialect.escape:
        header = tuple(unmasked(cell, table.dialect) for cell in header)
    if header is None:
        shown = ", ".join(f'"{cell[:20]}"' for cell in frame.iloc[0].tolist()[:5])
        table.look_at.append(
            LookAt(
                None,
                f"the first line ({shown}) looks like a row, so the columns have no names and are called "
                "column_1, column_2, ...: name them by columns = [...] under [source], or set skip_lines = "
                f"{layout.skip} under [read] if that line is the header",
            )
        )
        header = ("",) * frame.shape[1]
    if layout.row_names:
        header = ("", *header)
        said = "the rows have one more value than the header: the first is taken as a row name"
        split = _split_number(frame) if table.dialect.delimiter == "," else None
        if split:
            text = f'{said}; if "{split}" is one number, put cells with a decimal comma in quotes'
            table.look_at.append(LookAt(None, text))
        elif frame.iloc[:, 0].is_unique:
            table.notes.append((None, said))
        else:
            table.look_at.append(
                LookAt(None, f"{said}, and comes back: if it is none, give each column a name in the header")
            )
    if str(header[0]).startswith("#") and len(str(header[0])) > 1 and not any(map(_is_marked, header[1:])):
        table.look_at.append(
            LookAt(
                str(header[0]),
                'the name of the first column begins with "#", and is kept so: where that marks a '
                "comment, take it off",
            )
        )
    frame.columns = pd.Index([name.replace("\ufeff", "") for name in header])


def _split_number(frame: pd.DataFrame) -> str | None:
    """Two adjacent columns of digits that a decimal comma may part: the first number that they would make."""
    digits = [bool(frame.iloc[:, place].str.fullmatch(r"[-+]?\d+").all()) for place in range(frame.shape[1])]
    for place in range(1, len(digits) - 1):
        if (
            digits[place]
            and digits[place + 1]
            and not frame.iloc[:, place + 1].str.startswith(("-", "+")).any()
        ):
            return ",".join(str(cell) for cell in frame.iloc[0, place : place + 2])
    return None


def _is_marked(name: str) -> bool:
    return name.startswith("#")


def _say_titles(table: _Table, text: str, skip: int | None) -> None:
    above = [
        line.strip()
        for _, line in zip(range(table.layout.skip), lines_of(text), strict=False)
        if line.strip(" \t\r\n,;|")
    ]
    above = [line for line in above if not line.startswith("#")]
    if skip is None and above:
        table.look_at.append(
            LookAt(
                None,
                f"{number_of(len(above), 'line')} left out above the header "
                f'(the first: "{above[0][:SHOWN_LINE]}"), '
                f"and the header is line {table.layout.skip + 1}: if it is another, set skip_lines "
                "under [read]",
            )
        )


def _say_odd(table: _Table, odd: _Odd) -> None:
    delimiter = table.dialect.delimiter
    if odd.comments:
        number, row = odd.comments[0]
        table.look_at.append(
            LookAt(
                None,
                f"{number_of(len(odd.comments), 'line')} left out as comments after # "
                f'(the first is line {number}: "{delimiter.join(row)[:SHOWN_LINE]}")',
            )
        )
    if odd.headers:
        table.look_at.append(
            LookAt(
                None,
                f"{number_of(len(odd.headers), 'line')} left out among the rows, as it repeats the header or "
                f"rules it off (the first is line {odd.headers[0]})",
            )
        )
    if odd.footers:
        number, row = odd.footers[0]
        table.look_at.append(
            LookAt(
                None,
                f"{number_of(len(odd.footers), 'line')} left out at the end of the file, with fewer values "
                f'than the rows (the first is line {number}: "{delimiter.join(row)[:SHOWN_LINE]}")',
            )
        )


def _say_second_header(table: _Table) -> None:
    """Tell of a first row of words above columns of numbers: a second header, or a row of units."""
    frame = table.frame
    first = [str(cell).strip() for cell in frame.iloc[0].tolist()]
    if len(frame) < MIN_BELOW_HEADER or not any(first) or any(c.isdigit() for cell in first for c in cell):
        return
    below = frame.iloc[1 : 1 + MAX_BELOW_HEADER]
    for place, cell in enumerate(first):
        cells = [str(other).strip() for other in below.iloc[:, place].tolist()]
        filled = [other for other in cells if other]
        if cell and len(filled) >= MIN_BELOW_HEADER - 1 and all(other[-1].isdigit() for other in filled):
            shown = ", ".join(first)[:SHOWN_LINE]
            text = (
                f"the first row ({shown}) has words where the others have numbers: if it is a second header "
                "or names units, take it out of the file, or set skip_lines under [read] to the lines above "
                "the last header"
            )
            table.look_at.append(LookAt(None, text))
            return


def _leave_totals_out(table: _Table) -> None:
    """Take rows such as "Total, , 1234" off the end of the table, and notes that stand in one cell."""
    frame = _without_notes_below(table)
    taken: list[str] = []
    while len(taken) < MAX_TOTALS and len(frame) > 3:
        row = [str(cell).strip() for cell in frame.iloc[-1].tolist()]
        place = next((i for i, cell in enumerate(row) if cell), None)
        if place is None or row[place].rstrip(":.").casefold() not in TOTALS:
            break
        others = frame.iloc[:-1]
        column = others.iloc[:, place]
        if column.str.strip().str.rstrip(":.").str.casefold().isin(TOTALS).any():
            break  # a word that rows have, too
        blanks = [i for i, cell in enumerate(row) if not cell]
        emptier = any((others.iloc[:, i].str.strip() != "").mean() > 0.9 for i in blanks)
        shown = ", ".join(cell or '""' for cell in row)[:SHOWN_LINE]
        if not emptier and not _sums(row, others):
            table.look_at.append(
                LookAt(
                    str(frame.columns[place]) or None,
                    f"the last row ({shown}) may be a total of the others, and is kept as a row: if it is a "
                    "total, take it out of the file",
                )
            )
            break
        taken.append(shown)
        frame = others
    if taken:
        table.frame = frame.reset_index(drop=True)
        table.look_at.append(
            LookAt(
                None,
                f"{number_of(len(taken), 'row')} left out at the end of the file as totals of the others "
                f"({taken[-1]})",
            )
        )


def _without_notes_below(table: _Table) -> pd.DataFrame:
    """The rows without those at the end that have one cell, as "Source: ..." in a spreadsheet's export."""
    frame = table.frame
    if frame.shape[1] < 3 or len(frame) < 4 * MAX_FOOTER_LINES:
        return frame
    end = frame.iloc[-MAX_FOOTER_LINES:].to_numpy().tolist()
    single = [sum(bool(str(cell).strip()) for cell in row) == 1 for row in end]
    count = next((i for i, each in enumerate(reversed(single)) if not each), len(single))
    if not count or any(single[: len(single) - count]):
        return frame
    shown = " ".join(str(cell).strip() for cell in end[-count]).strip()[:SHOWN_LINE]
    table.look_at.append(
        LookAt(
            None,
            f"{number_of(count, 'row')} left out at the end of the file, with a single value where the "
            f'others have {frame.shape[1]} (the first: "{shown}")',
        )
    )
    table.frame = frame.iloc[:-count].reset_index(drop=True)
    return table.frame


def _sums(row: list[str], others: pd.DataFrame) -> bool:
    """Whether a number in the row is the sum or the mean of its column."""
    for i, cell in enumerate(row):
        try:
            value = float(cell.replace(",", "."))
        except ValueError:
            continue
        numbers = pd.to_numeric(others.iloc[:, i].str.replace(",", "."), errors="coerce").dropna()
        if len(numbers) >= 0.9 * len(others):
            near = 1e-6 * max(1.0, float(numbers.abs().sum()))
            if abs(float(numbers.sum()) - value) <= near or abs(float(numbers.mean()) - value) <= 0.006:
                return True
    return False


_RULE = re.compile(r"[-=+|:\s]*[-=]{2}[-=+|:\s]*")
_SEPARATOR_LINE = re.compile(r'\ufeff?"?sep=(.)"?\r?\n', re.IGNORECASE)


def _other_format(text: str) -> str:
    """What a text is that begins as no table does; "" for what may be one."""
    start = text[:200].lstrip().lower()
    if start.startswith(("<!doctype", "<html", "<?xml")):
        return "a page of HTML or XML"
    for begins, what in _OTHER_TEXTS.items():
        if start.startswith(begins):
            return what
    first = text.lstrip().partition("\n")[0].strip()
    if not first.startswith(("{", "[")):
        return ""
    try:
        json.loads(first.removesuffix(","))
    except ValueError:
        return "JSON" if first in {"{", "["} else ""
    return "JSON"


_OTHER_TEXTS = {
    "version https://git-lfs.github.com/": "a pointer of Git LFS (fetch the file itself by git lfs pull)",
    "insert into ": "SQL",
    "create table ": "SQL",
    "-- mysql dump": "SQL",
    "@relation": "ARFF",
    "%yaml": "YAML",
    "---\n": "YAML",
}


def _without_comments(text: str, wanted: Dialect, known: frozenset[str]) -> str:
    """The text with blank lines in place of those at its top that begin with `#`; one may be the header."""
    if not text.startswith("#"):
        return text
    lines = list(lines_of(text))
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    if count == 0:
        return text
    dialect = find_dialect("".join(lines[count : count + 200]), wanted, known)[0]
    last, first = list(cut(lines_of(prepared("".join(lines[count - 1 : count + 1]), dialect)), dialect))[:2]
    # What follows a header is a row, with numbers in it.
    any_number = pd.to_numeric(pd.Series(first, dtype=object), errors="coerce").notna().any()
    kept = count - 1 if len(last) == len(first) and any_number else count
    return "\n" * kept + "".join(lines[kept:])


def check_readable(path: Path) -> None:
    """Raise DataError where there is no file that can be read and has content."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise DataError(
            f"{path}: there is no such file. A path in a TOML file is taken from that file's folder."
        ) from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; source.path must name one file.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if empty:
        raise DataError(f"{path} is empty: expected a header line and rows.")


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


def _is_set_aside(line: tuple[int, list[str]], width: int, odd: _Odd, path: Path, dialect: Dialect) -> bool:
    """Whether a line of another width is no row; one with blanks behind the last value is made one."""
    _, row = line
    if not row or (len(row) == 1 and not row[0].strip()) or _RULE.fullmatch("".join(row)):
        return True
    if row[0].startswith("#"):
        odd.comments.append(line)
        return True
    if len(row) < width:
        odd.footers.append(line)
        if len(odd.footers) > MAX_FOOTER_LINES:
            raise _ragged(path, odd.footers[0], width, dialect)
        return True
    if any(cell.strip() for cell in row[width:]):
        raise _ragged(path, odd.footers[0] if odd.footers else line, width, dialect)
    del row[width:]
    return False


def _blocks(
    text: str, dialect: Dialect, layout: Layout, odd: _Odd, path: Path, *, strict: bool
) -> Iterator[list[list[str]]]:
    """Rows in blocks, all of one width. Raises DataError for a line of another width, csv.Error."""
    width = layout.width
    lines = lines_of(text)
    for _ in range(layout.skip):
        next(lines, None)
    reader = cut(lines, dialect, strict=strict)
    if layout.header is not None:
        next(row for row in reader if any(cell.strip() for cell in row))
    header = list(layout.header or ())
    block: list[list[str]] = []
    before = reader.line_num
    for row in reader:
        number, before = before + 1 + layout.skip, reader.line_num
        if len(row) != width and _is_set_aside((number, row), width, odd, path, dialect):
            continue
        if odd.footers:
            raise _ragged(path, odd.footers[0], width, dialect)
        if not row[0] and width > 1 and not any(map(str.strip, row)):
            continue
        if row == header or (not block and not odd.headers and _RULE.fullmatch("".join(row))):
            odd.headers.append(number)
            continue
        block.append(row)
        if len(block) == ROWS_AT_ONCE:
            yield block
            block = []
    if block:
        yield block


def _ragged(path: Path, line: tuple[int, list[str]], expected: int, dialect: Dialect) -> DataError:
    number, row = line
    name = {"\t": "tab", " ": "space"}.get(dialect.delimiter, f'"{dialect.delimiter}"')
    start = dialect.delimiter.join(row)[:SHOWN_LINE]
    return DataError(
        f"{path}, line {number} has {len(row)} values, expected {expected} as in the other lines (delimiter "
        f'{name}): "{start}". Mend that line, or set delimiter, quote or escape under [read].'
    )


def _inner_quotes_doubled(text: str, dialect: Dialect) -> tuple[str, list[int]]:
    """Double the quotes that stand inside of a quoted cell, where no delimiter follows; the lines changed."""
    quote, delimiter = (
        re.escape(dialect.quote),
        re.escape("\t" if dialect.delimiter == " " else dialect.delimiter),
    )
    lone = re.compile(rf"[^{delimiter}{quote}]{quote}[^{delimiter}{quote}\r\n]")
    end = rf"[ ]*(?={delimiter}|$)"
    inside = rf"(?:{quote}{quote}|{quote}(?!{end})|[^{quote}])*"
    cell = re.compile(rf"(?P<quoted>[ ]*{quote}{inside}{quote}{end})|[^{delimiter}]*")
    changed: list[int] = []
    lines = []
    for number, line in enumerate(lines_of(text), start=1):
        if dialect.quote not in line or not lone.search(line):
            lines.append(line)
            continue
        bare = line.rstrip("\r\n")
        cells, at = [], 0
        while at <= len(bare):
            found = cell.match(bare, at)
            assert found is not None  # noqa: S101 - the second way matches nothing, too
            cells.append(_requoted(found[0], dialect.quote) if found["quoted"] else found[0])
            at = found.end() + 1
        mended = ("\t" if dialect.delimiter == " " else dialect.delimiter).join(cells)
        if mended.replace(" ", "") != bare.replace(" ", ""):
            changed.append(number)
        lines.append(mended + line[len(bare) :])
    return "".join(lines), changed


def _requoted(cell: str, quote: str) -> str:
    inner = cell.strip()[1:-1].replace(quote * 2, quote)
    return quote + inner.replace(quote, quote * 2) + quote


def _part(rows: list[list[str]], dialect: Dialect) -> pd.DataFrame:
    if dialect.escape:
        rows = [[unmasked(cell, dialect) for cell in row] for row in rows]
    columns = enumerate(zip(*rows, strict=True))
    # By way of Arrow, which reads a tuple of texts twice as fast.
    return pd.DataFrame(
        {i: pd.array(pa.array(column, pa.large_string()), dtype="str") for i, column in columns}, copy=False
    )
