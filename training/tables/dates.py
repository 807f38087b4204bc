"""A column of texts as dates: which formats they have, and what the cells leave open."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact.kinds.date import INNER_DOT, PIECES, clock_of, parse_date, plain, tokens_of
from artifact.signature import Kind
from training.tables.calendar_words import names_of
from training.tables.cleaned import Cleaned, UnfitColumn
from training.tables.periods import period_names
from training.tables.reading import LookAt, Reading
from training.tables.tokens import Tokens
from training.tables.typed import iso

DATE_SHARE = 0.98
MAX_FORMATS = 6
SAMPLED = 500
MAX_LETTERS = 60
MAX_NUMBERS, MAX_WORDS = 3, 6  # of one date
SOON = 10  # years from now that a date of two-digit year may lie ahead
FIRST_YEAR, LAST_YEAR = 1800, 2100
EPOCH_FROM, EPOCH_TO = 315_532_800, 4_102_444_800  # 1980 to 2100, in seconds since 1970
STAND_INS = frozenset(
    {
        "1753-01-01", "1899-12-30", "1899-12-31", "1900-01-01", "1900-01-02", "1901-01-01", "1970-01-01",
        "1980-01-01", "2000-01-01", "2099-12-31", "2100-01-01",
    }
)  # fmt: skip
MIN_STAND_INS = 3  # cells with the one date
FAR_APART = 3  # times it, from which any date that returns is told
STANDS_APART = 0.2  # of what all other dates spread over, by which it lies away from them
EARLIEST = 1500  # the year before which dates are rather of another calendar
MIN_SHORT_DATES = 20
MIN_ALL_DAYS, LATE_DAY = 100, 28  # so many dates have a day from the 28th on
MONTHS, DAYS = frozenset(range(1, 13)), frozenset(range(1, 32))
MIN_COMPACT = 8  # different numbers of eight digits that are all dates by chance once in 10^11 columns
MIN_DOTTED_MONTHS = 3  # different ones

_CLOCK = re.compile(
    r"(?P<gap>T|,? +|:)(?P<h>\d{1,2}):\d{2}(?P<s>:\d{2})?(?P<f>[.]\d{1,9})?"
    r"(?P<space> ?)(?P<p>[AaPp]\.?[Mm]\.?)?"
    r"(?P<zgap> ?)(?P<z>Z|[+-]\d{2}:?\d{2})?"
)
_SHORT = re.compile(r"(\d{1,2})([-/. ])\s?(\d{1,2})\2\s?(\d{4}|\d{2})(?!\d)(.*)", re.DOTALL)
_LONG = re.compile(
    r"(\d{4})([-/. _]|:(?=\d\d:\d\d ))\s?(\d{1,2})\2\s?(\d{1,2})(?!\d)(?:\.(?=$| ))?(.*)", re.DOTALL
)
_MONTH_YEAR = re.compile(r"(\d{1,2})([-/.])(\d{4})")
_YEAR_MONTH = re.compile(r"(\d{4})([-/.])(\d{1,2})")
_DOTTED_MONTH = re.compile(r"(?:0?[1-9]|1[0-2])\.(?:19|20)\d{2}")
_ISO_LIKE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ].*)?|\d{8}T\d{4,6}.*", re.DOTALL)
_ZONE = re.compile(r"(?<=\d)\s?(?:Z|UTC|[+-]\d{2}:?\d{2})$")
_SOME_ZONE = re.compile(r"\d\s?(?:Z|UTC|[+-]\d{2}:?\d{2})$", re.MULTILINE)
_TIME = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?(?: ?[AaPp][Mm])?")
_PAST = re.compile(
    r"birth|born|\bdob\b|(?:^|_)dob|geb|naiss|nacim|nasc|рожд|рожден|född|fødsel|syntym|生年|出生|生日|생년|doğum|urodz|narozen"
    r"|death|died|decease|hire|joined|founded|built|since|seit|opened|first|last|prev|admi|onset",
    re.IGNORECASE,
)
_AHEAD = re.compile(
    r"expir|valid|until|due\b|matur|ablauf|fällig|gültig|venc|caduc|échéan|echean|scad|срок|deadline|planned|forecast|(?:^|_)end",
    re.IGNORECASE,
)
_CLOCK_NAME = re.compile(
    r"(?:^|[\s_.-])(?:time|hour|hora|heure|uhrzeit|zeit|clock|dep|arr|dep_?time|arr_?time|hhmm(?:ss)?)(?:$|[\s_.-])|时间|時刻|время",
    re.IGNORECASE,
)
NAMES_A_DATE = re.compile(
    r"date|datum|fecha|(?:^|[\s_.-])(?:month|monat|mois|mes|mese|miesiąc|quarter|quartal|trimestre|period)(?:$|[\s_.-])|月份|年月|месяц|"
    r"(?:^|_)data(?:_|$)|дата|日期|날짜|\bday\b|(?:^|_)tag(?:_|$)|\bdob\b|birth|geb|time|timestamp|epoch|(?:^|_)ts(?:_|$)|_at$|_on$"
    r"|created|updated|modified|dat(?:$|[\s_.-])",
    re.IGNORECASE,
)


@dataclass
class _Dates:
    """What has been found of a column's dates."""

    formats: list[str] = field(default_factory=list)
    look_at: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    latest: str | None = None
    clock: str | None = None


@dataclass
class Order:
    """How many cells say that the day, or that the month, comes first, and how many leave it open."""

    day: int = 0
    month: int = 0
    open: int = 0
    shown: str = ""

    def add(self, text: str, cells: int = 1) -> bool:
        """Count a text; False for one that is no date of digits with its year behind."""
        found = _SHORT.fullmatch(text)
        if found is None:
            return False
        first, second = int(found[1]), int(found[3])
        if first > 12 >= second and first <= 31:
            self.day += cells
        elif second > 12 >= first and second <= 31:
            self.month += cells
        elif 1 <= first <= 12 and 1 <= second <= 12 and first != second:
            self.open += cells
            self.shown = self.shown or text
        return True


def as_date(
    tokens: Tokens, distinct: list[str], name: str, wanted: Kind | None, reading: Reading
) -> Cleaned | None:
    """The column as dates, if it is one. Raises UnfitColumn where `wanted` says so and it is none."""
    given = reading.formats.get(name)
    sample = [plain(text) for text in distinct[:: max(1, len(distinct) // SAMPLED)]]
    if given is None and wanted is None and not _looks_like_dates(sample):
        return None
    found = _Dates()
    texts = pd.Series([plain(text) for text in distinct], dtype=object)
    if given is not None:
        parsed = _by_given(texts, given, found)
    else:
        parsed = _with_offsets(texts, tokens, _iso_dates(texts), found)
        if parsed.isna().any():
            parsed = _by_digits(texts, tokens, parsed, reading, found)
        if parsed.isna().any():
            parsed = _by_words(texts, tokens, parsed, found)
    lost = int(tokens.counts[parsed.isna().to_numpy()].sum())
    if lost > ((1 - DATE_SHARE) * tokens.present if wanted is None and given is None else tokens.present - 1):
        if wanted == "date" or given is not None:
            raise UnfitColumn(f'holds values such as "{distinct[0][:40]}", which cannot be read as dates')
        return None
    parsed = _with_centuries(texts, parsed, name, found)
    if found.formats == ["%m.%Y"] and given is None and wanted is None:
        found.look_at.append(
            f'"{texts.iloc[0]}" is read as a month of a year: where it is a number, set the kind of the '
            'column to "number" under [kinds]'
        )
    _tell_years(texts, tokens, parsed, found)
    if lost:
        bad = distinct[int(np.flatnonzero(parsed.isna())[0])]
        found.look_at.append(
            f'{lost:,} cells that are no dates (such as "{bad[:30]}") are taken as missing: mend them, '
            f"or set the "
            f"format of the column under [formats]"
        )
    return _cleaned(tokens, distinct, name, parsed, found)


def years_of_moments(moments: NDArray[np.datetime64]) -> list[str]:
    """What to tell of the years of dates that are no texts."""
    there = moments[~np.isnat(moments)]
    if not len(there):
        return []
    distinct, counts = np.unique(there, return_counts=True)
    return _odd_years(pd.Series(distinct), counts, lambda place: str(distinct[place])[:19])


def _odd_years(
    parsed: "pd.Series[Any]", counts: NDArray[np.intp], written: Callable[[int], str]
) -> list[str]:
    """Tell of years that no date of today has, and of a date that may stand for a missing value."""
    found = []
    years = parsed.dt.year
    odd = np.flatnonzero(((years > LAST_YEAR) | (years < EARLIEST)).to_numpy())
    if len(odd):
        found.append(
            f'{int(counts[odd].sum()):,} dates such as "{written(int(odd[0]))}" are in years before '
            f"{EARLIEST} or after {LAST_YEAR}: where they stand for a missing value, set missing under "
            "[read]; where they are of another calendar, write them in the usual one"
        )
    return [*found, *_stand_ins(counts, parsed)]


def _tell_years(texts: "pd.Series[Any]", tokens: Tokens, parsed: "pd.Series[Any]", found: _Dates) -> None:
    """Tell of odd years, and of school years such as "2009-10"."""
    found.look_at += _odd_years(parsed, tokens.counts, lambda place: str(texts[place]))
    if set(found.formats) <= {"%Y-%m", "%Y/%m"} and found.formats:
        split = [re.split("[-/]", text) for text in texts]
        if all(len(parts) == 2 and int(parts[1]) == (int(parts[0]) + 1) % 100 for parts in split):
            found.look_at.append(
                f'"{texts.iloc[0]}" is read as a month, and each may be two years as well: where '
                'they are seasons, set the kind of the column to "category" under [kinds]'
            )


def _stand_ins(counts: NDArray[np.intp], parsed: "pd.Series[Any]") -> list[str]:
    """Tell of a date that systems write for none, such as 1900-01-01, where it stands apart."""
    found: list[str] = []
    days = parsed.to_numpy().astype("datetime64[D]")
    distinct, place = np.unique(days[~np.isnat(days)], return_inverse=True)
    if len(distinct) < MIN_SHORT_DATES:
        return found
    cells = np.bincount(place, weights=counts[~np.isnat(days)])
    spread = distinct[-2] - distinct[1]
    for end, gap in ((0, distinct[1] - distinct[0]), (-1, distinct[-1] - distinct[-2])):
        shown = str(distinct[end])
        apart = STANDS_APART if shown in STAND_INS else FAR_APART
        if cells[end] >= MIN_STAND_INS and gap > apart * spread:
            found.append(
                f"{shown} in {int(cells[end]):,} cells may stand for a missing value: where it does, set "
                "missing under [read] to the way in which it is written"
            )
    return found


def _cleaned(
    tokens: Tokens, distinct: Sequence[str], name: str, parsed: "pd.Series[Any]", found: _Dates
) -> Cleaned | None:
    """The dates, if a server reads the texts as they were read here."""
    texts = iso(parsed.to_numpy())
    latest = date.fromisoformat(found.latest) if found.latest else None
    names, clock = found.names or None, clock_of(found.clock)
    for i in range(0, len(distinct), max(1, len(distinct) // 50)):
        if texts[i] is None:
            continue
        served = parse_date(distinct[i], found.formats, names=names, latest=latest, clock=clock)
        if _wall(served) != parse_date(texts[i]):
            return None  # better no date than a wrong one
    how = "" if found.formats else "ISO 8601"
    if found.clock:
        how = ", ".join(filter(None, (how, f"on the clock of UTC{found.clock}")))
    return Cleaned(
        "date",
        tokens.spread(texts, None, object),
        tuple(found.formats),
        remarks=tuple(found.remarks),
        look_at=tuple(LookAt(name, text) for text in found.look_at),
        read_as=how,
        names=found.names,
        latest=found.latest,
        clock=found.clock,
    )


def _wall(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=None, microsecond=0) if moment is not None else None


def _looks_like_dates(sample: Sequence[str]) -> bool:
    """Whether nearly all texts have the digits of a date, or its digits and words that are months."""
    shaped = [text for text in sample if _of_digits(text)]
    if len(shaped) >= DATE_SHARE * len(sample):
        return True
    rest = [text for text in sample if not _of_digits(text)]
    unfit = sum(not _may_have_words(text) for text in rest)
    return unfit <= (1 - DATE_SHARE) * len(sample) and _names(rest) is not None


def _may_have_words(text: str) -> bool:
    """Whether a text has the numbers of a date, and no more words than one."""
    if len(text) > MAX_LETTERS:
        return False
    pieces = [piece[0] for piece in PIECES.finditer(text)]
    numbers = [piece for piece in pieces if piece.isdecimal()]
    words = sum(not any(c.isdigit() for c in piece) for piece in pieces)
    marked = len(pieces) - len(numbers) - words  # a time, a quarter, a week
    return (
        1 <= len(numbers) <= MAX_NUMBERS
        and max(map(len, numbers)) <= 4
        and not any(len(number) == 3 for number in numbers)  # "k001": neither a day nor a year
        and words <= MAX_WORDS
        and (words + marked > 0)
    )


def _of_digits(text: str) -> bool:
    for pattern in (_LONG, _SHORT):
        if found := pattern.fullmatch(text):
            return not found[5] or _CLOCK.fullmatch(found[5]) is not None
    return any(p.fullmatch(text) for p in (_MONTH_YEAR, _YEAR_MONTH, _ISO_LIKE, _TIME))


# ------------------------------------------------------------------------------------------------ ISO 8601


def _iso_dates(texts: "pd.Series[Any]") -> "pd.Series[Any]":
    """ISO 8601 dates by the clock on the wall: a time zone is dropped."""
    full = texts.str.match(r"\d{4}-\d{2}-\d{2}|\d{8}T\d{4}").astype(bool)
    wall = texts.where(full)
    if _SOME_ZONE.search("\n".join(texts)):
        wall = wall.str.replace(_ZONE, "", regex=True)
    return pd.to_datetime(wall, format="ISO8601", errors="coerce").astype("datetime64[us]")


def _with_offsets(
    texts: "pd.Series[Any]", tokens: Tokens, parsed: "pd.Series[Any]", found: _Dates
) -> "pd.Series[Any]":
    """Moments with different offsets on one clock; with one offset, as they are written."""
    if not any(
        len(text) > 15 and (text[-1] in "ZC" or text[-6] in "+-" or text[-5] in "+-") for text in texts
    ):
        return parsed
    zones = texts.str.extract(r":\d{2}(?:\.\d+)?\s?(Z|UTC|[+-]\d{2}:?\d{2})$", expand=False)
    there = parsed.notna().to_numpy()
    offsets = [None if pd.isna(zone) else _offset(zone) for zone in zones]
    cells: Counter[str | None] = Counter()
    for i in np.flatnonzero(there):
        cells[offsets[i]] += int(tokens.counts[i])
    if set(cells) == {None} or not cells:
        return parsed
    if len(cells) == 1:
        found.clock = next(iter(cells))
        found.remarks.append(f"moments are on the clock of their one offset, {found.clock}")
        return parsed
    minutes = np.array([0 if offset is None else _minutes(offset) for offset in offsets])
    found.clock = "+00:00"
    listed = ", ".join(f"{offset or 'none'} in {count:,} cells" for offset, count in cells.most_common(5))
    found.look_at.append(
        f"moments with different offsets ({listed}) are brought to UTC"
        + ("; those without one are taken for UTC" if None in cells else "")
        + ": where the hour of the place matters, leave the offsets out of the file"
    )
    return parsed - pd.Series(pd.to_timedelta(minutes, unit="min"))


def _offset(zone: str) -> str:
    if zone in {"Z", "UTC"}:
        return "+00:00"
    return zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"


def _minutes(offset: str) -> int:
    return (-1 if offset[0] == "-" else 1) * (int(offset[1:3]) * 60 + int(offset[4:6]))


# ------------------------------------------------------------------------------------------ dates of digits


def _by_digits(
    texts: "pd.Series[Any]", tokens: Tokens, parsed: "pd.Series[Any]", reading: Reading, found: _Dates
) -> "pd.Series[Any]":
    """Dates in digits alone, by the order of day and month that the column or the file has."""
    open_ = np.flatnonzero(parsed.isna())
    given = reading.day_first is not None and reading.day_first.given
    ahead = None if given else year_stands_first(texts[open_].tolist())
    if ahead:
        found.look_at.append(ahead)
        orders: tuple[str, ...] = ("%y%m%d",)
    else:
        order = Order()
        for i in open_:
            order.add(texts[i], int(tokens.counts[i]))
        days_first = _order(order, texts, tokens, reading, found)
        orders = ("%d%m%y", "%m%d%y") if days_first else ("%m%d%y", "%d%m%y")
    counts: Counter[str] = Counter()
    for i in open_:
        for rank, first in enumerate(orders):
            form = _format(texts[i], first)
            if form is not None and _fits(texts[i], form):
                counts[form] += int(tokens.counts[i]) if rank == 0 else 1
                break
    ordered = sorted(counts, key=lambda form: (form.startswith(orders[-1][:2]), -counts[form]))
    for form in ordered[:MAX_FORMATS]:
        still = parsed.isna()
        if not still.any():
            break
        read = _read(texts[still], form)
        if read.notna().any():
            parsed = parsed.fillna(read)
            found.formats.append(form)
            if "%z" in form and found.clock is None:
                found.clock = "+00:00"
                found.look_at.append(
                    "moments with offsets are brought to UTC: leave the offsets out where the hour matters"
                )
    return parsed


def year_stands_first(texts: Sequence[str]) -> str | None:
    """What to tell where the days stand behind, as the many values of the last part of "23-07-25" show."""
    parts = [part for text in texts if (part := _SHORT.fullmatch(text)) and len(part[4]) == 2]
    if len(parts) < max(MIN_SHORT_DATES, DATE_SHARE * len(texts)):
        return None
    first, middle, last = ({int(part[i]) for part in parts} for i in (1, 3, 4))
    if not (middle <= MONTHS and last <= DAYS):
        return None
    ends_of_months = len(parts) >= MIN_ALL_DAYS and max(first) < LATE_DAY <= max(last)
    if first <= DAYS and 2 * len(first) > len(last) and not ends_of_months:
        return None
    return (
        f'the year is taken to stand first, as in "{parts[0][0]}": the last part has {len(last)} values and '
        f"the first {len(first)}; if that is wrong, set day_first under [read], or the format of the column "
        "under [formats]"
    )


def _read(texts: "pd.Series[Any]", form: str) -> "pd.Series[Any]":
    if "%z" not in form:
        return pd.to_datetime(texts, format=form, errors="coerce").astype("datetime64[us]")
    moments = [parse_date(text, (form,), clock=UTC) for text in texts]
    return _series(moments, texts.index)


def _series(moments: Sequence[datetime | None], index: Any) -> "pd.Series[Any]":
    return pd.Series(np.array(moments, "datetime64[us]"), index=index)


def _fits(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)  # noqa: DTZ007 - whether it can be read
    except ValueError:
        return False
    return True


def _format(text: str, order: str) -> str | None:
    """The format of one date of digits, in the order "%d%m%y" or another where no four digits are a year."""
    clock = ""
    if found := _LONG.fullmatch(text):
        gap = " " if text[5] == " " and found[2] != " " else ""
        head = f"%Y{found[2]}{gap}%m{found[2]}{gap}%d"
        tail = found[5]
        head += "." * (len(text) - found.end(4) - len(tail))
    elif found := _SHORT.fullmatch(text):
        one, two, three = order[:2], order[2:4], order[4:]
        if int(found[1]) > 31 and one != "%y":
            return None
        gap = " " if text[len(found[1]) + 1] == " " and found[2] != " " else ""
        head = f"{one}{found[2]}{gap}{two}{found[2]}{gap}{three if len(found[4]) == 2 else '%Y'}"
        tail = found[5]
    elif found := _MONTH_YEAR.fullmatch(text):
        return f"%m{found[2]}%Y"
    elif found := _YEAR_MONTH.fullmatch(text):
        return f"%Y{found[2]}%m"
    elif _TIME.fullmatch(text):
        spoken = text[-1] in "mM"
        hours = "%I" if spoken else "%H"
        return (
            hours
            + ":%M"
            + (":%S" if text.count(":") == 2 else "")
            + ((" %p" if " " in text else "%p") if spoken else "")
        )
    else:
        return None
    if tail:
        part = _CLOCK.fullmatch(tail)
        if part is None:
            return None
        clock = part["gap"] + ("%I" if part["p"] else "%H") + ":%M" + (":%S" if part["s"] else "")
        clock += (".%f" if part["f"] else "") + (f"{part['space']}%p" if part["p"] else "")
        clock += f"{part['zgap']}%z" if part["z"] else ""
    return head + clock


def _order(order: Order, texts: "pd.Series[Any]", tokens: Tokens, reading: Reading, found: _Dates) -> bool:
    """Whether the day comes first in the cells that leave it open, and what is to be told of that."""
    given = reading.day_first is not None and reading.day_first.given
    if order.day and order.month:
        first = reading.day_first.value if given and reading.day_first else order.day >= order.month
        found.look_at.append(
            f"{order.day:,} cells can only have the day first and {order.month:,} only the month: two "
            f"formats that "
            f"contradict each other; {order.open:,} cells that may be either are read with the "
            f"{'day' if first else 'month'} first: mend the file, or split the column by where its rows "
            f"come from"
        )
        return first
    if order.day or order.month or not order.open:
        return order.day > 0 or (not order.month and _default(texts, reading))
    if reading.day_first is not None:
        return reading.day_first.value
    first, why = _default(texts, reading), "no cell of the file says which"
    sorted_by = _sorted_by(texts, tokens)
    if sorted_by is not None:
        first, why = sorted_by, "the rows are in that order"
    found.look_at.append(
        f"dates are read with the {'day' if first else 'month'} first, though the other is possible too "
        f"({why}): "
        f'"{order.shown}" may be in either month; set day_first = {"true" if first else "false"} under '
        f"[read] to keep "
        f"it, or {'false' if first else 'true'}"
    )
    return first


def _default(texts: "pd.Series[Any]", reading: Reading) -> bool:
    """The likelier order where nothing decides: dots, `;` and decimal commas stand for the day first."""
    first = str(texts.iloc[0])
    if re.match(r"\d{1,2}\.", first):
        return True
    if re.search(r"[AaPp]\.?[Mm]\.?", first):
        return False
    delimiter = reading.delimiter.value if reading.delimiter else None
    decimal = reading.decimal.value if reading.decimal else None
    return delimiter == ";" or decimal == ","


def _sorted_by(texts: "pd.Series[Any]", tokens: Tokens) -> bool | None:
    """The order in which every row is later than the one above; None where neither or both are such."""
    fits = []
    for order in ("%d%m%y", "%m%d%y"):
        forms = [_format(text, order) for text in texts]
        values = np.full(len(texts), np.datetime64("NaT"), "datetime64[us]")
        for form in set(forms) - {None}:
            places = np.array([form == each for each in forms])
            values[places] = pd.to_datetime(texts[places], format=form, errors="coerce").to_numpy(
                "datetime64[us]"
            )
        rows = values[tokens.codes[tokens.codes >= 0]]
        rows = rows[~np.isnat(rows)]
        fits.append(len(rows) > 2 and bool((np.diff(rows) > np.timedelta64(0)).all()))
    return fits[0] if fits[0] != fits[1] else None


# ------------------------------------------------------------------------------------------ dates with words


def _names(texts: Sequence[str]) -> tuple[dict[str, str], list[str]] | None:
    """What the words of dates mean, and what to tell of it; None where they are no dates' words."""
    words = set()
    for text in texts:
        for piece in PIECES.finditer(INNER_DOT.sub("", text)):
            if not piece["q"] and not piece["w"] and not piece["time"] and not piece[0].isdecimal():
                words.add(piece[0].casefold())
    if len(words) > 120:
        return None
    if (periods := period_names(words, texts)) is not None:
        return periods
    if (found := names_of(words)) is None:
        return None
    names, others = found
    text = (
        f"names of months are read as in one language, and mean other months in {', '.join(others[:5])}: "
        "write them as numbers, or set the format under [formats]"
    )
    return names, [text] if others else []


def _by_words(
    texts: "pd.Series[Any]", tokens: Tokens, parsed: "pd.Series[Any]", found: _Dates
) -> "pd.Series[Any]":
    """Dates with names of months and days, quarters or weeks."""
    open_ = np.flatnonzero(parsed.isna())
    told = _names([texts[i] for i in open_])
    if told is None:
        return parsed
    names, doubts = told
    written = {i: line for i in open_ if (line := tokens_of(texts[i], names))}
    counts: Counter[str] = Counter()
    for i, line in written.items():
        if (form := _format_of_tokens(line)) is not None:
            counts[form] += int(tokens.counts[i])
    if not counts:
        return parsed
    found.names = names
    found.look_at += doubts
    offsets = {line.split()[-1] for line in written.values() if re.search(r"[+-]\d{4}$", line)}
    one = offsets.pop() if len(offsets) == 1 and all("%z" in form for form in counts) else None
    found_clock = _offset(one) if one else "+00:00"
    zoned = []
    for form in [form for form, _ in counts.most_common(MAX_FORMATS)]:
        zoned.append("%z" in form)
        places = [i for i, line in written.items() if _format_of_tokens(line) == form]
        clock = clock_of(found_clock) if "%z" in form else None
        moments = [parse_date(written[i], (form,), clock=clock) for i in places]
        read = _series(moments, places)
        if read.notna().any():
            parsed = parsed.fillna(read)
            found.formats.append(form)
    if any(zoned):
        found.clock = found_clock
        if one:
            found.remarks.append(f"moments are on the clock of their one offset, {found_clock}")
        else:
            listed = ", ".join(sorted(offsets)[:5])
            found.look_at.append(f"moments with the offsets {listed} are brought to UTC")
    return parsed


_TOKENS = (
    (re.compile(r"M\d{2}"), "M%m"),
    (re.compile(r"W\d{2}-\d"), "W%V-%u"),
    (re.compile(r"AM|PM"), "%p"),
    (re.compile(r"[+-]\d{4}"), "%z"),
    (re.compile(r"\d{1,2}:\d{2}"), "%H:%M"),
    (re.compile(r"\d{1,2}:\d{2}:\d{2}"), "%H:%M:%S"),
    (re.compile(r"\d{1,2}:\d{2}:\d{2}\.\d+"), "%H:%M:%S.%f"),
    (re.compile(r"\d{4}"), "%Y"),
    (re.compile(r"\d{1,2}"), "?"),
)


def _format_of_tokens(line: str) -> str | None:
    """The format of a date's tokens, by what each of them can be."""
    form = [next((f for pattern, f in _TOKENS if pattern.fullmatch(part)), "") for part in line.split()]
    if "" in form or any(form.count(part) > 1 for part in set(form) - {"?"}):
        return None
    numbers, years = form.count("?"), form.count("%Y")
    if "M%m" in form:
        rest = {(0, 1): [], (1, 1): ["%d"], (1, 0): ["%y"], (2, 0): ["%d", "%y"]}.get((numbers, years))
    elif form and form[0] == "%Y":
        rest = {0: [], 2: ["%m", "%d"]}.get(numbers)
    else:
        rest = [] if numbers == 0 and years else None
    if rest is None or not ({"M%m", "W%V-%u"} & set(form) or numbers == 2):
        return None
    filled = iter(rest)
    text = " ".join(next(filled) if each == "?" else each for each in form)
    if "W%V" in text:
        text = text.replace("%Y", "%G")
    return text.replace("%H", "%I") if "%p" in text else text


# --------------------------------------------------------------------------------- given formats, centuries


def _by_given(texts: "pd.Series[Any]", given: str, found: _Dates) -> "pd.Series[Any]":
    """Dates by the format of `[formats]`, whose names of months may be in any language."""
    if re.search(r"%[aAbB]", given):
        told = _names(list(texts))
        found.names = told[0] if told else {}
        form = re.sub(r"%[aA]", "", given)
        form = re.sub(r"%[bB]", "M%m", form)
        form = " ".join(re.findall(r"M%m|%[A-Za-z](?::%[A-Za-z])*", form))
        found.formats = [form]
        lines = [tokens_of(text, found.names) or "" for text in texts]
        moments = [parse_date(line, (form,)) for line in lines]
        return _series(moments, texts.index)
    found.formats = [given]
    if "%z" in given:
        found.clock = "+00:00"
    return _read(texts, given)


def _with_centuries(
    texts: "pd.Series[Any]", parsed: "pd.Series[Any]", name: str, found: _Dates
) -> "pd.Series[Any]":
    """Two-digit years: never in the future where the column is of what has been."""
    if not any("%y" in form for form in found.formats):
        return parsed
    today = datetime.now(UTC).date()
    past = _PAST.search(name) is not None
    ahead = _AHEAD.search(name) is not None and not past
    if ahead:
        latest = None
    elif past:
        latest = today
    else:
        latest = date(today.year + SOON, 12, 31)
    moments = parsed.to_numpy()
    late = ~np.isnat(moments) & (moments > np.datetime64(latest or date(2068, 12, 31)))
    written = np.array([re.search(r"(?<!\d)\d{4}(?!\d)", text) is None for text in texts])
    late &= written
    corrected = [
        moment.replace(year=moment.year - 100) if is_late and not pd.isna(moment) else moment
        for moment, is_late in zip(pd.DatetimeIndex(moments), late, strict=True)
    ]
    parsed = pd.Series(pd.DatetimeIndex(corrected), index=parsed.index).astype("datetime64[us]")
    found.latest = latest.isoformat() if latest else None
    there = parsed.dropna()
    if (
        past
        or late.any()
        or (len(there) and (there.min().year < today.year - 50 or there.max().date() > today))
    ):
        last = latest or date(2068, 12, 31)
        found.look_at.append(
            f"years of two digits are read as {last.year - 99} to {last.year}"
            + (", since the column's name says that it has been" if past else "")
            + f"; its dates are {there.min().date()} to {there.max().date()}: write four digits where "
            "that is wrong"
        )
    return parsed


def are_months_of_years(texts: Sequence[str]) -> bool:
    """Whether all texts are a month, a dot and a year: "03.2021", which is a number as well."""
    return len(set(texts)) >= MIN_DOTTED_MONTHS and all(map(_DOTTED_MONTH.fullmatch, texts))


def compact_format(texts: Sequence[str], name: str, *, wanted: bool) -> tuple[str, str] | None:
    """The format of dates in eight digits (seven where a zero is lost), and what to tell of it."""
    if not texts or any(not text.isdecimal() or not 7 <= len(text) <= 8 for text in texts):
        return None
    named = wanted or NAMES_A_DATE.search(name) is not None or any(text[0] == "0" for text in texts)
    if not named and len(set(texts)) < MIN_COMPACT:
        return None
    for form, other in (("%Y%m%d", "%Y%d%m"), ("%d%m%Y", "%m%d%Y"), ("%m%d%Y", "%d%m%Y")):
        if not _all_fit(texts, form):
            continue
        also = _all_fit(texts, other)
        doubt = f"read as {form}, and {other} fits as well: set the format under [formats]" if also else ""
        if not named and not doubt:
            doubt = f'read as dates of the form {form}: where they are amounts, set the kind to "number"'
        return form, doubt
    return None


def _all_fit(texts: Sequence[str], form: str) -> bool:
    for text in texts:
        found = parse_date(text, (form,))
        if found is None or not FIRST_YEAR <= found.year <= LAST_YEAR:
            return False
    return True


def compact_dates(
    values: NDArray[np.float64], name: str, *, wanted: bool
) -> tuple["pd.Series[Any]", str, str] | None:
    """Whole numbers such as 20240131 as dates, their format and what to tell, if every number is one."""
    present = ~np.isnan(values)
    inside = values[present]
    if not present.any() or inside.min() < 1_011_800 or inside.max() > 31_122_100:
        return None
    if (inside != np.round(inside)).any():
        return None
    whole, back = np.unique(inside.astype("int64"), return_inverse=True)
    found = compact_format([str(value) for value in whole], name, wanted=wanted)
    if found is None:
        return None
    form, doubt = found
    moments = np.array([parse_date(str(value), (form,)) for value in whole], "datetime64[s]")
    texts = np.empty(len(values), object)
    texts[present] = np.array(iso(moments), object)[back]
    return pd.Series(texts), form, doubt


def epoch_dates(
    values: NDArray[np.float64], name: str, *, wanted: bool
) -> tuple["pd.Series[Any]", str] | None:
    """Seconds or milliseconds since 1970 as dates, if the column's name says that it is one of dates."""
    present = ~np.isnan(values)
    inside = values[present]
    if not present.any() or not (wanted or NAMES_A_DATE.search(name)) or (inside != np.round(inside)).any():
        return None
    for form, parts in (("epoch seconds", 1), ("epoch milliseconds", 1_000)):
        seconds = inside / parts
        if seconds.min() >= EPOCH_FROM and seconds.max() < EPOCH_TO:
            if not wanted and np.ptp(seconds) < 2 * 86_400:
                return None  # within a day or two the order of moments is more than their calendar
            moments = seconds.astype("datetime64[s]")
            texts = np.empty(len(values), object)
            texts[present] = iso(moments)
            return pd.Series(texts), form
    return None


def short_dates(values: NDArray[np.float64], name: str) -> str | None:
    """How moments may be written in numbers alone, by the column's name, or None."""
    there = values[~np.isnan(values)]
    if len(there) < MIN_SHORT_DATES:
        return None
    if _CLOCK_NAME.search(name) and (written := _clock_in_digits(there)):
        return written
    if not NAMES_A_DATE.search(name):
        return None
    if (there != np.round(there)).any():
        if there.min() > FIRST_YEAR and there.max() < LAST_YEAR and (parts := _parts_of_years(there)):
            return parts
        since_1970 = there.min() >= EPOCH_FROM and there.max() < EPOCH_TO
        return "seconds since 1970 with their fractions" if since_1970 else None
    return _moment_in_digits(there)


def _parts_of_years(there: NDArray[np.float64]) -> str | None:
    """How numbers such as 2021.03 or 2021.4 may be months or quarters."""
    hundredths = np.round(there % 1 * 100)
    if bool((np.abs(there * 100 - np.round(there * 100)) > 1e-6).any()):
        return None
    if set(np.unique(hundredths)) <= {10.0, 20.0, 30.0, 40.0}:
        return "year.quarter"
    return "YYYY.MM" if bool(((hundredths >= 1) & (hundredths <= 12)).all()) else None


def _moment_in_digits(there: NDArray[np.float64]) -> str | None:
    """How whole numbers may be moments, by their digits, or None."""
    if there.min() >= EPOCH_FROM * 1e6 and there.max() < EPOCH_TO * 1e6:
        return "microseconds since 1970"
    if there.min() > 18e10:
        forms, digits = {"%Y%m%d%H%M": "YYYYMMDDhhmm", "%Y%m%d%H%M%S": "YYYYMMDDhhmmss"}, 0
    elif there.min() >= FIRST_YEAR * 1_000 and there.max() < LAST_YEAR * 1_000:
        forms, digits = {"%Y%j": "YYYYDDD"}, 7
    elif there.min() >= 10_101 and there.max() <= 999_999:
        forms, digits = {"%Y%m": "YYYYMM", "%y%m%d": "YYMMDD", "%d%m%y": "DDMMYY", "%m%d%y": "MMDDYY"}, 6
    else:
        return None
    texts = [f"{int(value):0{digits}}" for value in np.unique(there)]
    for form, written in forms.items():
        if form != "%Y%m" and digits == 0 and len(texts[0]) != len(written):
            continue
        if all(_fits(text, form) for text in texts) and (form != "%Y%m" or _all_years(texts)):
            return written
    return None


def _clock_in_digits(there: NDArray[np.float64]) -> str | None:
    """Times of a day such as 905 and 2359, or 90500 and 235959."""
    if (there != np.round(there)).any() or there.min() < 0 or len(np.unique(there)) < MIN_SHORT_DATES:
        return None
    for written, parts in (("hhmm", 1), ("hhmmss", 2)):
        if 1_000 * 100 ** (parts - 1) < there.max() < 2_400 * 100 ** (parts - 1):
            below = [there // 100**place % 100 for place in range(parts)]
            return written if all((each < 60).all() for each in below) else None
    return None


def _all_years(texts: Sequence[str]) -> bool:
    return all(FIRST_YEAR <= int(text[:4]) <= LAST_YEAR for text in texts)


def may_be_days(values: NDArray[np.float64], name: str) -> bool:
    """Whether numbers under a name of dates may be a spreadsheet's count of days, of 1970 to 2050."""
    there = values[~np.isnan(values)]
    if not len(there) or not NAMES_A_DATE.search(name):
        return False
    return bool(there.min() >= 25_569 and there.max() <= 54_789)
