"""The metric on the rows where a sensitive column has one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from training.metrics.metric import METRICS
from training.metrics.truth import truth_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from artifact.signature import Label


@dataclass(frozen=True)
class SliceFigure:
    """The metric where a sensitive column has one value."""

    column: str
    level: str
    rows: int
    value: float


def slices(
    metric: str,
    y: Sequence[Any] | NDArray[Any],
    scores: NDArray[np.float64],
    sensitive: Any,
    *,
    task: str,
    classes: Sequence[Label] = (),
    positive: Label | None = None,
    threshold: float | None = None,
    max_levels: int = 12,
) -> list[SliceFigure]:
    """The metric for each level of each sensitive column (a data frame, one row a score).

    Numbers of many values are cut at their quartiles. All but the most frequent levels together
    are "other".
    """
    truth = truth_of(task, y, classes, positive, threshold)
    found: list[SliceFigure] = []
    for name in sensitive.columns:
        levels = levels_of(sensitive[name], max_levels)
        for level in sorted(set(levels)):
            rows = np.flatnonzero(np.array([each == level for each in levels]))
            value = METRICS[metric].compute(truth.at(rows), scores[rows])
            found.append(SliceFigure(str(name), level, len(rows), value))
    return found


def levels_of(column: Any, max_levels: int) -> list[str]:
    """The level of each cell: a text, a range between quartiles, "missing", or "other" where it is rare."""
    missing = column.isna().to_numpy()
    if column.dtype.kind in "fiu" and column.nunique() > max_levels:
        values = column.to_numpy(np.float64)
        edges = np.unique(np.quantile(values[~missing], [0.0, 0.25, 0.5, 0.75, 1.0]))
        place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        return [
            "missing" if gone else f"{edges[i]:g} to {edges[i + 1]:g}"
            for i, gone in zip(place, missing, strict=True)
        ]
    spelt = ["missing" if gone else str(cell) for cell, gone in zip(column, missing, strict=True)]
    counts: dict[str, int] = {}
    for level in spelt:
        counts[level] = counts.get(level, 0) + 1
    kept = set(sorted(counts, key=lambda level: (-counts[level], level))[:max_levels])
    return [level if level in kept else "other" for level in spelt]
