"""Words in cells: whether they are texts or categories, and what a person should look at in them."""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from artifact.kinds.text import terms_in, units_of, unspaced
from training.tables.dates import NAMES_A_DATE
from training.tables.spelt_numbers import numbers_in_words, relative_times, repeated_signs
from training.tables.tokens import Tokens

_YES = """
yes y true t 1 1.0 on ja j si sí sì s oui o vrai v wahr w sim tak да д evet e igen ano áno joo kyllä jes
ναι نعم כן हाँ 是 有 はい 예 네 ✓ ✔ ☑ x
"""
_NO = """
no n false f 0 0.0 off nein non faux falsch não nao nie нет н hayır hayir h nem ne ei nej nee όχι لا לא नहीं
否 无 いいえ 아니오 아니요 ✗ ✘ ☐
"""
YES, NO = frozenset(_YES.split()), frozenset(_NO.split())
MIN_TEXTS = 20
TEXT_SHARE = 0.3  # different texts by the row from which they are no categories
SAMPLED_TEXTS = 2_000
MIN_WORDS = 3  # of a text, on average
MIN_LETTERS = 5  # of a text without spaces, on average; names have fewer
RETURNING = 0.6  # different words (or pairs of letters) by all of them, below which a vocabulary comes back
NEARLY_ID = 0.5  # different values by the row from which a category is nearly an id
MIN_CATEGORY_ROWS = 100
MEASURED_SHARE = 0.1  # different values by the row from which such as begin with numbers may be amounts
PAIRS_SHARE = 0.9  # of the different values that are two numbers each
MIN_PAIRS_SHARE = 0.3  # of them, from which "2" and "1 1/2" beside "3/4" are amounts as well
MAX_STRANGERS = 3  # different words among numbers, or numbers among words
MIN_SUFFIXED, MIN_LETTERS_OF_UNIT = 3, 2  # different numbers, letters behind all of them
MIN_SPELT = 2  # different values from which they may be numbers or moments that are not read
MIN_GROUPS = 3  # first rows of a group, the others blank, as of merged cells
MAX_FILLED = 0.6  # of the rows, of such
_MEASURE = r"(?:ft|feet|foot|lbs?|st|m|h|hrs?|hours?|y|yrs?|years?|kg|km|d|jahre?|ans?|años?|°|º|['’′]{1,2})"
_PART = (
    r"(?:in|inch|inches|oz|lbs?|cm|mm|mins?|minutes?|mons?|months?|mo|m|g|monate?|mois|meses|[\"”″'’′]{1,2})"
)
_TWO_NUMBERS = re.compile(
    rf"\d+(?:[.,]\d+)?(?:\s*{_MEASURE}\.?\s*(?:,|and)?\s*\d+(?:[.,]\d+)?\s*(?:{_PART}\.?)?"
    r"|\s*[/:]\s*\d+(?:[.,]\d+)?(?:[\"”″]|''|\s*(?:in|inch))?|\s+(?:of|out of|von|sur|de|di|из)\s+\d+)",
    re.IGNORECASE,
)
_MIXED = re.compile(r"\d+[ -]\d+/\d+(?:[\"”″]|''|\s*(?:in|inch))?")
_SEASON = re.compile(r"(?:19|20)\d\d\s*/.*")
_FEET = re.compile(r"[3-7]-(?:0?\d|1[01])")
_HEIGHT_NAME = re.compile(r"height|größe|groesse|taille|altura|altezza|рост", re.IGNORECASE)
_SHORT_MONTHS = "jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez"
_MADE_A_DATE = re.compile(
    rf"\d{{1,2}}[-. ](?:{_SHORT_MONTHS})|(?:{_SHORT_MONTHS})[-. ]\d{{1,2}}", re.IGNORECASE
)
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?[\"”″]?")
_ENTITY = re.compile(
    r"&(?:[a-z]{2,8}|#\d{2,5}|#x[0-9a-f]{2,5});|\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|\\[nrt](?![a-z]{0,2}\\)|%20"
    r"|%[c-e][0-9a-f]%|^b(['\"]).*\1$",
    re.IGNORECASE,
)
_ODD_NUMBER = re.compile(r"[^\w\s.,#]{1,2}\s*\d[\d.,'’ ]*[^\w\s]{0,2}|\d[\d.,'’ ]*[^\w\s.,%]{1,2}")
_NUMBER_AHEAD = re.compile(r"\d+(?:[.,]\d+)?(\s+[^\d\s].*|[^\d\s]\D*)")
_DIGITS = re.compile(r"\d+")
_MOMENT = re.compile(
    r"\d\s?年|年\s?\d|/Date\(|\d{1,2}:\d{2}(?::\d{2})?\s?(?:[ap]\.?m\b|uhr|h\b|GMT|UTC|Z\b|[+-]\d{2})|\d\s?[时時시点點]\s?\d"
    r"|(?:民[國国]|令和|平成|昭和|大正)|^[RHSTM]\d{1,2}[./-]\d{1,2}[./-]\d{1,2}$|\b(?:week|woche|semaine|semana|settimana|uke|vecka)\s?\d"
    r"|^\d{3,4}[./-]\d{1,2}[./-]\d{1,2}$",
    re.IGNORECASE,
)
_CALL = re.compile(r"[A-Za-z][\w.]*\(\s*[\"']?[-+]?\d[^()]*\)")  # ISODate("2020-01-24"), NumberLong(7)
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_LOST = "\ufffd"  # stands where a letter could not be read
_AHEAD = re.compile(r"^[\W_]+")  # a sign or an arrow before the first digit
_BLANKS = re.compile(r"\s+")
_LIKE_LATIN = str.maketrans(
    "АВЕЅІЈКМНОРСТУХасеѕіјорухΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABESIJKMHOPCTYXacesijopyxABEZHIKMNOPTYX"
)


def is_prose(tokens: Tokens, distinct: Sequence[str]) -> bool:
    """Texts of many words, mostly different from row to row, out of a vocabulary that comes back."""
    if len(distinct) < MIN_TEXTS or len(distinct) < TEXT_SHARE * tokens.present:
        return False
    sample = distinct[:: max(1, len(distinct) // SAMPLED_TEXTS)]
    if any(
        sum(each.fullmatch(text) is not None for text in sample) >= PAIRS_SHARE * len(sample)
        for each in (_EMAIL, _CALL)
    ):
        return False
    if units_of(sample) == "words":
        found = [[word for word in terms_in(text, 1) if not word.isdigit()] for text in sample]
        least = MIN_WORDS
    else:
        found = [_pairs_and_words(text) for text in sample]
        letters = sum(map(unspaced, sample))
        least = MIN_LETTERS - 1 if letters > len(sample) * MIN_WORDS else MIN_WORDS
    total = sum(map(len, found))
    if total < least * len(sample):
        return False
    return len({word for words in found for word in words}) < RETURNING * total


def _pairs_and_words(text: str) -> list[str]:
    """Pairs of letters where no spaces part words, and words elsewhere."""
    return [term for term in terms_in(text, 2, "characters") if " " not in term and len(term) > 1]


def several_for_yes_or_no(words: set[str]) -> bool:
    """Whether words, in small letters, all say yes or no, and one of the two in several ways."""
    if not words <= YES | NO or (
        (words.isdisjoint(YES) or words.isdisjoint(NO)) and max(map(len, words), default=1) == 1
    ):
        return False  # "x" and "y" are no two ways to agree
    return len(words & YES) > 1 or len(words & NO) > 1


def odd_words(tokens: Tokens, distinct: Sequence[str], name: str, id_like: bool) -> list[str]:
    """What a person should look at in the values of a category."""
    found = [text for look in _LOOKS if (text := look(tokens, distinct, name))]
    if not id_like:
        found += _nearly_ids(tokens, distinct)
    return found


def _cells_of(tokens: Tokens, distinct: Sequence[str], words: Sequence[str]) -> int:
    wanted = set(words)
    return sum(int(tokens.counts[i]) for i, word in enumerate(distinct) if word in wanted)


def _capitals(_tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    differ = len({word.casefold() for word in distinct}) < len(distinct)
    return "values that differ only in capitals are kept apart" if differ else ""


def _several_ways_to_agree(_tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    if not several_for_yes_or_no({word.casefold() for word in distinct}):
        return ""
    return f"several words for yes and no are kept apart: {', '.join(sorted(distinct))}"


def looks(word: str) -> str:
    """A word as it looks: its spaces, widths and letters of other scripts alike, nothing invisible."""
    seen = unicodedata.normalize("NFKC", word)
    seen = "".join(c for c in seen if unicodedata.category(c) != "Cf")
    if not seen.isascii() and any(c.isascii() and c.isalpha() for c in seen):
        seen = seen.translate(_LIKE_LATIN)
    return _BLANKS.sub(" ", seen).strip()


def _alike(tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    seen: dict[str, list[str]] = {}
    for word in distinct:
        if not word.isascii() or "  " in word or "\t" in word:
            seen.setdefault(looks(word), []).append(word)
    known = set(distinct)
    twins = [
        word
        for look, words in seen.items()
        for word in words
        if len(words) > 1 or (look != word and look in known)
    ]
    if not twins:
        return ""
    return (
        f"{len(twins):,} values in {_cells_of(tokens, distinct, twins):,} cells look like others and are "
        f"kept apart (such as {twins[0][:40]!a}): their spaces, widths or invisible characters differ; mend "
        "them where they are the same"
    )


def _quoted(tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    quoted = [word for word in distinct if len(word) > 2 and word[0] == word[-1] and word[0] in "'\"`"]
    if not quoted:
        open_ = [word for word in distinct if word[:1] == '"' and word.count('"') == 1]
        return (
            f"{_cells_of(tokens, distinct, open_):,} cells begin with a quote that has no end, such as "
            f"{open_[0][:40]}, and keep it: mend those lines"
            if open_
            else ""
        )
    cells = _cells_of(tokens, distinct, quoted)
    return (
        f"quotes are part of {len(quoted):,} values in {cells:,} cells, such as {quoted[0][:40]}: "
        f"where they only enclose a cell, set quote = {quoted[0][0]!r} under [read]"
    )


def lost_letters(tokens: Tokens, distinct: Sequence[str]) -> str:
    """What to tell of letters that were lost before the file was written."""
    lost = [word for word in distinct if _LOST in word]
    if not lost:
        return ""
    return (
        f"{_cells_of(tokens, distinct, lost):,} cells hold the sign for a letter that could not be read, "
        f'such as "{lost[0][:40]}": the file was written from a wrongly read one; write it anew'
    )


def _entities(tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    written = [word for word in distinct if _ENTITY.search(word)]
    if not written:
        return ""
    return (
        f"{_cells_of(tokens, distinct, written):,} cells hold characters as HTML or a program writes "
        f'them, such as "{written[0][:40]}", and are kept so: write the characters themselves'
    )


def _made_dates(tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    made = [word for word in distinct if _MADE_A_DATE.fullmatch(word)]
    if not made:
        return ""
    return (
        f'{_cells_of(tokens, distinct, made):,} cells such as "{made[0]}" are taken as categories: a '
        "spreadsheet may have made dates of ranges or names, or they are days without a year; write what "
        "they were"
    )


def _spelt(_tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    """Numbers in words, numerals and signs, and times that count from an unknown day."""
    shown = ", ".join(f'"{word[:20]}"' for word in distinct[:3])
    if len(distinct) >= MIN_SPELT and numbers_in_words(distinct):
        return (
            f"{shown} are numbers in words and are taken as categories: where they are amounts, write digits"
        )
    if repeated_signs(distinct):
        return (
            f"{shown} repeat a sign and are taken as categories: where its number is an amount, write digits"
        )
    if relative_times(distinct):
        return (
            f"{shown} are times in words, which may count from a day that the file does not say, and are "
            "taken as categories: write dates, or numbers of one unit"
        )
    return ""


def _odd_numbers(_tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    """Numbers between signs that are not read, such as "▲5.20" and "[5.20]"."""
    odd = [word for word in distinct if _ODD_NUMBER.fullmatch(word) and ", " not in word]
    numbers = sum(_NUMBER.fullmatch(word) is not None for word in distinct)
    if len(odd) < MIN_SPELT or len(odd) + numbers < PAIRS_SHARE * len(distinct):
        return ""
    return (
        f'numbers with signs beside them, such as "{odd[0][:30]}", are taken as categories: where they are '
        "amounts, write plain numbers"
    )


def _one_suffix(_tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    """Few numbers, each with the same behind it, which is no unit that is known."""
    found = [_NUMBER_AHEAD.fullmatch(word) for word in distinct]
    if not MIN_SUFFIXED <= len(distinct) < MIN_TEXTS or len({each[1] if each else "" for each in found}) > 1:
        return ""
    if not found[0] or len(found[0][1]) < MIN_LETTERS_OF_UNIT:
        return ""
    return (
        f'numbers with "{found[0][1].strip()}" behind them are taken as categories: where they are amounts, '
        "write plain numbers"
    )


def _moments(_tokens: Tokens, distinct: Sequence[str], name: str) -> str:
    """Dates and times in a way that is not read."""
    named = NAMES_A_DATE.search(name) is not None
    found = [word for word in distinct if (named and len(_DIGITS.findall(word)) > 1) or _MOMENT.search(word)]
    if len(distinct) < MIN_SPELT or len(found) < PAIRS_SHARE * len(distinct):
        return ""
    return (
        f'values such as "{found[0][:30]}" may be dates or times in a way that is not read, and are taken as '
        "categories: write them in ISO 8601, or set the format of the column under [formats]"
    )


def _calls(_tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    """Numbers and dates as a program or a database prints them."""
    found = [word for word in distinct if _CALL.fullmatch(word)]
    if len(found) < max(2, PAIRS_SHARE * len(distinct)):
        return ""
    return (
        f'values such as "{found[0][:30]}" are taken as categories: where they are amounts or dates, '
        "write what stands in the parentheses alone"
    )


def _pairs(_tokens: Tokens, distinct: Sequence[str], name: str) -> str:
    """Fractions, feet and inches and the like, however few they are."""
    if len(distinct) < 2 or (len(distinct) == 2 and all(":" in word for word in distinct)):
        return ""  # 16:9 and 4:3
    pairs = [word for word in distinct if _TWO_NUMBERS.fullmatch(word) and not _SEASON.fullmatch(word)]
    if len(pairs) >= MIN_PAIRS_SHARE * len(distinct):
        pairs += [word for word in distinct if _MIXED.fullmatch(word) or _NUMBER.fullmatch(word)]
    if _HEIGHT_NAME.search(name):
        pairs += [word for word in distinct if _FEET.fullmatch(word)]
    if len(pairs) < PAIRS_SHARE * len(distinct):
        return ""
    return (
        f'values of two numbers, such as "{pairs[0][:30]}", are taken as categories: where they are amounts '
        "(a length, a fraction, a rating), write each as one number"
    )


def _strangers(tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    """A few words among numbers, or a few numbers among words."""
    numbers = [word for word in distinct if _NUMBER.fullmatch(word)]
    words = [word for word in distinct if not any(letter.isdigit() for letter in word)]
    if not numbers or not words or len(numbers) + len(words) < PAIRS_SHARE * len(distinct):
        return ""
    few, many = sorted((numbers, words), key=len)
    if len(few) > MAX_STRANGERS or (few is words and max(map(len, words)) < 2) or len(many) < 2:
        return ""
    shown = ", ".join(f'"{word[:20]}"' for word in few)
    what, others = ("words", "numbers") if few is words else ("numbers", "words")
    return (
        f"{shown} in {_cells_of(tokens, distinct, few):,} cells are {what} among {others}, and all are taken "
        f"as categories: where they stand for a missing value, set missing = [{shown}] under [read]"
    )


def _merged(tokens: Tokens, distinct: Sequence[str], _name: str) -> str:
    """A value in the first row of each group and blanks below it, as merged cells are exported."""
    there = np.flatnonzero(tokens.codes >= 0)
    rows = len(tokens.codes)
    if len(there) < MIN_GROUPS or there[0] != 0 or len(there) > MAX_FILLED * rows:
        return ""
    filled = tokens.codes[there]
    if (filled[1:] == filled[:-1]).any() or (np.diff(there) < 2).any():
        return ""
    return (
        f"{rows - len(there):,} cells are blank, and each value stands above blanks, as merged cells of a "
        f'spreadsheet are exported ("{distinct[filled[0]][:30]}" in the first row): where a value holds for '
        "the blanks below it, fill them in"
    )


_LOOKS: tuple[Callable[[Tokens, Sequence[str], str], str], ...] = (
    _capitals,
    _several_ways_to_agree,
    _alike,
    _quoted,
    _entities,
    lambda tokens, distinct, _name: lost_letters(tokens, distinct),
    _made_dates,
    _spelt,
    _pairs,
    _odd_numbers,
    _one_suffix,
    _moments,
    _calls,
    _strangers,
    _merged,
)


def _nearly_ids(tokens: Tokens, distinct: Sequence[str]) -> list[str]:
    """What to tell of many different values."""
    found = []
    if tokens.present >= MIN_CATEGORY_ROWS and len(distinct) >= NEARLY_ID * tokens.present:
        found.append(
            f"{len(distinct):,} different values in {tokens.present:,} rows: nearly an id, from which a "
            "model learns little; leave it out, or say that it is text, under [kinds]"
        )
    if len(distinct) >= MIN_TEXTS and len(distinct) >= MEASURED_SHARE * tokens.present:
        begin = sum(_AHEAD.sub("", word)[:1].isdecimal() for word in distinct)
        digits = sum(any(letter.isdecimal() for letter in word) for word in distinct)
        if digits >= 0.9 * len(distinct) and begin >= 0.6 * len(distinct):
            found.append(
                f'values that begin with numbers, such as "{distinct[0][:30]}", are taken as categories: '
                "where they are amounts or dates, write them as plain numbers or in ISO 8601"
            )
    return found
