"""Explanations as the reply has them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Signature
    from serving.protocols.options import Query
    from serving.scoring.catalog import LiveModel
    from serving.scoring.explain import ExplainedScores, RowExplanation


def explanations(model: LiveModel, query: Query, scores: ExplainedScores) -> list[dict[str, Any]]:
    """One object a row, in the order of the rows."""
    signature = model.signature
    predictions = scores.labels(0, query.n, query.threshold)
    rows = np.asarray(query.rows)
    return [
        _explanation(signature, row, prediction, made)
        for row, prediction, made in zip(rows, predictions, scores.explanations, strict=True)
    ]


def _explanation(
    signature: Signature, row: NDArray[Any], prediction: Any, made: RowExplanation
) -> dict[str, Any]:
    found = made.attribution
    values = _values(signature, row)
    shown: list[dict[str, Any]] = []
    for i in np.argsort(-np.abs(found.contributions), kind="stable").tolist():
        name = signature.names[i]
        each: dict[str, Any] = {"column": name}
        if name in values:
            each["value"] = values[name]
        each["contribution"] = float(found.contributions[i])
        if name in made.words:
            each["words"] = [word._asdict() for word in made.words[name]]
        shown.append(each)
    answer: dict[str, Any] = {"prediction": prediction}
    if made.label is not None:
        answer["class"] = (signature.classes or signature.numbers)[made.label]
    return answer | {
        "score": found.score,
        "base": found.base,
        "error": found.error,
        "method": "exact" if found.exact else "sampled",
        "contributions": shown,
    }


def _values(signature: Signature, row: NDArray[Any]) -> dict[str, Any]:
    """By column, the value of a number or a category that the model was given; null if missing."""
    values: dict[str, Any] = {}
    for column, place in zip(signature.columns, signature.places, strict=True):
        cell = row[place.start]
        if column.kind == "number":
            number = float(cell)
            # The matrix has float32, whose seven digits are close to the number that was sent.
            shown = number + column.offset if signature.raw else float(f"{number + column.offset:.7g}")
            values[column.name] = shown if math.isfinite(shown) else None
        elif column.kind == "category":
            if signature.raw:
                values[column.name] = cell if isinstance(cell, str) else None
            else:
                code = int(cell)
                known = 0 <= code < len(column.categories)
                values[column.name] = column.categories[code] if known else None
    return values
