"""Groups are compared as Fairlearn compares them, and by two columns together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as reference
from fairlearn.metrics import MetricFrame
from sklearn.metrics import mean_absolute_error

from training.metrics.fairness import MIN_GROUP_ROWS, RATES, fairness
from training.metrics.truth import truth_of


def people(rows: int = 600, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Sensitive columns, whether a loan was paid back, and its probability, which is lower for one group."""
    rng = np.random.default_rng(seed)
    sensitive = pd.DataFrame(
        {
            "sex": rng.choice(["f", "m"], rows),
            "origin": rng.choice(["north", "south", "west"], rows, p=[0.5, 0.3, 0.2]),
        }
    )
    paid = rng.random(rows) < 0.5
    chance = np.clip(
        0.5 + 0.2 * (paid - 0.5) - 0.15 * (sensitive["sex"] == "f") + rng.normal(0, 0.15, rows), 0.01, 0.99
    )
    return sensitive, paid, chance.to_numpy(copy=True)


def binary(threshold: float | None = None, seed: int = 0):
    sensitive, paid, chance = people(seed=seed)
    truth = truth_of("binary", paid.tolist(), (False, True), True, threshold)
    return fairness(truth, np.column_stack([1 - chance, chance]), sensitive, (False, True))


@pytest.mark.parametrize("threshold", [None, 0.35, 0.9])
@pytest.mark.parametrize("columns", [("sex",), ("origin",), ("sex", "origin")])
def test_rates_and_disparities_of_two_classes_are_those_of_fairlearn(columns, threshold):
    sensitive, paid, chance = people()
    given = chance >= (0.5 if threshold is None else threshold)
    found = next(each for each in binary(threshold) if each.columns == columns)
    frame = MetricFrame(
        metrics={
            "selection_rate": reference.selection_rate,
            "true_positive_rate": reference.true_positive_rate,
            "false_positive_rate": reference.false_positive_rate,
            "rows": reference.count,
        },
        y_true=paid,
        y_pred=given,
        sensitive_features=sensitive[list(columns)],
    )
    for group in found.groups:
        row = frame.by_group.loc[group.levels if len(columns) == 2 else group.levels[0]]
        assert group.rows == row["rows"]
        for rate in ("selection_rate", "true_positive_rate", "false_positive_rate"):
            assert group.rates[rate].value == pytest.approx(row[rate])
            assert group.rates[rate].low <= row[rate] <= group.rates[rate].high
    assert all(group.judged for group in found.groups)
    expected = {
        name: getattr(reference, name)(paid, given, sensitive_features=sensitive[list(columns)])
        for name in (
            "demographic_parity_difference",
            "demographic_parity_ratio",
            "equalized_odds_difference",
            "equal_opportunity_difference",
        )
    }
    assert {name: found.disparities[name].value for name in expected} == pytest.approx(expected)


def test_each_of_several_classes_is_an_answer_in_question():
    rng = np.random.default_rng(3)
    sensitive, _, _ = people()
    y = rng.integers(0, 3, len(sensitive))
    scores = rng.dirichlet([1, 1, 1], len(y))
    labels = np.array(["low", "middle", "high"], object)[y]
    found = fairness(
        truth_of("multiclass", labels, ("low", "middle", "high")),
        scores,
        sensitive,
        ("low", "middle", "high"),
    )
    assert [each.answer for each in found if each.columns == ("sex",)] == ["low", "middle", "high"]
    for place, each in enumerate(found[:3]):
        given = scores.argmax(axis=1) == place
        assert each.disparities["demographic_parity_difference"].value == pytest.approx(
            reference.demographic_parity_difference(y == place, given, sensitive_features=sensitive["sex"])
        )


def test_a_regression_has_mean_predictions_and_mean_errors():
    sensitive, paid, chance = people()
    actual, predicted = paid * 10.0, chance * 10
    found = fairness(truth_of("regression", actual), predicted[:, None], sensitive)[0]
    of_group = [sensitive["sex"] == level for level in ("f", "m")]
    frame = MetricFrame(
        metrics={"mean_prediction": reference.mean_prediction, "mae": mean_absolute_error},
        y_true=actual,
        y_pred=predicted,
        sensitive_features=sensitive["sex"],
    )
    for group, rows in zip(found.groups, of_group, strict=True):
        expected = frame.by_group.loc[group.levels[0], "mean_prediction"]
        assert group.rates["mean_prediction"].value == pytest.approx(expected)
        assert group.rates["mean_error"].value == pytest.approx((actual - predicted)[rows].mean())
    errors = [(actual - predicted)[rows].mean() for rows in of_group]
    assert found.disparities["mean_error_difference"].value == pytest.approx(abs(errors[0] - errors[1]))


def test_a_small_group_is_shown_and_not_compared():
    sensitive, paid, chance = people()
    sensitive["sex"] = np.where(np.arange(len(paid)) < MIN_GROUP_ROWS - 1, "x", sensitive["sex"])
    chance[: MIN_GROUP_ROWS - 1] = 0.99
    truth = truth_of("binary", paid.tolist(), (False, True), True)
    found = fairness(truth, np.column_stack([1 - chance, chance]), sensitive, (False, True))[0]
    small = next(group for group in found.groups if group.levels == ("x",))
    assert (small.rows, small.judged) == (MIN_GROUP_ROWS - 1, False)
    parity = found.disparities["demographic_parity_difference"]
    assert {parity.highest.levels, parity.lowest.levels} == {("f",), ("m",)}


def test_what_nothing_can_be_said_about_is_undefined():
    """A single group, groups that are all too small, a group without a positive row."""
    _, paid, chance = people(60)
    scores = np.column_stack([1 - chance, chance])
    truth = truth_of("binary", paid.tolist(), (False, True), True)
    one = fairness(truth, scores, pd.DataFrame({"a": ["x"] * 60}), (False, True))
    assert np.isnan([each.value for each in one[0].disparities.values()]).all()
    assert one[0].disparities["demographic_parity_ratio"].words == ""
    sex = np.repeat(["f", "m"], 30)
    paid[:30] = False
    truth = truth_of("binary", paid.tolist(), (False, True), True)
    found = fairness(truth, scores, pd.DataFrame({"sex": sex}), (False, True))
    assert np.isnan(found[0].groups[0].rates["true_positive_rate"].value)
    assert np.isnan(found[0].disparities["equal_opportunity_difference"].value)
    assert found[0].disparities["equalized_odds_difference"].rate == "false_positive_rate"
    assert fairness(truth_of("regression", [1.0, 2.0]), np.ones((2, 1)), pd.DataFrame(index=[0, 1])) == []


def test_intervals_cover_the_true_difference():
    """Over 200 samples of two groups that are selected at rates of 0.5 and 0.3."""
    rng = np.random.default_rng(7)
    inside_rate = inside_gap = 0
    for _ in range(200):
        sex = rng.choice(["f", "m"], 400)
        chance = np.where(rng.random(400) < np.where(sex == "f", 0.3, 0.5), 0.9, 0.1)
        truth = truth_of("binary", (rng.random(400) < chance).tolist(), (False, True), True)
        found = fairness(
            truth, np.column_stack([1 - chance, chance]), pd.DataFrame({"sex": sex}), (False, True)
        )[0]
        rate = found.groups[0].rates["selection_rate"]
        inside_rate += rate.low <= 0.3 <= rate.high
        gap = found.disparities["demographic_parity_difference"]
        inside_gap += gap.low <= 0.2 <= gap.high
    assert 180 <= inside_rate <= 199
    assert 180 <= inside_gap <= 200


def test_calibration_is_the_observed_rate_less_the_predicted_one():
    sensitive, paid, chance = people()
    found = binary()[0]
    for group in found.groups:
        rows = (sensitive["sex"] == group.levels[0]).to_numpy()
        assert group.rates["calibration"].value == pytest.approx(paid[rows].mean() - chance[rows].mean())


def test_columns_come_one_by_one_and_then_in_pairs():
    sensitive, paid, chance = people()
    sensitive["age"] = np.random.default_rng(1).uniform(18, 90, len(paid))
    truth = truth_of("binary", paid.tolist(), (False, True), True)
    found = fairness(truth, np.column_stack([1 - chance, chance]), sensitive, (False, True))
    assert [each.title for each in found] == [
        "sex", "origin", "age", "sex and origin", "sex and age", "origin and age",
    ]  # fmt: skip
    assert all(set(each.groups[0].rates) <= set(RATES) for each in found)
    assert all(one.levels < other.levels for each in found for one, other in pairwise(each.groups))


def test_groups_that_are_treated_alike_rarely_look_different():
    """Over 300 samples, `chance` is at most 0.05 in about one of twenty, and small where they do differ."""
    rng = np.random.default_rng(5)
    few = {"demographic_parity_difference": 0, "demographic_parity_ratio": 0, "calibration_difference": 0}
    for _ in range(300):
        groups = pd.DataFrame({"group": rng.choice(["a", "b", "c"], 300)})
        chance = rng.uniform(0.1, 0.9, 300)
        truth = truth_of("binary", (rng.random(300) < chance).tolist(), (False, True), True)
        (found,) = fairness(truth, np.column_stack([1 - chance, chance]), groups, (False, True))
        for measure in few:
            few[measure] += found.disparities[measure].chance <= 0.05
    assert all(5 <= count <= 28 for count in few.values()), few
    assert binary()[0].disparities["demographic_parity_difference"].chance < 0.01
