"""What the card says of a model beside its figures."""

from __future__ import annotations

import numpy as np
import pytest

from artifact.calibration import misses, reach, sets
from artifact.signature import Column, Signature
from training.card import coverage_lines
from training.metrics.conformal import Coverage

COLUMNS = (Column(name="x", kind="number"),)
CLASSES = Signature(task="binary", target="y", columns=COLUMNS, classes=(0, 1), positive=1)
NUMBER = Signature(task="regression", target="y", columns=COLUMNS)


@pytest.mark.parametrize(("signature", "said"), [(CLASSES, "of a rare class"), (NUMBER, "each kind of row")])
def test_the_card_says_for_which_rows_the_chance_holds(signature: Signature, said: str):
    lines = coverage_lines([Coverage(0.9, 0.91, 1.0)], signature)
    assert lines[-3] == "| 0.9 | 0.910 | 1 |"
    assert said in lines[-1]


def test_sets_hold_their_level_over_all_rows_and_not_in_a_rare_class():
    """Why the card says so: 1 row in 100 is positive, and the promise is kept by the others."""
    random = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        positive = (random.random(count) < 0.01).astype(int)
        seen = random.normal(size=count) + 2 * positive
        chance = 1 / (1 + np.exp(-(2 * seen - 2 + np.log(0.01 / 0.99))))
        return positive, np.column_stack([1 - chance, chance])

    truth, scores = draw(2_000)
    within = reach(np.sort(misses(CLASSES, truth, scores)), 0.9)
    truth, scores = draw(20_000)
    held = np.array(
        [label in found for label, found in zip(truth, sets(CLASSES, scores, within), strict=True)]
    )
    assert held.mean() >= 0.9
    assert held[truth == 1].mean() < 0.5
