from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.training.made_tables import messy
from tests.training.search.test_search import run
from training.families.ensemble import ENSEMBLE
from training.families.layout import layout_of
from training.search.choice import best_trial, cost_level, measurably, sound_trials
from training.search.trial import Trial, row_ms_of


def test_a_winner_by_ranks_has_probabilities_that_are_worth_something():
    """What ranks best and says 0.3 to 0.5 of all alike gives labels that nobody can use."""
    made = messy("binary", 200)
    found = run(made, metric="roc_auc", trials=5, ensemble=False)
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


def trial(number, family, folds, **changed):
    known = {"log_loss": 0.3, "brier": 0.1} | changed
    return Trial(number, family, {}, tuple(folds), float(np.mean(folds)), 1.0, "complete", **known)


def test_a_winner_by_ranks_has_a_log_loss_near_that_of_others_within_noise():
    """Of two that rank alike, the one whose probabilities are a quarter worse is not the better one."""
    blunt = trial(0, "svm", (0.952, 0.958, 0.951), log_loss=0.4)
    sharp = trial(1, "boosting", (0.951, 0.956, 0.952), log_loss=0.3)
    assert best_trial([blunt, sharp], "roc_auc", 0.5) is sharp
    nearly = replace(blunt, log_loss=0.37)
    assert best_trial([nearly, sharp], "roc_auc", 0.5) is nearly
    ranked = replace(blunt, fold_scores=(0.981, 0.986, 0.982), score=0.983)
    assert best_trial([ranked, sharp], "roc_auc", 0.5) is ranked
    assert best_trial([replace(blunt, log_loss=float("nan")), sharp], "roc_auc", 0.5).number == 0


def test_within_noise_the_cheaper_candidate_wins_if_a_row_costs_what_one_notices():
    best = trial(0, "neighbours", (0.752, 0.758, 0.751))
    cheap = trial(1, "linear", (0.751, 0.756, 0.752))
    worse = trial(2, "tree", (0.651, 0.656, 0.652))
    trials = [best, cheap, worse]

    def by(**ms):
        return lambda each: ms.get(each.family, 0.0)

    assert best_trial(trials, "r2", 0.5) is best
    assert best_trial(trials, "r2", 0.5, by(neighbours=3.0, linear=0.3)) is cheap
    assert best_trial(trials, "r2", 0.5, by(neighbours=0.19, linear=0.001)) is best
    assert best_trial(trials, "r2", 0.5, by(neighbours=3.0, linear=2.9)) is best
    assert best_trial([best, worse], "r2", 0.5, by(neighbours=3.0)) is best
    labels = [replace(best, log_loss=0.1), replace(cheap, log_loss=0.3)]
    assert best_trial(labels, "accuracy", 0.5, by(neighbours=3.0)) is labels[1]


def test_a_served_winner_does_not_cost_over_2_ms_where_a_tenth_is_within_noise():
    assert cost_level(0.2) == cost_level(0.0) == 0
    assert cost_level(2.001) > cost_level(0.2001)


def test_the_members_of_an_ensemble_and_the_rows_of_its_last_fit_decide_what_a_row_costs():
    layout = layout_of(messy("binary", texts=False).signature, 300)
    near = trial(0, "neighbours", (0.9, 0.9))
    assert row_ms_of(near, layout, 8_000) > 10 * row_ms_of(near, layout, 300)
    assert row_ms_of(near, layout, 1_000_000) == row_ms_of(near, layout, 10_000)
    both = [{"family": "neighbours", "params": {}, "weight": 1}] * 2
    together = trial(1, ENSEMBLE, (0.9, 0.9))
    together = replace(together, params={"members": both})
    assert row_ms_of(together, layout, 8_000) == 2 * row_ms_of(near, layout, 8_000)
