from __future__ import annotations

import numpy as np
import pytest

from artifact.signature import Column, Signature
from training.metrics.dependence import MAX_COLUMNS, dependences
from training.metrics.robustness import REPEATS, robustness

COLUMNS = (
    Column(name="size", kind="number", offset=100.0),
    Column(name="colour", kind="category", categories=("red", "blue"), mode="red"),
    Column(name="note", kind="text", terms=("a", "b"), idf=(1.0, 1.0)),
    Column(name="weight", kind="number"),
)
SIGNATURE = Signature(task="binary", target="y", columns=COLUMNS, classes=("no", "yes"), positive="yes")
NUMBER = Signature(task="regression", target="y", columns=COLUMNS)


def rows(count: int = 200) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.column_stack(
        [random.normal(size=count), random.integers(0, 2, count), np.zeros((count, 2)), np.ones(count)]
    )


def step(matrix: np.ndarray) -> np.ndarray:
    yes = (matrix[:, 0] > 0).astype(float)
    return np.column_stack([1 - yes, yes])


def test_labels_near_the_border_change_and_others_do_not():
    """A fraction of about 0.01 * sqrt(2 / pi) * density at the border lies within the noise."""
    found = robustness(step, rows(5000), SIGNATURE)
    assert found.rows == 500 * REPEATS
    assert 0 < found.changed < 0.02
    assert robustness(lambda matrix: step(matrix + 10), rows(), SIGNATURE).changed == 0


def test_a_regression_is_measured_against_the_spread_of_its_predictions():
    found = robustness(lambda matrix: 5 * matrix[:, :1], rows(), NUMBER)
    assert found.changed == pytest.approx(0.01 * np.sqrt(2 / np.pi), rel=0.2)


def test_only_numbers_that_vary_get_noise():
    seen = []

    def score(matrix):
        seen.append(matrix)
        return step(matrix)

    robustness(score, rows(), SIGNATURE)
    before, after = np.tile(seen[0], (REPEATS, 1)), np.concatenate(seen[1:])
    assert (before[:, 1:] == after[:, 1:]).all()
    assert (before[:, 0] != after[:, 0]).mean() > 0.99
    assert robustness(step, np.zeros((10, 5)), SIGNATURE) is None


def test_a_curve_has_the_mean_score_at_each_value():
    found = dependences(
        lambda matrix: matrix[:, :1] * 2 + matrix[:, 1:2], rows(), NUMBER, ["note", "colour", "size"]
    )
    assert [each.column for each in found] == ["colour", "size"]
    assert found[0].values == ("red", "blue")
    assert found[0].scores[1] - found[0].scores[0] == pytest.approx(1)
    slope = np.diff(found[1].scores[:, 0]) / np.diff(found[1].values)
    assert slope == pytest.approx(2, rel=1e-3)
    assert min(found[1].values) > 90, "as a client sends them, not as the matrix has them"


def test_a_column_that_never_varies_has_no_curve_and_few_columns_have_one():
    assert dependences(step, rows(), SIGNATURE, ["weight"]) == []
    wide = Signature(
        task="regression", target="y", columns=tuple(Column(name=f"c{i}", kind="number") for i in range(9))
    )
    matrix = np.random.default_rng(0).normal(size=(50, 9))
    assert len(dependences(lambda m: m[:, :1], matrix, wide, [f"c{i}" for i in range(9)])) == MAX_COLUMNS
