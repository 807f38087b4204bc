from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.training.metrics.test_metric import classes_and_scores
from training.metrics.metric import metrics
from training.metrics.slices import slices


def test_slices_show_each_level_and_quartiles_of_numbers():
    y, scores = classes_and_scores(2, 80)
    sensitive = pd.DataFrame({"sex": ["f", "m"] * 40, "age": np.linspace(18, 90, 80)})
    found = slices("accuracy", y, scores, sensitive, task="binary", classes=(0, 1), positive=1)
    assert [(each.level, each.rows) for each in found if each.column == "sex"] == [("f", 40), ("m", 40)]
    assert [each.rows for each in found if each.column == "age"] == [20] * 4
    whole = metrics("binary", y, scores, (0, 1), 1)["accuracy"]
    assert np.mean([each.value for each in found if each.column == "sex"]) == pytest.approx(whole)
