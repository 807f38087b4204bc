"""Fitted transformers as nodes: what stands before the predictors of several families."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    StandardScaler,
    TargetEncoder,
)

from training.onnx.graph import Graph, NoExport

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def transform(graph: Graph, step: Any, x: str) -> str:
    """Add a fitted transformer; NoExport for one that is not in `TRANSFORMERS`."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return x
    add = TRANSFORMERS.get(type(step))
    if add is None:
        raise NoExport(f"no ONNX form of {type(step).__name__}")
    return add(graph, step, x)


def _pipeline_transform(graph: Graph, step: Pipeline, x: str) -> str:
    for _, part in step.steps:
        x = transform(graph, part, x)
    return x


def _columns(graph: Graph, step: ColumnTransformer, x: str) -> str:
    parts = []
    whole = list(range(step.n_features_in_))
    for _, part, places in step.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        chosen = [int(place) for place in places]
        if chosen:
            parts.append(transform(graph, part, x if chosen == whole else graph.gather(x, chosen)))
    return graph.concat(parts)


def _impute(graph: Graph, step: SimpleImputer, x: str) -> str:
    missing = graph.op("IsNaN", x)
    filled = graph.op("Where", missing, graph.constant(step.statistics_[None, :]), x)
    if step.indicator_ is None or not len(step.indicator_.features_):
        return filled
    marks = graph.gather(graph.cast(missing), step.indicator_.features_)
    return graph.concat([filled, marks])


def _standard(graph: Graph, step: StandardScaler, x: str) -> str:
    x = graph.op("Sub", x, graph.constant(step.mean_[None, :]))
    return graph.op("Div", x, graph.constant(step.scale_[None, :]))


def _range(graph: Graph, step: MinMaxScaler, x: str) -> str:
    x = graph.op("Mul", x, graph.constant(step.scale_[None, :]))
    return graph.op("Add", x, graph.constant(step.min_[None, :]))


def _power(graph: Graph, step: PowerTransformer, x: str) -> str:
    """Yeo and Johnson: of x >= 0 ((x+1)^l - 1)/l or ln(x+1); of x < 0 the same of -x with 2 - l, negated."""
    power = step.lambdas_[None, :]
    one = graph.constant([[1.0]])
    size = graph.op("Add", graph.op("Abs", x), one)
    negative = graph.op("Less", x, graph.constant([[0.0]]))
    log = graph.op("Log", size)

    def branch(exponent: NDArray[np.float64]) -> str:
        flat = np.abs(exponent) < np.spacing(1.0)
        safe = np.where(flat, 1.0, exponent)
        raised = graph.op("Sub", graph.op("Pow", size, graph.constant(safe)), one)
        curved = graph.op("Div", raised, graph.constant(safe))
        return graph.op("Where", graph.constant(flat, np.bool_), log, curved) if flat.any() else curved

    below = graph.op("Neg", branch(2 - power))
    x = graph.op("Where", negative, below, branch(power))
    return _standard(graph, step._scaler, x) if step.standardize else x  # noqa: SLF001


def _one_hot(graph: Graph, step: OneHotEncoder, x: str) -> str:
    columns = [i for i, known in enumerate(step.categories_) for _ in known]
    known = np.concatenate(step.categories_)[None, :]
    return graph.cast(graph.op("Equal", graph.gather(x, columns), graph.constant(known)))


def _target(graph: Graph, step: TargetEncoder, x: str) -> str:
    """Look each code up in one table that holds all columns' codes, -1 first, after one another."""
    columns = len(step.categories_)
    each = len(step.encodings_) // columns
    sizes = [int(known.max()) + 3 for known in step.categories_]  # from -1 on, and one for codes beyond
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    table = np.tile(np.broadcast_to(step.target_mean_, each), (sum(sizes), 1)).astype(np.float64)
    for i, known in enumerate(step.categories_):
        for k in range(each):
            table[starts[i] + known.astype(int) + 1, k] = step.encodings_[i * each + k]
    low, high = np.full((1, columns), -1.0), np.array([sizes], np.float64) - 2
    x = graph.op("Max", graph.op("Min", x, graph.constant(high)), graph.constant(low))
    index = graph.cast(graph.add(x, (starts + 1.0)[None, :]), TensorProto.INT64)
    found = graph.op("Gather", graph.constant(table), index, axis=0)
    return graph.op("Reshape", found, graph.constant([-1, columns * each], np.int64))


def _sparse(_graph: Graph, step: FunctionTransformer, x: str) -> str:
    if getattr(step.func, "__name__", None) not in {"csr_matrix", None}:
        raise NoExport(f"no ONNX form of the function {step.func!r}")
    return x


def _svd(graph: Graph, step: TruncatedSVD, x: str) -> str:
    return graph.matmul(x, step.components_.T)


TRANSFORMERS: dict[type, Callable[[Graph, Any, str], str]] = {
    Pipeline: _pipeline_transform,
    ColumnTransformer: _columns,
    SimpleImputer: _impute,
    StandardScaler: _standard,
    MinMaxScaler: _range,
    PowerTransformer: _power,
    OneHotEncoder: _one_hot,
    TargetEncoder: _target,
    FunctionTransformer: _sparse,
    TruncatedSVD: _svd,
}
