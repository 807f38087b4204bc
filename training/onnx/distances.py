"""Distances between rows and points that a model has learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.onnx.graph import Graph


def squared_distances(graph: Graph, x: str, points: NDArray[np.float64]) -> str:
    """Squared distances to the points, (rows, points), by one matrix product."""
    own = graph.row_sum(graph.op("Mul", x, x))
    cross = graph.matmul(x, -2.0 * points.T)
    sums = graph.op("Add", graph.op("Add", cross, own), graph.constant((points**2).sum(axis=1)[None, :]))
    return graph.op("Max", sums, graph.constant([[0.0]]))
