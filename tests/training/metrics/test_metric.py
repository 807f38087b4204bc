from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from training.metrics.metric import METRICS, metrics

RNG = np.random.default_rng(0)


def classes_and_scores(k: int, rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    y = RNG.integers(0, k, rows)
    raw = RNG.random((rows, k)).round(2) + 0.01 + np.eye(k)[y] * 0.4
    return y, raw / raw.sum(axis=1, keepdims=True)


def test_binary_metrics_are_those_of_scikit_learn():
    y, scores = classes_and_scores(2)
    labels = np.array(["no", "yes"], object)[y]
    found = metrics("binary", labels, scores, ("no", "yes"), "yes")
    predicted = scores.argmax(axis=1)
    expected = {
        "accuracy": reference.accuracy_score(y, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(y, predicted),
        "precision": reference.precision_score(y, predicted),
        "recall": reference.recall_score(y, predicted),
        "f1": reference.f1_score(y, predicted),
        "f1_macro": reference.f1_score(y, predicted, average="macro"),
        "roc_auc": reference.roc_auc_score(y, scores[:, 1]),
        "average_precision": reference.average_precision_score(y, scores[:, 1]),
        "log_loss": reference.log_loss(y, scores),
        "brier": reference.brier_score_loss(y, scores[:, 1]),
    }
    assert found == pytest.approx(expected)


def test_multiclass_metrics_are_the_means_of_the_classes():
    y, scores = classes_and_scores(4)
    found = metrics("multiclass", y, scores, (0, 1, 2, 3))
    predicted = scores.argmax(axis=1)
    assert (
        found["f1"] == found["f1_macro"] == pytest.approx(reference.f1_score(y, predicted, average="macro"))
    )
    assert found["precision"] == pytest.approx(reference.precision_score(y, predicted, average="macro"))
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(y, scores, multi_class="ovr"))
    assert found["log_loss"] == pytest.approx(reference.log_loss(y, scores))


def test_regression_metrics_are_those_of_scikit_learn():
    y = RNG.normal(size=50)
    scores = (y + RNG.normal(size=50))[:, None]
    assert metrics("regression", y, scores) == pytest.approx(
        {
            "mae": reference.mean_absolute_error(y, scores[:, 0]),
            "rmse": reference.root_mean_squared_error(y, scores[:, 0]),
            "r2": reference.r2_score(y, scores[:, 0]),
        }
    )


def test_the_positive_label_and_threshold_decide_what_precision_means():
    labels = ["ill", "well", "ill", "well"]
    scores = np.array([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1], [0.35, 0.65]])
    found = metrics("binary", labels, scores, ("ill", "well"), "ill", threshold=0.3)
    assert (found["recall"], found["precision"]) == (1.0, pytest.approx(2 / 3))


def test_a_metric_that_is_undefined_is_nan_and_no_error():
    found = metrics("binary", [1, 1], np.array([[0.2, 0.8], [0.6, 0.4]]), (0, 1), 1)
    assert np.isnan(found["roc_auc"])
    assert found["accuracy"] == 0.5


def test_every_metric_says_whether_higher_is_better():
    lower = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert lower == {"log_loss", "brier", "mae", "rmse"}
