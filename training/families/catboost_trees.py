"""CatBoost, where it is installed: one split for each level of a tree, many rounds at a low rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.families.family import ALL_TASKS, Family, boosting_seconds, pipeline_of
from training.families.optional import affordable, library, rounds, writers
from training.families.preprocessing import ordered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.trial import BaseTrial
    from sklearn.pipeline import Pipeline

    from artifact.signature import Task
    from training.families.family import Params
    from training.families.layout import Layout


def _suggest(trial: BaseTrial, layout: Layout) -> Params:
    params = {
        "learning_rate": trial.suggest_float("catboost.learning_rate", 0.02, 0.2, log=True),
        "iterations": trial.suggest_int("catboost.iterations", 50, rounds(layout), log=True),
        "depth": trial.suggest_int("catboost.depth", 3, 8),
        "l2_leaf_reg": trial.suggest_float("catboost.l2_leaf_reg", 0.3, 30.0, log=True),
        "random_strength": trial.suggest_float("catboost.random_strength", 0.1, 5.0, log=True),
    }
    if layout.weighted:
        weights = [None, "Balanced"]
        params["auto_class_weights"] = trial.suggest_categorical("catboost.auto_class_weights", weights)
    return params


def _default(layout: Layout) -> Params:
    return {
        "learning_rate": 0.06,
        "iterations": min(500, rounds(layout)),
        "depth": 6,
        "l2_leaf_reg": 3.0,
        "random_strength": 1.0,
    } | ({"auto_class_weights": None} if layout.weighted else {})


def _build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    catboost = library("catboost")
    kwargs = dict(params) | {"random_seed": seed, "thread_count": 1, "verbose": False}
    kwargs |= {"allow_writing_files": False, "boosting_type": "Plain"}
    if kwargs.get("auto_class_weights") is None:
        kwargs.pop("auto_class_weights", None)
    model = (catboost.CatBoostClassifier if layout.classes else catboost.CatBoostRegressor)(**kwargs)
    return pipeline_of(ordered(layout, task, seed), model)


FAMILY = Family(
    name="catboost",
    title="CatBoost",
    tasks=ALL_TASKS,
    package="catboost",
    default=_default,
    suggest=_suggest,
    build=_build,
    affordable=affordable,
    fit_seconds=lambda params, layout, rows: boosting_seconds(
        1.3e-9, layout, rows, params["iterations"], params["depth"]
    ),
    row_us=lambda params, layout, _rows: 0.01 * params["iterations"] * layout.trees_a_round * params["depth"],
    rounds="iterations",
    writers=writers("catboost", "CatBoostClassifier", "CatBoostRegressor"),
)
