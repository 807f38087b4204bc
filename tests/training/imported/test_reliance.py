"""What a model that was made elsewhere relies on: bounded in rows and time, and a reason where it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from artifact.signature import Column, Signature
from training.imported.reliance import MAX_ROWS, MAX_SCORED_ROWS, MIN_ROWS, reliance

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNATURE = Signature(
    task="regression",
    target="y",
    columns=tuple(Column(name=f"x{i}", kind="number") for i in range(5)),
    raw=True,
)
ROWS = np.random.default_rng(1).normal(size=(5_000, 5))
TRUTH = ROWS @ [3.0, 2.0, 1.0, 0.0, 0.0]


class Counted:
    """A model that counts its calls and the rows of each."""

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self.answer = answer or (lambda rows: (rows @ [3.0, 2.0, 1.0, 0.0, 0.0])[:, None])
        self.rows: list[int] = []

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.rows.append(len(rows))
        return self.answer(rows)


def test_a_quick_model_is_measured_in_few_calls():
    model = Counted()
    found = reliance(model, ROWS, TRUTH, SIGNATURE, "r2", row_s=1e-6)
    assert [each.column for each in found.importances[:3]] == ["x0", "x1", "x2"]
    assert len(found.dependences) == 4
    assert found.robust is not None
    assert len(model.rows) < 150
    assert sum(model.rows) <= 2 * MAX_SCORED_ROWS + MAX_ROWS


@pytest.mark.parametrize("row_s", [0.0005, 0.002, 0.003])
def test_a_slow_model_is_measured_on_fewer_rows(row_s: float):
    model = Counted()
    found = reliance(model, ROWS, TRUTH, SIGNATURE, "r2", row_s=row_s)
    assert found.importances[0].column == "x0"
    assert found.importances[0].error > 0
    assert sum(model.rows) * row_s < 30


def test_a_model_that_is_too_slow_says_so():
    model = Counted()
    found = reliance(model, ROWS, TRUTH, SIGNATURE, "r2", row_s=2.5)
    assert model.rows == []
    assert found.unmeasured.startswith("a row takes 2,500 ms")
    few = reliance(Counted(), ROWS[:5], TRUTH[:5], SIGNATURE, "rmse", row_s=0.01)
    assert not few.unmeasured, "a small table needs few rows"
    assert MIN_ROWS > 5


def test_a_model_that_fails_on_mixed_rows_says_why():
    def only_as_they_came(rows: np.ndarray) -> np.ndarray:
        known = {row.tobytes() for row in ROWS}
        if any(row.tobytes() not in known for row in rows):
            raise KeyError("no such pair")
        return rows[:, :1]

    found = reliance(Counted(only_as_they_came), ROWS, TRUTH, SIGNATURE, "r2", row_s=1e-6)
    assert "no such pair" in found.unmeasured
    nan = reliance(Counted(lambda rows: rows[:, :1] * np.nan), ROWS, TRUTH, SIGNATURE, "r2", row_s=1e-6)
    assert "no finite number" in nan.unmeasured
