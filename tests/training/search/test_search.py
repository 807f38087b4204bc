from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.made_tables import messy
from training.families import catalog
from training.families.catalog import FAMILIES
from training.families.ensemble import ENSEMBLE
from training.families.optional import MIN_ROWS
from training.families.scores import scores_of
from training.metrics.metric import metrics
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
    assert {trial.family for trial in sought} == {each.name for each in FAMILIES if not each.package}
    assert found.best.score > found.baseline.score
    assert all(len(trial.fold_scores) == found.folds for trial in sought if trial.state == "complete")


def test_the_same_seed_finds_the_same_model_whatever_the_jobs():
    made = messy("binary")
    one, other = run(made, jobs=1), run(made, jobs=2)
    for a, b in zip(one.trials, other.trials, strict=True):
        assert (a.family, a.params, a.fold_scores, a.state) == (b.family, b.params, b.fold_scores, b.state)
    assert one.best.params == other.best.params


def test_boosters_that_are_installed_are_searched_on_a_larger_table_and_repeat_themselves():
    made = messy("binary", MIN_ROWS, texts=False)
    one, other = (run(made, trials=5, folds=2, jobs=jobs, ensemble=False) for jobs in (1, 2))
    assert [trial.family for trial in one.trials] == ["linear", "boosting", "lightgbm", "catboost", "xgboost"]
    assert {trial.state for trial in one.trials} <= {"complete", "pruned"}
    assert [trial.fold_scores for trial in one.trials] == [trial.fold_scores for trial in other.trials]


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


@pytest.mark.deep
def test_two_processes_share_a_study_and_its_budget(tmp_path):
    """The second finds the first one's trials, adds none beyond the budget, and chooses the same."""
    made = messy("binary", 120)
    shared = {"storage": f"sqlite:///{tmp_path}/study.db", "study_name": "shared"}
    first = run(made, trials=5, **shared)
    second = run(made, trials=5, **shared)
    assert [t.params for t in second.trials] == [t.params for t in first.trials]
    assert second.best.params == first.best.params
    assert len([t for t in run(made, trials=7, **shared).trials if t.family != ENSEMBLE]) == 7


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


def test_the_winner_fitted_on_all_rows_scores_every_class():
    made = messy("multiclass")
    found = run(made, metric="accuracy")
    model = fit(found.best, made.matrix, made.labels, made.signature, found.layout)
    scores = scores_of(model, made.matrix, 3)
    assert scores.shape == (300, 3)
    assert metrics("multiclass", made.labels, scores, made.signature.classes)["accuracy"] > 0.8
