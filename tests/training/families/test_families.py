from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pytest

from tests.training.made_tables import messy
from training.families import catalog
from training.families.catalog import BASELINE, FAMILIES, absent_families, affordable_families, not_tried
from training.families.layout import layout_of
from training.families.optional import MIN_ROWS
from training.families.preprocessing import WIDE_TEXT
from training.families.scores import scores_of
from training.metrics.metric import metrics
from training.metrics.truth import truth_of
from training.search.search import fit
from training.search.trial import Trial

TASKS = ("binary", "multiclass", "regression")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("each", FAMILIES, ids=lambda each: each.name)
def test_every_family_learns_from_a_messy_table_by_its_defaults(each, task):
    """Each beats the baseline on unseen rows with missing cells, categories, dates and text."""
    made = messy(task, 400)
    layout = layout_of(made.signature, 300)
    figure = "r2" if task == "regression" else "accuracy"

    def held_out(family):
        trial = Trial(0, family.name, family.default(layout), (), 0.0, 0.0, "complete")
        pipeline = fit(trial, made.matrix[:300], made.labels[:300], made.signature, layout)
        scores = scores_of(pipeline, made.matrix[300:], len(made.signature.classes))
        return metrics(task, made.labels[300:], scores, made.signature.classes, made.signature.positive)[
            figure
        ]

    assert held_out(each) > held_out(BASELINE) + 0.1


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("each", FAMILIES, ids=lambda each: each.name)
def test_a_family_default_is_whole_and_within_its_search_space(each, task, odd, second):
    """Enqueued as the first trial, the default comes back as it is: nothing clipped, nothing drawn."""
    made = messy(task)
    layout = layout_of(made.signature, 240, weighted=odd and task != "regression", one_unit=odd)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    default = each.default(layout) | (each.second(layout) if second else {})
    study.enqueue_trial({f"{each.name}.{key}": value for key, value in default.items()})
    drawn = each.suggest(study.ask(), layout)
    assert drawn == default


@pytest.mark.parametrize(("rows", "width", "classes"), [(20_000, 80, 4), (20_000, 80, 0), (8_000, 5_000, 2)])
def test_large_tables_leave_out_what_would_crawl(rows, width, classes):
    names = {each.name for each in FAMILIES if each.affordable(rows, width, classes)}
    assert {"linear", "boosting"} <= names
    assert "neighbours" not in names


def test_small_tables_try_every_family_of_scikit_learn():
    made = messy("multiclass")
    found = affordable_families(layout_of(made.signature, 240), "multiclass")
    assert [each.name for each in found] == [each.name for each in FAMILIES if not each.package]


@pytest.mark.parametrize("task", TASKS)
def test_larger_tables_try_every_booster_that_is_installed(task):
    """Not over a decomposed text, where they were no better."""
    made = messy(task)
    layout = layout_of(made.signature, MIN_ROWS)
    boosters = {"lightgbm", "catboost", "xgboost"}
    assert boosters <= {each.name for each in affordable_families(layout, task)}
    assert not absent_families(layout, task)
    text = replace(layout, terms=tuple(range(20, 20 + WIDE_TEXT + 1)))
    assert not boosters & {each.name for each in affordable_families(text, task)}


def test_a_booster_that_is_not_installed_is_left_out_and_named(monkeypatch):
    layout = layout_of(messy("binary").signature, MIN_ROWS)
    families = [
        replace(each, package="absent_here") if each.name == "catboost" else each for each in FAMILIES
    ]
    monkeypatch.setattr(catalog, "FAMILIES", tuple(families))
    assert "catboost" not in {each.name for each in affordable_families(layout, "binary")}
    absent = absent_families(layout, "binary")
    told = "CatBoost may suit this table, but is not installed and was not tried: "
    assert not_tried(absent) == told + "pip install -r requirements/boosting.txt"
    assert not_tried([*absent, *absent]).startswith("CatBoost and CatBoost may suit this table, but are not")
    assert not absent_families(layout_of(messy("binary").signature, 240), "binary")


def test_an_unseen_category_and_a_missing_number_are_scored():
    """What training saw no example of is missing, not an error."""
    made = messy("binary", texts=False)
    layout = layout_of(made.signature, 240)
    truth = truth_of("binary", made.labels, made.signature.classes, "yes")
    full = np.nan_to_num(made.matrix.copy())
    full[:, list(layout.categories)] = np.abs(full[:, list(layout.categories)])
    odd = np.full((1, made.signature.width), np.nan)
    odd[:, list(layout.categories)] = -1
    for each in FAMILIES:
        pipeline = each.build(each.default(layout), layout, "binary", 0).fit(full, truth.y)
        assert np.isfinite(scores_of(pipeline, odd, 2)).all(), each.name
