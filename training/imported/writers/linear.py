"""Linear models: regressions, generalised ones, and classifiers with and without probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLars,
    LassoLarsCV,
    LassoLarsIC,
    LogisticRegressionCV,
    MultiTaskElasticNet,
    MultiTaskElasticNetCV,
    MultiTaskLasso,
    MultiTaskLassoCV,
    OrthogonalMatchingPursuit,
    PoissonRegressor,
    QuantileRegressor,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.svm import LinearSVC, LinearSVR

from training.families.linear import FAMILY
from training.imported.writers.chosen import chosen
from training.onnx.graph import Writer

if TYPE_CHECKING:
    from training.onnx.graph import Graph


def write_linear(graph: Graph, model: Any, x: str) -> str:
    """`decision_function` of a classifier, (rows, 1) of two classes, or the values of a regression."""
    return graph.affine(x, model.coef_, model.intercept_)


def _write_log_link(graph: Graph, model: Any, x: str) -> str:
    value = write_linear(graph, model, x)
    power = getattr(model, "power", 1)
    if isinstance(model, TweedieRegressor) and (
        model.link == "identity" or (model.link == "auto" and power <= 0)
    ):
        return value
    return graph.op("Exp", value)


def _write_label(graph: Graph, model: Any, x: str) -> str:
    return chosen(graph, write_linear(graph, model, x), len(model.classes_))


def _write_descent(graph: Graph, model: SGDClassifier, x: str) -> str:
    decision = write_linear(graph, model, x)
    classes = len(model.classes_)
    if model.loss == "log_loss":
        chances = graph.op("Sigmoid", decision)
    elif model.loss == "modified_huber":
        low, high = graph.constant([[-1.0]]), graph.constant([[1.0]])
        within = graph.op("Max", graph.op("Min", decision, high), low)
        chances = graph.mul(graph.add(within, [[1.0]]), [[0.5]])
    else:
        return chosen(graph, decision, classes)
    return graph.complement(chances) if classes == 2 else normalised(graph, chances, classes)


def normalised(graph: Graph, chances: str, classes: int) -> str:
    """Chances of each class by itself as probabilities of all; even ones where all are 0."""
    total = graph.row_sum(chances)
    empty = graph.op("Equal", total, graph.constant([[0.0]]))
    shared = graph.op("Div", chances, graph.op("Where", empty, graph.constant([[1.0]]), total))
    return graph.op("Where", empty, graph.constant([[1.0 / classes]]), shared)


def _write_projected(graph: Graph, model: PLSRegression, x: str) -> str:
    return graph.affine(graph.add(x, -model._x_mean[None, :]), model.coef_, model.intercept_)  # noqa: SLF001


_VALUES = (
    ARDRegression, BayesianRidge, ElasticNetCV, HuberRegressor, Lars, LarsCV, Lasso, LassoCV, LassoLars,
    LassoLarsCV, LassoLarsIC, LinearSVR, MultiTaskElasticNet, MultiTaskElasticNetCV, MultiTaskLasso,
    MultiTaskLassoCV, OrthogonalMatchingPursuit, QuantileRegressor, RidgeCV, SGDRegressor, TheilSenRegressor,
)  # fmt: skip
_LABELS = (LinearSVC, RidgeClassifier, RidgeClassifierCV)
_LOGISTIC = next(writer for kind, writer in FAMILY.writers.items() if kind.__name__ == "LogisticRegression")

WRITERS: dict[type, Writer] = {
    **dict.fromkeys(_VALUES, Writer(write_linear)),
    **dict.fromkeys(_LABELS, Writer(_write_label)),
    **dict.fromkeys((PoissonRegressor, GammaRegressor, TweedieRegressor), Writer(_write_log_link)),
    LogisticRegressionCV: _LOGISTIC,
    SGDClassifier: Writer(_write_descent),
    PLSRegression: Writer(_write_projected),
}
