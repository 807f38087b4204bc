"""The k nearest neighbours by the distances that a graph can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from training.families.neighbours import FAMILY
from training.onnx.graph import NoExport, Writer

if TYPE_CHECKING:
    from training.onnx.graph import Graph


def _write(graph: Graph, model: Any, x: str) -> str:
    metric = model.effective_metric_
    if metric != "euclidean" or model.weights not in {"uniform", "distance"}:
        raise NoExport(f"no ONNX form of neighbours by {metric} and weights {model.weights!r}")
    return FAMILY.writers[type(model)].write(graph, model, x)


WRITERS: dict[type, Writer] = dict.fromkeys((KNeighborsClassifier, KNeighborsRegressor), Writer(_write))
