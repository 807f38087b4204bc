from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from tests.training.made_tables import messy
from training.metrics.importances import importances
from training.metrics.intervals import paired_gain
from training.metrics.metric import METRICS, metrics
from training.metrics.slices import slices
from training.metrics.truth import class_indices, truth_of
from training.plots import plots
from training.search.trial import Trial

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


def test_true_is_not_one():
    assert class_indices([True, 1], (1, True)).tolist() == [1, 0]
    with pytest.raises(ValueError, match="'maybe' is not one of"):
        class_indices(["maybe"], ("no", "yes"))


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


def test_slices_show_each_level_and_quartiles_of_numbers():
    y, scores = classes_and_scores(2, 80)
    sensitive = pd.DataFrame({"sex": ["f", "m"] * 40, "age": np.linspace(18, 90, 80)})
    found = slices("accuracy", y, scores, sensitive, task="binary", classes=(0, 1), positive=1)
    assert [(each.level, each.rows) for each in found if each.column == "sex"] == [("f", 40), ("m", 40)]
    assert [each.rows for each in found if each.column == "age"] == [20] * 4
    whole = metrics("binary", y, scores, (0, 1), 1)["accuracy"]
    assert np.mean([each.value for each in found if each.column == "sex"]) == pytest.approx(whole)


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


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_task_has_its_pictures(task, tmp_path):
    made = messy(task, 60)
    truth = truth_of(task, made.labels, made.signature.classes, made.signature.positive)
    scores = np.eye(len(made.signature.classes))[truth.y] if made.signature.classes else made.labels[:, None]
    metric = "r2" if task == "regression" else "accuracy"
    trials = [
        Trial(0, "linear", {}, (0.8,), 0.8, 1.0, "complete"),
        Trial(1, "tree", {}, (0.7,), 0.7, 1.0, "pruned"),
        Trial(2, "svm", {}, (), float("nan"), 1.0, "failed"),
    ]
    found = plots(made.signature, made.labels, scores, metric=metric, trials=trials)
    assert found.keys() >= ({"predictions", "residuals"} if task == "regression" else {"roc", "confusion"})
    for name, figure in found.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


def test_every_metric_says_whether_higher_is_better():
    lower = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert lower == {"log_loss", "brier", "mae", "rmse"}
