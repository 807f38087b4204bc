"""The rows that are searched, and how they are cut into folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    TimeSeriesSplit,
)

from training.families.layout import Layout, layout_of, of_one_unit
from training.metrics.truth import truth_of
from training.search.choice import LABEL_METRICS
from training.search.trial import SearchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature, Task
    from training.search.spec import SearchSpec

FIRST_FOLDS = 2
"""Folds that run before a trial may be pruned: one for each core of a small machine."""
MAX_SEARCH_ROWS, MIN_SEARCH_ROWS = 10_000, 2_000
MAX_SEARCH_CELLS = 800_000
"""Of a larger table a sample is searched (a text's term is 1/20 of a cell); all rows fit the winner."""
MAX_RANKED_ROWS = 200_000
"""The same for a use case that ranks: in a small sample, most users and items would have few rows."""
ROWS_FOR_FEWER_FOLDS, FEWER_FOLDS = 5_000, 3
ROWS_FOR_REPEATS, REPEATS = 300, 3
"""On fewer rows a single cut into folds says little, so the rows are cut REPEATS times."""
IMBALANCE, WEIGHTED_METRICS = 4.0, LABEL_METRICS - {"accuracy"}
"""Class weights are tried where the commonest class has this many times the rows of the rarest.

For ranking and probability metrics, class weights help only by chance and distort the probabilities.
"""

Fold = tuple["NDArray[np.intp]", "NDArray[np.intp]"]
"""The rows to fit on and the rows to score."""


@dataclass(frozen=True)
class SearchTable:
    """What each fold needs; y are class indices or values."""

    matrix: NDArray[np.float64]
    y: NDArray[Any]
    layout: Layout
    task: Task
    positive: int
    threshold: float | None
    seed: int


def prepare(
    matrix: NDArray[np.float64], labels: Sequence[Any] | NDArray[Any], signature: Signature, spec: SearchSpec
) -> tuple[SearchTable, list[Fold]]:
    truth = truth_of(spec.task, labels, signature.classes, signature.positive, signature.threshold)
    rows = np.arange(len(matrix))
    whole = layout_of(signature, len(rows))
    most = MAX_RANKED_ROWS if spec.pair is not None else MAX_SEARCH_ROWS
    limit = int(np.clip(MAX_SEARCH_CELLS // max(1, whole.cost), MIN_SEARCH_ROWS, most))
    if len(rows) > limit:
        rows = np.sort(np.random.default_rng(spec.seed).choice(len(matrix), limit, replace=False))
    sample, y = np.ascontiguousarray(matrix[rows]), truth.y[rows]
    counts = np.bincount(y, minlength=len(signature.classes)) if signature.classes else np.array([])
    present = counts[counts > 0]
    skewed = bool(len(present)) and present.max() >= IMBALANCE * present.min()
    layout = layout_of(
        signature,
        len(rows),
        weighted=skewed and spec.metric in WEIGHTED_METRICS,
        one_unit=of_one_unit(sample[:, list(whole.numbers)]),
        pair=spec.pair,
        own=spec.own,
        code=spec.code,
    )
    table = SearchTable(
        matrix=sample,
        y=y,
        layout=layout,
        task=spec.task,
        positive=truth.positive,
        threshold=truth.threshold,
        seed=spec.seed,
    )
    count = spec.folds if len(rows) <= ROWS_FOR_FEWER_FOLDS else min(spec.folds, FEWER_FOLDS)
    groups, times = (None if each is None else each[rows] for each in (spec.groups, spec.times))
    return table, _folds(table, max(2, count), groups, times)


def _folds(
    table: SearchTable, count: int, groups: NDArray[Any] | None, times: NDArray[Any] | None
) -> list[Fold]:
    rows, y, classes = len(table.y), table.y, bool(table.layout.classes)
    if rows < 2 * FIRST_FOLDS:
        raise SearchError(f"{rows} rows are left to train on, expected at least {2 * FIRST_FOLDS}")
    count = min(count, rows // 2)
    places = np.zeros((rows, 1))
    if times is not None:
        order = np.argsort(times, kind="stable")
        return [(order[a], order[b]) for a, b in TimeSeriesSplit(count).split(order)]
    if groups is not None:
        count = min(count, len(np.unique(groups)))
        if count < 2:
            raise SearchError("all training rows are of one group, expected two groups or more")
        if not classes:
            return list(GroupKFold(count).split(places, y, groups))
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=table.seed)
        return list(splitter.split(places, y, groups))
    repeats = REPEATS if rows < ROWS_FOR_REPEATS else 1
    if not classes:
        return list(
            RepeatedKFold(n_splits=count, n_repeats=repeats, random_state=table.seed).split(places, y)
        )
    smallest = int(np.bincount(y)[np.unique(y)].min())
    count = max(2, min(count, smallest))
    splitter = RepeatedStratifiedKFold(n_splits=count, n_repeats=repeats, random_state=table.seed)
    return list(splitter.split(places, y))
