"""Kernel machines: support vectors with any kernel of scikit-learn's own, and kernel ridge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.svm import SVC, SVR, NuSVC, NuSVR

from training.imported.writers.chosen import chosen, first_largest
from training.onnx.distances import squared_distances
from training.onnx.graph import NoExport, Writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.onnx.graph import Graph


def _kernel(graph: Graph, model: Any, x: str, points: NDArray[np.float64], gamma: float) -> str:
    """The kernel between rows and points, (rows, points)."""
    kind, degree, shift = model.kernel, model.degree, model.coef0
    if kind == "rbf":
        return graph.op("Exp", graph.mul(squared_distances(graph, x, points), -gamma))
    product = graph.matmul(x, points.T)
    if kind == "linear":
        return product
    if kind not in {"poly", "polynomial", "sigmoid"}:
        raise NoExport(f"no ONNX form of the kernel {kind!r}")
    inner = graph.add(graph.mul(product, gamma), [[float(shift)]])
    if kind == "sigmoid":
        return graph.op("Tanh", inner)
    return graph.op("Pow", inner, graph.constant([[float(degree)]]))


def support(graph: Graph, model: Any, x: str) -> str:
    """The kernel between rows and a machine's support vectors, (rows, vectors)."""
    vectors = model.support_vectors_
    dense = vectors.toarray() if hasattr(vectors, "toarray") else vectors
    return _kernel(graph, model, x, np.asarray(dense), float(model._gamma))  # noqa: SLF001


def _dense(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


def _write_regressor(graph: Graph, model: SVR, x: str) -> str:
    kernel = support(graph, model, x)
    return graph.add(graph.matmul(kernel, _dense(model.dual_coef_).T), model.intercept_[None, :])


def _pairs(graph: Graph, model: SVC, x: str) -> tuple[str, list[tuple[int, int]]]:
    """The decision of each pair of classes, positive for the first of it."""
    kernel = support(graph, model, x)
    classes = len(model.classes_)
    ends = np.concatenate([[0], np.cumsum(model.n_support_)])
    of = [slice(ends[c], ends[c + 1]) for c in range(classes)]
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    dual = _dense(model.dual_coef_)
    weights = np.zeros((dual.shape[1], len(pairs)))
    for p, (i, j) in enumerate(pairs):
        weights[of[i], p] = dual[j - 1, of[i]]
        weights[of[j], p] = dual[i, of[j]]
    return graph.add(graph.matmul(kernel, weights), model.intercept_[None, :]), pairs


def _votes(graph: Graph, model: SVC, x: str) -> tuple[str, str]:
    """The pairs' votes for each class, and the sum of their decisions."""
    decision, pairs = _pairs(graph, model, x)
    classes = len(model.classes_)
    first, second = np.zeros((len(pairs), classes)), np.zeros((len(pairs), classes))
    for p, (i, j) in enumerate(pairs):
        first[p, i] = second[p, j] = 1.0
    lost = graph.cast(graph.op("Less", decision, graph.constant([[0.0]])))
    votes = graph.add(graph.matmul(lost, second - first), first.sum(axis=0)[None, :])
    return votes, graph.matmul(decision, first - second)


def machine_decision(graph: Graph, model: SVC, x: str) -> str:
    """`decision_function`: (rows, 1) of two classes, else (rows, classes)."""
    if len(model.classes_) == 2:
        return graph.add(
            graph.matmul(support(graph, model, x), _dense(model.dual_coef_).T), model.intercept_[None, :]
        )
    if model.decision_function_shape != "ovr":
        raise NoExport('no ONNX form of a decision function of the shape "ovo"')
    votes, confidence = _votes(graph, model, x)
    size = graph.mul(graph.add(graph.op("Abs", confidence), [[1.0]]), 3.0)
    return graph.op("Add", votes, graph.op("Div", confidence, size))


def _write_machine(graph: Graph, model: SVC, x: str) -> str:
    classes = len(model.classes_)
    if model.probability is True:
        return _write_chances(graph, model, x)
    if classes == 2:
        return chosen(graph, machine_decision(graph, model, x), 2)
    if model.break_ties:
        return first_largest(graph, machine_decision(graph, model, x), classes)
    return first_largest(graph, _votes(graph, model, x)[0], classes)


def _write_chances(graph: Graph, model: SVC, x: str) -> str:
    """Platt's sigmoid of two classes; of more, libsvm couples the pairs by an iteration."""
    if len(model.classes_) != 2:
        raise NoExport("no ONNX form of the probabilities of an SVC of more than two classes")
    decision = graph.op("Neg", machine_decision(graph, model, x))
    first = graph.op(
        "Sigmoid", graph.add(graph.mul(decision, [-float(model.probA_[0])]), [[-float(model.probB_[0])]])
    )
    low, high = graph.constant([[1e-7]]), graph.constant([[1 - 1e-7]])
    first = graph.op("Max", graph.op("Min", first, high), low)
    return graph.concat([first, graph.op("Sub", graph.constant([[1.0]]), first)])


def _write_kernel_ridge(graph: Graph, model: KernelRidge, x: str) -> str:
    points = _dense(model.X_fit_)
    gamma = 1.0 / points.shape[1] if model.gamma is None else float(model.gamma)
    kernel = _kernel(graph, model, x, points, gamma)
    return graph.matmul(kernel, np.asarray(model.dual_coef_).reshape(len(points), -1))


WRITERS: dict[type, Writer] = {
    SVR: Writer(_write_regressor),
    NuSVR: Writer(_write_regressor),
    SVC: Writer(_write_machine),
    NuSVC: Writer(_write_machine),
    KernelRidge: Writer(_write_kernel_ridge),
}
