"""Dates: calendar parts on the clock of the training table; NaN is missing.

A format is what `strptime` takes, tried on the text as it is and then on its tokens: "27. Oktober 2022" is
"27 M10 2022" by the column's names, which "%d M%m %Y" reads. "Q3" is the token "M07", as is "3e trimestre",
whose word the names call "Q", and a week is "W05-1". A word for month before its number is called "M".
"""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.kinds.cell import is_missing, shown
from artifact.kinds.text import SIGNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.kinds.cell import Encode, EncodeCell, Errors
    from artifact.signature import Column

EPOCH = {"epoch seconds": 1, "epoch milliseconds": 1_000}
"""Formats of whole numbers that count from 1970 in UTC, and how many of them a second has."""
COMPACT = re.compile(r"(?:%[Ymdy]){2,3}")
"""Formats of digits alone, which a client may send as a number: 31122024."""

_PARTS: dict[str, Callable[[datetime], int]] = {
    "year": lambda d: d.year,
    "month": lambda d: d.month,
    "day": lambda d: d.day,
    "weekday": lambda d: d.weekday(),
    "day_of_year": lambda d: d.timetuple().tm_yday,
    "hour": lambda d: d.hour,
    "minute": lambda d: d.minute,
    "second": lambda d: d.second,
}
_WORDS = rf"(?:[^\W\d_]|[{SIGNS}\u0e31\u0e34-\u0e3a\u0e47-\u0e4e])+"  # Thai words are no terms of texts
PIECES = re.compile(
    r"(?P<quarter>(?<![^\W\d_])[Qq]\s?(?P<q>[1-4])(?!\d))"
    r"|(?P<week>(?<![^\W\d_])(?:W|w|KW|[Ww]eek|WEEK|[Ww]k|Woche|[Ss]emaine|[Ss]emana|[Ss]ettimana|[Uu][gk]e|[Vv]ecka)\s?(?P<w>\d{1,2})(?:-(?P<u>[1-7]))?(?!\d))"
    r"|(?P<time>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)(?:\s*(?P<zone>[+-]\d{2}:?\d{2})(?!\d))?"
    rf"|\d+|{_WORDS}"
)
_NOON = re.compile(r"(?<=\d|\s)([aApP])\.\s?[mM]\.?$")  # "8:12 a.m.", "8:12 p. m."
_OCLOCK = re.compile(r"(?<=\d)\s?(?:Uhr|uhr|hrs?)$")
INNER_DOT = re.compile(r"(?<=[^\W\d_])\.(?=[^\W\d_])")
_PERIODS = {"Q": 3, "H": 6}  # months of a quarter and of half a year
_ZONE_NAME = re.compile(r"\s*(?:\([^()]*\)|\[[^\[\]]*\])$")
_GMT_HOURS = re.compile(r"\b(?:GMT|UTC)([+-])(\d{1,2})(?::?(\d{2}))?\b")
_CLOCK_IN_WORDS = re.compile(
    r"(\d{1,2})\s?[时時点點시](?:\s?(\d{1,2})\s?[分분](?:钟|鐘)?(?:\s?(\d{1,2})\s?[秒초])?)?"
)
_GMT = re.compile(r"\b(?:GMT|UTC)(?=[+-]\d{2}:?\d{2}\b)")


def tokens_of(text: str, names: Mapping[str, str]) -> str | None:
    """The tokens of a date, its words by `names`; None for a word without a meaning."""
    found = []
    for piece in PIECES.finditer(INNER_DOT.sub("", text)):
        if piece["q"]:
            found.append(f"M{3 * int(piece['q']) - 2:02}")
        elif piece["w"]:
            found.append(f"W{int(piece['w']):02}-{piece['u'] or 1}")
        elif piece["time"]:
            found.append(piece["time"].replace(",", "."))
            if piece["zone"]:
                found.append(piece["zone"].replace(":", ""))
        elif piece[0].isdecimal():
            found.append(piece[0])
        else:
            token = names.get(piece[0].casefold())
            if token is None:
                return None
            if token:
                found.append(token)
    if "M" in found and not _month_of_number(found):
        return None
    return " ".join(found) if _begin_periods(found) else None


def _month_of_number(tokens: list[str]) -> bool:
    """Make one token of a word for month and the number behind it, as "tháng 5" has them."""
    at = tokens.index("M")
    number = tokens[at + 1] if at + 1 < len(tokens) else ""
    if not number.isdecimal() or not 1 <= int(number) <= 12:
        return False
    tokens[at : at + 2] = [f"M{int(number):02}"]
    return True


def _begin_periods(tokens: list[str]) -> bool:
    """Make one token of each quarter or half year; False for one without a number."""
    return all(
        period not in tokens or _begin_period(tokens, period, months) for period, months in _PERIODS.items()
    )


def _begin_period(tokens: list[str], period: str, months: int) -> bool:
    """Make one token, its first month, of a period and the number beside it; False where there is none."""
    at = tokens.index(period)
    for beside in (at + 1, at - 1):
        number = tokens[beside] if 0 <= beside < len(tokens) else ""
        if number in "1234" and number and int(number) * months <= 12:
            first = min(at, beside)
            tokens[first : first + 2] = [f"M{(int(number) - 1) * months + 1:02}"]
            return True
    return False


def _offset_of(found: re.Match[str]) -> str:
    return f"{found[1]}{int(found[2]):02}:{found[3] or '00'}"


def _clock_of_words(found: re.Match[str]) -> str:
    return ":".join(f"{int(part):02}" for part in (found[1], found[2] or "0", found[3]) if part is not None)


def plain(text: str) -> str:
    """A text in NFC, its digits and spaces as ASCII has them."""
    text = text.strip()
    if text[-1:] in "rRsS" and text:
        text = _OCLOCK.sub("", text)
    if text[-1:] in ".mM" and text:
        text = _NOON.sub(lambda found: found[1].upper() + "M", text)
    if text[:1] == "[" and text[-1:] == "]":  # as logs of web servers write them
        text = text[1:-1].strip()
    if text[-1:] in {")", "]"}:  # the name of a zone after its offset
        text = _ZONE_NAME.sub("", text).removeprefix("[")
    if "GMT" in text or "UTC" in text:
        text = _GMT.sub("", text)
        text = _GMT_HOURS.sub(_offset_of, text)
    if len(text) == len("2024M09") and text[4] in "mM" and (text[:4] + text[5:]).isdecimal():
        text = f"{text[:4]}-{text[5:]}"
    if text.isascii():
        return text
    text = _CLOCK_IN_WORDS.sub(_clock_of_words, unicodedata.normalize("NFC", text))
    return "".join(
        str(unicodedata.decimal(letter)) if letter.isdecimal() else " " if letter.isspace() else letter
        for letter in text
        if letter not in "\u200e\u200f"
    ).strip()


def parse_date(
    value: object,
    formats: Sequence[str] = (),
    *,
    names: Mapping[str, str] | None = None,
    latest: date | None = None,
    clock: timezone | None = None,
) -> datetime | None:
    """A date on the column's clock, or as written where it has none; None for what is not a date."""
    if isinstance(value, datetime):
        return _on_clock(value, clock)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - the calendar as written
    if not isinstance(value, str):
        return _of_number(value, formats, latest)
    text = plain(value)
    tokens = None if names is None else tokens_of(text, names)
    for written in (text,) if tokens is None else (text, tokens):
        for form in formats:
            if (found := _strptime(written, form, latest)) is not None:
                return _on_clock(found, clock)
    found = _iso(text)
    return None if found is None else _on_clock(found, clock)


def _iso(text: str) -> datetime | None:
    if len(text) < 8 or text.isdigit():  # "2024" and "20240101" are read as numbers
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


_MAX_EPOCH = 1e20  # beyond nanoseconds of the year 5000


def _of_number(value: object, formats: Sequence[str], latest: date | None) -> datetime | None:
    """A date that the training table writes in digits alone, sent as a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    if not -_MAX_EPOCH < value < _MAX_EPOCH or value != int(value):  # nor an int that no float holds
        return None
    for form in formats:
        if form in EPOCH or COMPACT.fullmatch(form):
            found = _strptime(str(int(value)), form, latest)
            if found is not None:
                return found
    return None


def _strptime(text: str, form: str, latest: date | None) -> datetime | None:
    if form in EPOCH:
        return _since_epoch(text, EPOCH[form])
    if COMPACT.fullmatch(form):
        width = sum(4 if part == "Y" else 2 for part in form[1::2])
        if not text.isdigit() or not width - 1 <= len(text) <= width:
            return None
        text = text.zfill(width)  # a number has lost its zero
    try:
        found = datetime.strptime(text, form)  # noqa: DTZ007 - the calendar as written
        if latest is not None and "%y" in form and found.date() > latest:
            return found.replace(year=found.year - 100)
    except ValueError:
        return None
    return found


def _since_epoch(text: str, parts: int) -> datetime | None:
    if not text.lstrip("-").isdigit():
        return None
    try:
        return datetime.fromtimestamp(int(text) / parts, UTC).replace(tzinfo=None)
    except (OverflowError, ValueError, OSError):
        return None


def _on_clock(moment: datetime, clock: timezone | None) -> datetime:
    if clock is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(clock).replace(tzinfo=None)


def clock_of(offset: str | None) -> timezone | None:
    """A clock by its offset from UTC: "+09:00"."""
    if offset is None:
        return None
    sign = -1 if offset[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:])))


def reader(column: Column) -> Callable[[object], datetime | None]:
    """What reads the dates of a column."""
    formats, names = column.formats, column.names or None
    latest = date.fromisoformat(column.latest) if column.latest else None
    clock = clock_of(column.clock)
    if names is None and latest is None and clock is None:
        return lambda value: parse_date(value, formats)
    return lambda value: parse_date(value, formats, names=names, latest=latest, clock=clock)


def encode_column(column: Column) -> Encode:
    parts, read = [_PARTS[part] for part in column.parts], reader(column)
    nothing = tuple(repeat(math.nan, len(parts)))

    def encode(cells: Sequence[Any], errors: Errors | None) -> NDArray[np.float64]:
        known: dict[object, tuple[float, ...]] = {}
        values = []
        for i, cell in enumerate(cells):
            row = known.get(cell) if isinstance(cell, str) else None
            if row is None:
                found = None if is_missing(cell) else read(cell)
                row = nothing if found is None else tuple(float(part(found)) for part in parts)
                if found is not None and isinstance(cell, str):
                    known[cell] = row
                elif found is None and errors is not None:
                    if not is_missing(cell, column.marks):
                        errors.add(
                            i,
                            column.name,
                            f"expected a date such as {column.middle}, got {shown(cell)}",
                            "no_date",
                        )
                    elif column.missing == "refuse":
                        errors.add(
                            i, column.name, f"missing; expected a date such as {column.middle}", "missing"
                        )
            values.append(row)
        return np.array(values, np.float64).reshape(len(cells), len(parts))

    return encode


def encode_cell(column: Column) -> EncodeCell:
    parts, read = [_PARTS[part] for part in column.parts], reader(column)

    def encode(cell: Any) -> Sequence[float] | None:
        found = read(cell) if type(cell) is str else None
        return None if found is None else [part(found) for part in parts]

    return encode
