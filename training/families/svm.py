"""Support vector machines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC, SVR, LinearSVC

from training.families.family import ALL_TASKS, WIDE, Family, no_weight, pipeline_of, skew_of, weight
from training.families.preprocessing import scaled, scaled_target
from training.onnx.distances import squared_distances
from training.onnx.graph import NoExport, Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.trial import BaseTrial
    from sklearn.pipeline import Pipeline

    from artifact.signature import Task
    from training.families.family import Params
    from training.families.layout import Layout
    from training.onnx.graph import Graph

INNER_FOLDS = 3
MAX_KERNEL_ROWS = 4_000
"""Rows up to which an RBF kernel is tried; beyond, and for wide tables, classes get a linear machine."""


def _linear_kernel(layout: Layout) -> bool:
    return layout.rows > MAX_KERNEL_ROWS or layout.width > WIDE


def _suggest(trial: BaseTrial, layout: Layout) -> Params:
    params = {
        "skew": skew_of(trial, "svm", layout),
        "C": trial.suggest_float("svm.C", 1e-2, 1e3, log=True),
        **weight(trial, "svm", layout),
    }
    if not _linear_kernel(layout):
        params["gamma"] = trial.suggest_float("svm.gamma", 0.05, 5.0, log=True)
    if not layout.classes:
        params["epsilon"] = trial.suggest_float("svm.epsilon", 1e-3, 0.3, log=True)
    return params


def _build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    columns = scaled(layout, task, seed, skew=params["skew"], dense=not _linear_kernel(layout))
    if not layout.classes:
        gamma = params["gamma"] / max(1, layout.width)
        model = SVR(C=params["C"], gamma=gamma, epsilon=params["epsilon"], max_iter=200_000)
        return pipeline_of(columns, scaled_target(model))
    machine: Any
    if _linear_kernel(layout):
        # On wide text the C that suits the RBF kernel regularises far too little.
        machine = LinearSVC(
            C=params["C"] / 10, class_weight=params.get("class_weight"), max_iter=2_000, random_state=seed
        )
    else:
        gamma = params["gamma"] / max(1, layout.width)
        machine = SVC(
            C=params["C"],
            gamma=gamma,
            class_weight=params.get("class_weight"),
            max_iter=200_000,
            random_state=seed,
        )
    # SVC(probability=True) is deprecated in scikit-learn 1.9; this is what its notice names instead.
    return pipeline_of(
        columns, CalibratedClassifierCV(machine, method="sigmoid", ensemble=False, cv=INNER_FOLDS)
    )


def _kernel(graph: Graph, model: SVC | SVR, x: str) -> str:
    if model.kernel != "rbf":
        raise NoExport(f"no ONNX form of the kernel {model.kernel!r}")
    squares = squared_distances(graph, x, model.support_vectors_)
    return graph.op("Exp", graph.mul(squares, -float(model._gamma)))  # noqa: SLF001


def _write_regressor(graph: Graph, model: SVR, x: str) -> str:
    kernel = _kernel(graph, model, x)
    return graph.add(graph.matmul(kernel, model.dual_coef_.T), model.intercept_[None, :])


def _svc_decision(graph: Graph, model: SVC, x: str) -> str:
    """`decision_function`: (rows, 1) of two classes, else (rows, classes) from the pairs' votes."""
    kernel = _kernel(graph, model, x)
    classes = len(model.classes_)
    if classes == 2:
        return graph.add(graph.matmul(kernel, model.dual_coef_.T), model.intercept_[None, :])
    ends = np.concatenate([[0], np.cumsum(model.n_support_)])
    of = [slice(ends[c], ends[c + 1]) for c in range(classes)]
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    weights = np.zeros((len(model.support_vectors_), len(pairs)))
    first, second = np.zeros((len(pairs), classes)), np.zeros((len(pairs), classes))
    for p, (i, j) in enumerate(pairs):
        weights[of[i], p] = model.dual_coef_[j - 1, of[i]]
        weights[of[j], p] = model.dual_coef_[i, of[j]]
        first[p, i] = second[p, j] = 1.0
    decision = graph.add(graph.matmul(kernel, weights), model.intercept_[None, :])
    # scikit-learn hands on `decision < 0` as the pair's vote for the second class and `-decision` as its
    # confidence.
    lost = graph.cast(graph.op("Less", decision, graph.constant([[0.0]])))
    votes = graph.add(graph.matmul(lost, second - first), first.sum(axis=0)[None, :])
    confidence = graph.matmul(decision, first - second)
    size = graph.mul(graph.add(graph.op("Abs", confidence), [[1.0]]), 3.0)
    return graph.op("Add", votes, graph.op("Div", confidence, size))


def _linear_decision(graph: Graph, model: LinearSVC, x: str) -> str:
    return graph.affine(x, model.coef_, model.intercept_)


def _write_calibrated(graph: Graph, model: CalibratedClassifierCV, x: str) -> str:
    if len(model.calibrated_classifiers_) != 1 or model.method != "sigmoid":
        raise NoExport("no ONNX form of this calibration")
    inner = model.calibrated_classifiers_[0]
    machine = inner.estimator
    decide = {SVC: _svc_decision, LinearSVC: _linear_decision}.get(type(machine))
    if decide is None:
        raise NoExport(f"no ONNX form of a calibrated {type(machine).__name__}")
    decision = decide(graph, machine, x)
    slope = np.array([[each.a_ for each in inner.calibrators]])
    offset = np.array([[each.b_ for each in inner.calibrators]])
    # A calibrator is 1 / (1 + exp(a f + b)).
    probabilities = graph.op("Sigmoid", graph.add(graph.op("Mul", decision, graph.constant(-slope)), -offset))
    if len(model.classes_) == 2:
        return graph.complement(probabilities)
    total = graph.row_sum(probabilities)
    empty = graph.op("Equal", total, graph.constant([[0.0]]))
    uniform = graph.constant([[1.0 / len(model.classes_)]])
    return graph.op("Where", empty, uniform, graph.op("Div", probabilities, total))


FAMILY = Family(
    name="svm",
    title="Support vector machine",
    tasks=ALL_TASKS,
    default=lambda layout: (
        {"skew": "standard", "C": 1.0}
        | ({} if _linear_kernel(layout) else {"gamma": 1.0})
        | ({} if layout.classes else {"epsilon": 0.1})
        | no_weight(layout)
    ),
    suggest=_suggest,
    build=_build,
    affordable=lambda rows, width, classes: (
        rows <= MAX_KERNEL_ROWS and width <= WIDE
        if not classes
        else rows * min(width, 200) * classes <= 6_000_000
    ),
    second=lambda layout: (
        {"skew": "range", "C": 10.0, "gamma": 4.0} if layout.one_unit and not _linear_kernel(layout) else {}
    ),
    fit_seconds=lambda _params, layout, rows: (
        1.5e-5 * rows * layout.cost if _linear_kernel(layout) else 3e-7 * rows**2
    ),
    # About half the rows of a kernel machine are support vectors.
    row_us=lambda _params, layout, rows: (
        0.002 * layout.width if _linear_kernel(layout) else rows / 2 * (0.005 + 0.0003 * layout.width)
    ),
    # A kernel machine compares each row that is scored with each of its support vectors.
    max_fit_rows=lambda _params, layout: sys.maxsize if _linear_kernel(layout) else 10_000,
    writers={CalibratedClassifierCV: Writer(_write_calibrated), SVR: Writer(_write_regressor)},
)
