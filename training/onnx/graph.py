"""Fitted pipelines of `training.families.candidates` as ONNX graphs that compute in float64.

skl2onnx gives float32 tree ensembles; `TreeEnsemble` of ai.onnx.ml 5 runs in float64 at the same speed, so
each family is written out here, operator by operator, and equals scikit-learn to the last few bits:
docs/onnx.md. No string, no ZipMap, no locale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import TruncatedSVD
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET, IR_VERSION = 18, 9
ML_OPSET, ML_OPSET_MANY_TARGETS = 5, 3
"""TreeEnsemble came with 5; the operator that 5 took away gives a leaf several targets, five times faster."""
INPUT, OUTPUT = "X", "scores"
_LESS_OR_EQUAL, _MEMBER = 0, 6


class NoExport(Exception):  # noqa: N818 - it says why, it is not a fault
    """There is no graph for an estimator of this pipeline."""


@dataclass
class Graph:
    """Nodes and constants as they are added; a value is the name of a (rows, columns) float64 tensor."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    ml_opset: int = ML_OPSET
    _known: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _count: int = 0

    def name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def constant(self, value: Any, dtype: Any = np.float64) -> str:
        """Name of a constant; equal ones are stored once."""
        array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.name("c")
            self.constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add one node with one output; returns the output's name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add one node with several outputs."""
        names = [self.name(kind.lower()) for _ in range(outputs)]
        domain = "ai.onnx.ml" if kind.startswith("TreeEnsemble") else ""
        self.nodes.append(
            helper.make_node(kind, list(inputs), names, name=names[0], domain=domain, **attributes)
        )
        return names

    def add(self, x: str, value: Any) -> str:
        return self.op("Add", x, self.constant(value)) if np.any(value) else x

    def mul(self, x: str, value: Any) -> str:
        return self.op("Mul", x, self.constant(value)) if np.any(np.asarray(value) != 1) else x

    def matmul(self, x: str, matrix: NDArray[np.float64]) -> str:
        return self.op("MatMul", x, self.constant(matrix))

    def gather(self, x: str, columns: Sequence[int]) -> str:
        return self.op("Gather", x, self.constant(list(columns), np.int64), axis=1)

    def concat(self, parts: Sequence[str]) -> str:
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=1)

    def cast(self, x: str, kind: int = TensorProto.DOUBLE) -> str:
        return self.op("Cast", x, to=kind)

    def single(self, x: str) -> str:
        """Rounded to float32, held in float64: what scikit-learn's trees compare."""
        return self.cast(self.cast(x, TensorProto.FLOAT))

    def row_sum(self, x: str, *, keep: int = 1, axis: int = 1) -> str:
        return self.op("ReduceSum", x, self.constant([axis], np.int64), keepdims=keep)

    def complement(self, p: str) -> str:
        """Both probabilities, (rows, 2), of the second's, (rows, 1)."""
        return self.concat([self.op("Sub", self.constant([[1.0]]), p), p])


Transform = Callable[[Graph, Any, str], str]
Predict = Callable[[Graph, Any, str], str]


def convert(pipeline: Any, width: int) -> onnx.ModelProto:
    """Write a fitted pipeline as one graph.

    Parameters
    ----------
    width
        Columns of the encoded matrix.

    Returns
    -------
    A model with the input `X`, float64 (rows, width), and the output `scores`, float64 (rows, k): the
    classes' probabilities, or a regression's values with k = 1.

    Raises
    ------
    NoExport
        For an estimator that is in no family.
    """
    kinds = {type(part) for part in parts_of(pipeline)}
    many = getattr(pipeline, "classes_", None) is not None and len(pipeline.classes_) > 2 and kinds & _FORESTS
    # One graph has one version of ai.onnx.ml, and boosting needs sets of categories and float64 sums.
    graph = Graph(ml_opset=ML_OPSET_MANY_TARGETS if many and not kinds & _BOOSTED else ML_OPSET)
    scores = predict(graph, pipeline, INPUT)
    graph.nodes.append(helper.make_node("Identity", [scores], [OUTPUT], name=OUTPUT))
    outputs = 1 if not hasattr(pipeline, "classes_") else len(pipeline.classes_)
    proto = helper.make_graph(
        graph.nodes,
        "okamochi",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, outputs])],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", graph.ml_opset)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="okamochi")
    onnx.checker.check_model(model)
    return model


def parts_of(model: Any) -> Iterator[Any]:
    """A fitted model and the predictors within it."""
    yield model
    if isinstance(model, Pipeline):
        yield from parts_of(model.steps[-1][1])
    elif isinstance(model, (VotingClassifier, VotingRegressor)):
        for each in model.estimators_:
            yield from parts_of(each)


def transform(graph: Graph, step: Any, x: str) -> str:
    """Add a fitted transformer."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return x
    add: Transform = _of(_TRANSFORMERS, step)
    return add(graph, step, x)


def predict(graph: Graph, model: Any, x: str) -> str:
    """Add a fitted predictor: probabilities, or values of shape (rows, 1)."""
    add: Predict = _of(_PREDICTORS, model)
    return add(graph, model, x)


def _of(table: dict[type, Any], step: Any) -> Any:
    found = table.get(type(step))
    if found is None:
        raise NoExport(f"no ONNX form of {type(step).__name__}")
    return found


# --- transformers ------------------------------------------------------------------------------------------


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


# --- linear models and the neural network ------------------------------------------------------------------


def _softmax(graph: Graph, x: str) -> str:
    return graph.op("Softmax", x, axis=1)


def _linear(graph: Graph, model: Any, x: str) -> str:
    weights = np.atleast_2d(model.coef_)
    bias = np.atleast_1d(np.asarray(model.intercept_, np.float64))[None, :]
    return graph.add(graph.matmul(x, weights.T), bias)


def _logistic(graph: Graph, model: LogisticRegression, x: str) -> str:
    decision = _linear(graph, model, x)
    if len(model.classes_) == 2:
        return graph.complement(graph.op("Sigmoid", decision))
    return _softmax(graph, decision)


_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid", "identity": "Identity"}


def _network(graph: Graph, model: MLPClassifier | MLPRegressor, x: str) -> str:
    last = len(model.coefs_) - 1
    for i, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        x = graph.add(graph.matmul(x, weights), bias[None, :])
        if i < last:
            x = graph.op(_ACTIVATIONS[model.activation], x)
    if isinstance(model, MLPRegressor):
        return x
    if model.out_activation_ == "logistic":
        return graph.complement(graph.op("Sigmoid", x))
    return _softmax(graph, x)


# --- trees -------------------------------------------------------------------------------------------------


@dataclass
class _Ensemble:
    """The attributes of a TreeEnsemble node; inner nodes and leaves are numbered apart."""

    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    missing_left: list[int] = field(default_factory=list)
    children: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    are_leaves: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    members: list[list[float]] = field(default_factory=list)
    leaf_targets: list[int] = field(default_factory=list)
    leaf_values: list[float] = field(default_factory=list)

    def tree(  # noqa: PLR0917
        self,
        left: NDArray[Any],
        right: NDArray[Any],
        features: NDArray[Any],
        thresholds: NDArray[Any],
        missing_left: NDArray[Any],
        values: NDArray[Any],
        target: int,
        sets: dict[int, list[float]] | None = None,
    ) -> None:
        """Add a tree in arrays; a leaf has left < 0; `sets` holds the categories that a node sends left."""
        sets = sets or {}
        inner = _reached(left, right)
        if not inner:  # the operator has no tree of one leaf: a split whose both sides are that leaf
            self.roots.append(len(self.features))
            self._node(0, 0.0, 0, missing=False)
            for side in (0, 1):
                self._leaf(side, float(values[0]), target)
            return
        place = {node: len(self.features) + k for k, node in enumerate(inner)}
        self.roots.append(place[0])
        for node in inner:
            missing = bool(missing_left[node])
            if node in sets:
                self._node(int(features[node]), 0.0, _MEMBER, missing=missing)
                self.members.append(sets[node])
            else:
                self._node(int(features[node]), float(thresholds[node]), _LESS_OR_EQUAL, missing=missing)
            for side, child in enumerate((int(left[node]), int(right[node]))):
                if child in place:
                    self.children[side].append(place[child])
                    self.are_leaves[side].append(0)
                else:
                    self._leaf(side, float(values[child]), target)

    def _node(self, feature: int, split: float, mode: int, *, missing: bool) -> None:
        self.features.append(feature)
        self.splits.append(split)
        self.modes.append(mode)
        self.missing_left.append(int(missing))

    def _leaf(self, side: int, value: float, target: int) -> None:
        self.children[side].append(len(self.leaf_values))
        self.are_leaves[side].append(1)
        self.leaf_targets.append(target)
        self.leaf_values.append(value)

    def add_to(self, graph: Graph, x: str, targets: int) -> str:
        """The sum over the trees of each target, (rows, targets)."""
        attributes: dict[str, Any] = {}
        if self.members:
            flat = [value for one in self.members for value in (*one, np.nan)]
            attributes["membership_values"] = _tensor(flat)
        return graph.op(
            "TreeEnsemble",
            x,
            n_targets=targets,
            aggregate_function=1,
            post_transform=0,
            tree_roots=self.roots,
            nodes_featureids=self.features,
            nodes_splits=_tensor(self.splits),
            nodes_modes=numpy_helper.from_array(np.array(self.modes, np.uint8)),
            nodes_missing_value_tracks_true=self.missing_left,
            nodes_truenodeids=self.children[0],
            nodes_falsenodeids=self.children[1],
            nodes_trueleafs=self.are_leaves[0],
            nodes_falseleafs=self.are_leaves[1],
            leaf_targetids=self.leaf_targets,
            leaf_weights=_tensor(self.leaf_values),
            **attributes,
        )


def _reached(left: NDArray[Any], right: NDArray[Any]) -> list[int]:
    """The inner nodes of a tree, root first, without those under a node that has become a leaf."""
    found, open_nodes = [], [0]
    while open_nodes:
        node = open_nodes.pop()
        if left[node] >= 0:
            found.append(node)
            open_nodes += (int(right[node]), int(left[node]))
    return found


def _tensor(values: Sequence[float]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.float64))


def _missing_left(tree: Any) -> NDArray[Any]:
    flags = tree.missing_go_to_left
    return np.zeros(tree.node_count, np.uint8) if flags is None else np.asarray(flags)


def _forest(graph: Graph, trees: Sequence[Any], x: str, outputs: int) -> str:
    """The mean of the trees' values: (rows, 1) for a regression, else the classes' shares."""
    x = graph.single(x)
    if outputs > 2:
        return graph.op("Div", _many_targets(graph, trees, x, outputs), graph.constant([[float(len(trees))]]))
    ensemble = _Ensemble()
    for each in trees:
        tree = each.tree_
        ensemble.tree(
            tree.children_left,
            tree.children_right,
            tree.feature,
            tree.threshold,
            _missing_left(tree),
            tree.value[:, 0, outputs - 1],
            0,
        )
    mean = graph.op("Div", ensemble.add_to(graph, x, 1), graph.constant([[float(len(trees))]]))
    return mean if outputs == 1 else graph.complement(mean)


def _many_targets(graph: Graph, trees: Sequence[Any], x: str, outputs: int) -> str:
    """The sum of the trees' shares of each class; the older operator gives it as float32."""
    if graph.ml_opset == ML_OPSET:
        return _trees_a_class(graph, trees, x, outputs)
    keys = ("treeids", "nodeids", "featureids", "modes", "truenodeids", "falsenodeids")
    nodes: dict[str, list[Any]] = {f"nodes_{key}": [] for key in keys}
    targets: dict[str, list[int]] = {f"target_{key}": [] for key in ("treeids", "nodeids", "ids")}
    missing: list[int] = []
    thresholds: list[float] = []
    weights: list[float] = []
    for number, each in enumerate(trees):
        tree = each.tree_
        leaf = tree.children_left < 0
        nodes["nodes_treeids"] += [number] * tree.node_count
        nodes["nodes_nodeids"] += range(tree.node_count)
        nodes["nodes_featureids"] += np.where(leaf, 0, tree.feature).tolist()
        nodes["nodes_modes"] += ["LEAF" if one else "BRANCH_LEQ" for one in leaf]
        nodes["nodes_truenodeids"] += np.where(leaf, 0, tree.children_left).tolist()
        nodes["nodes_falsenodeids"] += np.where(leaf, 0, tree.children_right).tolist()
        thresholds += np.where(leaf, 0.0, tree.threshold).tolist()
        missing += np.where(leaf, 0, _missing_left(tree)).tolist()
        values = tree.value[:, 0, :]
        at, target = np.nonzero(np.where(leaf[:, None], values, 0.0))
        targets["target_treeids"] += [number] * len(at)
        targets["target_nodeids"] += at.tolist()
        targets["target_ids"] += target.tolist()
        weights += values[at, target].tolist()
    sums = graph.op(
        "TreeEnsembleRegressor",
        x,
        n_targets=outputs,
        nodes_values_as_tensor=_tensor(thresholds),
        nodes_missing_value_tracks_true=missing,
        target_weights_as_tensor=_tensor(weights),
        **nodes,
        **targets,
    )
    return graph.cast(sums)


def _trees_a_class(graph: Graph, trees: Sequence[Any], x: str, outputs: int) -> str:
    """A leaf of TreeEnsemble has one target: each class has its trees, without what does not concern it."""
    ensemble = _Ensemble()
    for target in range(outputs):
        for each in trees:
            tree = each.tree_
            values = tree.value[:, 0, target].copy()
            left = _collapsed(tree, values)
            right, missing = tree.children_right, _missing_left(tree)
            ensemble.tree(left, right, tree.feature, tree.threshold, missing, values, target)
    return ensemble.add_to(graph, x, outputs)


def _collapsed(tree: Any, values: NDArray[np.float64]) -> NDArray[Any]:
    """`children_left`, with -1 also where all leaves below have one value, which goes into `values`."""
    left: NDArray[Any] = tree.children_left.copy()
    right = tree.children_right
    for node in range(tree.node_count - 1, -1, -1):  # children come after their parents
        one, other = left[node], right[node]
        if one >= 0 and left[one] < 0 and left[other] < 0 and values[one] == values[other]:
            left[node] = -1
            values[node] = values[one]
    return left


def _tree(graph: Graph, model: DecisionTreeClassifier | DecisionTreeRegressor, x: str) -> str:
    return _forest(graph, [model], x, len(getattr(model, "classes_", [0])))


def _trees(graph: Graph, model: Any, x: str) -> str:
    return _forest(graph, model.estimators_, x, len(getattr(model, "classes_", [0])))


def _boosted(graph: Graph, model: Any, x: str) -> str:
    """Sums of trees in float64, as scikit-learn compares; native categories are sets of remapped codes."""
    known: list[NDArray[Any]] = []
    if model._preprocessor is not None:  # noqa: SLF001 - the order of its columns is nowhere else
        x, known = _native_order(graph, model, x)
    targets = model.n_trees_per_iteration_
    ensemble = _Ensemble()
    for predictors in model._predictors:  # noqa: SLF001
        for target, predictor in enumerate(predictors):
            nodes = predictor.nodes
            sets = {}
            for place in np.flatnonzero(nodes["is_categorical"] & ~nodes["is_leaf"].astype(bool)):
                bits = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][place]]
                count = len(known[nodes["feature_idx"][place]])
                sets[int(place)] = [float(c) for c in range(count) if bits[c // 32] >> np.uint32(c % 32) & 1]
            left = np.where(nodes["is_leaf"], -1, nodes["left"].astype(np.int64))
            ensemble.tree(
                left,
                nodes["right"].astype(np.int64),
                nodes["feature_idx"],
                nodes["num_threshold"],
                nodes["missing_go_to_left"],
                nodes["value"],
                target,
                sets,
            )
    raw = graph.add(ensemble.add_to(graph, x, targets), np.asarray(model._baseline_prediction).reshape(1, -1))  # noqa: SLF001
    if isinstance(model, HistGradientBoostingRegressor):
        return raw
    return graph.complement(graph.op("Sigmoid", raw)) if targets == 1 else _softmax(graph, raw)


def _native_order(graph: Graph, model: Any, x: str) -> tuple[str, list[NDArray[Any]]]:
    """The columns as the model's own preprocessor orders and codes them, unknown categories as NaN."""
    native = np.flatnonzero(model.is_categorical_)
    numbers = np.flatnonzero(~model.is_categorical_)
    known = model._preprocessor.named_transformers_["encoder"].categories_  # noqa: SLF001
    sizes = [int(np.nanmax(each)) + 3 for each in known]  # from -1 on, and one for codes beyond
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    table = np.full(sum(sizes), np.nan)
    coded: list[NDArray[Any]] = []
    for start, each in zip(starts, known, strict=True):
        table[start + each.astype(int) + 1] = np.arange(len(each))
        coded.append(each)
    codes = graph.gather(x, native.tolist())
    high = np.array([sizes], np.float64) - 2
    codes = graph.op("Max", graph.op("Min", codes, graph.constant(high)), graph.constant([[-1.0]]))
    index = graph.cast(graph.add(codes, (starts + 1.0)[None, :]), TensorProto.INT64)
    parts = [graph.op("Gather", graph.constant(table), index, axis=0)]
    if len(numbers):
        parts.append(graph.gather(x, numbers.tolist()))
    return graph.concat(parts), coded


# --- distances: support vectors and neighbours -------------------------------------------------------------


def _squares(graph: Graph, x: str, points: NDArray[np.float64]) -> str:
    """Squared distances to the points, (rows, points), by one matrix product."""
    own = graph.row_sum(graph.op("Mul", x, x))
    cross = graph.matmul(x, -2.0 * points.T)
    sums = graph.op("Add", graph.op("Add", cross, own), graph.constant((points**2).sum(axis=1)[None, :]))
    return graph.op("Max", sums, graph.constant([[0.0]]))


def _kernel(graph: Graph, model: SVC | SVR, x: str) -> str:
    if model.kernel != "rbf":
        raise NoExport(f"no ONNX form of the kernel {model.kernel!r}")
    squares = _squares(graph, x, model.support_vectors_)
    return graph.op("Exp", graph.mul(squares, -float(model._gamma)))  # noqa: SLF001


def _svr(graph: Graph, model: SVR, x: str) -> str:
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


def _calibrated(graph: Graph, model: CalibratedClassifierCV, x: str) -> str:
    if len(model.calibrated_classifiers_) != 1 or model.method != "sigmoid":
        raise NoExport("no ONNX form of this calibration")
    inner = model.calibrated_classifiers_[0]
    machine = inner.estimator
    decide = {SVC: _svc_decision, LinearSVC: _linear}.get(type(machine))
    if decide is None:
        raise NoExport(f"no ONNX form of a calibrated {type(machine).__name__}")
    decision = decide(graph, machine, x)
    slope = np.array([[each.a_ for each in inner.calibrators]])
    offset = np.array([[each.b_ for each in inner.calibrators]])
    # A calibrator is 1 / (1 + exp(a f + b)).
    shares = graph.op("Sigmoid", graph.add(graph.op("Mul", decision, graph.constant(-slope)), -offset))
    if len(model.classes_) == 2:
        return graph.complement(shares)
    total = graph.row_sum(shares)
    empty = graph.op("Equal", total, graph.constant([[0.0]]))
    uniform = graph.constant([[1.0 / len(model.classes_)]])
    return graph.op("Where", empty, uniform, graph.op("Div", shares, total))


def _neighbours(graph: Graph, model: KNeighborsClassifier | KNeighborsRegressor, x: str) -> str:
    """The nearest by one matrix product, as scikit-learn's brute force has it."""
    points = np.asarray(model._fit_X, np.float64)  # noqa: SLF001
    squares = _squares(graph, x, points)
    count = graph.constant([model.n_neighbors], np.int64)
    squares, nearest = graph.ops("TopK", 2, squares, count, axis=1, largest=0, sorted=1)
    if isinstance(model, KNeighborsClassifier):
        values = np.eye(len(model.classes_))[model._y.ravel()]  # noqa: SLF001
    else:
        values = np.asarray(model._y, np.float64).reshape(len(points), 1)  # noqa: SLF001
    found = graph.op("Gather", graph.constant(values), nearest, axis=0)  # (rows, neighbours, values)
    if model.weights == "uniform":
        return graph.op("ReduceMean", found, graph.constant([1], np.int64), keepdims=0)
    weights = _nearness(graph, graph.op("Sqrt", squares))
    column = graph.op("Unsqueeze", weights, graph.constant([2], np.int64))
    weighted = graph.row_sum(graph.op("Mul", found, column), keep=0)
    return graph.op("Div", weighted, graph.row_sum(weights))


def _nearness(graph: Graph, distance: str) -> str:
    """1 / distance; where a distance is 0, 1 for those that are and 0 for the others."""
    zero = graph.op("Equal", distance, graph.constant([[0.0]]))
    same = graph.cast(zero)
    any_same = graph.op("Greater", graph.row_sum(same), graph.constant([[0.0]]))
    safe = graph.op("Where", zero, graph.constant([[1.0]]), distance)
    return graph.op("Where", any_same, same, graph.op("Div", graph.constant([[1.0]]), safe))


# --- what holds other models -------------------------------------------------------------------------------


def _pipeline_predict(graph: Graph, model: Pipeline, x: str) -> str:
    for _, part in model.steps[:-1]:
        x = transform(graph, part, x)
    return predict(graph, model.steps[-1][1], x)


def _scaled_target(graph: Graph, model: TransformedTargetRegressor, x: str) -> str:
    scaler = model.transformer_
    if type(scaler) is not StandardScaler:
        raise NoExport(f"no ONNX form of a target transformed by {type(scaler).__name__}")
    value = predict(graph, model.regressor_, x)
    return graph.add(graph.mul(value, scaler.scale_[None, :]), scaler.mean_[None, :])


def _voting(graph: Graph, model: VotingClassifier | VotingRegressor, x: str) -> str:
    if isinstance(model, VotingClassifier) and model.voting != "soft":
        raise NoExport("no ONNX form of a vote by labels")
    share = np.ones(len(model.estimators_)) if model.weights is None else np.asarray(model.weights, float)
    share = share / share.sum()
    parts = [
        graph.mul(predict(graph, each, x), [[weight]])
        for each, weight in zip(model.estimators_, share, strict=True)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = graph.op("Add", total, part)
    return total


def _prior(graph: Graph, model: DummyClassifier, x: str) -> str:
    return _same_for_all(graph, x, np.asarray(model.class_prior_)[None, :])


def _mean(graph: Graph, model: DummyRegressor, x: str) -> str:
    return _same_for_all(graph, x, np.asarray(model.constant_).reshape(1, 1))


def _same_for_all(graph: Graph, x: str, value: NDArray[np.float64]) -> str:
    rows = graph.op("Shape", x, start=0, end=1)
    shape = graph.op("Concat", rows, graph.constant([value.shape[1]], np.int64), axis=0)
    return graph.op("Expand", graph.constant(value), shape)


_BOOSTED = {HistGradientBoostingClassifier, HistGradientBoostingRegressor}
_FORESTS = {DecisionTreeClassifier, RandomForestClassifier, ExtraTreesClassifier}

_TRANSFORMERS: dict[type, Transform] = {
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

_PREDICTORS: dict[type, Predict] = {
    Pipeline: _pipeline_predict,
    LinearRegression: _linear,
    Ridge: _linear,
    ElasticNet: _linear,
    LogisticRegression: _logistic,
    MLPClassifier: _network,
    MLPRegressor: _network,
    DecisionTreeClassifier: _tree,
    DecisionTreeRegressor: _tree,
    RandomForestClassifier: _trees,
    RandomForestRegressor: _trees,
    ExtraTreesClassifier: _trees,
    ExtraTreesRegressor: _trees,
    HistGradientBoostingClassifier: _boosted,
    HistGradientBoostingRegressor: _boosted,
    CalibratedClassifierCV: _calibrated,
    SVR: _svr,
    KNeighborsClassifier: _neighbours,
    KNeighborsRegressor: _neighbours,
    TransformedTargetRegressor: _scaled_target,
    VotingClassifier: _voting,
    VotingRegressor: _voting,
    DummyClassifier: _prior,
    DummyRegressor: _mean,
}
