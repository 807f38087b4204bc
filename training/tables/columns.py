"""One column of a stranger's table: what kind it is, and its cells made uniform."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact.encode import parse_date
from artifact.signature import Kind
from training.tables.cleaned import Cleaned, UnfitColumn
from training.tables.dates import (
    are_months_of_years,
    as_date,
    compact_dates,
    compact_format,
    epoch_dates,
    may_be_days,
    short_dates,
    years_of_moments,
)
from training.tables.durations import as_duration
from training.tables.evidence import decide_from_cells, marks_of_file
from training.tables.ids import (
    ID_SHARE,
    MIN_ID_ROWS,
    counts_rows,
    has_codes,
    has_id_name,
    names_things,
)
from training.tables.labels import clean_labels
from training.tables.numbers import (
    EXACT,
    NUMBER_SHARE,
    Marks,
    either,
    may_be_codes,
    read_numbers,
    too_large,
)
from training.tables.pictures import pictures_of
from training.tables.reading import UNDECIDED, LookAt, Reading
from training.tables.tokens import MissingWords, Tokens, is_a_code_among_codes, marks_of, tokenised
from training.tables.typed import as_text, beyond_float, canonical_numbers, iso, objects, one_clock, typed
from training.tables.words import is_prose, lost_letters, odd_words

MAX_MARKS = 3
DASHES = frozenset({"-", "--"})  # among the usual words for a missing value
MARKED_SHARE = 0.5  # of the cells that one mark of letters, such as "unknown", may make up beside numbers
MIN_MARKED_NUMBERS = 20  # different numbers from which that holds; fewer may be levels and not amounts
SCANNED_DOTS = 1_000
# Of numbers with a dot, the share that must have something else than three digits behind it. Where numbers
# have three decimals it is a tenth, and from a twentieth on nothing is in doubt.
CLEAR_DOTS = 0.06
_LIKE_A_CODE = re.compile(r"^\s*(?:0\d|\+)", re.MULTILINE)
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_FRACTION = re.compile(r"[+-]?\d+\.\d+")
_CUT_ZEROS = re.compile(r"[+-]?\d+\.0+")
_PLUSES = re.compile(r"\++|±|\+/-|\+-|\(\+\)")
_INFINITE = re.compile(r"[-+]?inf(?:inity)?", re.IGNORECASE)

__all__ = [
    "Cleaned",
    "UnfitColumn",
    "clean_column",
    "clean_labels",
    "decide_from_cells",
    "names_things",
]


def clean_column(
    cells: "pd.Series[Any]", name: str, *, wanted: Kind | None = None, reading: Reading = UNDECIDED
) -> Cleaned:
    """Make a column uniform, guessing its kind unless `wanted` says it. Raises UnfitColumn."""
    cells = cells.reset_index(drop=True)
    if wanted == "image":
        return Cleaned("image", pictures_of(cells))
    cleaned = _clean(cells, name, wanted, reading)
    marks = marks_of(cells, cleaned.cells)
    look_at = (
        (*cleaned.look_at, *_dashes(cells, name, marks, reading))
        if cleaned.kind == "number"
        else cleaned.look_at
    )
    return replace(cleaned, marks=marks, look_at=look_at)


def _dashes(cells: "pd.Series[Any]", name: str, marks: Sequence[str], reading: Reading) -> tuple[LookAt, ...]:
    """Dashes among numbers, which stand for zero in accounts and for a missing value elsewhere."""
    dashes = [mark for mark in marks if mark in DASHES and mark not in reading.missing]
    if not dashes:
        return ()
    count = int(cells.astype("str").str.strip().isin(dashes).sum())
    listed = ", ".join(f'"{dash}"' for dash in dashes)
    text = (
        f"{listed} in {count:,} cells is taken for a missing value, and stands for zero in accounts: where "
        f"it does, write 0; else set missing = [{listed}] under [read]"
    )
    return (LookAt(name, text),)


def _clean(cells: "pd.Series[Any]", name: str, wanted: Kind | None, reading: Reading) -> Cleaned:
    dtype = cells.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _clean_text(
            cells.astype(object).map(as_text, na_action="ignore"), name, wanted or "category", reading
        )
    if pd.api.types.is_object_dtype(dtype):
        cells = typed(cells)
        dtype = cells.dtype
    if pd.api.types.is_bool_dtype(dtype):
        if wanted == "number":
            return Cleaned("number", cells.astype("float64"))
        words = cells.astype(object).map({True: "true", False: "false"})
        return Cleaned("category", objects(words))
    if pd.api.types.is_timedelta64_dtype(dtype):
        return replace(
            _clean_number(cells.dt.total_seconds(), name, wanted), unit="seconds", read_as="seconds"
        )
    if pd.api.types.is_numeric_dtype(dtype):
        if wanted != "number" and beyond_float(cells):
            return _clean_text(cells.astype(object).map(as_text, na_action="ignore"), name, wanted, reading)
        return _clean_number(cells, name, wanted)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        naive, clock, several = one_clock(cells)
        texts = iso(naive.to_numpy())
        if wanted in {"category", "text"}:
            return Cleaned(wanted, pd.Series(texts, dtype=object))
        said = f"on the clock of UTC{clock}" if clock else ""
        text = (
            f"moments of {dtype}, whose offset changes, are brought to UTC: where the hour of the place "
            "matters, write them without an offset"
        )
        told = (LookAt(name, text),) if several else ()
        told = (*told, *(LookAt(name, each) for each in years_of_moments(naive.to_numpy())))
        return Cleaned("date", pd.Series(texts, dtype=object), read_as=said, clock=clock, look_at=told)
    return _clean_text(cells, name, wanted, reading)


# ------------------------------------------------------------------------------------------------- numbers


def _clean_number(  # noqa: C901 - the ways in which a number is none stand together
    cells: "pd.Series[Any]", name: str, wanted: Kind | None
) -> Cleaned:
    values = np.array(cells, np.float64)
    infinite = np.isinf(values)
    remarks: list[str] = []
    if infinite.any():
        values[infinite] = np.nan
        text = f"{int(infinite.sum()):,} infinite values are taken as missing"
        told = _clean_number(pd.Series(values), name, wanted)
        return replace(told, look_at=(*told.look_at, LookAt(name, text)))
    series = pd.Series(values)
    if wanted in {"category", "text"}:
        return Cleaned(wanted, canonical_numbers(values), remarks=tuple(remarks))
    if wanted in {None, "date"}:
        dates = _numbers_as_dates(values, name, remarks, wanted=wanted == "date")
        if dates is not None:
            return dates
        if wanted == "date":
            raise UnfitColumn("holds numbers that cannot be read as dates; expected numbers such as 20240131")
    if wanted is None:
        present = values[~np.isnan(values)]
        whole = len(present) > 0 and bool((present == np.round(present)).all())
        distinct = len(np.unique(present))
        if whole and has_id_name(name) and len(present) >= MIN_ID_ROWS:
            if distinct >= ID_SHARE * len(present):
                return Cleaned(
                    "number", series, remarks=tuple(remarks), id_like="each row has its own number"
                )
            if names_things(name) and distinct <= len(present) // 2:
                remarks.append("numbers that name things are taken as categories")
                return Cleaned("category", canonical_numbers(values), remarks=tuple(remarks))
            if names_things(name):
                reason = f"{distinct:,} different numbers in {len(present):,} rows"
                return Cleaned("number", series, remarks=tuple(remarks), id_like=reason)
        elif whole and distinct == len(values) >= MIN_ID_ROWS and counts_rows(present, name):
            return Cleaned("number", series, remarks=tuple(remarks), id_like="it counts the rows")
    return Cleaned("number", series, remarks=tuple(remarks))


def _numbers_as_dates(
    values: NDArray[np.float64], name: str, remarks: list[str], *, wanted: bool
) -> Cleaned | None:
    """Whole numbers that are dates: 20240131, or seconds since 1970."""
    compact = compact_dates(values, name, wanted=wanted)
    if compact is not None:
        dates, form, doubt = compact
        look_at = (LookAt(name, doubt),) if doubt else ()
        return Cleaned("date", dates, (form,), tuple(remarks), look_at=look_at)
    epoch = epoch_dates(values, name, wanted=wanted)
    if epoch is None:
        text = "numbers that may be days since 1899-12-30, as spreadsheets count them, stay numbers"
        short = short_dates(values, name)
        if short:
            text = f"numbers that may be dates written as {short} stay numbers"
        if short or may_be_days(values, name):
            return Cleaned(
                "number",
                pd.Series(values),
                remarks=tuple(remarks),
                look_at=(LookAt(name, f"{text}: write dates"),),
            )
        return None
    dates, form = epoch
    text = f'whole numbers are read as {form} in UTC: where they are amounts, set the kind to "number"'
    return Cleaned("date", dates, (form,), tuple(remarks), look_at=(LookAt(name, text),))


def _quick_numbers(cells: "pd.Series[Any]", missing: MissingWords, marks: Marks) -> "pd.Series[Any] | None":
    """The column as numbers if every cell plainly is one or missing.

    Not where one is a code such as "007", a dot may part thousands, or a whole number loses digits.
    """
    if missing.numbers:
        return None
    codes, found = pd.factorize(cells)  # -1 is a missing cell
    texts: list[str] = found.to_numpy(object).tolist()
    numbers = np.asarray(pd.to_numeric(np.array(texts, object), errors="coerce"), np.float64)
    odd = np.flatnonzero(~np.isfinite(numbers))
    if len(odd) == len(numbers) or any(not missing.has(texts[i]) for i in odd):
        return None
    if np.abs(numbers[np.isfinite(numbers)]).max() > EXACT:
        return None
    if _LIKE_A_CODE.search("\n".join(texts)) and has_codes(
        [text.strip() for text in texts if not missing.has(text)]
    ):
        return None
    spread = Tokens(codes, texts)
    if any("e" in texts[i].lower() for i in np.unique(codes[:SCANNED_DOTS]) if i >= 0):
        return None
    with_dot = spread.spread(["." in text for text in texts], False, np.bool_).to_numpy()
    dotted = codes[np.flatnonzero(with_dot)[:SCANNED_DOTS]]
    if len(dotted) and (marks.decimal == "," or marks.given):
        return None
    scanned, times = np.unique(dotted, return_counts=True)
    few = [texts[i].strip() for i in scanned]
    different = list(set(few))
    if may_be_codes(different) is not None or are_months_of_years(different):
        return None
    if sum(n for text, n in zip(few, times, strict=True) if either(text)) > (1 - CLEAR_DOTS) * len(dotted):
        return None
    return spread.spread(numbers, np.nan, np.float64)


def _as_number(
    tokens: Tokens, distinct: list[str], name: str, wanted: Kind | None, marks: Marks
) -> tuple[Cleaned | None, list[str]]:
    """The column as numbers, if it is one; and, if not, what a person should know about that."""
    if wanted is None and has_codes(distinct):
        return None, []
    if wanted is None and too_large(distinct):
        return None, []
    found = read_numbers(distinct, tokens.counts, marks)
    left = found.left
    if len(left) == len(distinct):
        if wanted == "number":
            raise UnfitColumn(f'holds texts such as "{distinct[0][:40]}"; expected numbers')
        return None, found.open
    cells_left = int(tokens.counts[left].sum())
    words = [i for i in left if not _INFINITE.fullmatch(distinct[i])]
    said = int(tokens.counts[words].sum())
    if wanted is None and words and not _only_marked(distinct, words, said / tokens.present):
        few = len(words) <= max(MAX_MARKS, len(distinct) // 100)
        if not few or said > (1 - NUMBER_SHARE) * tokens.present:
            return None, found.open
    cleaned = _clean_number(tokens.spread(found.values, np.nan, np.float64), name, wanted)
    open_ = list(found.open)
    if left:
        shown = ", ".join(f'"{distinct[i][:30]}"' for i in left[:3])
        open_.append(
            f"{cells_left:,} cells that are no numbers ({shown}) are taken as missing; if they say "
            f"something, set the "
            'kind of the column to "category" under [kinds]'
        )
    remarks = [f"{text}; send plain numbers to the server" for text in found.remarks]
    return replace(
        cleaned,
        remarks=(*remarks, *cleaned.remarks),
        look_at=tuple(LookAt(name, text) for text in open_),
        read_as=", ".join(found.how),
        unit=found.unit if cleaned.kind == "number" else "",
        dotted_thousands=found.dotted_thousands,
    ), []


def _only_marked(distinct: list[str], left: list[int], share: float) -> bool:
    """Whether all are numbers but for one word, as a table that says "unknown" where others leave blank."""
    if len(left) > 1 or len(distinct) < MIN_MARKED_NUMBERS or share > MARKED_SHARE:
        return False
    return not any(letter.isdigit() for letter in distinct[left[0]])


# --------------------------------------------------------------------------------------------------- text


def _clean_text(cells: "pd.Series[Any]", name: str, wanted: Kind | None, reading: Reading) -> Cleaned:
    missing, marks = MissingWords(reading), marks_of_file(reading)
    if (
        wanted in {None, "number"}
        and name not in reading.formats
        and (quick := _quick_numbers(cells, missing, marks)) is not None
    ):
        return _clean_number(quick, name, wanted)
    tokens = tokenised(cells, missing)
    distinct = tokens.distinct
    if not distinct:
        nothing = pd.Series(np.nan, index=cells.index) if wanted in {None, "number"} else _nothing(len(cells))
        return Cleaned(wanted or "number", nothing)
    found, open_ = _measured(tokens, name, wanted, reading)
    if found is not None:
        return replace(found, look_at=(*found.look_at, *(LookAt(name, text) for text in open_)))
    kind: Kind = wanted or ("text" if is_prose(tokens, distinct) else "category")
    if kind == "text":
        lost = lost_letters(tokens, distinct)
        look_at = tuple(LookAt(name, text) for text in (*open_, lost) if text)
        return Cleaned("text", tokens.spread(distinct, None, object), look_at=look_at)
    tokens, more = _with_codes_for_missing(cells, tokens, missing)
    return _clean_category(tokens, name, wanted, [*open_, *more])


def _measured(
    tokens: Tokens, name: str, wanted: Kind | None, reading: Reading
) -> tuple[Cleaned | None, list[str]]:
    """The column as numbers, durations or dates, if it is one of them; and what to tell besides."""
    number, date = wanted in {None, "number"} and name not in reading.formats, wanted in {None, "date"}
    open_: list[str] = []
    if date and (compact := _compact_texts(tokens, name, wanted, reading)) is not None:
        return compact, []
    if number and not (date and are_months_of_years(tokens.distinct)):
        duration, doubt = as_duration(tokens, tokens.distinct, name)
        if duration is not None:
            return duration, []
        cleaned, open_ = _as_number(tokens, tokens.distinct, name, wanted, marks_of_file(reading))
        if cleaned is not None:
            return cleaned, []
        open_ = [doubt, *open_] if doubt else open_
    if date and (dates := as_date(tokens, tokens.distinct, name, wanted, reading)) is not None:
        return dates, open_
    return None, open_


def _compact_texts(tokens: Tokens, name: str, wanted: Kind | None, reading: Reading) -> Cleaned | None:
    """Texts of eight digits as dates: such as "01022024", whose zero says that it is no number."""
    if name in reading.formats:
        return None
    found = compact_format(tokens.distinct, name, wanted=wanted == "date")
    if found is None:
        return None
    form, doubt = found
    texts = iso(np.array([parse_date(text, (form,)) for text in tokens.distinct], "datetime64[s]"))
    look_at = (LookAt(name, doubt),) if doubt else ()
    return Cleaned("date", tokens.spread(texts, None, object), (form,), look_at=look_at)


def _clean_category(tokens: Tokens, name: str, wanted: Kind | None, open_: Sequence[str]) -> Cleaned:
    distinct = tokens.distinct
    if {word.lower() for word in distinct} == {"true", "false"}:
        distinct = [word.lower() for word in distinct]
    values = tokens.spread([_category(word) for word in distinct], None, object)
    cut = [word for word in distinct if _CUT_ZEROS.fullmatch(word)]
    if cut and any(_FRACTION.fullmatch(word) and word not in cut for word in distinct):
        text = (
            f'"{cut[0]}" is taken as "{_category(cut[0])}": where the zeros belong to a code, write it so '
            "that it is no number"
        )
        open_ = [*open_, text]
    id_like = None
    if wanted is None and tokens.present >= MIN_ID_ROWS and len(distinct) >= ID_SHARE * tokens.present:
        id_like = f"{len(distinct):,} different values in {tokens.present:,} rows"
    look_at = tuple(
        LookAt(name, text) for text in (*open_, *odd_words(tokens, distinct, name, id_like is not None))
    )
    return Cleaned("category", values, look_at=look_at, id_like=id_like)


def _with_codes_for_missing(
    cells: "pd.Series[Any]", tokens: Tokens, missing: MissingWords
) -> tuple[Tokens, list[str]]:
    """The tokens with "NA" among them where the others are codes like it, and what a person should know.

    Beside "+" and "++", "-" is a value without a word: a test's result.
    """
    if all(map(_PLUSES.fullmatch, tokens.distinct)):
        return tokenised(cells, missing.without("-").without("--")), []
    for word in ("NA", "NAN", "NAT"):
        if (
            missing.is_settled(word)
            or not missing.has(word)
            or not is_a_code_among_codes(word, [*tokens.distinct, word])
        ):
            continue
        count = int((cells.astype("str").str.strip() == word).sum())
        if not count:
            continue
        text = (
            f'"{word}" in {count:,} cells is taken for a value, as the others are written like it: where '
            f"it stands for a "
            f'missing value, set missing = ["{word}"] under [read]'
        )
        return tokenised(cells, missing.without(word)), [text]
    return tokens, []


def _nothing(rows: int) -> "pd.Series[Any]":
    return pd.Series(np.full(rows, None, object))


def _category(word: str) -> str:
    """As `canonical`, and "1.0" as "1", as a client that sends the number 1.0 means it."""
    whole = _WHOLE.fullmatch(word)
    return whole[1] if whole else word
