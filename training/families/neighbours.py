"""The k nearest neighbours, by brute force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from training.families.family import ALL_TASKS, WIDE, Family, by_range, pipeline_of, skew_of
from training.families.preprocessing import scaled
from training.onnx.distances import squared_distances
from training.onnx.graph import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.trial import BaseTrial
    from sklearn.pipeline import Pipeline

    from artifact.signature import Task
    from training.families.family import Params
    from training.families.layout import Layout
    from training.onnx.graph import Graph


def _suggest(trial: BaseTrial, layout: Layout) -> Params:
    max_neighbours = int(np.clip(layout.rows // 10, 3, 50))
    return {
        "skew": skew_of(trial, "neighbours", layout),
        "n_neighbors": trial.suggest_int("neighbours.n_neighbors", 1, max_neighbours, log=True),
        "weights": trial.suggest_categorical("neighbours.weights", ["uniform", "distance"]),
    }


def _build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    columns = scaled(layout, task, seed, skew=params["skew"], dense=True)
    kind = KNeighborsClassifier if layout.classes else KNeighborsRegressor
    model = kind(n_neighbors=params["n_neighbors"], weights=params["weights"], algorithm="brute")
    return pipeline_of(columns, model)


def _write(graph: Graph, model: KNeighborsClassifier | KNeighborsRegressor, x: str) -> str:
    """The nearest by one matrix product, as scikit-learn's brute force has it."""
    points = np.asarray(model._fit_X, np.float64)  # noqa: SLF001
    squares = squared_distances(graph, x, points)
    count = graph.constant([model.n_neighbors], np.int64)
    squares, nearest = graph.ops("TopK", 2, squares, count, axis=1, largest=0, sorted=1)
    if isinstance(model, KNeighborsClassifier):
        values = np.eye(len(model.classes_))[model._y.ravel()]  # noqa: SLF001
    else:
        values = np.asarray(model._y, np.float64).reshape(len(points), -1)  # noqa: SLF001
    found = graph.op("Gather", graph.constant(values), nearest, axis=0)  # (rows, neighbours, values)
    if model.weights == "uniform":
        return graph.op("ReduceMean", found, graph.constant([1], np.int64), keepdims=0)
    weights = _nearness(graph, graph.op("Sqrt", squares))
    column = graph.op("Unsqueeze", weights, graph.constant([2], np.int64))
    weighted = graph.row_sum(graph.op("Mul", found, column), keep=0)
    return graph.op("Div", weighted, graph.row_sum(weights))


def _nearness(graph: Graph, distance: str) -> str:
    """1 / distance; where a distance is 0, 1 for those that are and 0 for the others."""
    zero = graph.op("Equal", distance, graph.constant([[0.0]]))
    same = graph.cast(zero)
    any_same = graph.op("Greater", graph.row_sum(same), graph.constant([[0.0]]))
    safe = graph.op("Where", zero, graph.constant([[1.0]]), distance)
    return graph.op("Where", any_same, same, graph.op("Div", graph.constant([[1.0]]), safe))


FAMILY = Family(
    name="neighbours",
    title="k nearest neighbours",
    tasks=ALL_TASKS,
    default=lambda _layout: {"skew": "standard", "n_neighbors": 5, "weights": "distance"},
    suggest=_suggest,
    build=_build,
    affordable=lambda rows, width, _classes: rows <= 5_000 and width <= WIDE,
    second=by_range,
    row_us=lambda _params, layout, rows: rows * (0.005 + 0.0002 * layout.width),
    # Each row that is scored is compared with each of these.
    max_fit_rows=lambda _params, _layout: 10_000,
    writers={KNeighborsClassifier: Writer(_write), KNeighborsRegressor: Writer(_write)},
)
