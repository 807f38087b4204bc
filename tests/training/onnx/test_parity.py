from __future__ import annotations

import numpy as np
import pytest

from tests.training.test_export import CASES, TRAIN, fitted
from training.families.catalog import WRITERS
from training.families.ensemble import ENSEMBLE
from training.onnx.parity import MAX_THRESHOLDS, parity_rows, thresholds


@pytest.mark.parametrize("name", ["boosting", "forest", "tree", ENSEMBLE])
def test_rows_are_placed_at_the_trees_thresholds(name):
    params = next(p for t, i, n, p in CASES if (t, n) == ("binary", name) and i == name)
    made, pipeline = fitted("binary", name, params)
    found = set(thresholds(pipeline, WRITERS))
    assert {made.signature.feature_names[column] for column, _ in found} >= {"number", "skewed"}
    rows = parity_rows(pipeline, WRITERS, made.signature, made.matrix[:TRAIN], made.matrix[TRAIN:])
    column, value = max(found)
    near = np.float32(value)
    for one in (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))):
        assert (rows[:, column] == np.float64(one)).any() or len(found) > MAX_THRESHOLDS
