"""What the cells of all columns together say of the marks of numbers and the order of day and month."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from artifact.kinds.date import plain
from training.tables.dates import Order, are_months_of_years, year_stands_first
from training.tables.numbers import NUMBER_SHARE, OTHER, Evidence, Marks, evidence_of
from training.tables.numerals import numeral
from training.tables.reading import Decided, Reading
from training.tables.tokens import MissingWords

SAMPLED = 200
SEEN_AT_ONCE = 20_000
SEEN_FOR_EACH = 10  # cells for each text of a sample


def decide_from_cells(frame: pd.DataFrame, reading: Reading) -> Reading:
    """The reading with the marks of numbers and the order of day and month, from the cells of all columns.

    What a key gave stays.
    """
    missing = MissingWords(reading)
    found = {
        str(name): evidence
        for place, name in enumerate(frame.columns)
        if (evidence := _of_column(frame.iloc[:, place], missing)) is not None
    }
    return _with_day_order(_with_decimal(reading, found), frame, missing)


def marks_of_file(reading: Reading) -> Marks:
    """The marks of a file's numbers as far as they are decided."""
    given = [each for each in (reading.decimal, reading.thousands) if each is not None and each.given]
    decimal = reading.decimal.value if reading.decimal else None
    thousands = reading.thousands.value if reading.thousands and reading.thousands.given else None
    if decimal is None and thousands in OTHER:
        decimal = OTHER[thousands]
    if decimal is None and given and thousands == "":
        return Marks(thousands="", given=True, delimiter=_delimiter(reading))
    return Marks(decimal, thousands, bool(given), _delimiter(reading))


def _delimiter(reading: Reading) -> str | None:
    return reading.delimiter.value if reading.delimiter else None


def _of_column(cells: "pd.Series[Any]", missing: MissingWords) -> Evidence | None:
    if not isinstance(cells.dtype, pd.StringDtype) and not pd.api.types.is_object_dtype(cells.dtype):
        return None
    sample = _sample(cells, missing)
    if not sample or sum(any(c.isdigit() for c in text[:40]) for text in sample) < 0.5 * len(sample):
        return None
    if are_months_of_years([text.strip() for text in sample]):
        return None
    if sum(numeral(text.strip()) is not None for text in sample) < (NUMBER_SHARE - 0.15) * len(sample):
        return None
    if not any("." in text or "," in text for text in sample):
        cells = cells[cells.astype("str").str.contains("[.,]", regex=True).fillna(value=False)]
    found = evidence_of(text for text in _different(cells) if not missing.has(text))
    return found if found.votes(".") or found.votes(",") else None


def _sample(cells: "pd.Series[Any]", missing: MissingWords) -> list[str]:
    """Some of the different texts of a column: a word of many cells is one text, as a number is."""
    some = cells.iloc[:: max(1, len(cells) // (SAMPLED * SEEN_FOR_EACH))]
    texts = [text for text in _different(some) if text and not missing.has(text)]
    return texts[:: max(1, len(texts) // SAMPLED)]


def _different(cells: "pd.Series[Any]") -> Iterator[str]:
    """The texts of a column, each once in each block of rows, so that the first few may do."""
    for start in range(0, len(cells), SEEN_AT_ONCE):
        for text in pd.unique(cells.iloc[start : start + SEEN_AT_ONCE]):
            if isinstance(text, str):
                yield text.strip()


def _with_decimal(reading: Reading, found: dict[str, Evidence]) -> Reading:
    if reading.decimal is not None and reading.decimal.given:
        return reading
    says: dict[str, list[str]] = {".": [], ",": []}
    for name, evidence in found.items():
        mark = "." if evidence.votes(".") >= evidence.votes(",") else ","
        says[mark].append(name)
    if bool(says["."]) == bool(says[","]):
        return reading
    mark = "." if says["."] else ","
    word = {".": "point", ",": "comma"}[mark]
    columns = ", ".join(f'"{name}"' for name in says[mark][:3])
    return replace(reading, decimal=Decided(mark, f"numbers in {columns} can only have a decimal {word}"))


def _with_day_order(reading: Reading, frame: pd.DataFrame, missing: MissingWords) -> Reading:
    """The order of day and month where all columns that say which say the same."""
    if reading.day_first is not None and reading.day_first.given:
        return reading
    says: dict[bool, list[str]] = {True: [], False: []}
    for place, name in enumerate(frame.columns):
        order = _order_of_column(frame.iloc[:, place], missing)
        if order is not None and bool(order.day) != bool(order.month):
            says[order.day > 0].append(str(name))
        elif order is not None and order.day:
            return reading
    if bool(says[True]) == bool(says[False]):
        return reading
    first = bool(says[True])
    word = "day" if first else "month"
    columns = ", ".join(f'"{name}"' for name in says[first][:3])
    return replace(reading, day_first=Decided(first, f"dates in {columns} can only have the {word} first"))


def _order_of_column(cells: "pd.Series[Any]", missing: MissingWords) -> Order | None:
    if not isinstance(cells.dtype, pd.StringDtype) and not pd.api.types.is_object_dtype(cells.dtype):
        return None
    sample = _sample(cells, missing)
    tried = Order()
    if not sample or sum(tried.add(plain(text)) for text in sample) < NUMBER_SHARE / 2 * len(sample):
        return None
    if year_stands_first([plain(text) for text in sample]):
        return None
    order = Order()
    for text in _different(cells):
        if "." not in text[:3]:  # dots stand with the day first, whatever slashes in the next column do
            order.add(plain(text))
    return order
