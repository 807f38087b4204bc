"""Names of months and days in the languages of CLDR, and what words in dates mean that are no names.

CLDR comes with Babel; its months are read once, where a column has words that may be months.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from babel import Locale, localedata

_COMMON = (
    "en",
    "de",
    "fr",
    "es",
    "it",
    "pt",
    "nl",
    "ru",
    "pl",
    "tr",
    "sv",
    "da",
    "nb",
    "cs",
    "uk",
    "ar",
    "hi",
)
_NOISE = (
    "de del d des du le la el les der den das of the st nd rd th er ère re año ano the um am uhr kl at "
    "on den o "
    "г года год р року рік 年 月 日 号 號 년 월 일 ngày năm วันที่ พ ศ คศ พศ คศ і и na e y i à a h "
    "thứ hai ba tư sáu bảy chủ nhật"
)
_HOURS = (
    "utc+00 gmt+00 z+00 ut+00 est-05 edt-04 cst-06 cdt-05 mst-07 mdt-06 pst-08 pdt-07 cet+01 cest+02 jst+09"
)
_ZONES = {zone[:-3]: f"{zone[-3:]}00" for zone in _HOURS.split()}
_HALF_DAYS = {
    **dict.fromkeys(("上午", "午前", "오전"), "AM"),
    **dict.fromkeys(("下午", "午後", "오후"), "PM"),
}
_FIXED = {**dict.fromkeys(_NOISE.split(), ""), **_ZONES, "am": "AM", "pm": "PM", **_HALF_DAYS, "tháng": "M"}
_MORE = "bg el et fa fi he hr hu id ja ko lt lv ro sk sl sr th vi zh"
_KNOWN = frozenset((*_COMMON, *_MORE.split()))  # languages of many readers
MIN_WORDS = 3  # different ones from which languages of fewer readers are asked
_WIDTHS = (
    ("format", "wide"),
    ("stand-alone", "wide"),
    ("format", "abbreviated"),
    ("stand-alone", "abbreviated"),
)
MIN_PREFIX = 3


def _keys(name: str) -> set[str]:
    """The spellings of a name: in small letters without dots, with and without its accents."""
    plain = unicodedata.normalize("NFC", name).casefold().replace(".", "").strip()
    bare = "".join(c for c in unicodedata.normalize("NFD", plain) if not unicodedata.combining(c))
    spellings = (plain, bare, plain.replace("ä", "ae").replace("ö", "oe"))
    return {key for key in spellings if key and not re.search(r"[\d\s]", key)}


@cache
def _language(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Words of one language to tokens: months to "M01" and so on, days to nothing; and beginnings."""
    locale = Locale.parse(name)
    months: dict[str, str] = {}
    prefixes: dict[str, set[str]] = {}
    for context, width in _WIDTHS:
        for number, month in locale.months[context][width].items():
            for key in _keys(month):
                months.setdefault(key, f"M{number:02}")
                if width == "wide":
                    for length in range(MIN_PREFIX, len(key)):
                        prefixes.setdefault(key[:length], set()).add(f"M{number:02}")
    begun = {prefix: next(iter(found)) for prefix, found in prefixes.items() if len(found) == 1}
    days = {
        key: ""
        for context, width in _WIDTHS
        for day in locale.days[context][width].values()
        for key in _keys(day)
        if key not in months
    }
    names = {**days, **months}
    return names, {**begun, **names}


@cache
def _languages() -> tuple[str, ...]:
    others = sorted(
        name for name in localedata.locale_identifiers() if "_" not in name and name not in _COMMON
    )
    return (*_COMMON, *(name for name in others if name != "root"))


def names_of(words: Iterable[str]) -> tuple[dict[str, str], list[str]] | None:
    """What the words of dates mean, and the languages that read them otherwise; None where none has all.

    Parameters
    ----------
    words
        In small letters, as they stand in the dates of one column.
    """
    open_ = {word for word in words if word not in _FIXED}
    also = {word for word in words if word in _FIXED}
    if not open_:
        return dict(_FIXED), []
    chosen: dict[str, str] | None = None
    others = []
    for name in _languages() if len(open_) >= MIN_WORDS else sorted(_KNOWN, key=_languages().index):
        names, known = _language(name)
        if not all(word in known for word in open_):
            continue
        if chosen is None:
            chosen = known
        elif name in _KNOWN and any(names.get(word, chosen[word]) != chosen[word] for word in open_):
            others.append(name)
    if chosen is None:
        return None
    months = {word: token for word, token in chosen.items() if token or word in open_ or word not in also}
    return {**_FIXED, **months}, others
