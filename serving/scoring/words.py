"""The strongest words of a text: how much the score changes when a word is taken out of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from artifact.kinds.text import LETTERS, letters
from serving.scoring.shapley import Ask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Column, Signature
    from serving.scoring.shapley import Dialogue

MAX_TRIED = 64  # words of a text, those of the largest weight
MAX_SHOWN = 10

_WORD = re.compile(r"\w\w+")


class Word(NamedTuple):
    """A word, and the score with it less the score without it."""

    word: str
    contribution: float


def strongest(signature: Signature, row: NDArray[Any], score: float) -> Dialogue[dict[str, list[Word]]]:
    """By text column, the words of a row that change its score most, the strongest first."""
    found: dict[str, list[Word]] = {}
    for column, place in zip(signature.columns, signature.places, strict=True):
        if column.kind != "text":
            continue
        without = _raw_without(row[place.start]) if signature.raw else _terms_without(column, row[place])
        if not without:
            found[column.name] = []
            continue
        names, parts = list(without), list(without.values())

        def make(first: int, last: int, parts: list[Any] = parts, place: slice = place) -> NDArray[Any]:
            rows = np.repeat(row[None], last - first, axis=0)
            for line, part in zip(rows, parts[first:last], strict=True):
                line[place] = part
            return rows

        scores = yield Ask(len(parts), make)
        order = np.argsort(-np.abs(score - scores), kind="stable")[:MAX_SHOWN]
        found[column.name] = [Word(names[i], float(score - scores[i])) for i in order]
    return found


def _terms_without(column: Column, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """By word, the row of the text without it: TF-IDF of length 1 like any other, and the counts unchanged.

    Runs of letters go with a word that has them, unless another word of the text has them too.
    """
    first = len(column.terms)
    weighed = weights[:first]
    there = np.flatnonzero(weighed)
    terms: dict[str, list[int]] = {}
    for i in there[np.argsort(-weighed[there], kind="stable")].tolist():
        term = column.terms[i]
        for word in term.split(" ") if column.units == "words" else (term,):
            terms.setdefault(word, []).append(i)
    last = first + len(column.letters)
    runs = {column.letters[i]: first + i for i in np.flatnonzero(weights[first:last]).tolist()}
    holders: dict[str, set[str]] = {run: set() for run in runs}
    for word in terms if runs else ():
        for run in runs.keys() & set(letters(word, LETTERS[1])):
            holders[run].add(word)
    own: dict[str, list[int]] = {}
    for run, words in holders.items():
        if len(words) == 1:
            own.setdefault(next(iter(words)), []).append(runs[run])
    without: dict[str, NDArray[np.float64]] = {}
    for word, places in list(terms.items())[:MAX_TRIED]:
        left = weights.astype(np.float64)
        left[places + own.get(word, [])] = 0
        for part in (slice(0, first), slice(first, last)):
            length = float(np.sqrt(left[part] @ left[part]))
            if length:
                left[part] /= length
        without[word] = left
    return without


def _raw_without(text: Any) -> dict[str, str]:
    """By word, the text of a model that reads texts itself, without it."""
    if not isinstance(text, str):
        return {}
    words = list(dict.fromkeys(match[0] for match in _WORD.finditer(text)))[:MAX_TRIED]
    return {word: re.sub(rf"\b{re.escape(word)}\b", "", text) for word in words}
