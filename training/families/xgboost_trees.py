"""XGBoost, where it is installed: trees of a depth, many rounds at a low rate."""

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
    return {
        "learning_rate": trial.suggest_float("xgboost.learning_rate", 0.02, 0.2, log=True),
        "n_estimators": trial.suggest_int("xgboost.n_estimators", 50, rounds(layout), log=True),
        "max_depth": trial.suggest_int("xgboost.max_depth", 2, 9),
        "min_child_weight": trial.suggest_float("xgboost.min_child_weight", 0.3, 30.0, log=True),
        "reg_lambda": trial.suggest_float("xgboost.reg_lambda", 1e-2, 10.0, log=True),
        "colsample_bytree": trial.suggest_float("xgboost.colsample_bytree", 0.3, 1.0),
        "subsample": trial.suggest_float("xgboost.subsample", 0.5, 1.0),
    }


def _default(layout: Layout) -> Params:
    return {
        "learning_rate": 0.05,
        "n_estimators": min(400, rounds(layout)),
        "max_depth": 6,
        "min_child_weight": 2.0,
        "reg_lambda": 1.0,
        "colsample_bytree": 0.7,
        "subsample": 0.8,
    }


def _build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    xgboost = library("xgboost")
    kwargs = dict(params) | {"tree_method": "hist", "random_state": seed, "n_jobs": 1}
    model = (xgboost.XGBClassifier if layout.classes else xgboost.XGBRegressor)(**kwargs)
    return pipeline_of(ordered(layout, task, seed), model)


FAMILY = Family(
    name="xgboost",
    title="XGBoost",
    tasks=ALL_TASKS,
    package="xgboost",
    default=_default,
    suggest=_suggest,
    build=_build,
    affordable=affordable,
    fit_seconds=lambda params, layout, rows: boosting_seconds(
        9e-10, layout, rows, params["n_estimators"], params["max_depth"]
    ),
    row_us=lambda params, layout, _rows: (
        0.01 * params["n_estimators"] * layout.trees_a_round * params["max_depth"]
    ),
    rounds="n_estimators",
    writers=writers("xgboost", "XGBClassifier", "XGBRegressor"),
)
