"""How a delimited text is cut into cells: its delimiter, quotes and escapes, and where its header stands.

Every way of cutting is tried on the first rows. The right one gives rows of one width whose cells look like
numbers, dates, words or sentences; a wrong one leaves pieces such as `1;0` or `'60'` in the cells.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Literal

SAMPLE_ROWS = 300
MAX_TITLE_LINES = 30
LINES_AT_ONCE = 1 << 18  # characters
DELIMITERS = (",", ";", "\t", "|")
RARE_DELIMITERS = (
    "\x1f",
    "\x01",
    "^",
    "~",
    "§",
    "¦",
    ":",
)  # only where none of the usual ones parts anything
MIN_CONSISTENT = 0.5  # of the rows that must have one width
MIN_CLOSED = 0.5  # of the single quotes that begin a cell, that must have an end: names such as 's-Gravenhage
BETTER_BY = 1.02  # a rarer delimiter must fit so many times better than a commoner one
QUOTED_BETTER_BY = 1.0005  # a rarer way of quoting than a commoner one; a few cells may tell
_ESCAPED = "\ue000\ue001"  # stand for an escaped quote and an escaped delimiter until the text is cut


@dataclass(frozen=True)
class Dialect:
    """One way to cut a text; `delimiter` " " is any run of spaces, `quote` and `escape` may be ""."""

    delimiter: str
    quote: str = '"'
    escape: str = ""


@dataclass(frozen=True)
class Layout:
    """Where the rows of a text begin.

    Parameters
    ----------
    width
        Cells in a row.
    skip
        Lines above the header.
    header
        Its cells; None where the first line is a row like those below.
    row_names
        Whether the rows have one cell more than the header, in front.
    above
        The cells of the line above the first row, where there is no header.
    """

    width: int
    skip: int
    header: tuple[str, ...] | None
    row_names: bool = False
    above: tuple[str, ...] = ()


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text with their ends, without a copy of the whole."""
    line = _ANY_LINE if "\r" in text and re.search(r"\r(?!\n)", text) else _LINE
    start = 0
    while start < len(text):
        end = text.find("\n", start + LINES_AT_ONCE) + 1 or len(text)
        yield from line.findall(text, start, end)
        start = end


_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_ANY_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


def cut(lines: Iterator[str] | Sequence[str], dialect: Dialect, *, strict: bool = False) -> Any:
    """A reader of the rows; `line_num` counts the lines that it took. See `prepared`."""
    delimiter = "\t" if dialect.delimiter == " " else dialect.delimiter
    return csv.reader(
        lines,
        delimiter=delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        skipinitialspace=delimiter not in " \t",
        strict=strict,
    )


def prepared(text: str, dialect: Dialect) -> str:
    """The text ready to be cut: escaped characters are masked, runs of spaces that part cells are tabs."""
    if dialect.escape:
        text = _masked(text, dialect)
    if dialect.delimiter == " ":
        text = _spaces_to_tabs(text, dialect.quote)
    return text


def unmasked(cell: str, dialect: Dialect) -> str:
    """A cell of a prepared text with the quotes and delimiters that were escaped."""
    return cell.replace(_ESCAPED[0], dialect.quote).replace(_ESCAPED[1], dialect.delimiter)


def _masked(text: str, dialect: Dialect) -> str:
    escape = dialect.escape

    def masked(found: re.Match[str]) -> str:
        count, character = len(found[1]), found[2]
        mask = _ESCAPED[0] if character == dialect.quote else _ESCAPED[1]
        return escape * (count // 2) + (mask if count % 2 else character)

    special = re.escape(dialect.quote + dialect.delimiter)
    return re.sub(f"({re.escape(escape)}+)([{special}])", masked, text)


def find_dialect(
    text: str, given: Dialect | None = None, known: frozenset[str] = frozenset()
) -> list[Dialect]:
    """Ways to cut a text, as `dialects_that_part` finds them; commas where nothing parts the lines."""
    return dialects_that_part(text, given, known) or [Dialect(",")]


def dialects_that_part(
    text: str, given: Dialect | None = None, known: frozenset[str] = frozenset()
) -> list[Dialect]:
    """Ways to cut a text, the best first; they have one delimiter, and differ in quotes and escapes.

    Parameters
    ----------
    given, known
        What keys say, and the names of those fields of `given` that they say.
    """
    lines = list(islice((line for line in lines_of(text) if line.strip()), SAMPLE_ROWS))
    usual = (*DELIMITERS, " ")
    escaped = set(re.findall(r"\\(.)", text)) if "\\" in text else set()
    rated: list[tuple[float, int, Dialect]] = []
    for delimiters in (usual, RARE_DELIMITERS):
        for place, dialect in enumerate(_candidates(lines, delimiters, escaped, given, known)):
            rating = _rating(lines, dialect)
            if rating:
                rated.append((rating, place, dialect))
        if rated or "delimiter" in known:
            break
    if not rated:
        return [given] if given and "delimiter" in known else []
    delimiter = _first_near(rated, BETTER_BY).delimiter
    same = [each for each in rated if each[2].delimiter == delimiter]
    best = _first_near(same, QUOTED_BETTER_BY)
    others = sorted((-rating, place, dialect) for rating, place, dialect in same if dialect != best)
    return [best, *(dialect for _, _, dialect in others)]


def _first_near(rated: list[tuple[float, int, Dialect]], better_by: float) -> Dialect:
    """The commonest of the dialects that fit about as well as the best."""
    most = max(rating for rating, _, _ in rated)
    return next(dialect for rating, _, dialect in rated if rating * better_by >= most)


def _candidates(
    lines: list[str],
    delimiters: Sequence[str],
    escaped: set[str],
    given: Dialect | None,
    known: frozenset[str],
) -> list[Dialect]:
    if given and "delimiter" in known:
        delimiters = (given.delimiter,)
    found = []
    for delimiter in delimiters:
        if not any(delimiter in line for line in lines):
            continue
        if delimiter == " " and 2 * sum("\t" in line for line in lines) > len(lines):
            continue
        for quote in _quotes(lines, escaped, given, known):
            escapes = _escapes(escaped & {quote, delimiter}, given, known)
            found += [Dialect(delimiter, quote, escape) for escape in escapes]
    return found


def _quotes(
    lines: list[str], escaped: set[str], given: Dialect | None, known: frozenset[str]
) -> tuple[str, ...]:
    if given and "quote" in known:
        return (given.quote,)
    quotes = ['"']
    if "'" in escaped or _single_quoted(lines):
        quotes.append("'")
    if any('"' in line for line in lines):
        quotes.append("")
    return tuple(quotes)


def _single_quoted(lines: list[str]) -> bool:
    """Whether cells may stand in single quotes: most that begin with one end with one."""
    if not any("'" in line for line in lines):
        return False
    edge = r"[,;|\t^~]" if any(map(_PARTED.search, lines)) else r"\s"
    opened = sum(len(re.findall(rf"(?:^|{edge}) *'", line)) for line in lines)
    closed = sum(len(re.findall(rf"' *(?={edge}|\s*$)", line)) for line in lines)
    return closed >= MIN_CLOSED * opened > 0


def _escapes(escaped: set[str], given: Dialect | None, known: frozenset[str]) -> tuple[str, ...]:
    if given and "escape" in known:
        return (given.escape,)
    return ("", "\\") if escaped else ("",)


def _rating(lines: list[str], dialect: Dialect) -> float:
    """How well a dialect cuts the lines, 0 for not at all."""
    rows = _rows(lines, dialect)
    width = _width(rows)
    if width < 2:
        return 0.0
    first = next(i for i, row in enumerate(rows) if len(row) == width)
    if dialect.delimiter == " " and first and _parted_otherwise(lines):
        return 0.0
    body = [row for row in rows[first if first <= MAX_TITLE_LINES else 0 :] if not row[0].startswith("#")]
    if not body:
        return 0.0
    whole = [row for row in body if len(row) == width]
    consistent = len(whole) / len(body)
    if consistent < MIN_CONSISTENT or (dialect.delimiter == " " and consistent < 1):
        return 0.0
    cells = [cell for row in whole for cell in row]
    if dialect.delimiter == " " and any(
        _STUCK.search(cell) and not _NUMBER.fullmatch(cell) for cell in cells
    ):
        return 0.0  # words of a sentence, and a delimiter somewhere among them
    clean = sum(map(_cleanness, cells)) / len(cells)
    above = sum(0.3 if len(row) > width else 0.01 for row in rows[:first])  # titles are narrower than rows
    return consistent**2 * clean * (1 - 0.2 / width) * max(0.0, 1 - above)


def _parted_otherwise(lines: list[str]) -> bool:
    """Whether a usual delimiter stands as often in every line, so that spaces stand within cells."""
    return any(
        (count := lines[0].count(mark)) > 0 and all(line.count(mark) == count for line in lines)
        for mark in DELIMITERS
    )


_NUMBER = re.compile(
    r"[-+(<>~]?\s?[^\w\s,;|\"']{0,3}\s?\d[\d.,'’\u00a0\u202f _]*(?:[eE][-+]?\d+)?[^\S\t]?[^\d,;|\"\t]{0,8}"
)
_MOMENT = re.compile(r"\d{1,4}[-/.:]\d{1,2}[-/.:]\d{1,4}[T ]?[\d:.,+Zz -]*(?:[ap]\.?m\.?)?", re.IGNORECASE)
_TWO_NUMBERS = re.compile(r"\d+ (?!\d{3}\b)\d")
_PARTED = re.compile(r"[,;|\t^~]")
_AT_AN_EDGE = re.compile(r"[\"'][,;|\t]|[,;|\t][\"']")
_STUCK = re.compile(r"[,;|][^\s,;|]|\t")
_WORDS = re.compile(r"[^,;|\t\"']*")


def _cleanness(cell: str) -> float:
    """1 for what a cell mostly is, less for what looks as if cells had stuck together or been torn apart."""
    cell = cell.strip()
    if _TWO_NUMBERS.match(cell):
        return 0.6
    if not cell or _MOMENT.fullmatch(cell) or _NUMBER.fullmatch(cell):
        return 1.0
    if _AT_AN_EDGE.search(cell) or '\\"' in cell or "\\'" in cell:
        return 0.0
    if cell[0] in "\"'" or cell[-1] in "\"'":
        return 0.1
    if cell[-1] == "\\":
        return 0.2
    if _WORDS.fullmatch(cell):
        return 1.0
    # In a sentence a space follows each comma, and quotes and apostrophes are few.
    return 0.2 if _STUCK.search(cell) else 0.9


def _rows(lines: Sequence[str], dialect: Dialect) -> list[list[str]]:
    text = prepared("".join(lines), dialect)
    try:
        rows = [row for row in cut(lines_of(text), dialect) if row]
    except csv.Error:
        return []
    return [[unmasked(cell, dialect) for cell in row] for row in rows] if dialect.escape else rows


def _width(rows: list[list[str]]) -> int:
    """The commonest width; a line of comment or title has none."""
    widths = Counter(len(row) for row in rows)
    return widths.most_common(1)[0][0] if widths else 0


def _spaces_to_tabs(text: str, quote: str) -> str:
    cell = re.compile(rf"{re.escape(quote)}[^{re.escape(quote)}]*{re.escape(quote)}|\S+" if quote else r"\S+")
    return "\n".join("\t".join(cell.findall(line)) for line in text.splitlines())


# --------------------------------------------------------------------------------------------- the header


def find_layout(text: str, dialect: Dialect, skip: int | None = None) -> Layout:
    """Find the header in a prepared text; `skip` says on which line it is."""
    rows: list[tuple[int, list[str]]] = []
    reader = cut(islice(lines_of(text), MAX_TITLE_LINES + 2 * SAMPLE_ROWS), dialect)
    before = 0
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and before >= (skip or 0):
                rows.append((before, row))
            before = reader.line_num
            if len(rows) == SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # of a line further down: the reading of the whole says which
    if not rows:
        return Layout(0, skip or 0, None)
    body = [row for _, row in rows if not row[0].startswith("#")] or [row for _, row in rows]
    width = _width(body[1:] or body)
    start = 0 if skip is not None else _start(rows, width)
    at, first = rows[start]
    following = [row for _, row in rows[start + 1 :] if len(row) == width]
    if len(first) == width - 1 and following:
        if all(not row[-1].strip() for row in following):
            return Layout(width - 1, at, tuple(first))  # a delimiter at the end of each row
        return Layout(width, at, tuple(first), row_names=True)
    if skip is None and _is_row(first, following):
        return Layout(width, at, None, above=tuple(rows[start - 1][1]) if start else ())
    return Layout(max(width, 1), at, tuple(first))


def _start(rows: list[tuple[int, list[str]]], width: int) -> int:
    """Which row is the header (or the first, where there is no header): titles and blanks come before."""
    for place, (_, row) in enumerate(rows[: MAX_TITLE_LINES + 1]):
        if len(row) != width:
            continue
        filled = sum(bool(cell.strip()) for cell in row)
        following = [other for _, other in rows[place + 1 :] if len(other) == width]
        fuller = any(2 * sum(bool(c.strip()) for c in other) > width for other in following[:3])
        if 2 * filled <= width and width > 2 and fuller:
            continue  # a title in the first cell of a row of blanks, as spreadsheets export it
        if filled < width and _a_blank_line_below(rows, place, width):
            continue  # lines of a report's head, such as "Date,2023-02-01,"
        if place and width > 2 and len(rows[place - 1][1]) == width - 1 and _has_number(row):
            return place - 1  # the rows have names, the header has none for them
        if place and width == 2 and len(rows[place - 1][1]) == 1 and place == 1 and _has_number(row):
            return place - 1
        return place
    return 0


def _a_blank_line_below(rows: list[tuple[int, list[str]]], place: int, width: int) -> bool:
    """Whether a blank line parts this row from a header without blanks or numbers."""
    for (line, _), (next_line, row) in pairwise(rows[place : MAX_TITLE_LINES + 1]):
        if next_line > line + 1:
            return len(row) == width and all(cell.strip() for cell in row) and not _has_number(row)
    return False


def _has_number(row: Sequence[str]) -> bool:
    return any(_as_float(cell) is not None for cell in row)


def _as_float(cell: str) -> float | None:
    try:
        return float(cell.strip().replace(",", "."))
    except ValueError:
        return None


def _is_row(first: Sequence[str], following: list[list[str]]) -> bool:
    """Whether the first line is a row like those below, so that the file has no header."""
    if len(following) < 3 or any(not cell.strip() for cell in first) or _counts_up(first):
        return False
    alike = Counter(
        _like_below(cell.strip(), [row[place].strip() for row in following])
        for place, cell in enumerate(first)
    )
    return not alike["no"] and (alike["number"] > 0 or alike["word"] > 1)


def _counts_up(cells: Sequence[str]) -> bool:
    """Whether the numbers among the cells are 2019, 2020, 2021 or 0, 1, 2: names of columns."""
    numbers = [number for cell in cells if (number := _as_float(cell)) is not None and math.isfinite(number)]
    whole = [number for number in numbers if number == round(number)]
    return len(whole) >= 2 and all(b - a == 1 for a, b in pairwise(whole))


def _like_below(cell: str, below: list[str]) -> Literal["number", "word", "no", "open"]:
    """Whether a cell is a value of its column, by the kind of those below."""
    filled = [other for other in below if other]
    if not filled:
        return "open"
    if sum(_as_float(other) is not None for other in filled) >= 0.9 * len(filled):
        return "no" if _as_float(cell) is None else "number"
    if sum(_MOMENT.fullmatch(other) is not None for other in filled) >= 0.9 * len(filled):
        return "number" if _MOMENT.fullmatch(cell) else "no"
    if len(set(filled)) <= 0.5 * len(filled) and len(filled) >= 10:  # a column of a few words
        return "word" if cell in filled else "no"
    return "open"
