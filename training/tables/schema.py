"""From a cleaned table to the signature of the model that is trained on it."""

from collections import Counter
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact.encode import learn_text
from artifact.kinds.image import GREY, SIDE, cell_of, content_of, square_of
from artifact.kinds.text import LETTERS, terms_in, units_of
from artifact.signature import Column, DatePart, Signature
from training.tables.data import Table
from training.tables.float32 import offset_of
from training.tables.views import best_views

MAX_TEXT_CELLS = 20_000_000  # of the encoded matrix, all text columns together
MAX_TEXT_TERMS = 2_000  # of one column; artifact.encode allows 5,000, trees crawl there
MAX_PLAIN_CATEGORIES = 200  # beyond these, one that was seen once has no code of its own
WORD_NGRAMS = 2
CHARACTER_NGRAMS = 3
MAX_LETTERS, MIN_LETTERS = 5_000, 200  # runs of letters of one column; fewer than MIN_LETTERS are left out
MAX_EXAMPLE_CELLS = 2_000  # texts or pictures that a made example is learnt from
EXAMPLE_TERMS = 4


def signature_of(table: Table, train: NDArray[np.bool_]) -> Signature:
    """What a model of `table` takes and gives, learnt from its training rows alone.

    Only whether a column may be missing is read off the whole table.

    Parameters
    ----------
    train
        Shape (rows,): the rows that a model learns from.
    """
    use_case = table.use_case
    texts = sum(kind == "text" for kind in table.kinds.values())
    columns = []
    for name in table.frame.columns:
        values = table.frame[name]
        missing = use_case.missing.get(name) or ("allow" if values.isna().any() else "refuse")
        common: dict[str, Any] = {
            "name": str(name),
            "kind": table.kinds[name],
            "missing": missing,
            "marks": table.marks.get(name, ()),
            **table.spelling.get(name, {}),
        }
        seen = values[train].dropna()
        match table.kinds[name]:
            case "number":
                numbers = seen.to_numpy()
                column = Column(**common, **_bounds(numbers), offset=offset_of(numbers))
            case "category":
                ranked = use_case.rank is not None and name in use_case.rank.pair
                column = _category(seen, common, use_case.unknown.get(name), keep_all=ranked)
            case "text":
                labels = table.target if table.target.ndim == 1 else np.zeros(table.rows)
                said = labels[train][values[train].notna().to_numpy()]
                column = _text(seen, said, common, max_terms=MAX_TEXT_CELLS // (table.rows * texts))
            case "image":
                column = _image(seen, table.target[train][values[train].notna().to_numpy()], common)
            case "date":
                column = _date(seen, common, table.date_formats.get(name, ()))
        columns.append(column)
    return Signature(
        task=table.task,
        target=use_case.target,
        columns=tuple(columns),
        classes=table.classes,
        positive=table.positive,
        threshold=use_case.threshold if table.task == "binary" else None,
        ignored=table.ignored,
        # No log holds a picture: it would be as large as the rest of the log together.
        sensitive=(*use_case.sensitive, *(name for name, kind in table.kinds.items() if kind == "image")),
        numbers=(use_case.targets or (use_case.target,)) if table.task == "scores" else (),
    )


def _bounds(values: NDArray[np.float64]) -> dict[str, Any]:
    if not len(values):
        return {}
    return {
        "integer": bool((values == np.round(values)).all()),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "median": float(f"{np.median(values):.12g}"),  # 8.15, not 8.149999999999999
    }


def _category(
    seen: "pd.Series[Any]",
    common: dict[str, Any],
    unknown: Literal["refuse", "missing"] | None,
    *,
    keep_all: bool = False,
) -> Column:
    """Codes by frequency. If none was seen but once, then, after Good and Turing, no others are to come."""
    counts = Counter(seen.tolist())
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    once = sum(count == 1 for count in counts.values())
    policy = unknown or ("refuse" if counts and not once else "missing")
    if policy == "missing" and not keep_all and len(ordered) > MAX_PLAIN_CATEGORIES:
        ordered = [name for name in ordered if counts[name] > 1] or ordered
    return Column(**common, unknown=policy, categories=tuple(ordered), mode=ordered[0] if ordered else None)


def _text(seen: "pd.Series[Any]", target: NDArray[Any], common: dict[str, Any], max_terms: int) -> Column:
    documents = max(2, len(seen) // 1_000)
    units = units_of(seen)
    ngrams = CHARACTER_NGRAMS if units == "characters" else WORD_NGRAMS
    terms, idf = learn_text(
        seen,
        ngrams=ngrams,
        units=units,
        max_terms=max(1, min(max_terms, MAX_TEXT_TERMS)),
        min_documents=documents,
    )
    if not terms:
        terms, idf = learn_text(seen, ngrams=1, units=units, max_terms=100, min_documents=1)
    letters: tuple[str, ...] = ()
    letter_idf: tuple[float, ...] = ()
    if units == "words" and min(max_terms, MAX_LETTERS) >= MIN_LETTERS:
        letters, letter_idf = learn_text(
            seen,
            ngrams=LETTERS[1],
            units="letters",
            max_terms=min(max_terms, MAX_LETTERS),
            min_documents=documents,
        )
    if len(letters) < MIN_LETTERS:
        letters, letter_idf = (), ()
    column = Column(
        **common,
        terms=terms,
        idf=idf,
        ngrams=ngrams,
        units=units,
        letters=letters,
        letter_idf=letter_idf,
        counts=True,
    )
    return msgspec.structs.replace(column, mode=_example(column, seen, target))


def _example(column: Column, seen: "pd.Series[Any]", target: NDArray[Any]) -> str:
    """A text that nobody wrote, as a person might send it: a few terms that tell the target's values apart.

    A regression's target counts as two classes, above and below its median.
    """
    texts, values = seen.to_numpy()[:MAX_EXAMPLE_CELLS], target[:MAX_EXAMPLE_CELLS]
    if values.dtype.kind == "f":
        values = values > np.median(values)
    parts = set if column.units == "characters" else _words
    found = [set(terms_in(text, column.ngrams, column.units)) for text in texts]
    counts: dict[Any, Counter[str]] = {}
    for value, terms in zip(values.tolist(), found, strict=True):
        counts.setdefault(value, Counter()).update(terms)
    everywhere: Counter[str] = sum(counts.values(), Counter())
    best: tuple[float, list[str]] = (0.0, [])
    for value, own in counts.items():
        rows = int((values == value).sum())
        others = max(1, len(values) - rows)
        tells = {
            term: count / rows - (everywhere[term] - count) / others
            for term, count in own.items()
            if len(term) > 1
        }
        ordered = sorted(tells, key=lambda term: (-tells[term], -len(term), term))
        chosen: list[str] = []
        for term in ordered:
            if not any(parts(term) & parts(other) for other in chosen):
                chosen.append(term)
            if len(chosen) == EXAMPLE_TERMS:
                break
        strength = sum(tells[term] for term in chosen)
        if strength > best[0]:
            best = (strength, chosen)
    return (" " if column.units == "words" else "，").join(best[1])


def _image(seen: "pd.Series[Any]", target: NDArray[Any], common: dict[str, Any]) -> Column:
    """The views that tell the target's values apart, and as an example the mean of all pictures, small."""
    cells = seen.tolist()
    if target.ndim > 1:
        target = target[:, 0]
    views, _ = best_views(cells, target)
    few = cells[:: max(1, len(cells) // MAX_EXAMPLE_CELLS)]
    mean = np.mean([square_of(content_of(cell)).astype(np.float64) for cell in few], axis=0)
    small = mean.reshape(GREY, SIDE // GREY, GREY, SIDE // GREY, 3).mean(axis=(1, 3))
    return Column(**common, views=views, mode=cell_of(small.round().astype(np.uint8)))


def _words(term: str) -> set[str]:
    return set(term.split())


def _date(seen: "pd.Series[Any]", common: dict[str, Any], formats: tuple[str, ...]) -> Column:
    moments = pd.DatetimeIndex(pd.to_datetime(seen, format="ISO8601"))
    names = {"weekday": "day_of_week"}  # what pandas calls it
    parts: tuple[DatePart, ...] = tuple(
        part for part in get_args(DatePart) if len(set(getattr(moments, names.get(part, part)))) > 1
    )
    middle = sorted(seen)[len(seen) // 2] if len(seen) else None
    return Column(**common, parts=parts or ("year",), formats=formats, middle=middle)
