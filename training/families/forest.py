"""Random forests, and forests of extremely randomised trees."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from training.families.family import ALL_TASKS, WIDE, Family, no_weight, pipeline_of, weight
from training.families.preprocessing import ordered
from training.onnx.graph import Writer
from training.onnx.trees import ML_OPSET_OF_MANY_TARGETS, mean_of_trees, thresholds_of_trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from optuna.trial import BaseTrial
    from sklearn.pipeline import Pipeline

    from artifact.signature import Task
    from training.families.family import Params
    from training.families.layout import Layout
    from training.onnx.graph import Graph


FORESTS = frozenset({"forest", "extra_trees"})
MAX_GROWN_NODES = 3_000_000
"""The most inner nodes of a forest: its ONNX graph then has about 150 MB."""


def _trees(layout: Layout) -> int:
    """Trees of a forest: fewer on large tables, where each takes long to grow."""
    return 200 if layout.rows <= 5_000 else 100


def _max_features(layout: Layout) -> float:
    """The largest fraction of the columns that a split may consider: smaller for large tables."""
    return float(np.clip(200_000 / (layout.rows * max(1, layout.cost)), 0.25, 1.0))


def _suggest(name: str) -> Callable[[BaseTrial, Layout], Params]:
    def suggest(trial: BaseTrial, layout: Layout) -> Params:
        return {
            "max_features": trial.suggest_float(f"{name}.max_features", 0.02, _max_features(layout)),
            "min_samples_leaf": trial.suggest_int(f"{name}.min_samples_leaf", 1, 20, log=True),
            **weight(trial, name, layout),
        }

    return suggest


def _default(layout: Layout) -> Params:
    fraction = 1 / 3 if not layout.classes else 1 / max(1.0, layout.width) ** 0.5
    return {
        "max_features": float(np.clip(fraction, 0.02, _max_features(layout))),
        "min_samples_leaf": 1 if layout.classes or layout.rows > 1_000 else 2,
        **no_weight(layout),
    }


def _fit_seconds(params: Mapping[str, Any], layout: Layout, rows: int) -> float:
    features: float = max(1.0, params["max_features"] * layout.cost)
    return 4e-8 * rows * log2(max(2, rows)) * _trees(layout) * features


def _row_us(_params: Mapping[str, Any], layout: Layout, rows: int) -> float:
    return 0.015 * _trees(layout) * log2(max(2, rows)) * (1 + layout.classes / 20)


def _max_fit_rows(params: Mapping[str, Any], layout: Layout) -> int:
    """The rows that give MAX_GROWN_NODES: a tree that is not pruned has about 0.6 inner nodes a row."""
    return int(MAX_GROWN_NODES / _trees(layout) / 0.6 * params["min_samples_leaf"])


def _build(classifier: Any, regressor: Any) -> Callable[..., Pipeline]:
    def build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
        kwargs = {key: params[key] for key in ("max_features", "min_samples_leaf")}
        kwargs |= {"n_estimators": _trees(layout), "random_state": seed}
        if layout.classes:
            model = classifier(class_weight=params.get("class_weight"), **kwargs)
        else:
            model = regressor(**kwargs)
        return pipeline_of(ordered(layout, task, seed), model)

    return build


def _write(graph: Graph, model: Any, x: str) -> str:
    return mean_of_trees(graph, model.estimators_, x, len(getattr(model, "classes_", [0])))


def _thresholds(model: Any) -> Iterator[tuple[int, float]]:
    return thresholds_of_trees(model.estimators_)


RANDOM = Family(
    name="forest",
    title="Random forest",
    tasks=ALL_TASKS,
    default=_default,
    suggest=_suggest("forest"),
    build=_build(RandomForestClassifier, RandomForestRegressor),
    affordable=lambda rows, width, _classes: rows * min(width, WIDE) <= 4_000_000,
    fit_seconds=_fit_seconds,
    row_us=_row_us,
    max_fit_rows=_max_fit_rows,
    writers={
        RandomForestClassifier: Writer(
            _write, thresholds=_thresholds, ml_opset_of_many_classes=ML_OPSET_OF_MANY_TARGETS
        ),
        RandomForestRegressor: Writer(_write, thresholds=_thresholds),
    },
)


EXTRA = Family(
    name="extra_trees",
    title="Extremely randomised trees",
    tasks=ALL_TASKS,
    default=_default,
    suggest=_suggest("extra_trees"),
    build=_build(ExtraTreesClassifier, ExtraTreesRegressor),
    affordable=lambda rows, width, _classes: rows * min(width, WIDE) <= 4_000_000,
    fit_seconds=_fit_seconds,
    row_us=_row_us,
    max_fit_rows=_max_fit_rows,
    writers={
        ExtraTreesClassifier: Writer(
            _write, thresholds=_thresholds, ml_opset_of_many_classes=ML_OPSET_OF_MANY_TARGETS
        ),
        ExtraTreesRegressor: Writer(_write, thresholds=_thresholds),
    },
)
