"""Columns of durations: "00:00:05", "26:10:00", "1h 20m" or "PT1H20M" as numbers of seconds."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from training.tables.cleaned import Cleaned
from training.tables.numerals import as_ascii
from training.tables.reading import LookAt
from training.tables.tokens import Tokens
from training.tables.units import scales

DURATION_SHARE = 0.98
DAY_HOURS = 24
MAX_UNIT_SECONDS = 604_800  # a week: months and years are of no fixed length
SHORT_HOURS = 9  # of the longest, where the shortest is under MIN_HOURS: durations rather than times of a day
MIN_HOURS = 3
WIDE_HOURS, MANY_HOURS = 17, 8  # an hour of the evening and so many different hours: times of a day
_CLOCK = re.compile(r"(?P<sign>-)?(?P<h>\d+):(?P<m>[0-5]?\d):(?P<s>[0-5]?\d(?:[.,]\d+)?)")
_LAP = re.compile(r"(\d+):([0-5]\d[.,]\d+)")
_TWO = re.compile(r"(?P<sign>-)?(?P<h>\d+):(?P<m>[0-5]\d)")
_DAYS = re.compile(
    r"(?P<sign>-)?(?P<d>\d+)(?:\s*(?:d|days?|tage?)?,?\s+|\.)(?P<rest>\d+:\d{2}:\d{2}(?:[.,]\d+)?)",
    re.IGNORECASE,
)
_ISO = re.compile(
    r"(?P<sign>-)?P(?=.)(?:(?P<w>\d+)W)?(?:(?P<d>\d+)D)?"
    r"(?:T(?:(?P<h>\d+(?:[.,]\d+)?)H)?(?:(?P<m>\d+(?:[.,]\d+)?)M)?(?:(?P<s>\d+(?:[.,]\d+)?)S)?)?"
)
_PART = re.compile(r"(\d+(?:[.,]\d+)?)\s*([^\W\d_]+)\.?,?\s*(?:and|und|et|y)?\s*")
_DURATION_NAME = re.compile(
    r"durat|dauer|durée|duree|duraci|durata|elapsed|length|länge|laufzeit|lap|split|pace|took|wait|talk|call|spent|длит|时长|用时"
    r"|小时|time[_ ]?taken|runtime|uptime|race|finish|chip|gun",
    re.IGNORECASE,
)
_TIME_NAME = re.compile(
    r"(?:^|[\s_])(?:time|uhr|uhrzeit|zeit|clock|hora|heure|ora|hour|at|start|begin|departure|arrival)(?:$|[\s_])|время|时间",
    re.IGNORECASE,
)
_MINUTES_NAME = re.compile(r"song|track|pace|min|mm.?ss|lap|split", re.IGNORECASE)


def _number(text: str | None) -> float:
    return float((text or "0").replace(",", "."))


def seconds(text: str) -> tuple[float, str] | None:
    """A duration in seconds, and whether it is "sure", or written as a time of a day is ("clock", "two")."""
    text = as_ascii(text)
    if found := _CLOCK.fullmatch(text):
        value = int(found["h"]) * 3600 + int(found["m"]) * 60 + _number(found["s"])
        return (-value if found["sign"] else value), "sure" if found["sign"] or int(
            found["h"]
        ) >= DAY_HOURS else "clock"
    if found := _LAP.fullmatch(text):
        return int(found[1]) * 60 + _number(found[2]), "sure"
    if found := _TWO.fullmatch(text):
        value = int(found["h"]) * 3600 + int(found["m"]) * 60
        return (-value if found["sign"] else value), "two"
    if found := _DAYS.fullmatch(text):
        rest = seconds(found["rest"])
        value = int(found["d"]) * 86400 + (rest[0] if rest else 0)
        return (-value if found["sign"] else value), "sure"
    if found := _ISO.fullmatch(text):
        sizes = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
        value = sum(_number(found[key]) * size for key, size in sizes.items())
        return (-value if found["sign"] else value), "sure"
    return _in_words(text)


def _in_words(text: str) -> tuple[float, str] | None:
    """Read "1h 20m": numbers with units of time, each smaller than the one before; "one" if alone."""
    at, parts = 0, []
    while at < len(text):
        found = _PART.match(text, at)
        if found is None:
            return None
        parts.append((_number(found[1]), found[2]))
        at = found.end()
    known = scales({unit for _, unit in parts} | {"s"})
    if known is None or known["s"].family != "time":
        return None
    factors = [known[unit].factor for _, unit in parts]
    if factors != sorted(factors, reverse=True) or max(factors) > MAX_UNIT_SECONDS:
        return None
    return float(
        sum(value * factor for (value, _), factor in zip(parts, factors, strict=True))
    ), "sure" if len(parts) > 1 else "one"


def as_duration(tokens: Tokens, distinct: Sequence[str], name: str) -> tuple[Cleaned | None, str]:
    """The column as seconds, if it is one of durations; else what to tell of times of a day."""
    sample = distinct[:: max(1, len(distinct) // 200)]
    if sum(seconds(text) is not None for text in sample) < 0.9 * len(sample):
        return None, ""
    read = [seconds(text) for text in distinct]
    there = [i for i, found in enumerate(read) if found is not None]
    if int(tokens.counts[there].sum()) < DURATION_SHARE * tokens.present:
        return None, ""
    values = np.array([np.nan if found is None else found[0] for found in read])
    how = {found[1] for found in read if found is not None}
    if how == {"one"}:  # numbers with one unit each
        return None, ""
    kind = "duration" if "sure" in how else _likely(values, how, name)
    if kind == "time":
        return None, _doubt_of_times(values, how, name)
    doubt = ""
    if how == {"two"}:
        values, doubt = _of_two_parts(values, distinct[there[0]], name)
    elif kind == "likely":
        doubt = 'read as durations, though times of a day fit as well: where they are, set the kind to "date"'
    elif "two" in how:
        doubt = "some durations have two parts and others three: two are read as hours and minutes"
    look_at = [doubt] if doubt else []
    if len(there) < len(read):
        bad = next(distinct[i] for i, found in enumerate(read) if found is None)
        look_at.append(f'cells that are no durations (such as "{bad[:30]}") are taken as missing')
    return Cleaned(
        "number",
        pd.Series(tokens.spread(values, np.nan, np.float64)),
        remarks=("durations are read as seconds; send seconds to the server",),
        look_at=tuple(LookAt(name, text) for text in look_at),
        read_as="durations",
        unit="seconds",
    ), ""


def _of_two_parts(values: np.ndarray, shown: str, name: str) -> tuple[np.ndarray, str]:
    """Seconds of durations such as "26:10", and what to tell of them."""
    as_minutes = _MINUTES_NAME.search(name) is not None
    unit, other = ("minutes and seconds", "hours and minutes")[:: 1 if as_minutes else -1]
    doubt = f'"{shown}" is read as {unit}, and {other} fits too: write a third part'
    return values / 60 if as_minutes else values, doubt


def _likely(values: np.ndarray, how: set[str], name: str) -> str:
    """Whether clock-like texts are durations ("duration" beyond doubt, or "likely"), or a "time" of a day."""
    hours = values[~np.isnan(values)] // 3600
    if hours.max() >= DAY_HOURS or (hours.max() == 0 and how == {"clock"}):
        return "duration"
    if _DURATION_NAME.search(name):
        return "likely"
    if how == {"clock"} and hours.max() <= SHORT_HOURS and hours.min() < MIN_HOURS:
        return "likely"
    return "time"


def _doubt_of_times(values: np.ndarray, how: set[str], name: str) -> str:
    hours = values[~np.isnan(values)] // 3600
    wide = hours.max() >= WIDE_HOURS and len(np.unique(hours)) >= MANY_HOURS
    if _TIME_NAME.search(name) or (wide and how == {"two"}):
        return ""
    return (
        "read as times of a day, though durations fit as well: where they are, write them in seconds or "
        "with days "
        '("0 days 01:30:00")'
    )
