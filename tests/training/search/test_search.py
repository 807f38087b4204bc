from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.made_tables import messy
from training.families import catalog
from training.families.catalog import FAMILIES
from training.families.ensemble import ENSEMBLE
from training.families.scores import scores_of
from training.metrics.metric import metrics
from training.search.choice import measurably, sound_trials
from training.search.search import fit, search
from training.search.spec import SearchSpec
from training.search.trial import SearchError


def run(made, **settings):
    task = made.signature.task
    metric = settings.pop("metric", "r2" if task == "regression" else "roc_auc")
    calls = {key: settings.pop(key) for key in ("on_trial", "ensemble") if key in settings}
    asked = SearchSpec(
        **{"task": task, "metric": metric, "trials": 9, "folds": 3, "jobs": 1, "seed": 3} | settings
    )
    return search(made.matrix, made.labels, made.signature, asked, progress=False, **calls)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_search_beats_the_baseline_and_shows_every_trial(task):
    made = messy(task)
    seen = []
    found = run(made, on_trial=seen.append)
    sought = [trial for trial in found.trials if trial.family != ENSEMBLE]
    assert len(sought) == 9
    assert [trial.number for trial in seen] == [trial.number for trial in found.trials]
    assert {trial.family for trial in sought} == {each.name for each in FAMILIES}
    assert found.best.score > found.baseline.score
    assert all(len(trial.fold_scores) == found.folds for trial in sought if trial.state == "complete")


def test_the_same_seed_finds_the_same_model_whatever_the_jobs():
    made = messy("binary")
    one, other = run(made, jobs=1), run(made, jobs=2)
    for a, b in zip(one.trials, other.trials, strict=True):
        assert (a.family, a.params, a.fold_scores, a.state) == (b.family, b.params, b.fold_scores, b.state)
    assert one.best.params == other.best.params


def test_a_family_that_raises_is_a_failed_trial_and_not_the_end(monkeypatch):
    def broken(*_):
        raise RuntimeError("out of cheese")

    families = list(FAMILIES)
    families[0] = replace(FAMILIES[0], build=broken)
    monkeypatch.setattr(catalog, "FAMILIES", tuple(families))
    found = run(messy("binary"), trials=4)
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert failed[0].family == families[0].name
    assert "out of cheese" in failed[0].reason
    assert found.best.family != families[0].name


def test_when_every_trial_fails_the_error_says_why(monkeypatch):
    def broken(*_):
        raise RuntimeError("out of cheese")

    family = replace(FAMILIES[0], build=broken)
    monkeypatch.setattr(catalog, "FAMILIES", (family,))
    with pytest.raises(SearchError, match="no candidate could be trained.*out of cheese"):
        run(messy("binary"), trials=2)


def test_two_processes_share_a_study_and_its_budget(tmp_path):
    """The second finds the first one's trials, adds none beyond the budget, and chooses the same."""
    made = messy("binary", 120)
    shared = {"storage": f"sqlite:///{tmp_path}/study.db", "study_name": "shared"}
    first = run(made, trials=5, **shared)
    second = run(made, trials=5, **shared)
    assert [t.params for t in second.trials] == [t.params for t in first.trials]
    assert second.best.params == first.best.params
    assert len([t for t in run(made, trials=7, **shared).trials if t.family != ENSEMBLE]) == 7


def test_a_group_never_stands_on_both_sides_of_a_fold():
    """Labels that only the group explains cannot be learnt where whole groups are held out."""
    made = messy("binary", 240, texts=False)
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 10)
    labels = np.array(["no", "yes"], object)[rng.integers(0, 2, 24)[groups]]
    made.matrix[:, 0] = groups
    told, leaked = (
        search(
            made.matrix,
            labels,
            made.signature,
            SearchSpec(task="binary", metric="roc_auc", groups=known, trials=4, folds=4, jobs=1),
            progress=False,
            ensemble=False,
        )
        for known in (groups, None)
    )
    assert leaked.best.score > 0.95
    assert told.best.score < 0.85


def test_with_times_each_fold_is_scored_by_its_past():
    made = messy("regression")
    found = run(made, times=np.arange(300)[::-1], trials=3, folds=3)
    assert found.folds == 3
    assert np.isfinite(found.best.score)


def test_a_timeout_ends_the_search_after_a_trial_at_least():
    found = run(messy("binary"), trials=50, timeout_s=0.001, ensemble=False)
    assert len(found.trials) == 1


def test_a_straight_line_is_found_exactly():
    """The smallest use case: y = 2x answers 10 for 5."""
    made = messy("regression")
    x = np.linspace(0, 40, 80)[:, None]
    signature = type(made.signature)(task="regression", target="y", columns=made.signature.columns[1:2])
    found = search(
        x,
        2 * x[:, 0],
        signature,
        SearchSpec(task="regression", metric="r2", trials=9, jobs=1),
        progress=False,
    )
    model = fit(found.best, x, 2 * x[:, 0], signature, found.layout)
    assert scores_of(model, np.array([[5.0]]), 0)[0, 0] == pytest.approx(10.0, abs=1e-9)


def test_too_few_rows_are_said_so():
    made = messy("binary", 8)
    with pytest.raises(SearchError, match="3 rows are left to train on, expected at least 4"):
        search(
            made.matrix[:3],
            made.labels[:3],
            made.signature,
            SearchSpec(task="binary", metric="roc_auc"),
            progress=False,
        )


def test_a_class_of_few_rows_gets_as_many_folds():
    made = messy("binary", 60)
    labels = np.array(["no"] * 57 + ["yes"] * 3, object)
    asked = SearchSpec(task="binary", metric="roc_auc", trials=2, jobs=1)
    found = search(made.matrix, labels, made.signature, asked, progress=False)
    assert found.folds % 3 == 0
    assert np.isfinite(found.best.score)


@pytest.mark.parametrize(("metric", "weighted"), [("roc_auc", False), ("log_loss", False), ("f1", True)])
def test_classes_are_weighted_only_for_figures_of_labels(metric, weighted):
    """A weight leaves a ranking as it is and probabilities that are far from the share of a class."""
    made = messy("binary", 200)
    labels = np.array(["yes" if i % 10 == 0 else "no" for i in range(200)], object)
    asked = SearchSpec(task="binary", metric=metric, trials=4, jobs=1)
    found = search(made.matrix, labels, made.signature, asked, progress=False, ensemble=False)
    assert any("class_weight" in trial.params for trial in found.trials) == weighted


def test_the_winner_fitted_on_all_rows_scores_every_class():
    made = messy("multiclass")
    found = run(made, metric="accuracy")
    model = fit(found.best, made.matrix, made.labels, made.signature, found.layout)
    scores = scores_of(model, made.matrix, 3)
    assert scores.shape == (300, 3)
    assert metrics("multiclass", made.labels, scores, made.signature.classes)["accuracy"] > 0.8


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
