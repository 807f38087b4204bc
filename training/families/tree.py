"""One decision tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from training.families.family import ALL_TASKS, Family, no_weight, pipeline_of, weight
from training.families.preprocessing import ordered
from training.onnx.graph import Writer
from training.onnx.trees import ML_OPSET_OF_MANY_TARGETS, mean_of_trees, thresholds_of_trees

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna.trial import BaseTrial
    from sklearn.pipeline import Pipeline

    from artifact.signature import Task
    from training.families.family import Params
    from training.families.layout import Layout
    from training.onnx.graph import Graph


def _suggest(trial: BaseTrial, layout: Layout) -> Params:
    return {
        "max_depth": trial.suggest_int("tree.max_depth", 2, 16),
        "min_samples_leaf": trial.suggest_int("tree.min_samples_leaf", 1, 50, log=True),
        **weight(trial, "tree", layout),
    }


def _build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    kwargs = {key: params[key] for key in ("max_depth", "min_samples_leaf")} | {"random_state": seed}
    if layout.classes:
        model = DecisionTreeClassifier(class_weight=params.get("class_weight"), **kwargs)
    else:
        model = DecisionTreeRegressor(**kwargs)
    return pipeline_of(ordered(layout, task, seed), model)


def _write(graph: Graph, model: DecisionTreeClassifier | DecisionTreeRegressor, x: str) -> str:
    return mean_of_trees(graph, [model], x, len(getattr(model, "classes_", [0])))


def _thresholds(model: DecisionTreeClassifier | DecisionTreeRegressor) -> Iterator[tuple[int, float]]:
    return thresholds_of_trees([model])


FAMILY = Family(
    name="tree",
    title="Decision tree",
    tasks=ALL_TASKS,
    default=lambda layout: {"max_depth": 6, "min_samples_leaf": 5} | no_weight(layout),
    suggest=_suggest,
    build=_build,
    affordable=lambda _rows, _width, _classes: True,
    writers={
        DecisionTreeClassifier: Writer(
            _write, thresholds=_thresholds, ml_opset_of_many_classes=ML_OPSET_OF_MANY_TARGETS
        ),
        DecisionTreeRegressor: Writer(_write, thresholds=_thresholds),
    },
)
