"""Fitted transformers as nodes: what stands before the predictors of several families."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
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
    gone = step.missing_values
    nan = gone is None or gone != gone  # noqa: PLR0124 - NaN
    missing = graph.op("IsNaN", x) if nan else graph.op("Equal", x, graph.constant([[float(gone)]]))
    statistics = np.asarray(step.statistics_, np.float64)
    empty = np.isnan(statistics)
    filled = graph.op("Where", missing, graph.constant(statistics[None, :]), x)
    if empty.any() and not step.keep_empty_features:
        filled = graph.gather(filled, np.flatnonzero(~empty).tolist())
    if step.indicator_ is None or not len(step.indicator_.features_):
        return filled
    marks = graph.gather(graph.cast(missing), step.indicator_.features_)
    return graph.concat([filled, marks])


def _standard(graph: Graph, step: StandardScaler, x: str) -> str:
    if step.with_mean:
        x = graph.op("Sub", x, graph.constant(step.mean_[None, :]))
    return graph.op("Div", x, graph.constant(step.scale_[None, :])) if step.with_std else x


def _range(graph: Graph, step: MinMaxScaler, x: str) -> str:
    x = graph.op("Mul", x, graph.constant(step.scale_[None, :]))
    x = graph.op("Add", x, graph.constant(step.min_[None, :]))
    return _clipped(graph, x, *step.feature_range) if step.clip else x


def _clipped(graph: Graph, x: str, low: float, high: float) -> str:
    """Within bounds; a missing value stays missing."""
    within = graph.op("Max", graph.op("Min", x, graph.constant([[high]])), graph.constant([[low]]))
    return graph.op("Where", graph.op("IsNaN", x), x, within)


def _largest(graph: Graph, step: MaxAbsScaler, x: str) -> str:
    x = graph.op("Div", x, graph.constant(step.scale_[None, :]))
    return _clipped(graph, x, -1.0, 1.0) if getattr(step, "clip", False) else x


def _robust(graph: Graph, step: RobustScaler, x: str) -> str:
    if step.with_centering:
        x = graph.op("Sub", x, graph.constant(step.center_[None, :]))
    return graph.op("Div", x, graph.constant(step.scale_[None, :])) if step.with_scaling else x


def _power(graph: Graph, step: PowerTransformer, x: str) -> str:
    """Yeo and Johnson: of x >= 0 ((x+1)^l - 1)/l or ln(x+1); of x < 0 the same of -x with 2 - l, negated.

    Box and Cox: (x^l - 1)/l or ln x.
    """
    if step.method == "box-cox":
        return _box_cox(graph, step, x)
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


def _box_cox(graph: Graph, step: PowerTransformer, x: str) -> str:
    power = step.lambdas_[None, :]
    flat = power == 0
    safe = graph.constant(np.where(flat, 1.0, power))
    raised = graph.op("Sub", graph.op("Pow", x, safe), graph.constant([[1.0]]))
    x = graph.op("Where", graph.constant(flat, np.bool_), graph.op("Log", x), graph.op("Div", raised, safe))
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


def _function(graph: Graph, step: FunctionTransformer, x: str) -> str:
    name = getattr(step.func, "__name__", None)
    if step.func is None or name == "csr_matrix":
        return x
    if step.func is np.round:
        return _rounded(graph, x, **(step.kw_args or {}))
    if not isinstance(step.func, np.ufunc) or step.kw_args:
        raise NoExport(f"no ONNX form of the function {name or type(step.func).__name__!r}")
    return function(graph, step.func, x)


def _rounded(graph: Graph, x: str, decimals: int = 0) -> str:
    """As numpy rounds: to the nearest of a grid, and half to even."""
    if decimals < 0:
        raise NoExport("no ONNX form of rounding to tens")
    grid = graph.constant([[10.0**decimals]])
    return graph.op("Div", graph.op("Round", graph.op("Mul", x, grid)), grid)


def function(graph: Graph, func: Any, x: str) -> str:
    """A function of numpy of one argument.

    Raises
    ------
    NoExport
        It is none that a graph can hold.
    """
    one = graph.constant([[1.0]])
    name = func.__name__
    if name in _UFUNCS:
        return graph.op(_UFUNCS[name], x)
    if name == "log1p":  # log y, less what the sum y = 1 + x has lost
        y = graph.op("Add", one, x)
        lost = graph.op("Sub", graph.op("Sub", y, one), x)
        return graph.op("Sub", graph.op("Log", y), graph.op("Div", lost, y))
    if name == "expm1":
        return graph.op("Sub", graph.op("Exp", x), one)
    if name == "square":
        return graph.op("Mul", x, x)
    if name in {"log2", "log10"}:
        return graph.op("Div", graph.op("Log", x), graph.constant([[np.log({"log2": 2, "log10": 10}[name])]]))
    if name == "exp2":
        return graph.op("Pow", graph.constant([[2.0]]), x)
    raise NoExport(f"no ONNX form of the function {name!r}")


_UFUNCS = {
    "log": "Log", "exp": "Exp", "sqrt": "Sqrt", "absolute": "Abs", "fabs": "Abs", "negative": "Neg",
    "reciprocal": "Reciprocal", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "rint": "Round",
    "sin": "Sin", "cos": "Cos", "tanh": "Tanh", "positive": "Identity",
}  # fmt: skip


def _bins(graph: Graph, step: KBinsDiscretizer, x: str) -> str:
    """The number of inner edges that a value reaches, column by column."""
    found = []
    for place, edges in enumerate(step.bin_edges_):
        column = graph.gather(x, [place])
        reached = graph.cast(graph.op("GreaterOrEqual", column, graph.constant(edges[1:-1][None, :])))
        code = graph.row_sum(reached) if len(edges) > 2 else graph.mul(column, [[0.0]])
        code = graph.op("Where", graph.op("IsNaN", column), column, code)
        if step.encode != "ordinal":
            codes = graph.constant(np.arange(step.n_bins_[place], dtype=float)[None, :])
            code = graph.cast(graph.op("Equal", code, codes))
        found.append(code)
    return graph.concat(found)


def _polynomial(graph: Graph, step: PolynomialFeatures, x: str) -> str:
    """Each output is a product of at most `degree` columns; a column of ones fills it up."""
    powers = step.powers_
    width = powers.shape[1]
    factors = [[i for i, times in enumerate(row) for _ in range(times)] for row in powers]
    most = max(map(len, factors))
    ones = graph.op("Add", graph.mul(graph.gather(x, [0]), [[0.0]]), graph.constant([[1.0]]))
    padded = graph.concat([x, ones])
    product = ""
    for place in range(most):
        chosen = graph.gather(padded, [row[place] if place < len(row) else width for row in factors])
        product = graph.op("Mul", product, chosen) if product else chosen
    return product


def _quantiles(graph: Graph, step: QuantileTransformer, x: str) -> str:
    """Interpolated between the learnt quantiles, forwards and backwards, as scikit-learn does."""
    if step.output_distribution != "uniform":
        raise NoExport("no ONNX form of a QuantileTransformer with a normal output")
    found = []
    for place in range(step.n_features_in_):
        column = graph.gather(x, [place])
        quantiles = step.quantiles_[:, place]
        forwards = interpolated(graph, column, quantiles, step.references_)
        back = interpolated(graph, graph.op("Neg", column), -quantiles[::-1], -step.references_[::-1])
        middle = graph.mul(graph.op("Sub", forwards, back), [[0.5]])
        for value, edge in ((0.0, quantiles[0]), (1.0, quantiles[-1])):
            at = graph.op("Equal", column, graph.constant([[edge]]))
            middle = graph.op("Where", at, graph.constant([[value]]), middle)
        found.append(graph.op("Where", graph.op("IsNaN", column), column, middle))
    return graph.concat(found)


def interpolated(graph: Graph, x: str, points: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    """`np.interp` of one column: between the last of the points that a value reaches and the next."""
    last = len(points) - 1
    slopes = np.append(np.diff(values) / np.where(np.diff(points) == 0, 1.0, np.diff(points)), 0.0)
    reached = graph.row_sum(graph.cast(graph.op("GreaterOrEqual", x, graph.constant(points[None, :]))))
    place = graph.add(reached, [[-1.0]])
    low, high = graph.constant([[0.0]]), graph.constant([[float(last)]])
    index = graph.cast(graph.op("Max", graph.op("Min", place, high), low), TensorProto.INT64)
    at, value, slope = (
        graph.op("Gather", graph.constant(each), index, axis=0) for each in (points, values, slopes)
    )
    made = graph.op("Add", graph.op("Mul", slope, graph.op("Sub", x, at)), value)
    before = graph.op("Less", x, graph.constant([[points[0]]]))
    return graph.op("Where", before, graph.constant([[values[0]]]), made)


def _selected(graph: Graph, step: Any, x: str) -> str:
    return graph.gather(x, np.flatnonzero(step.get_support()).tolist())


def _components(graph: Graph, step: PCA, x: str) -> str:
    x = graph.op("Sub", x, graph.constant(step.mean_[None, :])) if step.mean_ is not None else x
    x = graph.matmul(x, step.components_.T)
    if not step.whiten:
        return x
    scale = np.sqrt(step.explained_variance_)
    return graph.op("Div", x, graph.constant(np.maximum(scale, np.finfo(scale.dtype).eps)[None, :]))


def _discriminants(graph: Graph, step: LinearDiscriminantAnalysis, x: str) -> str:
    if step.solver == "svd":
        x = graph.matmul(graph.add(x, -step.xbar_[None, :]), step.scalings_)
    else:
        x = graph.matmul(x, step.scalings_)
    return graph.gather(x, list(range(step._max_components)))  # noqa: SLF001


def _norm(graph: Graph, step: Normalizer, x: str) -> str:
    if step.norm == "l2":
        size = graph.op("Sqrt", graph.row_sum(graph.op("Mul", x, x)))
    else:
        kind = {"l1": "ReduceSum", "max": "ReduceMax"}[step.norm]
        size = graph.op(kind, graph.op("Abs", x), graph.constant([1], np.int64), keepdims=1)
    zero = graph.op("Equal", size, graph.constant([[0.0]]))
    return graph.op("Div", x, graph.op("Where", zero, graph.constant([[1.0]]), size))


def _binary(graph: Graph, step: Binarizer, x: str) -> str:
    return graph.cast(graph.op("Greater", x, graph.constant([[float(step.threshold)]])))


def _marks(graph: Graph, step: MissingIndicator, x: str) -> str:
    return graph.cast(graph.op("IsNaN", graph.gather(x, step.features_.tolist())))


def _fourier(graph: Graph, step: RBFSampler, x: str) -> str:
    angle = graph.add(graph.matmul(x, step.random_weights_), step.random_offset_[None, :])
    return graph.mul(graph.op("Cos", angle), [[np.sqrt(2.0 / step.n_components)]])


def _neighbours(graph: Graph, step: KNNImputer, x: str) -> str:
    """The mean of the nearest rows that have the value, by distances over the columns that both rows have."""
    if step.weights not in {"uniform", "distance"} or step.metric != "nan_euclidean" or step.add_indicator:
        raise NoExport("no ONNX form of this KNNImputer")
    if not _is_nan(step.missing_values) or not step._valid_mask.all():  # noqa: SLF001
        raise NoExport("no ONNX form of a KNNImputer that drops a column")
    points = np.asarray(step._fit_X, np.float64)  # noqa: SLF001
    has = (~np.isnan(points)).astype(float)
    known = np.nan_to_num(points)
    gone = graph.op("IsNaN", x)
    there = graph.op("Sub", graph.constant([[1.0]]), graph.cast(gone))
    filled = graph.op("Where", gone, graph.constant([[0.0]]), x)
    squares = graph.op(
        "Add", graph.matmul(graph.op("Mul", filled, filled), has.T), graph.matmul(there, (known**2).T)
    )
    squares = graph.op("Add", squares, graph.matmul(filled, -2.0 * known.T))
    shared = graph.matmul(there, has.T)
    none = graph.op("Equal", shared, graph.constant([[0.0]]))
    far = graph.constant([[1e300]])
    scaled = graph.op("Div", graph.op("Max", squares, graph.constant([[0.0]])), shared)
    distance = graph.op("Where", none, far, graph.mul(scaled, [[float(points.shape[1])]]))
    columns = []
    for place in range(points.shape[1]):
        donors = np.flatnonzero(has[:, place])
        near = graph.gather(distance, donors.tolist())
        k = graph.constant([min(step.n_neighbors, len(donors))], np.int64)
        squared, nearest = graph.ops("TopK", 2, near, k, axis=1, largest=0, sorted=1)
        values = graph.op("Gather", graph.constant(points[donors, place]), nearest, axis=0)
        usable = graph.cast(graph.op("Less", squared, far))
        if step.weights == "distance":
            raise NoExport("no ONNX form of a KNNImputer weighted by distance")
        total = graph.row_sum(usable)
        mean = graph.op("Div", graph.row_sum(graph.op("Mul", values, usable)), total)
        empty = graph.op("Equal", total, graph.constant([[0.0]]))
        mean = graph.op("Where", empty, graph.constant([[float(np.nanmean(points[:, place]))]]), mean)
        column = graph.gather(x, [place])
        columns.append(graph.op("Where", graph.op("IsNaN", column), mean, column))
    return graph.concat(columns)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and np.isnan(value)


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
    FunctionTransformer: _function,
    TruncatedSVD: _svd,
    MaxAbsScaler: _largest,
    RobustScaler: _robust,
    KBinsDiscretizer: _bins,
    PolynomialFeatures: _polynomial,
    QuantileTransformer: _quantiles,
    PCA: _components,
    LinearDiscriminantAnalysis: _discriminants,
    Normalizer: _norm,
    Binarizer: _binary,
    MissingIndicator: _marks,
    KNNImputer: _neighbours,
    RBFSampler: _fourier,
    **dict.fromkeys(
        (
            GenericUnivariateSelect, RFE, RFECV, SelectFdr, SelectFpr, SelectFromModel, SelectFwe,
            SelectKBest, SelectPercentile, SequentialFeatureSelector, VarianceThreshold,
        ),
        _selected,
    ),
}  # fmt: skip
