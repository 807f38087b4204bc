"""LightGBM, where it is installed: leaves grown one by one, many rounds at a low rate."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING, Any

from training.families.family import ALL_TASKS, Family, boosting_seconds, no_weight, pipeline_of, weight
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
        "learning_rate": trial.suggest_float("lightgbm.learning_rate", 0.02, 0.2, log=True),
        "n_estimators": trial.suggest_int("lightgbm.n_estimators", 50, rounds(layout), log=True),
        "num_leaves": trial.suggest_int("lightgbm.num_leaves", 4, 95, log=True),
        "min_child_samples": trial.suggest_int("lightgbm.min_child_samples", 3, 60, log=True),
        "reg_lambda": trial.suggest_float("lightgbm.reg_lambda", 1e-3, 10.0, log=True),
        "colsample_bytree": trial.suggest_float("lightgbm.colsample_bytree", 0.3, 1.0),
        "subsample": trial.suggest_float("lightgbm.subsample", 0.5, 1.0),
        **weight(trial, "lightgbm", layout),
    }


def _default(layout: Layout) -> Params:
    return {
        "learning_rate": 0.04,
        "n_estimators": min(400, rounds(layout)),
        "num_leaves": 31,
        "min_child_samples": 20,
        "reg_lambda": 1.0,
        "colsample_bytree": 0.7,
        "subsample": 0.8,
        **no_weight(layout),
    }


def _build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    lightgbm = library("lightgbm")
    kwargs = dict(params)
    kwargs |= {"subsample_freq": 1, "random_state": seed, "n_jobs": 1, "verbose": -1, "deterministic": True}
    kwargs["force_row_wise"] = True  # else a timing decides how histograms are built
    model = (lightgbm.LGBMClassifier if layout.classes else lightgbm.LGBMRegressor)(**kwargs)
    return pipeline_of(ordered(layout, task, seed), model)


FAMILY = Family(
    name="lightgbm",
    title="LightGBM",
    tasks=ALL_TASKS,
    package="lightgbm",
    default=_default,
    suggest=_suggest,
    build=_build,
    affordable=affordable,
    fit_seconds=lambda params, layout, rows: boosting_seconds(
        6e-10, layout, rows, params["n_estimators"], log2(params["num_leaves"])
    ),
    row_us=lambda params, layout, _rows: (
        0.01 * params["n_estimators"] * layout.trees_a_round * log2(params["num_leaves"])
    ),
    rounds="n_estimators",
    writers=writers("lightgbm", "LGBMClassifier", "LGBMRegressor"),
)
