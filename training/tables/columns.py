"""One column of a stranger's table: what kind it is, and its cells made uniform.

Work is done on the distinct values, so that a column costs milliseconds whatever its length.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact.encode import canonical, parse_date
from artifact.signature import Kind
from training.tables.reading import UNDECIDED, LookAt, Reading

MISSING_WORDS = frozenset(
    {
        "",
        "?",
        "-",
        "--",
        ".",
        "na",
        "n/a",
        "#n/a",
        "#na",
        "<na>",
        "nan",
        "null",
        "nat",
        "\\n",
        "#null!",
        "(null)",
        "#div/0!",
        "#name?",
        "#num!",
        "#ref!",
        "#value!",
    }
)
YES = frozenset({"yes", "y", "true", "t", "1", "1.0", "on", "ja", "si", "oui"})
NO = frozenset({"no", "n", "false", "f", "0", "0.0", "off", "nein", "non"})
NUMBER_SHARE = 0.95  # of the cells that must read as numbers; the few others are marks for a missing value
MAX_MARKS = 3
MAX_KEPT_MARKS = 8
MARKED_SHARE = 0.5  # of the cells that one mark of letters, such as "unknown", may make up beside numbers
MIN_MARKED_NUMBERS = 20  # different numbers from which that holds; fewer may be levels and not amounts
MAX_NUMBER_LETTERS = 40
MIN_UNIT_NUMBERS = 12  # different numbers with a unit behind them; fewer may be levels, as "36 months"
MAX_UNITS = 4
DATE_SHARE = 0.98
ID_SHARE = 0.95  # distinct values per row from which a column is an id
MIN_ID_ROWS = 20
_ID_WORD = re.compile(
    r"(?:.*[\s_.-])?(?:id|ids|idx|uuid|guid|index|key|rownames?|row|rownum|rowid|no|nr|num|number|sno|serial|instant"
    r"|record|case|seq|sequence)|unnamed.*|s\.?\s?no\.?"
)
_NAMES_THINGS = re.compile(r"(?:.*[\s_.-])?(?:[iI][dD]s?|ID)|.*[a-z](?:ID|Id)")


def names_things(name: str) -> bool:
    """Whether a column of this name says which thing a row is about, as `patient_id` does."""
    return _NAMES_THINGS.fullmatch(name) is not None


class UnfitColumn(ValueError):  # noqa: N818 - reads as what it is where it is caught
    """The cells do not read as the kind that `[kinds]` asks for; the text says what was there."""


@dataclass(frozen=True)
class Cleaned:
    """A column made uniform.

    Parameters
    ----------
    cells
        Number: float64 with NaN. Else: object of `str` (categories canonical, dates ISO 8601) or None.
    formats
        Of dates that are not ISO 8601: the `strptime` formats that the data has.
    remarks
        What was done to the cells.
    warnings
        What a person should look at.
    id_like
        Why the column seems to name rows rather than to describe them, or None.
    marks
        Texts that stand for a missing value.
    look_at
        What its cells leave open.
    """

    kind: Kind
    cells: "pd.Series[Any]"
    formats: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    id_like: str | None = None
    marks: tuple[str, ...] = ()
    look_at: tuple[LookAt, ...] = ()


@dataclass
class _Tokens:
    """A column of text as codes into its distinct, stripped values; -1 is missing."""

    codes: NDArray[np.intp]
    distinct: list[str]
    counts: NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.distinct))

    @property
    def present(self) -> int:
        return int(self.counts.sum())

    def spread(
        self, per_distinct: Sequence[Any] | NDArray[Any], missing: Any, dtype: Any
    ) -> "pd.Series[Any]":
        """Values of the distinct ones put back in their rows."""
        table = np.empty(len(self.distinct) + 1, dtype)
        table[:-1] = per_distinct
        table[-1] = missing
        return pd.Series(table[self.codes])


def decide_from_cells(
    frame: pd.DataFrame,  # noqa: ARG001 - the evidence of all columns together
    reading: Reading,
) -> Reading:
    """The reading with the marks of numbers and the order of day and month, from the cells of all columns.

    What a key gave stays; what the cells leave open comes back in `look_at`.
    """
    return reading


def clean_column(
    cells: "pd.Series[Any]", name: str, *, wanted: Kind | None = None, reading: Reading = UNDECIDED
) -> Cleaned:
    """Make a column uniform, guessing its kind unless `wanted` says it. Raises UnfitColumn."""
    cells = cells.reset_index(drop=True)
    cleaned = _clean(cells, name, wanted, reading.delimiter.value if reading.delimiter else None)
    return replace(cleaned, marks=_marks(cells, cleaned.cells))


def _marks(cells: "pd.Series[Any]", cleaned: "pd.Series[Any]") -> tuple[str, ...]:
    """The texts of cells that are missing now, the commonest first."""
    if pd.api.types.is_numeric_dtype(cells.dtype) or pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return ()
    gone = cells[cleaned.isna().to_numpy()].dropna().astype(object)
    counts = Counter(cell.strip() for cell in gone if isinstance(cell, str))
    ordered = sorted(counts, key=lambda mark: (-counts[mark], mark))
    return tuple(mark for mark in ordered if mark and len(mark) <= MAX_NUMBER_LETTERS)[:MAX_KEPT_MARKS]


def _clean(cells: "pd.Series[Any]", name: str, wanted: Kind | None, delimiter: str | None) -> Cleaned:
    dtype = cells.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _clean_text(
            cells.astype(object).map(_text, na_action="ignore"), name, wanted or "category", delimiter
        )
    if pd.api.types.is_object_dtype(dtype):
        cells = _typed(cells)
        dtype = cells.dtype
    if pd.api.types.is_bool_dtype(dtype):
        if wanted == "number":
            return Cleaned("number", cells.astype("float64"))
        words = cells.astype(object).map({True: "true", False: "false"})
        return Cleaned("category", _objects(words))
    if pd.api.types.is_timedelta64_dtype(dtype):
        cells = cells.dt.total_seconds()
        dtype = cells.dtype
    if pd.api.types.is_numeric_dtype(dtype):
        return _clean_number(cells, name, wanted)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        naive = cells.dt.tz_localize(None) if cells.dt.tz is not None else cells
        iso = _iso(naive.to_numpy())
        if wanted in {"category", "text"}:
            return Cleaned(wanted, pd.Series(iso, dtype=object))
        return Cleaned("date", pd.Series(iso, dtype=object))
    return _clean_text(cells, name, wanted, delimiter)


def clean_labels(cells: "pd.Series[Any]", reading: Reading = UNDECIDED) -> tuple[NDArray[Any], list[str]]:
    """Cells of a target as labels of their own type: int, float, bool or str; None where missing.

    Returns
    -------
    Object array, and remarks.
    """
    cells = cells.reset_index(drop=True)
    delimiter = reading.delimiter.value if reading.delimiter else None
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(object)
    if pd.api.types.is_object_dtype(cells.dtype):
        cells = _typed(cells)
    if pd.api.types.is_bool_dtype(cells.dtype):
        return _objects(cells.astype(object)).to_numpy(), []
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return _numeric_labels(np.asarray(cells, np.float64)), []
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return np.array(_iso(cells.to_numpy()), object), []
    tokens = _tokenised(cells)
    if {word.lower() for word in tokens.distinct} == {"+"} and (cells.str.strip() == "-").any():
        tokens = _tokenised(cells, missing=MISSING_WORDS - {"-"})  # "+" and "-" are the two classes
    words, remarks = _without_dots(tokens.distinct)
    table = np.empty(len(words) + 1, object)
    table[:-1] = _labels_of(words, delimiter)
    if _several_for_yes_or_no({word.casefold() for word in words}):
        remarks.append(f"several words for yes and no are classes of their own: {', '.join(sorted(words))}")
    return table[tokens.codes], remarks


def _without_dots(words: list[str]) -> tuple[list[str], list[str]]:
    """Labels of which some rows have a dot at the end, as the second half of the Adult set does, as one."""
    known = set(words)
    dotted = {word for word in known if word.endswith(".") and word[:-1] in known}
    if not dotted:
        return words, []
    remark = f"labels that differ by a dot at their end are one: {', '.join(sorted(dotted))}"
    return [word.removesuffix(".") if word in dotted else word for word in words], [remark]


def _labels_of(words: list[str], delimiter: str | None) -> list[Any]:
    """Texts as bool or as numbers where all of them are such, and no number is a code such as "01"."""
    if {word.lower() for word in words} <= {"true", "false"}:
        return [word.lower() == "true" for word in words]
    if not any(re.fullmatch(r"0\d+", word) for word in words):
        numbers, _, _ = _parsed_numbers(words, delimiter)
        if not np.isnan(numbers).any():
            return list(_numeric_labels(numbers))
    return list(words)


def _numeric_labels(values: NDArray[np.float64]) -> NDArray[Any]:
    """Whole numbers as int, others as float, what is not finite as None."""
    finite = np.isfinite(values)
    labels = np.empty(len(values), object)
    if (values[finite] == np.round(values[finite])).all():
        labels[finite] = [int(value) for value in values[finite]]
    else:
        labels[finite] = values[finite].tolist()
    return labels


def _text(value: object) -> str:
    return value if isinstance(value, str) else canonical(value)


def _typed(cells: "pd.Series[Any]") -> "pd.Series[Any]":
    """Objects as the one type they have; text where they have several."""
    kind = pd.api.types.infer_dtype(cells, skipna=True)
    if kind in {"integer", "floating", "mixed-integer-float", "decimal"}:
        return pd.to_numeric(cells.map(float, na_action="ignore"), errors="coerce")
    if kind == "boolean":
        return cells.astype("boolean") if cells.hasnans else cells.astype(bool)
    if kind in {"date", "datetime", "datetime64"}:
        return pd.to_datetime(cells, errors="coerce")
    if kind == "empty":
        return pd.Series(np.nan, index=cells.index, dtype="float64")
    return cells.map(_text, na_action="ignore").astype("str")


def _objects(cells: "pd.Series[Any]") -> "pd.Series[Any]":
    values = cells.astype(object)
    return values.where(values.notna(), None)


def _tokenised(cells: "pd.Series[Any]", missing: frozenset[str] = MISSING_WORDS) -> _Tokens:
    raw_codes, raw = pd.factorize(cells.astype("str"), use_na_sentinel=True)
    stripped = [word.strip() for word in raw.to_numpy(object).tolist()]
    index: dict[str, int] = {}
    mapping = np.full(len(stripped) + 1, -1, np.intp)
    for i, word in enumerate(stripped):
        if len(word) > 7 or word.lower() not in missing:
            mapping[i] = index.setdefault(word, len(index))
    return _Tokens(mapping[raw_codes], list(index))


# ------------------------------------------------------------------------------------------------- numbers


def _clean_number(  # noqa: C901 - the ways in which a number is none stand together
    cells: "pd.Series[Any]", name: str, wanted: Kind | None
) -> Cleaned:
    values = np.array(cells, np.float64)
    infinite = np.isinf(values)
    remarks = []
    if infinite.any():
        values[infinite] = np.nan
        remarks.append(f"{int(infinite.sum())} infinite values are taken as missing")
    series = pd.Series(values)
    if wanted in {"category", "text"}:
        return Cleaned(wanted, _canonical_numbers(values), remarks=tuple(remarks))
    if wanted == "date" or (wanted is None and "date" in name.lower()):
        dates = _compact_dates(values)
        if dates is not None:
            return Cleaned("date", dates, ("%Y%m%d",), tuple(remarks))
        if wanted == "date":
            raise UnfitColumn("holds numbers that are no dates such as 20240131")
    if wanted is None:
        present = values[~np.isnan(values)]
        whole = len(present) > 0 and bool((present == np.round(present)).all())
        distinct = len(np.unique(present))
        id_name = _ID_WORD.fullmatch(name.lower()) or _NAMES_THINGS.fullmatch(name)
        if whole and id_name and len(present) >= MIN_ID_ROWS:
            if distinct >= ID_SHARE * len(present):
                return Cleaned(
                    "number", series, remarks=tuple(remarks), id_like="each row has its own number"
                )
            if _NAMES_THINGS.fullmatch(name) and distinct <= len(present) // 2:
                remarks.append("numbers that name things are taken as categories")
                return Cleaned("category", _canonical_numbers(values), remarks=tuple(remarks))
            if _NAMES_THINGS.fullmatch(name):
                reason = f"{distinct:,} different numbers in {len(present):,} rows"
                return Cleaned("number", series, remarks=tuple(remarks), id_like=reason)
        elif whole and distinct == len(values) >= MIN_ID_ROWS and _counts_rows(present, name):
            return Cleaned("number", series, remarks=tuple(remarks), id_like="it counts the rows")
    return Cleaned("number", series, remarks=tuple(remarks))


def _counts_rows(values: NDArray[np.float64], name: str) -> bool:
    """0, 1, 2, ... in the file's order, or in any order under no name of its own."""
    if values[0] in {0.0, 1.0} and bool((np.diff(values) == 1).all()):
        return True
    return name.startswith("column_") and values.max() - values.min() == len(values) - 1


def _canonical_numbers(values: NDArray[np.float64]) -> "pd.Series[Any]":
    codes, distinct = pd.factorize(values)
    table = np.empty(len(distinct) + 1, object)
    table[:-1] = [canonical(float(value)) for value in distinct]
    return pd.Series(table[codes])


def _compact_dates(values: NDArray[np.float64]) -> "pd.Series[Any] | None":
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
    iso = np.empty(len(values), object)
    iso[present] = _iso(parsed.to_numpy())
    return pd.Series(iso)


_CURRENCY = re.compile(
    r"^([-+]?)\s*(?:[$€£¥₹]|US\$|USD|EUR|GBP|JPY|CHF|INR)\s*|\s*(?:[$€£¥₹]|USD|EUR|GBP|JPY|CHF|INR)$"
)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_DECIMAL_COMMA = re.compile(r"[-+]?(?:\d{1,3}(?:\.\d{3})+|\d*),\d+")
_DOTTED = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})+")
_INFINITE = re.compile(r"[-+]?inf(?:inity)?", re.IGNORECASE)
_SPACED = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:[.,]\d+)?")


def _parsed_numbers(  # noqa: C901 - one way of writing numbers after the other
    distinct: Sequence[str], delimiter: str | None
) -> tuple[NDArray[np.float64], list[str], list[int]]:
    """Read texts as numbers: plain ones, then money, percentages, thousands and decimal commas.

    Returns
    -------
    Values (NaN where it is none), what was peeled off, and the places that are none.
    """
    values = _plain(distinct)
    rest = np.flatnonzero(~np.isfinite(values)).tolist()
    values[rest] = np.nan
    if not rest:
        return values, [], []
    sample = rest[:: max(1, len(rest) // 100)]
    if not any(any(c.isdigit() for c in distinct[i][:MAX_NUMBER_LETTERS]) for i in sample):
        return values, [], rest
    peeled: list[str] = []
    short = {i: distinct[i] for i in rest if len(distinct[i]) <= MAX_NUMBER_LETTERS}
    apart = {i: _apart(text) for i, text in short.items()}
    units = _units(apart.values())
    unit, count = units.most_common(1)[0] if units else ("", 0)
    if count >= max(MIN_UNIT_NUMBERS, NUMBER_SHARE * len(rest)):
        peeled.append(f'unit "{unit}"')
        short = {i: number if own == unit else short[i] for i, (number, own) in apart.items()}
    bare = {i: _peel(text, peeled) for i, text in short.items()}
    commas = [text for text in bare.values() if "," in text]
    decimal = _comma_is_decimal(commas, delimiter)
    if decimal:
        peeled.append("decimal commas")
        for i, text in enumerate(distinct):
            if np.isfinite(values[i]) and _DOTTED.fullmatch(text):
                values[i] = float(text.replace(".", ""))
    elif commas:
        peeled.append("thousands commas")
    texts = []
    for text in bare.values():
        if decimal and (_DECIMAL_COMMA.fullmatch(text) or _DOTTED.fullmatch(text)):
            text = text.replace(".", "").replace(",", ".")  # noqa: PLW2901
        elif not decimal and _THOUSANDS.fullmatch(text):
            text = text.replace(",", "")  # noqa: PLW2901
        texts.append(text)
    if texts:
        values[list(bare)] = _plain(texts)
    values[~np.isfinite(values)] = np.nan
    left = np.flatnonzero(np.isnan(values)).tolist()
    return values, list(dict.fromkeys(peeled)) if len(left) < len(rest) else [], left


_WITH_UNIT = re.compile(r"([-+]?\d[\d.,\s]*?)\s*((?:°\s*)?[^\W\d_][^\d,;:()]{0,11}|[°'])")


def _apart(text: str) -> tuple[str, str]:
    """Take "12.5 Kg." apart into "12.5" and "kg"; what is no number with a unit, into itself and ""."""
    parts = _WITH_UNIT.fullmatch(text)
    return (parts[1], re.sub(r"[\s.]+", "", parts[2]).lower()) if parts is not None else (text, "")


def _units(apart: Iterable[tuple[str, str]]) -> Counter[str]:
    """The units of texts that were taken apart, by how many have them; "012A" is a code."""
    return Counter(unit for number, unit in apart if unit and not _is_code(number))


def _of_several_units(distinct: Sequence[str]) -> str:
    """The units where nearly all texts are numbers with one of a few, "" where they are not."""
    units = _units(map(_apart, distinct))
    if not 2 <= len(units) <= MAX_UNITS or units.total() < max(
        MIN_UNIT_NUMBERS, NUMBER_SHARE * len(distinct)
    ):
        return ""
    return ", ".join(unit for unit, _ in units.most_common())


def _plain(texts: Sequence[str]) -> NDArray[np.float64]:
    return np.array(pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce"), np.float64)


def _comma_is_decimal(commas: list[str], delimiter: str | None) -> bool:
    if not commas:
        return False
    thousands = sum(_THOUSANDS.fullmatch(text) is not None for text in commas)
    decimals = sum(_DECIMAL_COMMA.fullmatch(text) is not None for text in commas)
    return decimals > thousands or (decimals == thousands > 0 and delimiter == ";")


def _peel(text: str, peeled: list[str]) -> str:
    """Take currency, percent sign and brackets of a negative amount off; note what was taken."""
    bare = (
        text.replace("\u00a0", " ")
        .replace("\u202f", " ")
        .replace("\u2009", " ")
        .replace("\u2212", "-")
        .strip()
    )
    negative = bare.startswith("(") and bare.endswith(")")
    if negative:
        bare = bare[1:-1]
    if bare.endswith("%"):
        bare = bare[:-1].rstrip()
        if "percent signs" not in peeled:
            peeled.append("percent signs")
    money = _CURRENCY.sub(r"\1", bare)
    if money != bare and "currency signs" not in peeled:
        peeled.append("currency signs")
    if _SPACED.fullmatch(money):
        money = money.replace(" ", "")
    return f"-{money}" if negative else money


# --------------------------------------------------------------------------------------------------- text


def _clean_text(cells: "pd.Series[Any]", name: str, wanted: Kind | None, delimiter: str | None) -> Cleaned:
    if wanted in {None, "number"} and (quick := _quick_numbers(cells)) is not None:
        return _clean_number(quick, name, wanted)
    tokens = _tokenised(cells)
    distinct = tokens.distinct
    if not distinct:
        nothing = pd.Series(np.nan, index=cells.index) if wanted in {None, "number"} else _nothing(len(cells))
        return Cleaned(wanted or "number", nothing)
    if wanted in {None, "number"}:
        number = _as_number(tokens, distinct, name, wanted, delimiter)
        if number is not None:
            return number
    if wanted in {None, "date"}:
        date = _as_date(tokens, distinct, wanted)
        if date is not None:
            return date
    kind: Kind = wanted or ("text" if _is_prose(tokens, distinct) else "category")
    if kind == "text":
        return Cleaned("text", tokens.spread(distinct, None, object))
    if {word.lower() for word in distinct} == {"true", "false"}:
        distinct = [word.lower() for word in distinct]
    values = tokens.spread([_category(word) for word in distinct], None, object)
    id_like = None
    if wanted is None and tokens.present >= MIN_ID_ROWS and len(distinct) >= ID_SHARE * tokens.present:
        id_like = f"{len(distinct):,} different values in {tokens.present:,} rows"
    return Cleaned("category", values, warnings=_odd_words(distinct), id_like=id_like)


def _odd_words(distinct: list[str]) -> tuple[str, ...]:
    """What a person should look at in the values of a category."""
    found = []
    units = _of_several_units(distinct)
    if units:
        found.append(f"numbers with different units ({units}) are taken as categories: bring them to one")
    words = {word.casefold() for word in distinct}
    if len(words) < len(distinct):
        found.append("values that differ only in capitals are kept apart")
    if _several_for_yes_or_no(words):
        found.append(f"several words for yes and no are kept apart: {', '.join(sorted(distinct))}")
    return tuple(found)


def _several_for_yes_or_no(words: set[str]) -> bool:
    """Whether words, in small letters, all say yes or no, and one of the two in several ways."""
    return words <= YES | NO and (len(words & YES) > 1 or len(words & NO) > 1)


def _nothing(rows: int) -> "pd.Series[Any]":
    return pd.Series(np.full(rows, None, object))


_WHOLE = re.compile(r"([+-]?\d+)\.0*")


def _category(word: str) -> str:
    """As `canonical`, and "1.0" as "1", as a client that sends the number 1.0 means it."""
    whole = _WHOLE.fullmatch(word)
    return whole[1] if whole else word


def _quick_numbers(cells: "pd.Series[Any]") -> "pd.Series[Any] | None":
    """The column as numbers if every cell plainly is one or missing, and none is a code such as "007"."""
    texts = cells.to_numpy(object, na_value="")
    numbers = pd.to_numeric(texts, errors="coerce")
    array = np.asarray(numbers, np.float64)
    odd = np.flatnonzero(~np.isfinite(array))
    if len(odd) == len(array) or any(not _is_missing(text) for text in set(texts[odd].tolist())):
        return None
    if any(map(_is_code, texts.tolist())) and _has_codes(
        [text for text in set(texts.tolist()) if not _is_missing(text)]
    ):
        return None
    return pd.Series(array)


def _is_missing(text: str) -> bool:
    return len(text) <= 20 and text.strip().lower() in MISSING_WORDS


def _is_code(word: str) -> bool:
    """Digits with a zero in front."""
    return word[:1] == "0" and len(word) > 1 and word.isdigit()


def _has_codes(distinct: Sequence[str]) -> bool:
    """Whether they are digits with zeros in front, which a number would lose."""
    others = [word for word in distinct if not word.isdigit()]
    if len(others) > (1 - NUMBER_SHARE) * len(distinct):
        return False
    return any(map(_is_code, distinct)) and bool(
        np.isnan(_plain(others)).all()
    )  # "unknown" or "02134-1234", but no "1.5"


def _as_number(
    tokens: _Tokens, distinct: list[str], name: str, wanted: Kind | None, delimiter: str | None
) -> Cleaned | None:
    if wanted is None and _has_codes(distinct):
        return None
    values, peeled, left = _parsed_numbers(distinct, delimiter)
    if len(left) == len(distinct):
        if wanted == "number":
            raise UnfitColumn(f'holds no numbers, but such as "{distinct[0][:40]}"')
        return None
    cells_left = int(tokens.counts[left].sum())
    words = [i for i in left if not _INFINITE.fullmatch(distinct[i])]
    said = int(tokens.counts[words].sum())
    if wanted is None and words and not _only_marked(distinct, words, said / tokens.present):
        few = len(words) <= max(MAX_MARKS, len(distinct) // 100)
        if not few or said > (1 - NUMBER_SHARE) * tokens.present:
            return None
    cleaned = _clean_number(tokens.spread(values, np.nan, np.float64), name, wanted)
    peeling = f"numbers were read without their {' and '.join(peeled)}; send plain numbers to the server"
    remarks = [peeling] if peeled else []
    warnings = []
    if left:
        shown = ", ".join(f'"{distinct[i][:30]}"' for i in left[:3])
        warnings.append(f"{cells_left} cells that are no numbers ({shown}) are taken as missing")
    return Cleaned(
        cleaned.kind,
        cleaned.cells,
        cleaned.formats,
        (*remarks, *cleaned.remarks),
        tuple(warnings),
        cleaned.id_like,
    )


def _only_marked(distinct: list[str], left: list[int], share: float) -> bool:
    """Whether all are numbers but for one word, as a table that says "unknown" where others leave blank."""
    if len(left) > 1 or len(distinct) < MIN_MARKED_NUMBERS or share > MARKED_SHARE:
        return False
    return not any(letter.isdigit() for letter in distinct[left[0]])


def _is_prose(tokens: _Tokens, distinct: list[str]) -> bool:
    """Many words, mostly different from row to row, out of a vocabulary that comes back."""
    if len(distinct) < 20 or len(distinct) < 0.3 * tokens.present:
        return False
    sample = distinct[:: max(1, len(distinct) // 2_000)]
    words = [re.findall(r"\w\w+", text.lower()) for text in sample]
    total = sum(map(len, words))
    if total < 3 * len(sample):
        return False
    return len({word for found in words for word in found if not word.isdigit()}) < 0.6 * total


# -------------------------------------------------------------------------------------------------- dates

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


def _as_date(  # noqa: C901 - what makes a column of dates, in the order of asking
    tokens: _Tokens, distinct: list[str], wanted: Kind | None
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
    iso = _iso(parsed.to_numpy())
    for i in range(0, len(distinct), max(1, len(distinct) // 20)):
        if iso[i] is not None and _wall(parse_date(distinct[i], formats)) != parse_date(iso[i]):
            return None  # a server would read it otherwise: better no date than a wrong one
    return Cleaned("date", tokens.spread(iso, None, object), tuple(formats), warnings=tuple(warnings))


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


def _steps_back(tokens: _Tokens, parsed: "pd.Series[Any]") -> int:
    """How often a row's date is before the one of the row above: tables are mostly in the order of time."""
    rows = parsed.to_numpy()[tokens.codes[tokens.codes >= 0]]
    rows = rows[~np.isnat(rows)]
    return int((np.diff(rows) < np.timedelta64(0)).sum())


def _iso(moments: NDArray[np.datetime64]) -> list[str | None]:
    """ISO 8601 to the second, or to the day where every moment is at midnight; None for NaT."""
    seconds = moments.astype("datetime64[s]")
    there = ~np.isnat(seconds)
    days = seconds.astype("datetime64[D]")
    midnight = bool((seconds[there] == days[there]).all())
    texts = np.datetime_as_string(seconds, unit="D" if midnight else "s").astype(object)
    texts[~there] = None
    return list(texts)
