from __future__ import annotations

import numpy as np

from artifact.signature import Column, Signature
from tests.training.made_tables import messy
from training.metrics.importances import importances


def test_importance_finds_the_column_that_counts():
    made = messy("binary", texts=False)
    place = made.signature.feature_names.index("skewed")

    def score(matrix: np.ndarray) -> np.ndarray:
        yes = 1 / (1 + np.exp(-(np.log(matrix[:, place]) - 2)))
        return np.column_stack([1 - yes, yes])

    found = importances(score, made.matrix, made.labels, made.signature, "roc_auc")
    assert found[0].column == "skewed"
    assert found[0].mean > 0.05
    assert all(each.mean == 0 for each in found[1:])


def test_every_importance_has_an_interval_however_many_columns_there_are():
    """Rows become fewer, and shuffles never fewer than an interval needs."""
    columns = tuple(Column(name=f"x{i}", kind="number") for i in range(120))
    signature = Signature(task="regression", target="y", columns=columns)
    matrix = np.random.default_rng(0).normal(size=(900, 120))
    scored = []

    def score(rows: np.ndarray) -> np.ndarray:
        scored.append(len(rows))
        return rows.sum(axis=1, keepdims=True)

    found = importances(score, matrix, matrix.sum(axis=1), signature, "r2")
    assert len(found) == 120
    assert all(each.error > 0 for each in found)
    assert sum(scored) <= 55_000
