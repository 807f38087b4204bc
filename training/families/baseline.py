"""A baseline that looks at no column: what every model must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import Pipeline

from training.families.family import ALL_TASKS, Family
from training.onnx.graph import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from artifact.signature import Task
    from training.families.layout import Layout
    from training.onnx.graph import Graph


def _build(_params: Mapping[str, Any], layout: Layout, _task: Task, seed: int) -> Pipeline:
    model = DummyClassifier(strategy="prior", random_state=seed) if layout.classes else DummyRegressor()
    return Pipeline([("model", model)])


def _write_prior(graph: Graph, model: DummyClassifier, x: str) -> str:
    return _same_for_all(graph, x, np.asarray(model.class_prior_)[None, :])


def _write_mean(graph: Graph, model: DummyRegressor, x: str) -> str:
    return _same_for_all(graph, x, np.asarray(model.constant_).reshape(1, 1))


def _same_for_all(graph: Graph, x: str, value: NDArray[np.float64]) -> str:
    rows = graph.op("Shape", x, start=0, end=1)
    shape = graph.op("Concat", rows, graph.constant([value.shape[1]], np.int64), axis=0)
    return graph.op("Expand", graph.constant(value), shape)


FAMILY = Family(
    name="baseline",
    title="Baseline that looks at no column",
    tasks=ALL_TASKS,
    default=lambda _layout: {},
    suggest=lambda _trial, _layout: {},
    build=_build,
    affordable=lambda _rows, _width, _classes: True,
    writers={DummyClassifier: Writer(_write_prior), DummyRegressor: Writer(_write_mean)},
)
