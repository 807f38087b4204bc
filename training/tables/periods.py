"""Quarters, half years and Roman months in dates: what their words and letters mean.

A word for a quarter becomes the token "Q", one for half a year "H"; `artifact.kinds.date.tokens_of` makes
one token of it and the number beside it, the month in which the period begins.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

FIRST_YEAR, LAST_YEAR = 1900, 2100  # of a period that a letter alone names: "T1 2014", but no "T1 4500"
_QUARTER = """
q t k kv kw qu qtr quarter quarters quartal quartale quartals trimestre trimestrul trim tri trimester
kwartaal kwartał kwartalu kvartal kvartalet kvartál kvartaali neljännes vuosineljännes čtvrtletí četrtletje
štvrťrok tromjesečje кв квартал квартала çeyrek ç negyedév negyedéve né τρίμηνο
τριμ ไตรมาส ไตรมาสที่ quý kuartal triwulan 季度 季 四半期 분기 년q 年q الربع ربع
"""
_HALF = """
h s hj hy half halbjahr semestre semestrul sem semester półrocze pololetí polletje полугодие yarıyıl félév
halvår puolivuosi polugodište 半期 반기 半年
"""
_LETTERS = frozenset(("t", "k", "kv", "s", "h", "ç"))  # that are codes as well
_TOLD = frozenset(("k", "s", "ç"))  # and read as a period only where a person is told
_FILLING = """
º ª o a e er re eme ème ère st nd rd th й ий го я ое de del di du of the in im des den d g г r year jahr año
anno ano an anul год года году рік року 年第 第 年 년 年度 년도 m
"""
_ORDINALS = (
    "first erstes primer primero primo primeiro premier первый",
    "second zweites segundo secondo deuxième второй",
    "third drittes tercer tercero terzo terceiro troisième третий",
    "fourth viertes cuarto quarto quatrième четвёртый четвертый",
)
_NUMERALS = "i ii iii iv v vi vii viii ix x xi xii"
_ROMAN = {word: number for number, word in enumerate(_NUMERALS.split(), start=1)}
_CHINESE = {"一": 1, "二": 2, "三": 3, "四": 4}
_JOINED = re.compile(
    r"[年년]?第?(?:(?P<quarter>[一二三四])(?:季度|季|四半期)|(?P<half>[上下상하])(?:半年|半期|반기))"
)
_LONG_NUMBER = re.compile(r"\d{3}")
_YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")


def _bare(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))


def _each(words: str) -> set[str]:
    return {spelling for word in words.split() for spelling in (word, _bare(word))}


_MARKERS = {**dict.fromkeys(_each(_HALF), "H"), **dict.fromkeys(_each(_QUARTER), "Q")}
_NUMBERS = {word: str(i) for i, words in enumerate(_ORDINALS, start=1) for word in _each(words)}
_EMPTY = _each(_FILLING)


def period_names(words: Collection[str], texts: Sequence[str]) -> tuple[dict[str, str], list[str]] | None:
    """What the words of quarters, half years and Roman months mean, and what to tell of it; None for others.

    Parameters
    ----------
    words
        In small letters, as they stand in the dates of one column.
    texts
        The dates.
    """
    markers = {word for word in words if word in _MARKERS}
    joined = {word: token for word in words if (token := _joined(word))}
    if not markers and not joined:
        return _roman_months(words, texts)
    names = dict(joined)
    for word in set(words) - joined.keys():
        roman = _ROMAN.get(word, 13)
        if word in markers:
            names[word] = _MARKERS[word]
        elif word in _NUMBERS:
            names[word] = _NUMBERS[word]
        elif roman <= 4 and not joined:
            names[word] = str(roman)
        elif word in _EMPTY:
            names[word] = ""
        else:
            return None
    letters = markers & _LETTERS
    doubts = []
    if letters:
        full = _all_years(texts)
        if not full and (letters != {"t"} or any(_LONG_NUMBER.search(text) for text in texts)):
            return None
        if letters & _TOLD or not full:
            period = "half year" if "s" in letters else "quarter"
            doubts.append(
                f'"{texts[0]}" is read as the first day of a {period}: where it is a code, set the kind of '
                'the column to "category" under [kinds]'
            )
    return names, doubts


def _joined(word: str) -> str | None:
    """The month in which "第一季度" or "上半年" begins, as a token."""
    found = _JOINED.fullmatch(word)
    if found is None:
        return None
    if found["quarter"]:
        return f"M{3 * _CHINESE[found['quarter']] - 2:02}"
    return "M01" if found["half"] in "上상" else "M07"


def _roman_months(words: Iterable[str], texts: Sequence[str]) -> tuple[dict[str, str], list[str]] | None:
    """Months of "17 XII 1991"; of "IV/2015" the quarters, where no numeral is above four, and told."""
    numbers = {word: _ROMAN.get(word, 0) for word in words}
    if len(numbers) < 2 or not all(numbers.values()) or not _all_years(texts):
        return None
    if max(numbers.values()) > 4 or any(len(re.findall(r"\d+", text)) > 1 for text in texts):
        return {word: f"M{number:02}" for word, number in numbers.items()}, []
    told = (
        f'"{texts[0]}" is read as a quarter, and may be a month as well: write Q1 to Q4, or months as numbers'
    )
    return {word: f"M{3 * number - 2:02}" for word, number in numbers.items()}, [told]


def _all_years(texts: Sequence[str]) -> bool:
    """Whether every text has a year of four digits that a table of today may have."""
    return all(any(FIRST_YEAR <= int(year) <= LAST_YEAR for year in _YEAR.findall(text)) for text in texts)
