"""The last fits: how many rows each model gets, side by side, and the second weighing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.made_tables import messy
from training.families.catalog import FAMILIES, WRITERS
from training.families.ensemble import ENSEMBLE
from training.families.layout import layout_of
from training.families.scores import scores_of
from training.onnx.convert import convert
from training.onnx.parity import onnx_score
from training.search import last_fit
from training.search.clock import FINISH_S, SearchTime, finish_s_by
from training.search.last_fit import fit_last, plan_of
from training.search.search import SearchResult, fit
from training.search.spec import SIDE_BY_SIDE, SearchSpec
from training.search.trial import Trial

MADE = messy("binary", 400)
SPEC = SearchSpec(task="binary", metric="log_loss", seed=3)


def result_of(families: dict[str, float], *, rows: int = 300, made=MADE) -> SearchResult:
    """A search whose best is an ensemble of these families' defaults; the values are seconds of a fold."""
    layout = layout_of(made.signature, rows)
    defaults = {each.name: each.default(layout) for each in FAMILIES}
    trials = [
        Trial(i, name, defaults[name], (0.5, 0.6), 0.55, 2 * taken, "complete", fold_seconds=taken)
        for i, (name, taken) in enumerate(families.items())
    ]
    members = [{"family": name, "params": defaults[name], "weight": i + 1} for i, name in enumerate(families)]
    best = replace(trials[0], family=ENSEMBLE, params={"members": members}) if len(members) > 1 else trials[0]
    return SearchResult(best, trials, trials[0], layout, "log_loss", 3, rows * 2 // 3)


def test_without_a_timeout_no_clock_decides_how_many_rows_a_model_is_fitted_on():
    """A fold that took a hundred times as long, on a busy machine, changes the estimate and not the rows."""
    fast, slow = (
        plan_of(result_of({"boosting": taken, "catboost": taken, "linear": taken}, rows=10_000), 5_000_000)
        for taken in (0.1, 10.0)
    )
    assert [each.rows for each in fast.parts] == [each.rows for each in slow.parts]
    assert slow.seconds == pytest.approx(100 * fast.seconds)
    assert fast.parts[-1].rows == 5_000_000
    assert fast.parts[1].rows < 5_000_000


def test_what_does_not_fit_into_the_time_is_fitted_on_as_many_rows_as_do_and_told():
    result = result_of({"catboost": 4.0, "linear": 0.01}, rows=10_000)
    plan = plan_of(result, 1_000_000, left_s=60.0)
    catboost, linear = plan.parts
    assert linear.rows == 1_000_000
    assert 6_666 < catboost.rows < 1_000_000
    assert plan.seconds <= 60.0
    (told,) = plan.told()
    assert f"CatBoost is fitted on {catboost.rows:,} of 1,000,000 training rows" in told
    assert plan_of(result, 1_000_000, left_s=6_000.0).told() == []


def test_no_time_at_all_leaves_the_rows_of_a_fold():
    plan = plan_of(result_of({"catboost": 9.0, "forest": 9.0}, rows=10_000), 400_000, left_s=0.0)
    assert {each.rows for each in plan.parts} == {6_666}


@pytest.mark.parametrize("name", [each.name for each in FAMILIES])
def test_every_family_knows_about_how_long_a_fit_takes(name):
    family = next(each for each in FAMILIES if each.name == name)
    layout = layout_of(MADE.signature, 10_000)
    one, ten = (family.fit_seconds(family.default(layout), layout, rows) for rows in (10_000, 100_000))
    assert 0 < 3 * one < ten
    assert one < 60


def test_a_forest_of_a_million_rows_is_not_too_large_to_serve():
    plan = plan_of(result_of({"forest": 0.001}, rows=10_000), 1_000_000)
    assert plan.parts[0].rows < 100_000
    assert plan.told()


def test_models_that_are_fitted_side_by_side_are_the_same_as_one_after_the_other(monkeypatch):
    result = result_of({"boosting": 5.0, "forest": 3.0, "linear": 0.1})
    plan = plan_of(result, 300)
    matrix, labels = MADE.matrix[:300], MADE.labels[:300]
    assert SIDE_BY_SIDE == 1 or plan.seconds > last_fit.SHORT_S
    together, best = fit_last(plan, result, matrix, labels, MADE.signature, SPEC)
    alone = fit(result.best, matrix, labels, MADE.signature, result.layout, seed=SPEC.seed)
    assert best is result.best
    assert type(together) is type(alone)
    assert np.array_equal(scores_of(together, MADE.matrix, 2), scores_of(alone, MADE.matrix, 2))
    assert together.classes_.tolist() == alone.classes_.tolist()
    monkeypatch.setattr(last_fit, "SIDE_BY_SIDE", 1)
    single, _ = fit_last(plan, result, matrix, labels, MADE.signature, SPEC)
    assert np.array_equal(scores_of(together, MADE.matrix, 2), scores_of(single, MADE.matrix, 2))


def test_members_of_a_sampled_search_are_weighed_again_by_rows_that_none_has_learnt_from():
    """A member that does not help on them leaves the ensemble; a single one that is left is the winner."""
    made = messy("binary", 1_200)
    result = result_of({"boosting": 0.1, "linear": 0.1}, rows=300, made=made)
    useless = {"family": "baseline", "params": {}, "weight": 9}
    best = replace(result.best, params={"members": [*result.best.params["members"], useless]})
    result = replace(result, best=best)
    spec = replace(SPEC, metric="roc_auc")
    model, found = fit_last(plan_of(result, 1_200), result, made.matrix, made.labels, made.signature, spec)
    members = found.params.get("members", [{"family": found.family}])
    assert "baseline" not in {each["family"] for each in members}
    assert scores_of(model, made.matrix, 2).shape == (1_200, 2)
    again, same = fit_last(plan_of(result, 1_200), result, made.matrix, made.labels, made.signature, spec)
    assert same == found
    assert np.array_equal(scores_of(model, made.matrix, 2), scores_of(again, made.matrix, 2))


def test_a_table_that_was_searched_whole_is_not_weighed_again():
    result = result_of({"boosting": 0.1, "linear": 0.1})
    _, best = fit_last(plan_of(result, 400), result, MADE.matrix, MADE.labels, MADE.signature, SPEC)
    assert best is result.best


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_every_class_is_learnt_where_few_rows_fit_into_the_time(task):
    made = messy(task, 400)
    labels = np.array(made.labels, object)
    rare = made.signature.classes[0]
    labels[labels == rare] = made.signature.classes[1]
    labels[7] = rare
    result = result_of({"catboost": 9.0, "linear": 0.01}, rows=20, made=made)
    plan = plan_of(result, 400, left_s=0.0)
    assert plan.parts[0].rows < 20
    spec = replace(SPEC, task=task)
    model, _ = fit_last(plan, result, made.matrix, labels, made.signature, spec)
    assert len(model.classes_) == len(made.signature.classes)


def test_what_follows_the_fits_takes_longer_on_a_busy_machine():
    """Boosting is the gauge: its folds are compared with its own figure, and one that failed says nothing."""
    result = result_of({"boosting": 1.0}, rows=10_000)
    known = next(each for each in FAMILIES if each.name == "boosting").fit_seconds
    idle = known(result.best.params, result.layout, result.fold_rows)

    def finish_s(*taken):
        trials = [replace(result.best, fold_seconds=each) for each in taken]
        return finish_s_by(trials, result.layout, result.fold_rows)

    assert finish_s() == finish_s(idle / 3) == finish_s(float("nan")) == FINISH_S
    assert finish_s(2 * idle, float("nan")) == pytest.approx(2 * FINISH_S)
    assert finish_s(50 * idle) == 4 * FINISH_S
    clock = SearchTime(300.0, result.layout, result.fold_rows, 100_000)
    clock.finished(replace(result.best, fold_seconds=3 * idle), best=False)
    assert clock.reserve_s == pytest.approx(3 * FINISH_S)


def test_a_search_keeps_back_the_time_of_what_follows_it():
    """At most half, nothing where no fit follows, more where the best so far takes long to fit."""
    best = result_of({"catboost": 2.0}, rows=10_000).trials[0]
    layout = layout_of(MADE.signature, 10_000)
    clock = SearchTime(200.0, layout, 6_666, 100_000)
    assert clock.reserve_s == FINISH_S
    clock.finished(best, best=True)
    assert FINISH_S + 2 * best.fold_seconds < clock.reserve_s <= 100.0
    assert not clock.over
    assert not clock.over_with_another
    clock.started -= 200.0 - clock.reserve_s - 1.0
    assert not clock.over
    assert clock.over_with_another
    clock.started -= 2.0
    assert clock.over
    assert SearchTime(200.0, layout, 6_666, 0).reserve_s == 0
    assert SearchTime(10.0, layout, 6_666, 100_000).reserve_s == 5.0
    endless = SearchTime(None, layout, 6_666, 100_000)
    endless.finished(best, best=True)
    assert not endless.over
    assert not endless.over_with_another


@pytest.mark.parametrize("name", ["boosting", "lightgbm", "catboost", "xgboost"])
def test_boosting_whose_time_is_over_ends_with_fewer_rounds_and_says_so(name):
    """The model of fewer rounds scores, and is exact in ONNX; one that has time has all of its rounds."""
    result = result_of({name: 0.01})
    plan = plan_of(result, 300, left_s=1_000.0)
    late = replace(plan, parts=tuple(replace(each, allowed_s=-1.0) for each in plan.parts))
    matrix, labels, told = MADE.matrix[:300], MADE.labels[:300], []
    model, _ = fit_last(late, result, matrix, labels, MADE.signature, SPEC, tell=told.append)
    (line,) = told
    assert "rounds: more would not fit into the time" in line
    graph = convert(model, MADE.signature.width, WRITERS).SerializeToString()
    assert np.allclose(onnx_score(graph)(MADE.matrix), scores_of(model, MADE.matrix, 2), rtol=0, atol=1e-6)
    whole, _ = fit_last(plan, result, matrix, labels, MADE.signature, SPEC, tell=told.append)
    alone = fit(result.best, matrix, labels, MADE.signature, result.layout, seed=SPEC.seed)
    assert len(told) == 1
    assert np.allclose(scores_of(whole, MADE.matrix, 2), scores_of(alone, MADE.matrix, 2))
    assert not np.allclose(scores_of(model, MADE.matrix, 2), scores_of(alone, MADE.matrix, 2))


def test_a_last_fit_may_take_its_part_of_the_time_that_is_left_and_any_without_a_timeout():
    result = result_of({"catboost": 4.0, "linear": 0.01}, rows=10_000)
    plan = plan_of(result, 1_000_000, left_s=60.0)
    assert all(each.seconds <= each.allowed_s <= 60.0 for each in plan.parts)
    assert {each.allowed_s for each in plan_of(result, 1_000_000).parts} == {float("inf")}


def test_boosting_has_more_rounds_on_many_times_the_rows_of_the_search_within_the_time():
    """The fitted model has them, and the trial says so; tables that are not much larger keep theirs."""
    result = result_of({"boosting": 0.1, "linear": 0.1}, rows=10_000)
    searched = result.trials[0].params["max_iter"]

    def rounds(rows: int, **options: float) -> int:
        return plan_of(result, rows, **options).parts[0].params["max_iter"]

    assert rounds(100_000) == searched
    assert rounds(250_000) == 3 * searched
    assert rounds(800_000, left_s=10_000.0) == 4 * searched
    assert rounds(800_000, left_s=1.0) == searched
    seconds = [plan_of(result, rows, left_s=10_000.0).seconds for rows in (100_000, 800_000)]
    assert seconds[1] > 9 * seconds[0]
    single = replace(result_of({"boosting": 0.1}, rows=40), fold_rows=10)
    model, best = fit_last(
        plan_of(single, 300), single, MADE.matrix[:300], MADE.labels[:300], MADE.signature, SPEC
    )
    assert model[-1].n_iter_ == best.params["max_iter"] == 2 * single.best.params["max_iter"]


def test_more_rounds_never_make_a_row_dear_to_serve():
    result = result_of({"catboost": 0.1}, rows=10_000)
    dear = result.best.params | {"iterations": 1_500, "depth": 8}
    trial = replace(result.best, params=dear)
    result = replace(result, best=trial, trials=[trial])
    assert plan_of(result, 800_000, left_s=100_000.0).parts[0].params["iterations"] == 1_500
