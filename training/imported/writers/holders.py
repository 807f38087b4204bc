"""Models that hold others: votes, stacks, bags, calibration, searches, one against the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC, NuSVC

from training.families.catalog import WRITERS as OWN
from training.imported.writers.chosen import chosen, first_largest
from training.imported.writers.linear import normalised, write_linear
from training.imported.writers.trees import adaptive_decision, boosting_decision, histogram_decision
from training.imported.writers.vectors import machine_decision
from training.onnx.columns import transform_columns
from training.onnx.graph import NoExport, Number, Writer
from training.onnx.transformers import function, interpolated, transform

if TYPE_CHECKING:
    from training.onnx.graph import Columns, Graph

SEARCHES = (GridSearchCV, RandomizedSearchCV)
INNER = (*SEARCHES, FrozenEstimator, TunedThresholdClassifierCV, FixedThresholdClassifier)


def inner_of(model: Any) -> Any:
    """The model within a search, or within what only sets a threshold."""
    while isinstance(model, INNER):
        model = (
            getattr(model, "best_estimator_", None) or getattr(model, "estimator_", None) or model.estimator
        )
    return model


def _write_inner(graph: Graph, model: Any, x: Any) -> str:
    return graph.predict(inner_of(model), x)


def decision(graph: Graph, model: Any, x: Any) -> str:
    """`decision_function` of a classifier: (rows, 1) of two classes, else (rows, classes)."""
    model = inner_of(model)
    if isinstance(model, Pipeline):
        for _, part in model.steps[:-1]:
            x = transform_columns(graph, part, x) if isinstance(x, tuple) else transform(graph, part, x)
        return decision(graph, model.steps[-1][1], x)
    if isinstance(model, HistGradientBoostingClassifier):
        return histogram_decision(graph, model, x)
    x = graph.matrix(x)
    if isinstance(model, (SVC, NuSVC)):
        return machine_decision(graph, model, x)
    if isinstance(model, GradientBoostingClassifier):
        return boosting_decision(graph, model, x)
    if isinstance(model, AdaBoostClassifier):
        both = adaptive_decision(graph, model, x)
        if len(model.classes_) > 2:
            return both
        return graph.op("Sub", graph.gather(both, [1]), graph.gather(both, [0]))
    if hasattr(model, "coef_") and hasattr(model, "intercept_"):
        return write_linear(graph, model, x)
    raise NoExport(f"no ONNX form of the decision function of {type(model).__name__}")


def _response(graph: Graph, model: Any, x: Any, method: str) -> str:
    """What a model within another one is asked for, without the first of two probabilities."""
    if method == "decision_function":
        return decision(graph, model, x)
    found = graph.predict(model, x)
    if method == "predict_proba":
        return graph.gather(found, [1]) if len(model.classes_) == 2 else found
    if hasattr(model, "classes_"):  # its label, as a number
        place = graph.op("ArgMax", found, axis=1, keepdims=1)
        return graph.op("Gather", graph.constant(np.asarray(model.classes_, np.float64)), place, axis=0)
    return found


# ---- votes and stacks


def _write_vote(graph: Graph, model: VotingClassifier, x: Any) -> str:
    if model.voting == "soft":
        return OWN[VotingClassifier].write(graph, model, x)
    classes = len(model.classes_)
    weights = model._weights_not_none or [1.0] * len(model.estimators_)  # noqa: SLF001
    total = ""
    for each, weight in zip(model.estimators_, weights, strict=True):
        vote = graph.mul(first_largest(graph, graph.predict(each, x), classes), [[float(weight)]])
        total = graph.op("Add", total, vote) if total else vote
    return first_largest(graph, total, classes)


def _write_stack(graph: Graph, model: Any, x: Any) -> str:
    if getattr(model, "cv", None) == "prefit" and not model.estimators_:
        raise NoExport("no ONNX form of a stack without members")
    parts = [
        _response(graph, each, x, method)
        for each, method in zip(model.estimators_, model.stack_method_, strict=True)
    ]
    if model.passthrough:
        parts.append(graph.matrix(x))
    return graph.predict(model.final_estimator_, graph.concat(parts))


def _write_bag(graph: Graph, model: Any, x: Any) -> str:
    width = model.n_features_in_
    classes = len(getattr(model, "classes_", ()))
    total = ""
    for each, places in zip(model.estimators_, model.estimators_features_, strict=True):
        found = graph.predict(each, _some(graph, x, [int(place) for place in places], width))
        if classes and (not hasattr(each, "predict_proba") or len(each.classes_) != classes):
            raise NoExport("no ONNX form of a bag whose members know fewer classes or no probabilities")
        total = graph.op("Add", total, found) if total else found
    return graph.op("Div", total, graph.constant([[float(len(model.estimators_))]]))


def _some(graph: Graph, x: Any, places: list[int], width: int) -> Any:
    if places == list(range(width)):
        return x
    return graph.gather(x, places) if isinstance(x, str) else tuple(x[place] for place in places)


# ---- calibration


def _write_calibrated(graph: Graph, model: CalibratedClassifierCV, x: Any) -> str:
    total = ""
    for each in model.calibrated_classifiers_:
        part = _calibrated(graph, each, len(model.classes_), x)
        total = graph.op("Add", total, part) if total else part
    return graph.op("Div", total, graph.constant([[float(len(model.calibrated_classifiers_))]]))


def _calibrated(graph: Graph, model: Any, classes: int, x: Any) -> str:
    if model.method == "temperature" or len(model.estimator.classes_) != classes:
        raise NoExport("no ONNX form of this calibration")
    inner = inner_of(model.estimator)
    if hasattr(inner, "decision_function"):
        scores = decision(graph, inner, x)
    else:
        scores = _response(graph, inner, x, "predict_proba")
    found = []
    for place, each in enumerate(model.calibrators):
        score = graph.gather(scores, [place]) if classes > 2 else scores
        if isinstance(each, IsotonicRegression):
            points, values = np.asarray(each.X_thresholds_), np.asarray(each.y_thresholds_)
            low, high = graph.constant([[float(points[0])]]), graph.constant([[float(points[-1])]])
            within = graph.op("Max", graph.op("Min", score, high), low)
            found.append(interpolated(graph, within, points, values))
        else:  # 1 / (1 + exp(a f + b))
            found.append(
                graph.op("Sigmoid", graph.add(graph.mul(score, [[-float(each.a_)]]), [[-float(each.b_)]]))
            )
    if classes == 2:
        return graph.complement(found[0])
    return normalised(graph, graph.concat(found), classes)


# ---- one against the rest, targets, dummies


def _write_rest(graph: Graph, model: OneVsRestClassifier, x: Any) -> str:
    if model.multilabel_:
        raise NoExport("no ONNX form of several labels at once")
    members = model.estimators_
    if any(not hasattr(each, "classes_") for each in members):
        raise NoExport("no ONNX form of a OneVsRestClassifier with a constant member")
    if all(hasattr(each, "predict_proba") for each in members):
        chances = graph.concat([graph.gather(graph.predict(each, x), [1]) for each in members])
        if len(members) == 1:
            return graph.complement(chances)
        return graph.op("Div", chances, graph.row_sum(chances))
    scores = graph.concat([decision(graph, each, x) for each in members])
    return chosen(graph, scores, len(model.classes_))


def _write_target(graph: Graph, model: TransformedTargetRegressor, x: Any) -> str:
    value = graph.predict(model.regressor_, x)
    scaler = model.transformer_
    if type(scaler) is StandardScaler:
        return OWN[TransformedTargetRegressor].write(graph, model, x)
    if type(scaler) is MinMaxScaler:
        moved = graph.op("Sub", value, graph.constant(scaler.min_[None, :]))
        return graph.op("Div", moved, graph.constant(scaler.scale_[None, :]))
    if type(scaler) is FunctionTransformer and not scaler.inv_kw_args:
        if scaler.inverse_func is None:
            return value
        if isinstance(scaler.inverse_func, np.ufunc):
            return function(graph, scaler.inverse_func, value)
    raise NoExport(f"no ONNX form of a target transformed by {type(scaler).__name__}")


def _write_each_target(graph: Graph, model: MultiOutputRegressor, x: Any) -> str:
    return graph.concat([graph.predict(each, x) for each in model.estimators_])


def _write_chain(graph: Graph, model: RegressorChain, x: Any) -> str:
    """Each target is predicted with those before it as more columns."""
    known = graph.matrix(x)
    found: list[str] = []
    for each in model.estimators_:
        found.append(graph.predict(each, known))
        known = graph.concat([known, found[-1]])
    order = [int(place) for place in model.order_]
    return graph.concat([found[order.index(target)] for target in range(len(order))])


def _write_dummy(graph: Graph, model: DummyClassifier, x: Any) -> str:
    classes = len(model.classes_)
    prior = np.asarray(model.class_prior_)
    if model.strategy == "most_frequent":
        prior = np.eye(classes)[prior.argmax()]
    elif model.strategy == "uniform":
        prior = np.full(classes, 1 / classes)
    elif model.strategy == "constant":
        prior = (np.asarray(model.classes_) == np.ravel(model.constant)[0]).astype(float)
    elif model.strategy != "prior":
        raise NoExport(f"no ONNX form of a dummy that answers by chance ({model.strategy})")
    return _same(graph, x, prior[None, :])


def _write_constant(graph: Graph, model: Any, x: Any) -> str:
    return _same(graph, x, np.asarray(model.constant_, np.float64).reshape(1, -1))


def _same(graph: Graph, x: str | Columns, value: Any) -> str:
    if not isinstance(x, str):
        x = next((each.tensor if isinstance(each, Number) else each.index for each in x), "")
    rows = graph.op("Shape", x, start=0, end=1)
    shape = graph.op("Concat", rows, graph.constant([value.shape[1]], np.int64), axis=0)
    return graph.op("Expand", graph.constant(value), shape)


WRITERS: dict[type, Writer] = {
    **dict.fromkeys(INNER, Writer(_write_inner, holds=True)),
    VotingClassifier: Writer(_write_vote, holds=True),
    StackingClassifier: Writer(_write_stack, holds=True),
    StackingRegressor: Writer(_write_stack, holds=True),
    BaggingClassifier: Writer(_write_bag, holds=True),
    BaggingRegressor: Writer(_write_bag, holds=True),
    CalibratedClassifierCV: Writer(_write_calibrated, holds=True),
    OneVsRestClassifier: Writer(_write_rest, holds=True),
    TransformedTargetRegressor: Writer(_write_target, holds=True),
    DummyClassifier: Writer(_write_dummy, holds=True),
    MultiOutputRegressor: Writer(_write_each_target, holds=True),
    RegressorChain: Writer(_write_chain, holds=True),
    DummyRegressor: Writer(_write_constant, holds=True),
}
