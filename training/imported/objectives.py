"""What the objective of a booster of XGBoost, LightGBM or CatBoost says of its answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from training.imported.load import ModelError

LIBRARIES = ("xgboost", "lightgbm", "catboost")
RANKS = (
    *("rank", "lambdarank", "YetiRank", "PairLogit", "QueryRMSE", "QuerySoftMax", "QueryCrossEntropy"),
    *("StochasticRank", "LambdaMart", "survival:cox", "Cox"),
)
"""Beginnings of the objectives whose answers only put rows in order."""
REFUSED = {
    "multiclassova": (
        'whose probabilities of the classes do not sum to 1: train it with objective = "multiclass"'
    ),
    "binary:logitraw": 'whose answers are no probabilities: train it with objective = "binary:logistic"',
}


def objective_of(model: Any) -> tuple[str, int]:
    """The objective by the library's own name, and the number of classes; "" for any other model."""
    booster = _booster(model)
    if hasattr(booster, "save_config"):
        learner = json.loads(booster.save_config())["learner"]
        return str(learner["objective"]["name"]), int(learner["learner_model_param"]["num_class"])
    if hasattr(booster, "dump_model"):
        dumped = booster.dump_model(num_iteration=1)
        return str(dumped.get("objective", "")), int(dumped.get("num_class", 1))
    if type(booster).__module__.startswith("catboost"):
        return str(booster.get_all_params().get("loss_function", "")), len(booster.classes_)
    return "", 0


def _booster(model: Any) -> Any:
    """The booster of an estimator, or of the object that a booster's own file is opened as."""
    if not _is_booster(model):
        return None
    if hasattr(model, "get_booster"):
        return model.get_booster()
    return getattr(model, "booster_", getattr(model, "booster", model))


def _is_booster(model: Any) -> bool:
    inner = getattr(model, "booster", model)
    return any(type(each).__module__.partition(".")[0] in LIBRARIES for each in (model, inner))


def by_objective(model: Any) -> bool:
    """Whether the answers of a model only put rows in order, as those of a ranker do.

    Raises
    ------
    ModelError
        Its objective has answers that cannot be served.
    """
    try:
        objective, classes = objective_of(model)
    except Exception:  # noqa: BLE001 - whatever a library raises on an estimator that is not fitted
        return False
    if type(model).__name__ == "CatBoost" and classes:
        raise ModelError(
            "The file holds a CatBoost, whose predict answers sums of leaves and no classes: save the model "
            'in a file of its own (model.save_model("model.cbm")), or train a CatBoostClassifier.'
        )
    for name, why in REFUSED.items():
        if objective.startswith(name):
            raise ModelError(f"The model has the objective {name}, {why}.")
    return objective.startswith(RANKS)


def count_of_answers(model: Any, columns: int) -> int:
    """How many numbers a booster without classes answers for a row; 0 where it cannot be asked."""
    if not (columns and _is_booster(model)):
        return 0
    try:
        return int(np.asarray(model.predict(np.zeros((1, columns)))).size)
    except Exception:  # noqa: BLE001 - it takes other columns than numbers
        return 0
