from __future__ import annotations

import numpy as np
import pytest

from tests.training.metrics.test_metric import RNG, classes_and_scores
from training.metrics.intervals import paired_gain


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "log_loss"])
def test_a_better_model_gains_and_a_copy_does_not(metric):
    y, noisy = classes_and_scores(2, 400)
    good = 0.5 * noisy + 0.5 * np.eye(2)[y]
    gain, low, high = paired_gain(metric, y, good, noisy, classes=(0, 1), positive=1, n=200)
    assert 0 < low <= gain <= high
    assert paired_gain(metric, y, noisy, noisy, classes=(0, 1), positive=1, n=50) == (0.0, 0.0, 0.0)
    assert paired_gain(metric, y, noisy, good, classes=(0, 1), positive=1, n=200)[2] < 0


def test_the_gain_of_a_regression_is_positive_where_the_error_falls():
    y = RNG.normal(size=200)
    near, far = (y + 0.1 * RNG.normal(size=200))[:, None], (y + RNG.normal(size=200))[:, None]
    assert paired_gain("rmse", y, near, far, n=100)[1] > 0
