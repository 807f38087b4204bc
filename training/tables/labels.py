"""Cells of a target as labels of their own type."""

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.tables.evidence import marks_of_file
from training.tables.numbers import read_numbers, too_large
from training.tables.reading import UNDECIDED, Reading
from training.tables.tokens import MissingWords, Tokens, is_a_code_among_codes, tokenised
from training.tables.typed import iso, objects, typed
from training.tables.words import several_for_yes_or_no


def clean_labels(cells: "pd.Series[Any]", reading: Reading = UNDECIDED) -> tuple[NDArray[Any], list[str]]:
    """Cells of a target as labels: int, float, bool or str; None where missing.

    Returns
    -------
    Object array, and remarks.
    """
    cells = cells.reset_index(drop=True)
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(object)
    if pd.api.types.is_object_dtype(cells.dtype):
        cells = typed(cells)
    if pd.api.types.is_bool_dtype(cells.dtype):
        return objects(cells.astype(object)).to_numpy(), []
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return _numeric_labels(np.asarray(cells, np.float64)), []
    if pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return np.array(iso(cells.to_numpy()), object), []
    tokens, remarks = _label_tokens(cells, MissingWords(reading))
    words, dotted = _without_dots(tokens.distinct)
    remarks += dotted
    table = np.empty(len(words) + 1, object)
    table[:-1] = _labels_of(words, tokens, reading, remarks)
    table[-1] = None
    if several_for_yes_or_no({word.casefold() for word in words}):
        remarks.append(f"several words for yes and no are classes of their own: {', '.join(sorted(words))}")
    return table[tokens.codes], remarks


def _label_tokens(cells: "pd.Series[Any]", missing: MissingWords) -> tuple[Tokens, list[str]]:
    """The labels, and words for missing among them that are labels themselves."""
    tokens = tokenised(cells, missing)
    counts = cells.value_counts()  # each text once, before it is looked at
    counts = counts.groupby(counts.index.str.strip(), sort=False).sum().sort_values(ascending=False)
    words = [missing.has(word) and word != "" and not missing.is_settled(word) for word in counts.index]
    counts = counts[words]
    if not len(counts):
        return tokens, []
    word = str(counts.index[0])
    if {label.lower() for label in tokens.distinct} == {"+"} and word == "-":
        return tokenised(cells, missing.without(word)), []  # "+" and "-" are the two classes
    if is_a_code_among_codes(word, tokens.distinct):
        text = (
            f'"{word}" in {int(counts.iloc[0]):,} rows is taken for a class, as the others are written '
            f"like it: where it "
            f'stands for a missing value, set missing = ["{word}"] under [read]'
        )
        return tokenised(cells, missing.without(word)), [text]
    text = (
        f'"{word}" in {int(counts.iloc[0]):,} rows is taken for a missing value: where it is a class, set '
        f'not_missing = ["{word}"] under [read]'
    )
    return tokens, [text]


def _without_dots(words: list[str]) -> tuple[list[str], list[str]]:
    """Labels of which some rows have a dot at the end, as the second half of the Adult set does, as one."""
    known = set(words)
    dotted = {word for word in known if word.endswith(".") and word[:-1] in known}
    if not dotted:
        return words, []
    remark = f"labels that differ by a dot at their end are one: {', '.join(sorted(dotted))}"
    return [word.removesuffix(".") if word in dotted else word for word in words], [remark]


def _labels_of(words: list[str], tokens: Tokens, reading: Reading, remarks: list[str]) -> list[Any]:
    """Texts as bool or as numbers where all of them are such, and no number is a code such as "01"."""
    if {word.lower() for word in words} <= {"true", "false"}:
        return [word.lower() == "true" for word in words]
    if not any(re.fullmatch(r"0\d+", word) for word in words) and not too_large(words):
        numbers = read_numbers(words, tokens.counts, marks_of_file(reading))
        if not np.isnan(numbers.values).any():
            remarks += numbers.open
            return list(_numeric_labels(numbers.values))
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
