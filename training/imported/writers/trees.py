"""Sums of trees that our own families do not have: boosting of several kinds, and native categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from training.families.tree import FAMILY
from training.imported.writers.chosen import first_largest
from training.onnx.columns import transform_columns
from training.onnx.graph import NoExport, Number, Writer
from training.onnx.trees import TreeEnsemble, histogram_sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.onnx.graph import Columns, Graph


def boosting_decision(graph: Graph, model: Any, x: str) -> str:
    """The raw sums of gradient boosting, (rows, 1) of two classes or of a regression."""
    init = model.init_
    if not (isinstance(init, str) and init == "zero") and type(init).__module__ != "sklearn.dummy":
        raise NoExport(f"no ONNX form of gradient boosting that begins with a {type(init).__name__}")
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_)))  # noqa: SLF001 - of no column
    ensemble = TreeEnsemble()
    for stage in model.estimators_:
        for target, each in enumerate(stage):
            ensemble.fitted(each.tree_, each.tree_.value[:, 0, 0] * model.learning_rate, target)
    sums = ensemble.add_to(graph, graph.single(x), model.estimators_.shape[1])
    return graph.add(sums, np.asarray(start, np.float64).reshape(1, -1))


def _write_boosting(graph: Graph, model: GradientBoostingClassifier, x: str) -> str:
    raw = boosting_decision(graph, model, x)
    if len(model.classes_) > 2:
        return graph.softmax(raw)
    return graph.complement(
        graph.op("Sigmoid", graph.mul(raw, [[2.0]]) if model.loss == "exponential" else raw)
    )


def histogram_decision(graph: Graph, model: Any, x: str | Columns) -> str:
    """The raw sums of histogram gradient boosting; native categories are looked up as its encoder does."""
    known: list[Any] = []
    columns = x
    if model._preprocessor is not None:  # noqa: SLF001
        whole = _cells(x, model.n_features_in_)
        native = np.asarray(model.is_categorical_, bool)
        encoder = model._preprocessor.named_transformers_["encoder"]  # noqa: SLF001
        known = encoder.categories_
        chosen = tuple(each for each, one in zip(whole, native, strict=True) if one)
        others = tuple(each for each, one in zip(whole, native, strict=True) if not one)
        columns = (*transform_columns(graph, encoder, chosen), *others)
    return histogram_sums(graph, model, graph.matrix(columns), known)


def _cells(x: str | Columns, width: int) -> Columns:
    return tuple(Number(x, place, width) for place in range(width)) if isinstance(x, str) else x


def _write_histogram(graph: Graph, model: Any, x: str | Columns) -> str:
    raw = histogram_decision(graph, model, x)
    if isinstance(model, HistGradientBoostingRegressor):
        return graph.op("Exp", raw) if model.loss in {"poisson", "gamma"} else raw
    return (
        graph.complement(graph.op("Sigmoid", raw))
        if model.n_trees_per_iteration_ == 1
        else graph.softmax(raw)
    )


def adaptive_decision(graph: Graph, model: AdaBoostClassifier, x: str) -> str:
    """`decision_function` of AdaBoost, (rows, classes) also of two: each tree votes with its weight."""
    classes = len(model.classes_)
    weights = model.estimator_weights_[: len(model.estimators_)]
    total = float(weights.sum())
    if all(isinstance(each, DecisionTreeClassifier) for each in model.estimators_):
        ensemble = TreeEnsemble()
        for each, weight in zip(model.estimators_, weights, strict=True):
            voted = each.classes_[each.tree_.value[:, 0, :].argmax(axis=1)]
            for target, label in enumerate(model.classes_):
                values = np.where(voted == label, weight, -weight / (classes - 1))
                ensemble.fitted(each.tree_, values, target)
        return graph.op("Div", ensemble.add_to(graph, graph.single(x), classes), graph.constant([[total]]))
    sums = ""
    for each, weight in zip(model.estimators_, weights, strict=True):
        if list(each.classes_) != list(model.classes_):
            raise NoExport("no ONNX form of an AdaBoost whose members know fewer classes")
        voted = first_largest(graph, graph.predict(each, x), classes)
        part = graph.add(graph.mul(voted, [[weight * classes / (classes - 1)]]), [[-weight / (classes - 1)]])
        sums = graph.op("Add", sums, part) if sums else part
    return graph.op("Div", sums, graph.constant([[total]]))


def _write_adaptive(graph: Graph, model: AdaBoostClassifier, x: str) -> str:
    decision = adaptive_decision(graph, model, x)
    classes = len(model.classes_)
    if classes == 2:  # the difference of the two, halved, on both sides
        second = graph.op("Sub", graph.gather(decision, [1]), graph.gather(decision, [0]))
        return graph.complement(graph.op("Sigmoid", second))
    return graph.softmax(graph.mul(decision, [[1.0 / (classes - 1)]]))


def _write_weighted_median(graph: Graph, model: AdaBoostRegressor, x: str) -> str:
    """The value at which the members, from the lowest answer on, have half of all weight."""
    members = model.estimators_
    weights = np.asarray(model.estimator_weights_[: len(members)])
    if all(isinstance(each, DecisionTreeRegressor) for each in members):
        ensemble = TreeEnsemble()
        for target, each in enumerate(members):
            ensemble.fitted(each.tree_, each.tree_.value[:, 0, 0], target)
        answers = ensemble.add_to(graph, graph.single(x), len(members))
    else:
        answers = graph.concat([graph.predict(each, x) for each in members])
    count = graph.constant([len(members)], np.int64)
    ordered, places = graph.ops("TopK", 2, answers, count, axis=1, largest=0, sorted=1)
    heavy = graph.op("Gather", graph.constant(weights), places, axis=0)
    reached = graph.op("CumSum", heavy, graph.constant(1, np.int64))
    half = graph.mul(graph.gather(reached, [len(members) - 1]), [[0.5]])
    place = graph.row_sum(graph.cast(graph.op("Less", reached, half)))
    return graph.op("GatherElements", ordered, graph.cast(place, 7), axis=1)


def _members(model: Any) -> Sequence[Any]:
    return list(model.estimators_)


_TREES = {kind.__name__: writer for kind, writer in FAMILY.writers.items()}

WRITERS: dict[type, Writer] = {
    GradientBoostingClassifier: Writer(_write_boosting),
    GradientBoostingRegressor: Writer(boosting_decision),
    HistGradientBoostingClassifier: Writer(_write_histogram, holds=True),
    HistGradientBoostingRegressor: Writer(_write_histogram, holds=True),
    AdaBoostClassifier: Writer(_write_adaptive, members=_members),
    AdaBoostRegressor: Writer(_write_weighted_median, members=_members),
    ExtraTreeClassifier: _TREES["DecisionTreeClassifier"],
    ExtraTreeRegressor: _TREES["DecisionTreeRegressor"],
}
