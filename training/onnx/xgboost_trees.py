"""XGBoost's trees: float32 cells, `cell < threshold`, sums in float32 in the order of the trees.

The sums are repeated in float32, since those of a thousand trees differ from float64's by more than a
regression may: 1e-6 of its range.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from training.onnx.graph import NoExport
from training.onnx.trees import MAX_NODES, TreeEnsemble

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from training.onnx.graph import Graph

_CATEGORICAL = 1
IDENTITY = frozenset(
    {
        "binary:logitraw",
        "rank:map",
        "rank:ndcg",
        "rank:pairwise",
        "reg:absoluteerror",
        "reg:linear",
        "reg:pseudohubererror",
        "reg:quantileerror",
        "reg:squarederror",
        "reg:squaredlogerror",
    }
)
EXPONENTIAL = frozenset({"count:poisson", "reg:gamma", "reg:tweedie", "survival:cox"})
LOGISTIC = frozenset({"binary:logistic", "reg:logistic"})
SOFTMAX = frozenset({"multi:softmax", "multi:softprob"})
HINGE = "binary:hinge"
ORDERED_QUANTILES = [3, 4]
"""The first version that puts the quantiles of a row in order."""
KNOWN_FIELDS = {
    *("name", "model", "gbtree", "weight_drop"),
    *("boosted_rounds", "param", "weights"),  # of gblinear, which is refused by its name
    *("cats", "gbtree_model_param", "iteration_indptr", "tree_info", "trees"),
    *("categories", "categories_nodes", "categories_segments", "categories_sizes"),
    *("left_children", "right_children", "parents", "split_indices", "split_conditions", "split_type"),
    *("base_weights", "default_left", "id", "leaf_weights", "loss_changes", "sum_hessian", "tree_param"),
}


def write(graph: Graph, estimator: Any, x: str) -> str:
    """As `boosters.write_booster`."""
    dumped = _dumped(estimator)
    learner = dumped["learner"]
    objective = learner["objective"]["name"]
    if objective not in IDENTITY | EXPONENTIAL | LOGISTIC | SOFTMAX | {HINGE}:
        raise NoExport(f"no exact ONNX form of XGBoost's objective {objective!r}")
    trees, info = _trees(learner, estimator)
    shape = learner["learner_model_param"]
    targets = max(1, int(shape["num_class"]), int(shape.get("num_target", 1)))
    cells = _cells(graph, estimator, trees, graph.cast(x, TensorProto.FLOAT))
    ensemble = TreeEnsemble(np.float32)
    base = _base_margins(shape["base_score"], objective, targets)
    for target, margin in enumerate(base):
        ensemble.constant(float(margin), target)
    booster = learner["gradient_booster"]
    old, new = booster.get("weight_drop"), booster.get("model", {}).get("weight_drop")
    for tree, target, weight in zip(trees, info, old or new or [1.0] * len(trees), strict=False):
        leaves = np.array(tree["split_conditions"], np.float32)
        if old and hasattr(estimator, "get_booster"):
            # Before 3.4 an estimator's DART predicts tree by tree, and each prediction begins with the base.
            leaves = (base[target] + leaves) - base[target]
        _add(ensemble, tree, target, leaves * np.float32(weight))
    margins = ensemble.add_to(graph, cells, targets)
    if objective == "reg:quantileerror" and targets > 1 and dumped["version"] >= ORDERED_QUANTILES:
        every = graph.constant([targets], np.int64)
        margins = graph.ops("TopK", 2, margins, every, axis=1, largest=0, sorted=1)[0]
    return graph.cast(_answer(graph, objective, margins, estimator, targets))


def thresholds(estimator: Any) -> Iterator[tuple[int, float]]:
    """Column and threshold of each numerical split."""
    for tree in _trees(_dumped(estimator)["learner"], estimator)[0]:
        left, kinds = np.asarray(tree["left_children"]), np.asarray(tree["split_type"])
        inner = (left >= 0) & (kinds != _CATEGORICAL)
        columns, values = (np.asarray(tree[key])[inner] for key in ("split_indices", "split_conditions"))
        yield from zip(columns.tolist(), values.tolist(), strict=True)


def _booster(estimator: Any) -> Any:
    return estimator.get_booster() if hasattr(estimator, "get_booster") else estimator


def _dumped(estimator: Any) -> Any:
    """The booster as the installed version writes it.

    Raises
    ------
    NoExport
        It has fields of which this module does not know what they mean for a prediction.
    """
    dumped = json.loads(bytes(_booster(estimator).save_raw("json")))
    booster = dumped["learner"]["gradient_booster"]
    models = [
        each["model"] for each in (booster, booster.get("gbtree", {})) if isinstance(each.get("model"), dict)
    ]
    trees = [tree for model in models for tree in model.get("trees", ())]
    for part in (booster, *models, *trees):
        if unknown := sorted(part.keys() - KNOWN_FIELDS):
            version = ".".join(map(str, dumped["version"]))
            raise NoExport(
                f"XGBoost {version} writes a booster with fields unknown here: {', '.join(unknown)}"
            )
    return dumped


def _trees(learner: Any, estimator: Any) -> tuple[list[Any], list[int]]:
    """The trees that `predict` uses, and the target of each."""
    booster = learner["gradient_booster"]
    kind = booster["name"]
    if kind not in {"gbtree", "dart"}:
        raise NoExport(f"no exact ONNX form of XGBoost's booster {kind!r}")
    model = (booster if kind == "gbtree" else booster["gbtree"])["model"]
    trees, info = model["trees"], model["tree_info"]
    if any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in trees):
        raise NoExport("no exact ONNX form of XGBoost's trees with several outputs (multi_output_tree)")
    nodes = sum(len(tree["left_children"]) for tree in trees)
    if nodes > MAX_NODES:
        raise NoExport(f"the booster has {nodes:,} nodes, and a graph at most {MAX_NODES:,}")
    end = len(trees)
    # Only the estimators of scikit-learn's style leave out the rounds after the best one.
    best = getattr(estimator, "best_iteration", None) if hasattr(estimator, "get_booster") else None
    if best is not None:
        end = model["iteration_indptr"][best + 1]
    return trees[:end], info[:end]


def _base_margins(score: str, objective: str, targets: int) -> NDArray[np.float32]:
    """What the sums begin with, computed in float32 from the booster's base score."""
    base = np.array([float(each) for each in score.strip("[]").split(",")], np.float32)
    if objective in LOGISTIC | {"binary:logitraw"}:
        base = -_log(np.float32(1) / base - np.float32(1))
    elif objective in EXPONENTIAL:
        base = _log(base)
    if not np.isfinite(base).all():
        raise NoExport(f"the base score {score} of XGBoost has no finite margin")
    return np.broadcast_to(base, targets) if len(base) == 1 else base


def _log(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The float32 next to log(x), as the C library's logf has it; numpy's own is less exact."""
    return np.log(values.astype(np.float64)).astype(np.float32)


def _cells(graph: Graph, estimator: Any, trees: list[Any], x: str) -> str:
    """The cells as the trees compare them: missing ones NaN, native categories whole numbers."""
    missing = getattr(estimator, "missing", np.nan)
    if missing is not None and not np.isnan(missing):
        equal = graph.op("Equal", x, graph.constant([[missing]], np.float32))
        x = graph.op("Where", equal, graph.constant([[np.nan]], np.float32), x)
    native = {
        column
        for tree in trees
        for column, kind, left in zip(
            tree["split_indices"], tree["split_type"], tree["left_children"], strict=True
        )
        if kind == _CATEGORICAL and left >= 0
    }
    if not native:
        return x
    width = int(_booster(estimator).num_features())
    chosen = graph.constant([[column in native for column in range(width)]], np.bool_)
    return graph.op("Where", chosen, graph.op("Floor", x), x)


def _add(ensemble: TreeEnsemble, tree: Any, target: int, leaves: NDArray[np.float32]) -> None:
    left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
    conditions = np.array(tree["split_conditions"], np.float32)
    missing = np.array(tree["default_left"], bool)
    sets: dict[int, list[float]] = {}
    for node, start, size in zip(
        tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
    ):
        # XGBoost sends the categories of the set right; the node's own sides are exchanged.
        sets[node] = [float(code) for code in tree["categories"][start : start + size]]
        left[node], right[node] = right[node], left[node]
        missing[node] = not missing[node]
    below = np.nextafter(conditions, np.float32(-np.inf))  # cell < threshold, among float32 numbers
    ensemble.tree(left, right, np.array(tree["split_indices"]), below, missing, leaves, target, sets)


def _answer(graph: Graph, objective: str, margins: str, estimator: Any, targets: int) -> str:
    """The answers of float32 margins, in float32: by the steps that XGBoost takes."""
    one = graph.constant([[1.0]], np.float32)
    classifier = hasattr(estimator, "predict_proba") or not hasattr(estimator, "get_booster")
    if objective in LOGISTIC:
        grown = graph.op("Add", _exp(graph, graph.op("Neg", margins)), one)
        second = graph.op("Div", one, grown)
        # A classifier of several labels has a probability of each; reg:logistic is a regression's.
        both = classifier and targets == 1 and (objective == "binary:logistic" or _classes(estimator))
        return graph.concat([graph.op("Sub", one, second), second]) if both else second
    if objective == HINGE:
        second = graph.cast(
            graph.op("Greater", margins, graph.constant([[0.0]], np.float32)), TensorProto.FLOAT
        )
        return graph.concat([graph.op("Sub", one, second), second]) if classifier else second
    if objective == "multi:softmax" and not hasattr(estimator, "predict_proba"):
        chosen = graph.op("ArgMax", margins, axis=1, keepdims=1)
        every = graph.constant([range(targets)], np.int64)
        return graph.cast(graph.op("Equal", chosen, every), TensorProto.FLOAT)
    if objective in SOFTMAX:
        largest = graph.op("ReduceMax", margins, graph.constant([1], np.int64), keepdims=1)
        grown = _exp(graph, graph.op("Sub", margins, largest))
        total = graph.cast(graph.row_sum(graph.cast(grown)), TensorProto.FLOAT)
        return graph.op("Div", grown, total)
    if hasattr(estimator, "predict_proba"):
        raise NoExport(f"XGBoost's objective {objective!r} gives no probabilities")
    return _exp(graph, margins) if objective in EXPONENTIAL else margins


def _classes(estimator: Any) -> bool:
    return hasattr(estimator, "predict_proba")


def _exp(graph: Graph, x: str) -> str:
    """The float32 next to exp(x), as the C library's expf has it; onnxruntime's own is less exact."""
    return graph.cast(graph.op("Exp", graph.cast(x)), TensorProto.FLOAT)
