"""One text as a number, taken apart: its digits, its marks, its sign and what stands around them.

Nothing is decided here that only a whole column or file can decide: "1.234" keeps both readings.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from training.tables.units import is_currency

MAX_LETTERS = 40
MAX_UNIT_LETTERS = 24
DECIMAL, THOUSANDS = "decimal", "thousands"

_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_INVISIBLE = "\u200b-\u200f\u061c\u2060\ufeff\u202a-\u202c\u2066-\u2069"
_ALIKE = (
    (f"[{_SPACES}]", " "),
    (f"[{_INVISIBLE}]", ""),
    ("[\u2212\u2010-\u2013\ufe63\uff0d]", "-"),
    ("[\ufe62\uff0b]", "+"),
    ("[\u2018\u2019\u02bc\u02b9\u00b4\uff07\u066c]", "'"),
    ("\u066b", "\u00b7"),  # the Arabic decimal mark is beyond doubt, as a dot in the middle is
    ("[\uff05\ufe6a\u066a]", "%"),
    ("[\u2264\u2a7d]", "<="),
    ("[\u2265\u2a7e]", ">="),
    ("\u2248", "~"),
    *((chr(ord(ascii_) + 0xFEE0), ascii_) for ascii_ in ",.()[]:/<>"),  # of full width
)
_ALIKE_PATTERNS = tuple((re.compile(pattern), plain) for pattern, plain in _ALIKE)
_EXCEL_TEXT = re.compile(r'="(.*)"|\'(\d[\d.,]*)', re.DOTALL)
_NO_CENTS = re.compile(r"(?<=\d)\s?[.,/](?:-{1,2}|=|\u2014)(?=[^\d]*$)")  # "13,-" and "13/-" are 13
_FRACTION = re.compile(r"(\d*) ?([\u00bc-\u00be\u2150-\u215e])|(\d+) (\d)/(\d{1,2})(?!\d)")
_BODY = re.compile(
    r"(?P<bound>[<>]=?|~|(?:ca|approx|about|circa|etwa|env)\b\.?)?\s*(?P<open>\()?\s*"
    r"(?P<before>(?:[^\d.,'()<>=~·]|(?<=[^\W\d_])\.(?=\s*[-+]?\s*[(\d]))*?)\s*(?P<inner>\()?\s*"
    r"(?P<digits>(?:\d[\d.,'·_ ]*\d|\d|(?<![^\W\d_])[.,·]\d+)[.,]?)(?P<exponent>[eE][-+]?\d+)?"
    r"(?P<after>[^\d()<>=]*?(?:(?<=[mtм])\^?[23]|[²³])?)\s*(?:(?P<close>\))(?P<outer>[^\d()<>=+-]*?))?\s*(?P<late>[-+])?"
)
_HYPHEN = re.compile(r"-([^\W\d_][^\d]*)")  # of "12-month", which is no minus
_GROUPS = {mark: re.compile(rf"[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+") for mark in ".,' _"}
_DIGITS = frozenset("0123456789")
_INDIAN = re.compile(r"[1-9]\d?(?:,\d{2})+,\d{3}")


@dataclass(frozen=True, slots=True)
class Numeral:
    """A text that reads as a number in at least one way.

    Parameters
    ----------
    digits
        Digits and their marks, in ASCII, without sign and exponent.
    decimal, thousands
        The marks that are beyond doubt, or None. `·` is a decimal mark of its own.
    either
        The mark, "." or ",", that parts thousands or decimals: "1.234". None where there is no doubt.
    unit
        What stands before or behind the digits: a currency, a unit, "%", a word such as "Mio.".
    bound
        "<", ">", "~": what is known of a value that was not measured to the end.
    behind
        The sign stood behind the digits.
    """

    digits: str
    exponent: str
    negative: bool
    decimal: str | None
    thousands: str | None
    either: str | None
    unit: str
    bound: str
    behind: bool = False

    def value(self, either_is: str = DECIMAL) -> float:
        """The number, where a mark that may be either is read as `either_is`."""
        decimal, thousands = self.decimal, self.thousands
        if self.either is not None:
            if either_is == DECIMAL:
                decimal = self.either
            else:
                thousands = self.either
        digits = self.digits
        if thousands is not None:
            digits = digits.replace(thousands, "")
        if decimal is not None:
            digits = digits.replace(decimal, ".")
        found = float(digits + self.exponent)
        return -found if self.negative else found


def as_ascii(text: str) -> str:
    """The text with the digits of any script, signs, spaces and quotes as ASCII writes them."""
    if text.isascii():
        return text.strip()
    for pattern, plain in _ALIKE_PATTERNS:
        text = pattern.sub(plain, text)
    return "".join(
        letter if letter.isascii() or not letter.isdecimal() else str(unicodedata.decimal(letter))
        for letter in text
    ).strip()


def without_excel(text: str) -> str:
    """`00123` of `="00123"` or `'00123`, as spreadsheets write a number that must stay a text."""
    if text[:1] not in {"=", "'"}:
        return text
    match = _EXCEL_TEXT.fullmatch(text)
    return text if match is None else match[1] if match[1] is not None else match[2]


def _without_fractions(text: str) -> str:
    """`3.5` of `3½` and of `3 1/2`."""

    def decimal(found: re.Match[str]) -> str:
        if found[2]:
            return f"{int(found[1] or 0) + unicodedata.numeric(found[2]):.10g}"
        return f"{int(found[3]) + int(found[4]) / max(1, int(found[5])):.10g}"

    return _FRACTION.sub(decimal, text)


def numeral(text: str) -> Numeral | None:
    """Take a text apart; None for what is no number."""
    if len(text) > MAX_LETTERS:
        return None
    written = as_ascii(without_excel(text))
    found = _BODY.fullmatch(written)
    if written[-1:] in "-=\u2014" or not written.isascii() or "/" in written:
        found = _BODY.fullmatch(_without_fractions(_NO_CENTS.sub("", written)))
    if found is None:
        return None
    digits = found["digits"].strip()
    marks = _marks(digits)
    if marks is None:
        return None
    opened = (found["open"] is not None) + (found["inner"] is not None)
    if opened != (found["close"] is not None):
        return None
    before, after, late = found["before"], found["after"], found["late"]
    if found["outer"]:
        after = f"{after} {found['outer']}"
    negative, bound = bool(opened), ""
    behind = False
    if before or after or late or found["bound"]:
        around = _around(before, after, late or "", enclosed=negative, spaced=marks[1] == " ")
        if around is None:
            return None
        minus, more, behind, unit = around
        negative = negative or minus
        bound = {"": "", "<": "<", ">": ">"}.get((found["bound"] or "")[:1], "~")
        bound = ">" if more else bound
    else:
        unit = ""
    return Numeral(
        digits, found["exponent"] or "", negative, marks[0], marks[1], marks[2], unit, bound, behind
    )


@lru_cache(4096)
def _around(
    before: str, after: str, late: str, *, enclosed: bool, spaced: bool
) -> tuple[bool, bool, bool, str] | None:
    """A minus, a plus behind, whether the minus is behind, and the unit; None where it is no number."""
    if "-" in after:
        after = _HYPHEN.sub(lambda found: found[0] if is_currency(found[1]) else f" {found[1]}", after)
    signs = [sign for sign in "-+" for part in (before, after) if sign in part]
    if len(signs) + bool(late) > 1 or (enclosed and (signs or late)):
        return None
    if spaced and "+" in before:  # a telephone number: +49 170 123
        return None
    plain_before, plain_after = (re.sub(r"[-+]", " ", part).strip() for part in (before, after))
    if plain_before and not all(map(is_currency, plain_before.split())):  # a code: "A12"
        return None
    unit = " ".join(part for part in (plain_before, plain_after) if part)
    if len(unit) > MAX_UNIT_LETTERS:
        return None
    minus, more = "-" in signs or late == "-", "+" in after or late == "+"
    return minus, more, late == "-" or "-" in after, unit


def _marks(digits: str) -> tuple[str | None, str | None, str | None] | None:
    """Decimal mark, thousands mark and the mark that may be either; None where the marks make no number."""
    if digits.isdecimal():
        return None, None, None
    kinds = set(digits) - _DIGITS
    if len(kinds) == 1:
        mark = kinds.pop()
        if mark == "·":
            return (mark, None, None) if digits.count(mark) == 1 else None
        if mark in "' _":
            return (None, mark, None) if _GROUPS[mark].fullmatch(digits) else None
        if digits.count(mark) > 1:
            grouped = _GROUPS[mark].fullmatch(digits) or (mark == "," and _INDIAN.fullmatch(digits))
            return (None, mark, None) if grouped else None
        return (None, None, mark) if _GROUPS[mark].fullmatch(digits) else (mark, None, None)
    if len(kinds) > 2:
        return None
    last = next(letter for letter in reversed(digits) if not letter.isdigit())
    first = (kinds - {last}).pop()
    if last not in ".,·" or digits.count(last) > 1 or first == "·":
        return None
    whole = digits.split(last, maxsplit=1)[0]
    grouped = _GROUPS[first].fullmatch(whole) or (first == "," and _INDIAN.fullmatch(whole))
    return (last, first, None) if grouped else None
