from __future__ import annotations

import numpy as np

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
