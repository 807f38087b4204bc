"""A label as scores: the chosen class has the probability 1, as a model without probabilities is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from training.onnx.graph import Graph


def chosen(graph: Graph, scores: str, classes: int) -> str:
    """1 for the class of the largest score, the first of equals; one score of two classes is the second's."""
    if classes == 2:
        return graph.complement(graph.cast(graph.op("Greater", scores, graph.constant([[0.0]]))))
    return first_largest(graph, scores, classes)


def first_largest(graph: Graph, scores: str, classes: int) -> str:
    """1 in the column of the largest score of each row, 0 in the others."""
    place = graph.op("ArgMax", scores, axis=1, keepdims=1)
    return graph.cast(graph.op("Equal", place, graph.constant(np.arange(classes)[None, :], np.int64)))
