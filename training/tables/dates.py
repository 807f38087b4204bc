"""Columns of dates."""

import re
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact.encode import parse_date
from artifact.signature import Kind
from training.tables.cleaned import Cleaned, UnfitColumn
from training.tables.reading import LookAt, Reading
from training.tables.tokens import Tokens
from training.tables.typed import iso

DATE_SHARE = 0.98


def compact_dates(values: NDArray[np.float64]) -> "pd.Series[Any] | None":
    """20240131 as a date, if every number is one."""
    present = ~np.isnan(values)
    inside = values[present]
    if not present.any() or inside.min() < 18_000_101 or inside.max() > 21_001_231:
        return None
    if (inside != np.round(inside)).any():
        return None
    parsed = pd.to_datetime(inside.astype("int64").astype(str), format="%Y%m%d", errors="coerce")
    if parsed.isna().any():
        return None
    texts = np.empty(len(values), object)
    texts[present] = iso(parsed.to_numpy())
    return pd.Series(texts)


_MONTHS = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_CLOCK = r"(?:[T ,]+\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s?[AaPp][Mm])?(?:\s?(?:Z|UTC|[+-]\d{2}:?\d{2}))?)?"
_DATE_SHAPE = re.compile(
    rf"(?:\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.](?:\d{{4}}|\d{{2}})"
    rf"|\d{{1,2}}[-/ .]?{_MONTHS}[-/ .,]+\d{{2,4}}|{_MONTHS}\.? \d{{1,2}},? \d{{4}}|{_MONTHS}[- ]\d{{2,4}}"
    rf"|\d{{4}}[-/]\d{{2}}){_CLOCK}|\d{{8}}T\d{{4,6}}|\d{{1,2}}:\d{{2}}(?::\d{{2}})?",
    re.IGNORECASE,
)
_ZONE = re.compile(r"(?<=\d)\s?(?:Z|UTC|[+-]\d{2}:?\d{2})$")
_DAYS = (
    "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m.%d.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d",
    "%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%d-%B-%Y", "%d/%b/%Y", "%d%b%Y", "%b %d, %Y", "%B %d, %Y",
    "%b %d %Y",
    "%B %d %Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%d-%m-%y", "%m-%d-%y", "%d-%b-%y", "%d %b %y",
    "%Y-%m", "%Y/%m", "%b %Y", "%B %Y", "%b-%Y", "%b-%y",
)  # fmt: skip
_CLOCKS = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %I:%M %p",
    " %I:%M:%S %p",
    " %I:%M%p",
    "T%H:%M",
    "T%H:%M:%S",
    ", %H:%M",
)
_TIMES = ("%H:%M:%S", "%H:%M")
_SWAPPED = {"%m/%d": "%d/%m", "%d/%m": "%m/%d", "%d-%m": "%m-%d", "%m-%d": "%d-%m", "%d.%m": "%m.%d"}


def as_date(  # noqa: C901 - what makes a column of dates, in the order of asking
    tokens: Tokens,
    distinct: list[str],
    name: str,
    wanted: Kind | None,
    reading: Reading,  # noqa: ARG001
) -> Cleaned | None:
    sample = distinct[:: max(1, len(distinct) // 200)]
    shaped = sum(_DATE_SHAPE.fullmatch(word) is not None for word in sample)
    if wanted is None and shaped < DATE_SHARE * len(sample):
        return None
    texts = pd.Series(distinct, dtype=object)
    parsed = _iso_dates(texts)
    formats: list[str] = []
    warnings: list[str] = []
    while parsed.isna().any() and len(formats) < 3:
        open_ = parsed.isna()
        form, found = _best_format(texts[open_])
        if form is None:
            break
        swapped = _ambiguous(form, texts[open_], found)
        if swapped is not None:
            other, found_other = swapped
            if _steps_back(tokens, parsed.fillna(found_other)) < _steps_back(tokens, parsed.fillna(found)):
                form, found = other, found_other
            else:
                warnings.append(f"dates are read as {form}, though {other} is possible too")
        parsed = parsed.fillna(found)
        formats.append(form)
    lost = int(tokens.counts[parsed.isna().to_numpy()].sum())
    if lost > ((1 - DATE_SHARE) * tokens.present if wanted is None else tokens.present - 1):
        if wanted == "date":
            raise UnfitColumn(f'holds no dates that can be read, but such as "{distinct[0][:40]}"')
        return None
    if lost:
        bad = distinct[int(np.flatnonzero(parsed.isna())[0])]
        warnings.append(f'{lost} cells that are no dates (such as "{bad[:30]}") are taken as missing')
    texts_ = iso(parsed.to_numpy())
    for i in range(0, len(distinct), max(1, len(distinct) // 20)):
        if texts_[i] is not None and _wall(parse_date(distinct[i], formats)) != parse_date(texts_[i]):
            return None  # a server would read it otherwise: better no date than a wrong one
    return Cleaned(
        "date",
        tokens.spread(texts_, None, object),
        tuple(formats),
        look_at=tuple(LookAt(name, text) for text in warnings),
    )


def _wall(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=None, microsecond=0) if moment is not None else None


def _iso_dates(texts: "pd.Series[Any]") -> "pd.Series[Any]":
    """ISO 8601 dates by the clock on the wall: a time zone is dropped."""
    full = texts.str.match(r"\d{4}-\d{2}-\d{2}|\d{8}T\d{4}").astype(bool)
    wall = texts.where(full).str.replace(_ZONE, "", regex=True)
    return pd.to_datetime(wall, format="ISO8601", errors="coerce").astype("datetime64[us]")


def _best_format(texts: "pd.Series[Any]") -> tuple[str | None, "pd.Series[Any]"]:
    """The format that reads the most of the texts: tried on a few, then on all."""
    sample = texts.iloc[:: max(1, len(texts) // 50)]
    shares: dict[str, int] = {}
    clocks = _CLOCKS if sample.str.contains(":", regex=False).any() else ("",)
    candidates = [day + clock for clock in clocks for day in _DAYS] + (
        list(_TIMES) if len(clocks) > 1 else []
    )
    for form in candidates:
        count = int(pd.to_datetime(sample, format=form, errors="coerce").notna().sum())
        if count:
            shares[form] = count
            if count == len(sample) and len(sample) > 1 and form[:5] not in _SWAPPED:
                break
    best, found, most = None, pd.Series(pd.NaT, index=texts.index, dtype="datetime64[us]"), 0
    for form in sorted(shares, key=lambda each: -shares[each])[:4]:
        parsed = pd.to_datetime(texts, format=form, errors="coerce").astype("datetime64[us]")
        if (count := int(parsed.notna().sum())) > most:
            best, found, most = form, parsed, count
    return best, found


def _ambiguous(
    form: str, texts: "pd.Series[Any]", found: "pd.Series[Any]"
) -> tuple[str, "pd.Series[Any]"] | None:
    """The format with day and month the other way round, if it reads as many."""
    start = form[:5]
    if start not in _SWAPPED or form[5:6] not in {"/", "-", "."}:
        return None
    other = _SWAPPED[start] + form[5:]
    parsed = pd.to_datetime(texts, format=other, errors="coerce").astype("datetime64[us]")
    return (other, parsed) if parsed.notna().sum() >= found.notna().sum() else None


def _steps_back(tokens: Tokens, parsed: "pd.Series[Any]") -> int:
    """How often a row's date is before the one of the row above: tables are mostly in the order of time."""
    rows = parsed.to_numpy()[tokens.codes[tokens.codes >= 0]]
    rows = rows[~np.isnat(rows)]
    return int((np.diff(rows) < np.timedelta64(0)).sum())
