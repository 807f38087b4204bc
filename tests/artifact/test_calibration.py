"""Split conformal prediction: pure functions, held against what they promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artifact.calibration import highest_level, intervals, misses, reach, sets
from artifact.signature import Column, Signature

if TYPE_CHECKING:
    from collections.abc import Callable

X = (Column(name="x", kind="number"),)
NUMBER = Signature(task="regression", target="y", columns=X)
LETTERS = Signature(task="multiclass", target="y", columns=X, classes=("a", "b", "c"))


def held_number(scores: Any, truth: Any, within: float) -> Any:
    found = np.array(intervals(scores, within))
    return (found[:, 0] <= truth) & (truth <= found[:, 1])


def held_class(signature: Signature, scores: Any, truth: Any, within: float) -> Any:
    found = sets(signature, scores, within)
    return np.array([signature.classes[t] in each for t, each in zip(truth, found, strict=True)])


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("rows", [40, 200])
def test_intervals_hold_new_outcomes_as_promised_over_200_simulated_splits(level: float, rows: int) -> None:
    """Noise with heavy tails that grows with x, and a model that is wrong: coverage holds all the same."""
    random = np.random.default_rng(int(1000 * level) + rows)
    covered = []
    for _ in range(200):
        x = random.uniform(-1, 1, rows + 500)
        truth = np.sin(3 * x) + random.standard_t(3, len(x)) * (0.2 + abs(x))
        scores = x[:, None]
        within = reach(np.sort(misses(NUMBER, truth[:rows], scores[:rows])), level)
        assert within is not None
        covered.append(float(held_number(scores[rows:], truth[rows:], within).mean()))
    # Exactly between `level` and `level + 1 / (rows + 1)`; chance moves the mean of 200 splits by so much.
    noise = 3 * np.std(covered) / np.sqrt(200)
    assert level - noise <= np.mean(covered) <= level + 1 / (rows + 1) + noise


@pytest.mark.parametrize("level", [0.6, 0.9])
def test_sets_hold_new_outcomes_as_promised_over_200_simulated_splits(level: float) -> None:
    random = np.random.default_rng(int(100 * level))
    covered, sizes = [], []
    for _ in range(200):
        scores = random.dirichlet([1, 1, 1], 400)
        chances = scores**2 / (scores**2).sum(axis=1, keepdims=True)  # the model's own are not calibrated
        truth = (chances.cumsum(axis=1) < random.uniform(size=(400, 1))).sum(axis=1)
        within = reach(np.sort(misses(LETTERS, truth[:100], scores[:100])), level)
        assert within is not None
        covered.append(float(held_class(LETTERS, scores[100:], truth[100:], within).mean()))
        sizes.append(np.mean([len(each) for each in sets(LETTERS, scores[100:], within)]))
    assert np.mean(covered) >= level - 3 * np.std(covered) / np.sqrt(200)
    if level > 0.8:  # a set always has the likeliest class, which holds more than a low level promises
        assert np.mean(covered) <= level + 0.05
    assert np.mean(sizes) < 2.5


BUNDLED: dict[str, Callable[..., Any]] = {
    "breast_cancer": load_breast_cancer,
    "iris": load_iris,
    "wine": load_wine,
    "digits": load_digits,
    "diabetes": load_diabetes,
}


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_sets_are_covered_as_promised(name: str) -> None:
    """A third to fit, a third to calibrate, a third to check, over 20 splits."""
    rows, target = BUNDLED[name](return_X_y=True)
    classes = () if name == "diabetes" else tuple(range(int(target.max()) + 1))
    task: Any = "regression" if not classes else "binary" if len(classes) == 2 else "multiclass"
    signature = Signature(
        task=task, target="y", columns=X, classes=classes, positive=1 if task == "binary" else None
    )
    random = np.random.default_rng(0)
    covered = []
    for _ in range(20):
        fit, calibrate, check = np.array_split(random.permutation(len(rows)), 3)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1) if classes else Ridge())
        model.fit(rows[fit], target[fit])
        score = model.predict_proba if classes else lambda x, model=model: model.predict(x)[:, None]
        within = reach(np.sort(misses(signature, target[calibrate], score(rows[calibrate]))), 0.9)
        assert within is not None
        scores = score(rows[check])
        held = (
            held_class(signature, scores, target[check], within)
            if classes
            else held_number(scores, target[check], within)
        )
        covered.append(float(held.mean()))
    assert np.mean(covered) >= 0.9 - 3 * np.std(covered) / np.sqrt(20)


def test_the_reach_is_the_miss_at_its_place_and_few_rows_promise_less() -> None:
    missed = np.arange(1.0, 10.0)  # nine rows
    assert reach(missed, 0.9) == 9
    assert reach(missed, 0.5) == 5
    assert reach(missed, 0.01) == 1
    assert reach(missed, 0.91) is None
    assert highest_level(9) == pytest.approx(0.9)
    assert reach(np.array([]), 0.5) is None


def test_a_set_is_never_empty_and_has_the_likeliest_class_first() -> None:
    scores = np.array([[0.2, 0.5, 0.3], [0.05, 0.05, 0.9]])
    assert sets(LETTERS, scores, 0.1) == [["b"], ["c"]]
    assert sets(LETTERS, scores, 0.75) == [["b", "c"], ["c"]]


def test_the_label_that_a_model_decides_for_is_no_probability() -> None:
    decided = Signature(task="multiclass", target="y", columns=X, classes=("a", "b"), decided=True)
    scores = np.array([[0.3, 0.7, 0.0]])
    assert misses(decided, np.array([1]), scores).tolist() == [pytest.approx(0.3)]
    assert sets(decided, scores, 0.4) == [["b"]]
