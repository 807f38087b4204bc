"""ONNX graphs of models that find outliers or clusters: the answers of all their methods side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.ensemble._iforest import _average_path_length
from sklearn.linear_model import SGDOneClassSVM
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import Pipeline
from sklearn.svm import OneClassSVM
from sklearn.utils.extmath import row_norms

from training.imported.writers.vectors import support
from training.onnx.columns import transform_columns
from training.onnx.distances import squared_distances
from training.onnx.graph import NoExport
from training.onnx.transformers import transform
from training.onnx.trees import TreeEnsemble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from training.onnx.graph import Columns, Graph

Answers = dict[str, str]
"""The tensor of a method's answers, shape (rows, numbers), by the name of the method."""


def write(graph: Graph, model: Any, x: str | Columns, methods: Sequence[str]) -> str:
    """The answers of the methods side by side, (rows, numbers).

    Raises
    ------
    NoExport
        There is no graph for the model or for one of its methods.
    """
    while isinstance(model, Pipeline):
        for _, part in model.steps[:-1]:
            x = transform_columns(graph, part, x) if isinstance(x, tuple) else transform(graph, part, x)
        model = model.steps[-1][1]
    writer = _FINDERS.get(type(model))
    if writer is None:
        raise NoExport(f"no ONNX form of {type(model).__name__}")
    found = writer(graph, model, graph.matrix(x))
    return graph.concat([found[method] for method in methods])


def _clusters(graph: Graph, model: KMeans, x: str) -> Answers:
    centers = np.asarray(model.cluster_centers_, np.float64)
    # Without the row's own square, as in scikit-learn: its last bits would decide between equal distances.
    nearness = graph.add(graph.matmul(x, -2.0 * centers.T), row_norms(centers, squared=True)[None, :])
    place = graph.op("ArgMin", nearness, axis=1, keepdims=1)
    return {
        "predict": graph.cast(place),
        "transform": graph.op("Sqrt", squared_distances(graph, x, centers)),
    }


def _mixture(graph: Graph, model: GaussianMixture, x: str) -> Answers:
    if model.covariance_type != "full":
        raise NoExport(f"no ONNX form of a mixture with covariances of the kind {model.covariance_type!r}")
    parts = []
    for mean, root, weight in zip(model.means_, model.precisions_cholesky_, model.weights_, strict=True):
        away = graph.op("Sub", graph.matmul(x, root), graph.constant((mean @ root)[None, :]))
        squares = graph.row_sum(graph.op("Mul", away, away))
        size = np.log(np.diag(root)).sum() + np.log(weight) - 0.5 * len(mean) * np.log(2 * np.pi)
        parts.append(graph.add(graph.mul(squares, [[-0.5]]), [[size]]))
    each = graph.concat(parts)
    return {
        "predict": graph.cast(graph.op("ArgMax", each, axis=1, keepdims=1)),
        "predict_proba": graph.softmax(each),
        "score_samples": graph.op("ReduceLogSumExp", each, graph.constant([1], np.int64), keepdims=1),
    }


def _outliers(graph: Graph, samples: str, offset: float, *, border: bool) -> Answers:
    """The three answers of a finder of outliers; with `border` a row on the border is an inlier."""
    decision = graph.add(samples, [[-offset]])
    kind = "GreaterOrEqual" if border else "Greater"
    inlier = graph.cast(graph.op(kind, decision, graph.constant([[0.0]])))
    label = graph.add(graph.mul(inlier, [[2.0]]), [[-1.0]])
    return {"predict": label, "score_samples": samples, "decision_function": decision}


def _forest(graph: Graph, model: IsolationForest, x: str) -> Answers:
    """Scores by the length of a row's path through each tree, and the expected path below its leaf."""
    whole = list(range(model.n_features_in_))
    if any(list(places) != whole for places in model.estimators_features_):
        raise NoExport("no ONNX form of an IsolationForest whose trees read some of the columns")
    ensemble = TreeEnsemble()
    for each in model.estimators_:
        tree = each.tree_
        depth = np.asarray(tree.compute_node_depths(), np.float64) - 1  # edges, as scikit-learn counts
        ensemble.fitted(tree, depth + _average_path_length(tree.n_node_samples), 0)
    lengths = ensemble.add_to(graph, graph.single(x), 1)
    usual = float(len(model.estimators_) * _average_path_length([model._max_samples])[0])  # noqa: SLF001
    power = graph.mul(lengths, [[-1.0 / usual if usual else 0.0]])
    samples = graph.op("Neg", graph.op("Pow", graph.constant([[2.0]]), power))
    return _outliers(graph, samples, float(model.offset_), border=True)


def _machine(graph: Graph, model: OneClassSVM, x: str) -> Answers:
    weights = np.asarray(model.dual_coef_).reshape(1, -1).T
    samples = graph.matmul(support(graph, model, x), weights)
    return _outliers(graph, samples, float(np.ravel(model.offset_)[0]), border=False)


def _descent(graph: Graph, model: SGDOneClassSVM, x: str) -> Answers:
    samples = graph.matmul(x, np.asarray(model.coef_).reshape(1, -1).T)
    return _outliers(graph, samples, float(np.ravel(model.offset_)[0]), border=True)


def _envelope(graph: Graph, model: EllipticEnvelope, x: str) -> Answers:
    away = graph.add(x, -np.asarray(model.location_)[None, :])
    squares = graph.row_sum(graph.op("Mul", graph.matmul(away, np.asarray(model.get_precision())), away))
    return _outliers(graph, graph.op("Neg", squares), float(model.offset_), border=True)


_FINDERS: dict[type, Callable[[Graph, Any, str], Answers]] = {
    KMeans: _clusters,
    MiniBatchKMeans: _clusters,
    GaussianMixture: _mixture,
    IsolationForest: _forest,
    OneClassSVM: _machine,
    SGDOneClassSVM: _descent,
    EllipticEnvelope: _envelope,
}
