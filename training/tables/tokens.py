"""The texts of a column, each once: what a column costs depends on its distinct texts, not on its rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.tables.numerals import without_excel
from training.tables.reading import UNDECIDED, Reading

MISSING_WORDS = frozenset(
    {
        "", "?", "-", "--", ".", "na", "n/a", "#n/a", "#na", "<na>", "nan", "null", "nat", "\\n", "(null)",
        "#null!", "#div/0!", "#name?", "#num!", "#ref!", "#value!",
    }
)  # fmt: skip
_QUOTES = frozenset("='")  # with which a spreadsheet begins a number that is to stay a text
MAX_MISSING_LETTERS = 20
MAX_KEPT_MARKS = 8
MAX_MARK_LETTERS = 40
MAX_CODES = 60  # different words of two capitals, beside which "NA" may be one of them


@dataclass
class Tokens:
    """A column of text as codes into its distinct, stripped values; -1 is missing."""

    codes: NDArray[np.intp]
    distinct: list[str]
    counts: NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.distinct))

    @property
    def present(self) -> int:
        """How many cells are not missing."""
        return int(self.counts.sum())

    def spread(
        self, per_distinct: Sequence[Any] | NDArray[Any], missing: Any, dtype: Any
    ) -> "pd.Series[Any]":
        """Values of the distinct ones put back in their rows."""
        table = np.empty(len(self.distinct) + 1, dtype)
        table[:-1] = per_distinct
        table[-1] = missing
        return pd.Series(table[self.codes])


class MissingWords:
    """The words that stand for a missing value in one file: the usual ones, and what `[read]` says."""

    def __init__(self, reading: Reading = UNDECIDED) -> None:
        kept = {word.strip().casefold() for word in reading.not_missing}
        given = {word.strip() for word in reading.missing}
        self.words = (MISSING_WORDS - kept) | {""}
        self._given = given
        self.numbers = any(any(letter.isdigit() for letter in word) for word in given)
        self._longest = max([MAX_MISSING_LETTERS, *map(len, given)])

    def is_settled(self, word: str) -> bool:
        """Whether a key says that a word stands for a missing value."""
        return word in self._given

    def without(self, word: str) -> "MissingWords":
        """The words but for one."""
        fewer = MissingWords()
        fewer.numbers = self.numbers
        fewer.words, fewer._given, fewer._longest = (
            self.words - {word.lower()},
            self._given - {word},
            self._longest,
        )
        return fewer

    def among(self, stripped: Sequence[str]) -> set[str]:
        """Those of the texts, without spaces around them, that stand for a missing value."""
        found = self.words.intersection(map(str.lower, stripped))
        given = self._given.intersection(stripped)
        return (
            {text for text in stripped if text.lower() in found or text in given} if found or given else set()
        )

    def has(self, text: str) -> bool:
        """Whether a text stands for a missing value; only the usual words in any case."""
        if len(text) > self._longest:
            return False
        stripped = text.strip()
        return stripped.lower() in self.words or stripped in self._given


def tokenised(cells: "pd.Series[Any]", missing: MissingWords) -> Tokens:
    """The distinct texts of a column without what stands for a missing value."""
    raw_codes, raw = pd.factorize(cells.astype("str"), use_na_sentinel=True)
    stripped = map(str.strip, raw.to_numpy(object).tolist())
    texts = [without_excel(word) if word[:1] in _QUOTES else word for word in stripped]
    gone = missing.among(texts)
    distinct = list(dict.fromkeys(texts))
    if gone:
        distinct = [word for word in distinct if word not in gone]
    index = {word: i for i, word in enumerate(distinct)}
    mapping = np.full(len(texts) + 1, -1, np.intp)
    mapping[:-1] = range(len(texts)) if len(index) == len(texts) else [index.get(word, -1) for word in texts]
    return Tokens(mapping[raw_codes], distinct)


def marks_of(cells: "pd.Series[Any]", cleaned: "pd.Series[Any]") -> tuple[str, ...]:
    """The texts of cells that are missing now, the commonest first."""
    if pd.api.types.is_numeric_dtype(cells.dtype) or pd.api.types.is_datetime64_any_dtype(cells.dtype):
        return ()
    gone = cells[cleaned.isna().to_numpy()].dropna().astype(object)
    counts = Counter(cell.strip() for cell in gone if isinstance(cell, str))
    ordered = sorted(counts, key=lambda mark: (-counts[mark], mark))
    return tuple(mark for mark in ordered if mark and len(mark) <= MAX_MARK_LETTERS)[:MAX_KEPT_MARKS]


def is_a_code_among_codes(word: str, words: Sequence[str]) -> bool:
    """Whether "NA" stands among words of its own shape, as a continent beside "EU" and "AS"."""
    if not (word.isalpha() and word.isupper()):
        return False
    others = [each for each in words if each != word]
    shaped = [each for each in others if len(each) == len(word) and each.isalpha() and each.isupper()]
    return 2 <= len(others) <= MAX_CODES and len(shaped) == len(others)
