"""Texts: a TF-IDF row over the signature's terms, one over its runs of letters, and counts.

A missing text has no term, and its counts are 0.
"""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.kinds.cell import is_missing, shown
from artifact.nfc import nfc
from artifact.signature import TEXT_COUNTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from artifact.kinds.cell import Encode, Errors
    from artifact.signature import Column, TextUnits

MAX_TERMS = 5_000
LONG_TEXT = 20_000
"""Characters from which the words of a text are counted one by one instead of in a list."""
MAX_READ = 20_000
"""Characters of a text from whose start on its letters and counts are taken: each of them costs time."""
LETTERS = (2, 4)
"""The shortest and the longest run of letters."""
_WORD = re.compile(r"\w\w+")
_PART = re.compile(r"\S+")

# Scripts without spaces between words: Han, kana, bopomofo, Yi, Thai, Lao, Tibetan, Myanmar, Khmer.
_UNSPACED = (
    "\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003134f\ua000-\ua48c\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd\u0edc-\u0edf\u0f40-\u0fbc"
    "\u1000-\u103f\u1050-\u108f\u1780-\u17d3"
)
# Signs that belong to a word and are no letters to `re`: vowels of Indic scripts, points of Hebrew and
# Arabic.
SIGNS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u0900-\u0963\u0966-\u0dff\u200c\u200d"
)
_RUN = re.compile(rf"([{_UNSPACED}]+)|(?:[^\W{_UNSPACED}]|[{SIGNS}]){{2,}}")
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")
_SIGN = re.compile(f"[{SIGNS}]")


def unspaced(text: str) -> int:
    """How many letters of a text are of a script that has no spaces between words."""
    return len(_UNSPACED_LETTER.findall(text))


def units_of(texts: Iterable[str]) -> TextUnits:
    """What terms are made of: characters where a tenth of the texts has a script for it, else words."""
    found = total = 0
    for text in texts:
        total += 1
        found += not text.isascii() and (unspaced(text) > 0 or _SIGN.search(text) is not None)
    return "characters" if found > total / 10 else "words"


def words(text: str, ngrams: int) -> list[str]:
    """The terms of a text: lower-case runs of one to `ngrams` words of two letters or more."""
    found = _WORD.findall(text.lower())
    return list(
        chain(
            found,
            *(map(" ".join, zip(*(found[i:] for i in range(n)), strict=False)) for n in range(2, ngrams + 1)),
        )
    )


def _words_one_by_one(text: str, ngrams: int) -> Iterator[str]:
    """`words`, in the same order, in no memory: a list of those of 16 MB takes 450."""
    text = text.lower()
    for n in range(1, ngrams + 1):
        last: deque[str] = deque(maxlen=n)
        for match in _WORD.finditer(text):
            last.append(match[0])
            if len(last) == n:
                yield " ".join(last)


def characters(text: str, ngrams: int) -> Iterator[str]:
    """The terms of a text in any script: of one to `ngrams` letters where no spaces part words, else words.

    Of words, those of two letters or more, and each with the one before it.
    """
    last = ""
    for match in _RUN.finditer(text.lower()):
        run = match[1]
        if run is None:
            yield match[0]
            if last:
                yield f"{last} {match[0]}"
            last = match[0]
            continue
        last = ""
        for n in range(1, ngrams + 1):
            for i in range(len(run) - n + 1):
                yield run[i : i + n]


def letters(text: str, ngrams: int) -> Iterator[str]:
    """The runs of letters and signs within the words of a text, a space before and after each word.

    Of the first MAX_READ characters, and of LETTERS[0] to `ngrams` letters.
    """
    for match in _PART.finditer(text[:MAX_READ].lower()):
        word = f" {match[0]} "
        for n in range(LETTERS[0], ngrams + 1):
            for i in range(max(1, len(word) - n + 1)):
                yield word[i : i + n]
            if len(word) <= n:
                break


def counts_of(text: str) -> list[int]:
    """The counts of TEXT_COUNTS. But for the characters, of the first MAX_READ characters."""
    start = text[:MAX_READ]
    parts = start.split()
    within = sum(map(len, parts))
    return [
        len(text),
        len(parts),
        sum(map(str.isdigit, start)),
        sum(map(str.isupper, start)),
        within - sum(map(str.isalnum, start)),
        max(map(len, parts), default=0),
        start.count("!") + start.count("?"),
        0 if start.isascii() else len(start) - sum(map(str.isascii, start)),
    ]


def terms_in(text: str, ngrams: int, units: TextUnits = "words") -> Iterable[str]:
    """The terms of a text by what they are made of; the text is taken in NFC."""
    text = nfc(text)
    if units == "characters":
        return characters(text, ngrams)
    if units == "letters":
        return letters(text, ngrams)
    return words(text, ngrams) if len(text) < LONG_TEXT else _words_one_by_one(text, ngrams)


def learn_text(
    texts: Iterable[str | None],
    *,
    ngrams: int = 1,
    units: TextUnits = "words",
    max_terms: int = MAX_TERMS,
    min_documents: int = 2,
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Vocabulary and idf of training texts: the terms in most documents, ln((1 + n) / (1 + df)) + 1 each.

    Returns
    -------
    Terms in alphabetical order and their idf, equally long; no terms where none is in `min_documents` texts.
    """
    documents: Counter[str] = Counter()
    count = 0
    for text in texts:
        count += 1
        documents.update(set(terms_in(text or "", ngrams, units)))
    often = ((term, df) for term, df in documents.items() if df >= min_documents)
    kept = sorted(sorted(often, key=lambda pair: (-pair[1], pair[0]))[:max_terms])
    return tuple(term for term, _ in kept), tuple(math.log((1 + count) / (1 + df)) + 1 for _, df in kept)


def encode_column(column: Column) -> Encode:
    parts = [(column.units, column.ngrams, *_table(column.terms, column.idf, 0))]
    if column.letters:
        parts.append(("letters", LETTERS[1], *_table(column.letters, column.letter_idf, len(column.terms))))
    width = column.width
    counted = slice(width - len(TEXT_COUNTS), width)

    def encode(cells: Sequence[Any], errors: Errors | None) -> NDArray[np.float64]:
        single = np.zeros((len(cells), width), np.float32)
        for i, cell in enumerate(cells):
            if not isinstance(cell, str) or not cell:
                if errors is not None and not is_missing(cell):
                    errors.add(i, column.name, f"expected a text, got {shown(cell)}", "no_text")
                elif errors is not None and column.missing == "refuse":
                    errors.add(i, column.name, "missing; expected a text", "missing")
                continue
            for units, ngrams, index, idf in parts:
                counts = Counter(map(index.get, terms_in(cell, ngrams, units)))
                counts.pop(None, None)
                if counts:
                    places = np.fromiter(counts, np.intp, len(counts))
                    weights = np.fromiter(counts.values(), np.float64, len(counts)) * idf[places]
                    single[i, places] = weights / math.sqrt(float(weights @ weights))
            if column.counts:
                single[i, counted] = counts_of(nfc(cell))
        return single.astype(np.float64)

    return encode


def _table(
    terms: Sequence[str], idf: Sequence[float], first: int
) -> tuple[dict[str, int], NDArray[np.float64]]:
    """The place of each term in the row, and by place its idf."""
    return {term: first + i for i, term in enumerate(terms)}, np.array([0.0] * first + list(idf))
