from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.training.made_tables import messy
from tests.training.search.test_search import run
from training.search.choice import measurably, sound_trials


def test_a_winner_by_ranks_has_probabilities_that_are_worth_something():
    """What ranks best and says 0.3 to 0.5 of all alike gives labels that nobody can use."""
    made = messy("binary", 200)
    found = run(made, metric="roc_auc", ensemble=False)
    assert np.isfinite(found.best.brier)
    flat = replace(found.best, number=99, score=1.0, brier=found.best.brier + 0.2 * found.baseline.brier)
    sharp = replace(flat, number=98, score=0.99, brier=found.best.brier + 0.05 * found.baseline.brier)
    trials = [*found.trials, flat, sharp]
    assert sharp in (sound := sound_trials(trials, "roc_auc", found.baseline))
    assert flat not in sound
    assert sound_trials(trials, "f1", found.baseline) == trials


def test_better_by_less_than_the_folds_noise_is_not_measurably_better():
    assert measurably((0.9, 0.92, 0.91), (0.8, 0.82, 0.81), 1 / 3)
    assert not measurably((0.9, 0.8, 0.85), (0.8, 0.9, 0.84), 1 / 3)
    assert measurably((1.0, 1.1), (2.0, 2.2), 1 / 2, sign=-1)
