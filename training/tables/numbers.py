"""A column of texts as numbers: its marks, what stands beside the digits, and what the cells leave open."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.tables.numerals import DECIMAL, THOUSANDS, Numeral, numeral
from training.tables.units import (
    Beside,
    convert,
    letter_multiplier,
    multiplier,
    scales,
    sorted_out,
)

NUMBER_SHARE = 0.95  # of the cells that must read as numbers; the few others are marks for a missing value
MIN_UNIT_NUMBERS = 12  # different numbers, some with a unit; fewer may be levels, as "36 months"
NEVER_NEGATIVE = frozenset({"mass", "length", "area", "volume", "data"})  # families of units
MAX_UNITS = 4  # that do not convert; more are words
MIN_MEASURED = 0.1  # of the cells that are plain numbers where others are such as ">90"; fewer are ranges
MIN_MEASURED_NUMBERS = 5
MIN_BOUNDS = 3  # different bounds on one side without numbers beside them, as "1,000+" and "5,000+"
EXACT = 2**53  # whole numbers up to here are exact as float64
SCANNED = 4_000  # texts with a mark, of one column, that are asked what its marks mean for the whole file
SURE_CELLS = 20
SAMPLED = 200
MAX_LEVELS = 100  # different numbers among which "1.1" and "1.10" may be two versions
SHORT_WHOLE = 3  # digits of the largest whole number beside "66.723" that suggests thousands
LOUD_MULTIPLIERS = frozenset({"m", "b", "t", "g", "l", "cr", "mil", "bio"})  # that are units or words as well
OTHER = {".": ",", ",": "."}
_EITHER = re.compile(r"[-+]?[1-9]\d{0,2}[.,]\d{3}")
_WHOLE = re.compile(r"[-+]?\d+")
_LONG_WHOLE = re.compile(r"^[-+]?\d{14}", re.MULTILINE)
_AS_WHOLE = re.compile(r"([-+]?\d+)(?:\.0*)?")
_DECIMALS = re.compile(r"[-+]?\d+[.,](\d+)")
_ANY_ZERO_AHEAD = re.compile(r"^[-+]?0\d+[.,]\d+$", re.MULTILINE)
_SHORTENED = re.compile(r"\d\.\d+E\+1\d")  # as a spreadsheet shows a whole number of 11 digits and more
_AGO = re.compile(r"(?:ago|前|전|(?<!\w)назад|geleden|sedan|siden|temu|lalu|trước)$")  # behind a unit of time
_CENTS = re.compile(r"[.,]\d{2}(?!\d)")
_POWER = re.compile(r"\d+[eE]\d+")  # a code as well as a number; programs write 1e+05 and 1.2e5


@dataclass(frozen=True)
class Marks:
    """The marks of a whole file's numbers.

    Parameters
    ----------
    decimal
        "." or ",", or None where the file does not say.
    thousands
        The mark given by a key; None where none is.
    given
        A key says so, and no column is asked.
    delimiter
        Of the file; where a cell leaves it open, `;` suggests a decimal comma.
    """

    decimal: str | None = None
    thousands: str | None = None
    given: bool = False
    delimiter: str | None = None


@dataclass
class Evidence:
    """How many cells say beyond doubt what "." and "," are."""

    decimal: Counter[str] = field(default_factory=Counter)
    thousands: Counter[str] = field(default_factory=Counter)
    either: Counter[str] = field(default_factory=Counter)

    def add(self, found: Numeral, cells: int = 1) -> None:
        """Count what one text says."""
        if found.decimal is not None:
            self.decimal[found.decimal] += cells
        if found.thousands is not None:
            self.thousands[found.thousands] += cells
        if found.either is not None:
            self.either[found.either] += cells

    def votes(self, mark: str) -> int:
        """How many cells say that `mark` is a decimal mark."""
        return self.decimal[mark] + self.thousands[OTHER[mark]]


@dataclass
class Numbers:
    """What texts are as numbers.

    Parameters
    ----------
    values
        NaN where a text is none; shape (texts,).
    left
        The places of the texts that are none.
    remarks, open
        What was done; what the cells leave open, with the reading that was taken and the key that settles it.
    how
        In a few words, for `preview`.
    unit
        What one is: "km", "seconds"; "" where nothing was converted or taken off.
    dotted_thousands
        "66.723" is 66723 here.
    """

    values: NDArray[np.float64]
    left: list[int]
    remarks: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    how: list[str] = field(default_factory=list)
    unit: str = ""
    dotted_thousands: bool = False


@dataclass
class _Cells:
    """The distinct texts of a column, in how many cells each stands, and what they are read as so far."""

    texts: Sequence[str]
    counts: NDArray[np.intp]
    read: NDArray[np.float64]

    def many(self, places: Iterable[int]) -> int:
        """How many cells have the texts at `places`."""
        return int(self.counts[list(places)].sum())


def plain(texts: Sequence[str]) -> NDArray[np.float64]:
    """Texts as numbers where they are written as Python writes them, else NaN."""
    return np.array(pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce"), np.float64)


def either(text: str) -> bool:
    """Whether the one mark of a plain number may part thousands or decimals, as in "66.723"."""
    return len(text) <= 8 and _EITHER.fullmatch(text) is not None


def evidence_of(texts: Iterable[str]) -> Evidence:
    """What the texts of one column say of "." and ",", asked until they are clear; nothing if no numbers."""
    found, scanned, numbers = Evidence(), 0, 0
    for text in texts:
        if "." not in text and "," not in text and "'" not in text:
            continue
        scanned += 1
        read = numeral(text)
        if read is not None:
            numbers += 1
            found.add(read)
        if scanned >= SCANNED or (
            scanned % SURE_CELLS == 0 and max(found.votes("."), found.votes(",")) >= SURE_CELLS
        ):
            break
    return found if numbers >= NUMBER_SHARE * scanned else Evidence()


def _some_numerals(sample: Sequence[str]) -> bool:
    """Whether texts that are no plain numbers may be numbers written otherwise, by a sample of them."""
    return len(sample) < SAMPLED // 2 or sum(numeral(text) is not None for text in sample) > 0.2 * len(sample)


def too_large(texts: Sequence[str]) -> bool:
    """Whether a whole number among the texts is beyond what float64 holds exactly."""
    if not _LONG_WHOLE.search("\n".join(texts)):
        return False
    return any(
        len(text) > 15 and (found := _AS_WHOLE.fullmatch(text)) and int(float(text)) != int(found[1])
        for text in texts
    )


def _rounded(texts: Sequence[str], counts: NDArray[np.intp], values: NDArray[np.float64]) -> list[str]:
    """What to tell of numbers beyond 2^53 that float64 rounds, such as "9,007,199,254,740,993"."""
    large = np.flatnonzero(np.abs(np.nan_to_num(values)) > EXACT).tolist()
    rounded = [i for i in large if _differs(texts[i], float(values[i]))]
    if not rounded:
        return []
    text = (
        f'{int(counts[rounded].sum()):,} numbers such as "{texts[rounded[0]]}" are beyond 2^53 and are '
        f"rounded to {values[rounded[0]]:.17g} and the like: where they name things, set the kind of the "
        'column to "category" under [kinds]'
    )
    return [text]


def _differs(text: str, value: float) -> bool:
    """Whether the digits of a text, as a whole number or with decimals, are not those of `value`."""
    found = numeral(text)
    if found is None or found.exponent or found.unit:
        return False
    digits = "".join(letter for letter in found.digits if letter.isdigit())
    return int(digits) not in {abs(int(value)) * 10**places for places in range(len(digits))}


def read_numbers(texts: Sequence[str], counts: NDArray[np.intp], marks: Marks) -> Numbers:
    """Read the distinct texts of a column, of which text i stands in `counts[i]` cells."""
    values = plain(texts)
    rest = np.flatnonzero(~np.isfinite(values)).tolist()
    values[rest] = np.nan
    plainly_read = np.flatnonzero(np.isfinite(values)).tolist()
    powers = [i for i in plainly_read if _POWER.fullmatch(texts[i])]
    dotted = [i for i, text in enumerate(texts) if "." in text and either(text)]
    result = Numbers(values, rest)
    if powers:
        shown = texts[powers[0]]
        result.open.append(
            f'"{shown}" is read as {values[powers[0]]:g}, as {int(counts[powers].sum()):,} cells are '
            f"written: where they are "
            'codes, set the kind of the column to "category" under [kinds]'
        )
    result.open += [*_lost_as_numbers(texts, counts, plainly_read), *_rounded(texts, counts, values)]
    if not dotted and not rest:
        return result
    if rest and not dotted and not _some_numerals([texts[i] for i in rest[:: max(1, len(rest) // SAMPLED)]]):
        return result
    apart = {i: found for i in rest if (found := numeral(texts[i])) is not None}
    apart |= {i: found for i in dotted if i not in apart and (found := numeral(texts[i])) is not None}
    if not apart:
        return result
    cells = _Cells(texts, counts, values)
    kinds = _meanings(cells, apart, marks, result)
    units = {i: sorted_out(found.unit) for i, found in apart.items() if found.unit}
    plainly = set(np.flatnonzero(np.isfinite(values)).tolist())
    bare = ({i for i in apart if i not in units} | plainly) - units.keys()
    for i, found in apart.items():
        values[i] = found.value(kinds.get(found.either or "", DECIMAL))
    if units and not _settle_units(cells, units, bare, result):
        values[list(units)] = np.nan
    _settle_bounds(cells, apart, result)
    _settle_parentheses(cells, apart, result)
    behind = cells.many(i for i, found in apart.items() if found.behind)
    if behind:
        result.remarks.append(f"a minus behind {behind:,} numbers is read as their sign")
        result.how.append("minus behind")
    values[~np.isfinite(values)] = np.nan
    apart_values = np.full(len(values), np.nan)
    apart_values[list(apart)] = values[list(apart)]
    result.open += _rounded(texts, counts, apart_values)
    result.left = np.flatnonzero(np.isnan(values)).tolist()
    return result


def _settle_parentheses(cells: _Cells, apart: dict[int, Numeral], result: Numbers) -> None:
    """Where all numbers stand in parentheses, these may be no sign: "(1992)" is a year, "(120)" a count."""
    numbers = [i for i, value in enumerate(cells.read) if np.isfinite(value)]
    if not numbers or not all(i in apart and "(" in cells.texts[i] for i in numbers):
        return
    first = numbers[0]
    if all(not apart[i].unit and cells.read[i].is_integer() for i in numbers):
        cells.read[numbers] = np.abs(cells.read[numbers])
        other = "negative"
    else:
        other = "positive"
    result.open.append(
        f'all numbers stand in parentheses, and "{cells.texts[first]}" is read as {cells.read[first]:.15g}: '
        f"where they are {other}, write them without parentheses, and a minus before negative ones"
    )


def may_be_codes(texts: Sequence[str]) -> tuple[str, str] | None:
    """A text among few that a number may lose something of, and why: "1.10" beside "1.1", or "038.9"."""
    if found := _ANY_ZERO_AHEAD.search("\n".join(texts)):
        return found[0], "a zero stands in front of it"
    if len(texts) > MAX_LEVELS:
        return None
    known = set(texts)
    places = {text: len(found[1]) for text in texts if (found := _DECIMALS.fullmatch(text))}
    fewest = min(places.values(), default=0)
    for text in texts:
        short = text.rstrip("0")
        if short == text or not short[-1:].isdigit() or not re.search(r"[.,]", short):
            continue
        if short in known:
            return text, f'"{short}" is the same number'
        if places.get(text, 0) > fewest:
            return text, f"its last zero would say nothing, as others have only {fewest} decimals"
    return None


def _lost_as_numbers(
    texts: Sequence[str], counts: NDArray[np.intp], plainly_read: Sequence[int]
) -> list[str]:
    """What texts lose as numbers: the zero by which versions differ, digits that a spreadsheet cut off."""
    key = 'set the kind of the column to "category" under [kinds]'
    found = []
    if (code := may_be_codes(texts)) is not None:
        found.append(
            f'"{code[0]}" is read as a number, and {code[1]}: where it is a code or a version, {key}'
        )
    short = [i for i in plainly_read if _SHORTENED.fullmatch(texts[i])]
    if short and (cells := int(counts[short].sum())) > 0.5 * int(counts.sum()):
        found.append(
            f'{cells:,} cells such as "{texts[short[0]]}" may be ids whose last digits a spreadsheet has cut '
            f"off: where they are, take them from where they are whole, or {key}"
        )
    return found


# ---------------------------------------------------------------------------------------------------- marks


def _meanings(
    cells: _Cells,
    apart: dict[int, Numeral],
    marks: Marks,
    result: Numbers,
) -> dict[str, str]:
    """What "." and "," are in the cells that may mean either."""
    own, texts, values = Evidence(), cells.texts, cells.read
    for i, found in apart.items():
        own.add(found, int(cells.counts[i]))
    plainly = [
        int(cells.counts[i])
        for i, text in enumerate(texts)
        if i not in apart and "." in text and np.isfinite(values[i]) and "e" not in text.lower()
    ]
    own.decimal["."] += sum(plainly)
    meanings = {}
    for mark in ".,":
        if not own.either[mark]:
            continue
        meaning, doubt = _meaning(mark, own, cells, marks)
        meanings[mark] = meaning
        if doubt:
            shown = next(texts[i] for i, found in apart.items() if found.either == mark)
            result.open.append(_doubt(mark, meaning, shown, own.either[mark], doubt))
    decimal_comma = own.decimal[","] or meanings.get(",") == DECIMAL
    if decimal_comma:
        result.how.append("decimal comma")
        result.remarks.append("numbers were read without their decimal commas")
    for mark, name in (
        (",", "commas"),
        (".", "dots"),
        ("'", "apostrophes"),
        (" ", "spaces"),
        ("_", "underscores"),
    ):
        if own.thousands[mark] or meanings.get(mark) == THOUSANDS:
            result.how.append(f"{name} part thousands")
            result.remarks.append(f"numbers were read without their thousands {name}")
    result.dotted_thousands = bool(own.thousands["."]) or meanings.get(".") == THOUSANDS
    if own.decimal["."] and own.decimal[","] and not marks.given:
        result.open.append(
            f"{own.decimal['.']:,} cells have a decimal point and {own.decimal[',']:,} a decimal comma: "
            f"each is read "
            "as it is written; if one of the two parts thousands, mend those cells, or set decimal under "
            "[read]"
        )
    return meanings


def _meaning(mark: str, own: Evidence, cells: _Cells, marks: Marks) -> tuple[str, str]:
    """What a mark is where it may be either, and why that is in doubt; "" where it is not."""
    if marks.given:
        if marks.thousands is not None:
            return (THOUSANDS if mark == marks.thousands else DECIMAL), ""
        return (DECIMAL if mark == marks.decimal else THOUSANDS), ""
    other = OTHER[mark]
    for_ = own.decimal[mark] + own.thousands[other] + sum(own.thousands[each] for each in "' _")
    against = own.thousands[mark] + own.decimal[other] + own.decimal["·"]
    comma_file = marks.delimiter == ";"
    likely = _by_the_whole_numbers(mark, cells, own, zeros_say=not (comma_file and mark == ","))
    if for_ and against:
        return (DECIMAL if for_ >= against else THOUSANDS), "other cells of the column say both"
    if for_ or against:
        meaning = DECIMAL if for_ else THOUSANDS
        few = max(for_, against) < (1 - NUMBER_SHARE) * own.either[mark]
        elsewhere = marks.decimal is not None and meaning != (DECIMAL if marks.decimal == mark else THOUSANDS)
        return meaning, "the rest of the file says otherwise" if few and elsewhere else ""
    if marks.decimal is not None:
        meaning = DECIMAL if mark == marks.decimal else THOUSANDS
        return meaning, "the rest of the file says so, its other cells do not" if likely not in {
            None,
            meaning,
        } else ""
    if likely is None:
        likely = DECIMAL if (mark == ",") == comma_file else THOUSANDS
    return likely, "no cell of the file says which"


def _by_the_whole_numbers(mark: str, cells: _Cells, own: Evidence, *, zeros_say: bool) -> str | None:
    """What whole numbers beside "66.723" suggest: none above 999 has no mark where marks part thousands."""
    lengths = Counter[int]()
    for i, text in enumerate(cells.texts):
        if _WHOLE.fullmatch(text):
            lengths[len(text.lstrip("+-"))] += int(cells.counts[i])
    if not lengths:
        ends = [text for text in cells.texts if either(text) and mark in text]
        zeros = sum(text.endswith("00") for text in ends)
        return THOUSANDS if zeros_say and len(ends) >= 5 and zeros > 0.6 * len(ends) else None
    if max(lengths) > SHORT_WHOLE:
        return DECIMAL
    return THOUSANDS if lengths.total() >= 0.05 * own.either[mark] else None


def _doubt(mark: str, meaning: str, shown: str, cells: int, why: str) -> str:
    bare = numeral(shown)
    assert bare is not None  # noqa: S101 - it was one
    taken = bare.value(meaning)
    other = bare.value(DECIMAL if meaning == THOUSANDS else THOUSANDS)
    settles = OTHER[mark] if meaning == DECIMAL else mark
    return (
        f'"{shown}" is read as {taken:.10g} in {cells:,} cells, and {other:.10g} fits as well ({why}): '
        f'set decimal = "{mark}" or "{settles if settles != mark else OTHER[mark]}" under [read]'
    )


# ---------------------------------------------------------------------------------------------------- units


def _settle_units(  # noqa: C901 - what may stand beside numbers, one kind after the other
    cells: _Cells, units: dict[int, Beside], bare: set[int], result: Numbers
) -> bool:
    """Bring `values` to one unit; False where the cells are no amounts that can be compared."""
    values, cells_of = cells.read, _tally(cells.counts, units)
    bare_cells = cells.many(bare)
    money = cells_of(lambda each: each.currency)
    _letters_as_multipliers(units, bare_cells, of_money=bool(money))
    times = cells_of(lambda each: each.times)
    names = cells_of(lambda each: each.unit)
    total = cells.many(units) + bare_cells
    numbers = len({float(values[i]) for i in (*units, *bare)})
    if _debit_and_credit(cells, units, {*names, *times}, money):
        result.open.append(
            f"amounts are marked as debit and credit ({_listed(names + times)}), and which of them is "
            f"negative is not said: "
            "write them with a sign"
        )
        return False
    if any(_AGO.search(name) for name in names):
        return False
    few = names and "%" not in names and not money and not times and numbers < MIN_UNIT_NUMBERS
    if few and not _few_are_amounts(cells, units, bare, names, result):
        return False
    without = bare_cells + cells.many(i for i, each in units.items() if not each.unit)
    _drop_rare(cells, units, names, total)
    if len(names) > MAX_UNITS and scales(names) is None:
        return False
    if len(names) > 1 and not _convert(values, units, names, result):
        listed = _listed(names)
        result.open.append(
            f"numbers with units that do not convert into each other ({listed}) are no amounts: bring "
            f"them to one unit, "
            "or say what the column is under [kinds]"
        )
        return False
    if names and without:
        unsigned = np.abs(values[list(bare)]) if bare else np.array([])
        fractions = (
            len(unsigned) > 0 and float(unsigned.max()) <= 1 and (result.unit or next(iter(names))) == "%"
        )
        for i, each in units.items():
            if fractions and each.unit:
                values[i] = float(Fraction(str(float(values[i]))) / 100)
        _beside_plain(names, without, result, fractions=fractions)
    elif len(names) == 1 and (unit := next(iter(names))):
        _one_unit(unit, result)
    if times:
        _multiply(values, units, times, result)
        if set(times) == {"K"} and any(cells.texts[i].endswith(" K") for i in units):
            result.open.append('numbers with "K" are read as thousands: where it is kelvin, take it off')
    if money:
        _tell_money(money, result)
    return True


def _debit_and_credit(cells: _Cells, units: dict[int, Beside], words: set[str], money: Counter[str]) -> bool:
    """Whether "DR" and "CR" beside amounts, or "S" and "H" of a German bank, stand for their signs."""
    if {"dr", "cr"} <= {word.casefold() for word in words}:
        return True
    if words not in ({"CR"}, {"DR"}, {"H", "S"}, {"C", "D"}) or "₹" in money:
        return False
    return all(_CENTS.search(cells.texts[i]) for i in units)


def _few_are_amounts(
    cells: _Cells, units: dict[int, Beside], bare: set[int], names: Counter[str], result: Numbers
) -> bool:
    """Whether few different numbers with units are amounts, as "36 months" is; "5a" and "-66kg" are codes."""
    glued = all(len(name) == 1 and name.isascii() for name in names) and not any(
        " " in cells.texts[i] for i in units
    )
    known = scales(names)
    if glued and len(names) > 1:
        return False
    families = {scale.family for scale in (known or {}).values()}
    if families & NEVER_NEGATIVE and any(cells.read[i] < 0 for i in units):
        return False
    if known is not None and (not glued or names.keys() == {"h"}):
        return True
    spread: dict[str, set[float]] = {}
    for i, each in units.items():
        spread.setdefault(each.unit, set()).add(float(cells.read[i]))
    of_all = len(units) + len(bare) == len(cells.texts) and max(map(len, spread.values())) > 1
    if of_all and not (glued and next(iter(names)).isupper()):
        result.open.append(
            f"numbers with {_listed(names)} are taken as categories, since few of them differ: where they "
            "are amounts, write plain numbers"
        )
    return False


def _one_unit(unit: str, result: Numbers) -> None:
    result.remarks.append(f'numbers were read without their unit "{unit}"')
    result.how.append(f'unit "{unit}"')
    result.unit = unit
    if len(unit) == 1 and unit.isalpha() and unit.isupper():
        result.open.append(
            f'numbers are read without the "{unit}" behind them: where they are codes, such as of seats, '
            f"set the "
            'kind of the column to "category" under [kinds]'
        )


def _tally(
    counts: NDArray[np.intp], units: dict[int, Beside]
) -> Callable[[Callable[[Beside], str]], Counter[str]]:
    def of(what: Callable[[Beside], str]) -> Counter[str]:
        found: Counter[str] = Counter()
        for i, each in units.items():
            if name := what(each):
                found[name] += int(counts[i])
        return found

    return of


def _drop_rare(cells: _Cells, units: dict[int, Beside], names: Counter[str], total: int) -> None:
    """Take cells with a rare word behind their number for no numbers."""
    odd = _rare(names, total)
    for unit in odd:
        del names[unit]
    for i in [i for i, each in units.items() if each.unit in odd]:
        cells.read[i] = np.nan
        del units[i]


def _rare(names: Counter[str], total: int) -> set[str]:
    """Words that are no units: not known, and so few that they are slips."""
    known = {name for name in names if scales([name]) is not None}
    return {
        name
        for name in names
        if name not in known and len(names) > 1 and names[name] <= (1 - NUMBER_SHARE) * total
    }


def _letters_as_multipliers(units: dict[int, Beside], bare_cells: int, *, of_money: bool) -> None:
    """Take "m" beside "k" for a million; alone it is a metre, but not of money. "M" is never a metre."""
    names = {each.unit for each in units.values() if each.unit}
    multiplied = {each.times.casefold() for each in units.values() if each.times}
    letters = {name for name in names if letter_multiplier(name) is not None}
    if not letters or letters != names:
        return
    alone = not multiplied and len({name.casefold() for name in letters}) == 1
    if alone and not letters <= {"M", "B"} and not of_money:
        return
    if alone and letters == {"B"} and not bare_cells:
        return
    for i, each in units.items():
        if each.unit:
            units[i] = Beside(each.currency, each.unit, "")


def _convert(
    values: NDArray[np.float64],
    units: dict[int, Beside],
    names: Counter[str],
    result: Numbers,
) -> bool:
    known = scales(names)
    if known is None:
        return len({name.casefold() for name in names}) == 1
    aims = [unit for unit, _ in names.most_common()]
    aim = aims[0]
    for i, each in units.items():
        if each.unit and each.unit != aim:
            values[i] = convert(float(values[i]), known[each.unit], known[aim])
    if len({(known[unit].factor, known[unit].shift) for unit in names}) > 1:
        others = ", ".join(
            f"1 {unit} = {float(known[unit].factor / known[aim].factor):.6g} {aim}"
            for unit in aims[1:]
            if known[unit] != known[aim] and known[unit].shift == known[aim].shift
        )
        result.open.append(
            f"numbers are brought to one unit, {aim} ({'; '.join(filter(None, (_listed(names), others)))}): "
            f"send {aim} to the server"
        )
        result.how.append(f"in {aim}")
    else:
        result.remarks.append(f'numbers were read without their unit "{aim}"')
        result.how.append(f'unit "{aim}"')
    result.unit = aim
    return True


def _beside_plain(names: Counter[str], without: int, result: Numbers, *, fractions: bool) -> None:
    """Say what numbers without a unit are beside such with one."""
    aim = result.unit or names.most_common(1)[0][0]
    signed = sum(names.values())
    if aim == "%":
        if fractions:
            result.open.append(
                f"{signed:,} cells have a percent sign and {without:,} are fractions: 33% is read as "
                f"0.33; if the numbers "
                "without a sign are percent too, write the sign in all of them"
            )
            result.how.append("33% is 0.33")
        else:
            result.open.append(
                f"{signed:,} cells have a percent sign and {without:,} have none: 33% and 33 are read as "
                f"33; if they "
                "differ, mend those cells"
            )
            result.how.append("33% is 33")
        result.unit = "" if fractions else "%"
        return
    result.open.append(
        f'{without:,} numbers without a unit are read as "{aim}", as {signed:,} cells have a unit: if '
        f"they are "
        "something else, write the unit in all of them"
    )
    result.how.append(f'unit "{aim}"')
    result.unit = aim


def _multiply(
    values: NDArray[np.float64],
    units: dict[int, Beside],
    times: Counter[str],
    result: Numbers,
) -> None:
    factors = {word: multiplier(word) or letter_multiplier(word) or 1 for word in times}
    for i, each in units.items():
        if each.times:
            values[i] = float(Fraction(str(float(values[i]))) * factors[each.times])
    said = ", ".join(f"1{word} = {factors[word]:,}" for word, _ in times.most_common())
    text = f"numbers with {_listed(times)} are multiplied ({said})"
    if any(word.casefold() in LOUD_MULTIPLIERS for word in times):
        result.open.append(
            f'{text}: if that is a unit, set the kind of the column to "category", or take it off'
        )
    else:
        result.remarks.append(text)
    result.how.append(said)


def _tell_money(money: Counter[str], result: Numbers) -> None:
    if len(money) > 1:
        result.open.append(
            f"amounts in several currencies ({_listed(money)}) are read as bare numbers and not "
            f"converted: bring them to "
            "one currency, or leave the column out under [kinds]"
        )
        result.how.append("several currencies, not converted")
        return
    name = next(iter(money))
    result.remarks.append("numbers were read without their currency signs")
    result.how.append(f'currency "{name}"')


def _listed(cells: Counter[str]) -> str:
    shown = ", ".join(f'"{word}" in {count:,} cells' for word, count in cells.most_common(6))
    return shown + (" ..." if len(cells) > 6 else "")


# ------------------------------------------------------------------------------------------ bounds and signs


def _settle_bounds(cells: _Cells, apart: dict[int, Numeral], result: Numbers) -> None:
    """Take ">90" for 90, and tell it; where hardly a cell is without such a sign they are ranges."""
    bound = [i for i, found in apart.items() if found.bound]
    if not bound:
        return
    values = cells.read
    measured = np.isfinite(values)
    measured[bound] = False
    bounds, plainly = cells.many(bound), int(cells.counts[measured].sum())
    if plainly < MIN_MEASURED * (plainly + bounds) or int(measured.sum()) < MIN_MEASURED_NUMBERS:
        values[bound] = np.nan
        if len(bound) >= MIN_BOUNDS and len({apart[i].bound for i in bound}) == 1:
            result.open.append(
                f'{bounds:,} cells such as "{cells.texts[bound[0]]}" say only what a number is beyond, and '
                "are taken as categories: where they are amounts, write plain numbers"
            )
        return
    shown = ", ".join(f'"{cells.texts[i]}"' for i in bound[:3])
    result.open.append(
        f"{bounds:,} cells say more or less than a number ({shown}) and are read as that number: the true "
        f"value lies "
        'beyond it; if that matters, set the kind of the column to "category"'
    )
    result.how.append("bounds as numbers")
