"""Texts: a TF-IDF row over the signature's terms; a missing text has no term."""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.kinds.cell import is_missing, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from artifact.kinds.cell import Encode, Errors
    from artifact.signature import Column

MAX_TERMS = 5_000
LONG_TEXT = 20_000
"""Characters from which the words of a text are counted one by one instead of in a list."""
_WORD = re.compile(r"\w\w+")


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


def learn_text(
    texts: Iterable[str | None], *, ngrams: int = 1, max_terms: int = MAX_TERMS, min_documents: int = 2
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Vocabulary and idf of training texts: the terms in most documents, ln((1 + n) / (1 + df)) + 1 each.

    Returns
    -------
    Terms in alphabetical order and their idf, equally long; no term if none stands in `min_documents`.
    """
    documents: Counter[str] = Counter()
    count = 0
    for text in texts:
        count += 1
        documents.update(set(words(text or "", ngrams)))
    often = ((term, df) for term, df in documents.items() if df >= min_documents)
    kept = sorted(sorted(often, key=lambda pair: (-pair[1], pair[0]))[:max_terms])
    return tuple(term for term, _ in kept), tuple(math.log((1 + count) / (1 + df)) + 1 for _, df in kept)


def encode_column(column: Column) -> Encode:
    index = {term: i for i, term in enumerate(column.terms)}
    idf = np.array(column.idf)

    def encode(cells: Sequence[Any], errors: Errors | None) -> NDArray[np.float64]:
        single = np.zeros((len(cells), len(index)), np.float32)
        for i, cell in enumerate(cells):
            if not isinstance(cell, str) or not cell:
                if errors is not None and not is_missing(cell):
                    errors.add(i, column.name, f"expected a text, got {shown(cell)}", "no_text")
                elif errors is not None and column.missing == "refuse":
                    errors.add(i, column.name, "missing; expected a text", "missing")
                continue
            read = words if len(cell) < LONG_TEXT else _words_one_by_one
            counts = Counter(map(index.get, read(cell, column.ngrams)))
            counts.pop(None, None)
            if counts:
                places = np.fromiter(counts, np.intp, len(counts))
                weights = np.fromiter(counts.values(), np.float64, len(counts)) * idf[places]
                single[i, places] = weights / math.sqrt(float(weights @ weights))
        return single.astype(np.float64)

    return encode
