"""The distribution of each column and score in training, which a server measures drift against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Signature

HISTOGRAM_BINS = 10
MAX_REFERENCE_TERMS = 50


def reference(
    signature: Signature, matrix: NDArray[np.float64], scores: NDArray[np.float64]
) -> dict[str, Any]:
    """The distribution of each raw column and score: edges and counts.

    `scores` must be of rows that the estimator was not fitted on, since its scores of others are too extreme.

    Returns
    -------
    `rows`; `columns`: by name `{"kind", "missing", ...}` with `edges` and `counts` for numbers (deciles; the
    outer bins are open) and each part of a date, `categories` and `counts` for categories, and for text the
    fraction of rows with each of the commonest terms, and for pictures the deciles of the mean of their
    features; `scores`: by class or number, `edges` and
    `counts`.
    """
    columns: dict[str, Any] = {}
    start = 0
    for column in signature.columns:
        part = matrix[:, start : start + column.width]
        start += column.width
        if column.kind == "number":
            columns[column.name] = {"kind": "number", **_histogram(part[:, 0])}
        elif column.kind == "category":
            codes = part[:, 0].astype(int)
            known = (codes >= 0) & (codes < len(column.categories))  # an unknown one may have a code too
            counts = np.bincount(codes[known], minlength=len(column.categories))
            columns[column.name] = {
                "kind": "category",
                "missing": int((~known).sum()),
                "categories": list(column.categories),
                "counts": counts.tolist(),
            }
        elif column.kind == "date":
            parts = {name: _histogram(part[:, i]) for i, name in enumerate(column.parts)}
            columns[column.name] = {"kind": "date", "parts": parts}
        elif column.kind == "image":
            columns[column.name] = {"kind": "image", **_histogram(part.mean(axis=1))}
        else:
            terms = part[:, : len(column.terms)]
            fractions = (terms > 0).mean(axis=0) if len(part) else np.zeros(len(column.terms))
            often = np.argsort(-fractions, kind="stable")[:MAX_REFERENCE_TERMS]
            columns[column.name] = {
                "kind": "text",
                "missing": int((~part.any(axis=1)).sum()),
                "terms": {column.terms[i]: float(fractions[i]) for i in often},
            }
    names = [str(label) for label in signature.classes] or list(signature.numbers) or [signature.target]
    if signature.classes:
        edges = np.linspace(0, 1, 2 * HISTOGRAM_BINS + 1)
        figures = {
            name: {
                "edges": edges.tolist(),
                "counts": np.histogram(scores[:, i].clip(0, 1), edges)[0].tolist(),
            }
            for i, name in enumerate(names)
        }
    else:
        figures = {name: _histogram(scores[:, i]) for i, name in enumerate(names)}
    return {"rows": len(matrix), "columns": columns, "scores": figures}


def _histogram(values: NDArray[np.float64]) -> dict[str, Any]:
    """Counts between the deciles; `edges` has only the inner edges, so there is one more count than edges."""
    there = values[np.isfinite(values)]
    inner = np.linspace(0, 1, HISTOGRAM_BINS + 1)[1:-1]
    edges = np.unique(np.quantile(there, inner)) if there.size else np.array([])
    counts = np.bincount(np.searchsorted(edges, there, side="left"), minlength=len(edges) + 1)
    return {"missing": int(len(values) - there.size), "edges": edges.tolist(), "counts": counts.tolist()}
