"""CatBoost's trees: float32 cells, `cell > border`, one split for each level of a tree, sums in float64."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.onnx.graph import NoExport
from training.onnx.trees import MAX_NODES, TreeEnsemble

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.onnx.graph import Graph

IDENTITY = frozenset(
    {
        "Expectile",
        "Huber",
        "Lq",
        "LogCosh",
        "MAE",
        "MAPE",
        "MultiQuantile",
        "MultiRMSE",
        "PairLogit",
        "PairLogitPairwise",
        "QueryRMSE",
        "QuerySoftMax",
        "Quantile",
        "RMSE",
        "YetiRank",
        "YetiRankPairwise",
    }
)
EXPONENTIAL = frozenset({"Poisson", "Tweedie"})
LOGISTIC = frozenset({"CrossEntropy", "Logloss"})


def write(graph: Graph, estimator: Any, x: str) -> str:
    """As `boosters.write_booster`."""
    model = _parsed(estimator)
    place = _columns(model)
    missing = _missing(model)
    scale, biases = model["scale_and_bias"]
    targets = len(biases)
    ensemble = TreeEnsemble()
    for left, right, splits, leaves in _trees(model, targets):
        features = np.array([place[each["float_feature_index"]] for each in splits], np.int64)
        borders = np.array([each["border"] for each in splits], np.float64)
        below = np.array([not missing[each["float_feature_index"]] for each in splits], bool)
        pad = np.zeros(len(left) - len(splits))
        for target in range(targets):
            ensemble.tree(
                left,
                right,
                np.concatenate([features, pad.astype(np.int64)]),
                np.concatenate([borders, pad]),
                np.concatenate([below, pad]),
                np.concatenate([np.zeros(len(splits)), leaves[:, target]]),
                target,
            )
    if not ensemble.roots:
        for target in range(targets):
            ensemble.constant(0.0, target)
    raw = ensemble.add_to(graph, graph.single(x), targets)
    raw = graph.add(graph.mul(raw, float(scale)), np.array([biases], np.float64))
    return _answer(graph, _loss(model), raw, estimator)


def thresholds(estimator: Any) -> Iterator[tuple[int, float]]:
    """Column and border of each split that a tree may hold."""
    for feature in _parsed(estimator)["features_info"].get("float_features", ()):
        for border in feature["borders"] or ():
            yield feature["flat_feature_index"], border


def _parsed(estimator: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.json"
        try:
            estimator.save_model(str(file), format="json")
        except Exception as error:
            raise NoExport(f"CatBoost does not write the booster as JSON: {error}") from error
        model = json.loads(file.read_text("utf-8"))
    features = model["features_info"]
    for kind, words in (
        ("categorical_features", "native categories (cat_features)"),
        ("text_features", "text columns (text_features)"),
        ("embedding_features", "embeddings (embedding_features)"),
    ):
        if features.get(kind):
            raise NoExport(f"no exact ONNX form of CatBoost's {words}")
    return model


def _columns(model: Any) -> dict[int, int]:
    features = model["features_info"].get("float_features", ())
    return {each["feature_index"]: each["flat_feature_index"] for each in features}


def _missing(model: Any) -> dict[int, bool]:
    """For each feature whether a missing cell is above all borders, or else below."""
    features = model["features_info"].get("float_features", ())
    return {each["feature_index"]: each["nan_value_treatment"] == "AsTrue" for each in features}


def _trees(model: Any, targets: int) -> Iterator[tuple[Any, Any, list[Any], Any]]:
    """Each tree as children (leaves behind the inner nodes), splits, and leaves (leaf, target)."""
    oblivious, others = model.get("oblivious_trees", ()), model.get("trees", ())
    nodes = targets * sum(len(tree["leaf_values"]) // targets * 2 for tree in oblivious)
    nodes += targets * sum(_size(tree) for tree in others)
    if nodes > MAX_NODES:
        raise NoExport(f"the booster has {nodes:,} nodes, and a graph at most {MAX_NODES:,}")
    for tree in oblivious:
        yield _oblivious(tree, targets)
    for tree in others:
        yield _nested(tree, targets)


def _oblivious(tree: Any, targets: int) -> tuple[Any, Any, list[Any], Any]:
    """A binary tree in the order of a heap: the last split is the root, so leaves are in CatBoost's order."""
    levels = list(reversed(tree.get("splits") or ()))
    inner = 2 ** len(levels) - 1
    here = np.arange(inner)
    leaves = np.full(inner + 1, -1)
    splits = [split for depth, split in enumerate(levels) for _ in range(2**depth)]
    values = np.array(tree["leaf_values"], np.float64).reshape(inner + 1, targets)
    return np.concatenate([2 * here + 1, leaves]), np.concatenate([2 * here + 2, leaves]), splits, values


def _size(tree: Any) -> int:
    count, rest = 0, [tree]
    while rest:
        node = rest.pop()
        count += 1
        if "split" in node:
            rest += (node["left"], node["right"])
    return count


def _nested(tree: Any, targets: int) -> tuple[Any, Any, list[Any], Any]:
    inner: list[Any] = []
    leaves: list[Any] = []
    rest = [tree]
    while rest:
        node = rest.pop()
        (inner if "split" in node else leaves).append(node)
        if "split" in node:
            rest += (node["right"], node["left"])
    place = {id(node): i for i, node in enumerate((*inner, *leaves))}
    none = np.full(len(leaves), -1)
    left, right = (
        np.concatenate([np.array([place[id(node[side])] for node in inner], np.int64), none])
        for side in ("left", "right")
    )
    values = np.array([node["value"] for node in leaves], np.float64).reshape(len(leaves), targets)
    return left, right, [node["split"] for node in inner], values


def _loss(model: Any) -> str:
    params = model["model_info"].get("params", {})
    params = json.loads(params) if isinstance(params, str) else params
    return str(params.get("loss_function", {}).get("type", ""))


def _answer(graph: Graph, loss: str, raw: str, estimator: Any) -> str:
    if loss in LOGISTIC:
        return graph.complement(graph.op("Sigmoid", raw))
    if loss == "MultiClass":
        return graph.softmax(raw)
    if loss in {"MultiClassOneVsAll", "MultiLogloss", "MultiCrossEntropy"}:
        return graph.op("Sigmoid", raw)
    if hasattr(estimator, "predict_proba"):
        raise NoExport(f"no probabilities of CatBoost's loss {loss!r}")
    if loss in IDENTITY:
        return raw
    if loss in EXPONENTIAL:
        return graph.op("Exp", raw)
    raise NoExport(f"no exact ONNX form of CatBoost's loss {loss or 'of your own'!r}")
