"""Delimiters that `csv` does not take, columns of fixed width, and rows that stand in quotes as a whole.

Each is found on the first lines and rewritten, for the whole text, to what `dialect` cuts. None
can be proven, so that each is told.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from training.tables.raw import DataError

UNIT = "\x1f"  # between cells, in place of a delimiter of several characters
SAMPLE_LINES = 300
MIN_LINES = 4
ALIKE = 0.9  # of the lines, in which a delimiter stands equally often
USUAL = frozenset(",;\t|")
NEVER = frozenset("._-'\"()+ ")  # stand within names and numbers
_RUN = re.compile(r"(?:[^\w\s\"'`]|_){2,}")
_MARK = re.compile(r"[^\w\s]|þ")


@dataclass(frozen=True)
class Rewritten:
    """A text that `csv` cuts at `delimiter`; `shown` is what parts its cells in the file, `told` says so."""

    text: str
    delimiter: str
    shown: str
    told: str = ""


def without_quotes_around_rows(text: str, lines: Sequence[str]) -> str | None:
    """The text without quotes around each row, as spreadsheets save a table that stands in one column."""
    if len(lines) < MIN_LINES or not all(_is_quoted(line) for line in lines):
        return None
    rows = [row for row in csv.reader(lines) if row]
    if any(len(row) != 1 for row in rows):
        return None
    if not any(mark in rows[0][0] and _stands_equally([row[0] for row in rows], mark) for mark in USUAL):
        return None
    return "".join(_unquoted(line) for line in text.splitlines(keepends=True))


def _is_quoted(line: str) -> bool:
    line = line.strip()
    return len(line) > 2 and line[0] == line[-1] == '"' and '"' not in line[1:-1].replace('""', "")


def _unquoted(line: str) -> str:
    bare = line.strip()
    return bare[1:-1].replace('""', '"') + "\n" if _is_quoted(bare) else line


def at(text: str, delimiter: str) -> Rewritten:
    """The text for a delimiter of several characters that a key names."""
    return Rewritten(text.replace(delimiter, UNIT), UNIT, delimiter)


def of_several_characters(text: str, lines: Sequence[str]) -> Rewritten | None:
    """A delimiter such as "~|~" or "@@", which stands in the header and in the rows equally often."""
    runs = dict.fromkeys(run for line in lines[:5] for run in _RUN.findall(line))
    for run in sorted(runs, key=len, reverse=True):
        if set(run) <= NEVER or not _parts(lines, run):
            continue
        if any(not _only_within(lines, mark, run) for mark in USUAL & set(run)):
            continue
        return _told(text, run, UNIT)
    return None


def of_one_character(text: str, lines: Sequence[str]) -> Rewritten | None:
    """A delimiter such as "#" or "!", in a text that none of the usual ones parts."""
    marks = dict.fromkeys(mark for line in lines[:5] for mark in _MARK.findall(line))
    for mark in marks:
        if mark not in NEVER and _parts(lines, mark):
            return _told(text, mark, mark)
    return None


def _told(text: str, shown: str, delimiter: str) -> Rewritten:
    told = (
        f'cells are cut at "{shown}", which stands in the lines equally often: if that is wrong, set '
        "delimiter under [read]"
    )
    return Rewritten(text if shown == delimiter else text.replace(shown, delimiter), delimiter, shown, told)


def _parts(lines: Sequence[str], delimiter: str) -> bool:
    """Whether a delimiter parts the lines, and the first of them into names of columns."""
    if len(lines) < MIN_LINES or not _stands_equally(lines, delimiter):
        return False
    place = next(place for place, line in enumerate(lines) if delimiter in line)
    if any(mark in line for line in lines[:place] for mark in USUAL):
        return False  # that line is the header
    header = lines[place].strip().split(delimiter)
    return all(any(letter.isalpha() for letter in name) for name in header)


def _stands_equally(lines: Sequence[str], mark: str) -> bool:
    counts = Counter(line.count(mark) for line in lines)
    none = counts.pop(0, 0)
    return len(counts) == 1 and none <= (1 - ALIKE) * len(lines)


def _only_within(lines: Sequence[str], mark: str, run: str) -> bool:
    return all(line.count(mark) == line.count(run) * run.count(mark) for line in lines)


# ------------------------------------------------------------------------------------------- fixed width


def of_fixed_width(text: str, lines: Sequence[str]) -> Rewritten | None:
    """Columns that blanks part at the same places of every line, with names above them.

    Raises DataError for a line with a value where the other lines have blanks.
    """
    if len(lines) < MIN_LINES or any("\t" in line for line in lines):
        return None
    for spread in (str, _spread) if not text.isascii() else (str,):
        starts = _starts([spread(line.rstrip("\r\n")) for line in lines])
        if len(starts) > 1:
            shown = " "
            told = (
                f"cells are cut into {len(starts)} columns of fixed width, where all lines have blanks: if "
                "that is wrong, set delimiter under [read]"
            )
            cells = (_cells(spread(line), starts, number) for number, line in _numbered(text))
            return Rewritten("\n".join(UNIT.join(row) for row in cells) + "\n", UNIT, shown, told)
    return None


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    return enumerate(text.splitlines(), start=1)


def _spread(line: str) -> str:
    """A line as wide as it is shown: a letter of two columns of a terminal is followed by a mark."""
    return "".join(c + "\0" if unicodedata.east_asian_width(c) in {"W", "F"} else c for c in line)


def _starts(lines: Sequence[str]) -> list[int]:
    """Where the columns begin.

    One that has no name belongs to the one before, one without values to the next.
    """
    width = max(map(len, lines))
    padded = [line.ljust(width) for line in lines]
    blank = [all(line[place] == " " for line in padded) for place in range(width)]
    begins = [place for place in range(width) if not blank[place] and (not place or blank[place - 1])]
    if len(begins) < 2:
        return []
    starts: list[int] = []
    ends = [*begins[1:], width]
    carried: int | None = None
    for begin, end in zip(begins, ends, strict=True):
        named = bool(padded[0][begin:end].strip())
        filled = any(line[begin:end].strip() for line in padded[1:])
        if not filled:
            carried = begin if carried is None else carried
        elif named or carried is not None or not starts:
            starts.append(begin if carried is None else carried)
            carried = None
    return starts if carried is None else []


def _cells(line: str, starts: Sequence[int], number: int) -> list[str]:
    if any(start and line[start - 1 : start].strip(" ") for start in starts):
        raise DataError(
            f'line {number} has text where the columns of fixed width are parted: "{line[:60]}". Mend '
            "that line, or set delimiter or skip_lines under [read]."
        )
    ends = [*starts[1:], len(line)]
    return [line[start:end].replace("\0", "").strip() for start, end in zip(starts, ends, strict=True)]


def first_lines(lines: Iterator[str]) -> list[str]:
    """The first lines that are not blank."""
    return list(islice((line for line in lines if line.strip()), SAMPLE_LINES))
