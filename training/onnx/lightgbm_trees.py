"""LightGBM's trees: float64 cells, `cell <= threshold`, three kinds of missing, sums in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from training.onnx.graph import NoExport
from training.onnx.trees import MAX_NODES, TreeEnsemble

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from training.onnx.graph import Graph

ZERO = float(np.float32(1e-35))
"""LightGBM takes a cell that is no further from 0 than this for 0."""
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_NONE, _ZERO, _NAN = 0, 1, 2
IDENTITY = frozenset(
    {
        "fair",
        "huber",
        "lambdarank",
        "mape",
        "quantile",
        "rank_xendcg",
        "regression",
        "regression_l1",
    }
)
EXPONENTIAL = frozenset({"gamma", "poisson", "tweedie"})

Tree = dict[str, str]


def write(graph: Graph, estimator: Any, x: str) -> str:
    """As `boosters.write_booster`."""
    header, trees = _parsed(_booster(estimator))
    targets = int(header["num_tree_per_iteration"])
    zeros = sorted({column for tree in trees for column in _zero_columns(tree)})
    native = {column for tree in trees for column in _native_columns(tree)}
    width = int(header["max_feature_idx"]) + 1
    cells, place = _cells(graph, x, width, zeros, native)
    ensemble = TreeEnsemble()
    for number, tree in enumerate(trees):
        _add(ensemble, tree, number % targets, place)
    if not trees:
        for target in range(targets):
            ensemble.constant(0.0, target)
    margins = ensemble.add_to(graph, cells, targets)
    if "average_output" in header:
        margins = graph.op("Div", margins, graph.constant([[max(1.0, len(trees) / targets)]]))
    return _answer(graph, header.get("objective", ""), margins, estimator, targets)


def thresholds(estimator: Any) -> Iterator[tuple[int, float]]:
    """Column and threshold of each numerical split."""
    for tree in _parsed(_booster(estimator))[1]:
        kinds = _numbers(tree, "decision_type", np.int64)
        numerical = (kinds & _CATEGORICAL) == 0
        columns = _numbers(tree, "split_feature", np.int64)[numerical]
        values = _numbers(tree, "threshold")[numerical]
        yield from zip(columns.tolist(), values.tolist(), strict=True)


def _booster(estimator: Any) -> Any:
    return getattr(estimator, "booster_", estimator)


def _parsed(booster: Any) -> tuple[dict[str, str], list[Tree]]:
    """The head of the model's text and the trees that `predict` uses."""
    sections = booster.model_to_string().partition("\nend of trees")[0].split("\nTree=")
    header, *trees = (dict(_pairs(section)) for section in sections)
    if any(tree.get("is_linear", "0") != "0" for tree in trees):
        raise NoExport("no exact ONNX form of LightGBM's linear trees (linear_tree)")
    nodes = sum(2 * int(tree["num_leaves"]) for tree in trees)
    if nodes > MAX_NODES:
        raise NoExport(f"the booster has {nodes:,} nodes, and a graph at most {MAX_NODES:,}")
    return header, trees


def _pairs(section: str) -> Iterator[tuple[str, str]]:
    for line in section.splitlines():
        key, _, value = line.partition("=")
        yield key, value


def _numbers(tree: Tree, key: str, kind: type = np.float64) -> NDArray[Any]:
    return np.array(tree.get(key, "").split(), kind)


def _zero_columns(tree: Tree) -> Iterator[int]:
    kinds = _numbers(tree, "decision_type", np.int64)
    yield from _numbers(tree, "split_feature", np.int64)[
        ((kinds & _CATEGORICAL) == 0) & ((kinds >> 2 & 3) == _ZERO)
    ].tolist()


def _native_columns(tree: Tree) -> Iterator[int]:
    kinds = _numbers(tree, "decision_type", np.int64)
    yield from _numbers(tree, "split_feature", np.int64)[(kinds & _CATEGORICAL) != 0].tolist()


def _cells(
    graph: Graph, x: str, width: int, zeros: Sequence[int], native: set[int]
) -> tuple[str, dict[int, int]]:
    """The cells as the trees compare them, and the place of each column in which zero counts as missing."""
    parts = [x]
    if native:  # a category is the whole number of a cell without its fraction
        negative = graph.op("Less", x, graph.constant([[0.0]]))
        whole = graph.op("Where", negative, graph.op("Ceil", x), graph.op("Floor", x))
        chosen = graph.constant([[column in native for column in range(width)]], np.bool_)
        parts = [graph.op("Where", chosen, whole, x)]
    if zeros:
        some = graph.gather(x, zeros)
        zero = graph.op("LessOrEqual", graph.op("Abs", some), graph.constant([[ZERO]]))
        parts.append(graph.op("Where", zero, graph.constant([[math.nan]]), some))
    return graph.concat(parts), {column: width + i for i, column in enumerate(zeros)}


def _add(ensemble: TreeEnsemble, tree: Tree, target: int, zero_place: dict[int, int]) -> None:
    values = _numbers(tree, "leaf_value")
    if int(tree["num_leaves"]) == 1:
        ensemble.constant(float(values[0]), target)
        return
    kinds = _numbers(tree, "decision_type", np.int64)
    features = _numbers(tree, "split_feature", np.int64)
    limits = _numbers(tree, "threshold")
    inner = len(features)
    # LightGBM counts leaves from -1 downwards; here they stand behind the inner nodes.
    left, right = (
        np.where(side < 0, inner - 1 - side, side)
        for side in (_numbers(tree, key, np.int64) for key in ("left_child", "right_child"))
    )
    sets: dict[int, list[float]] = {}
    missing = np.zeros(inner, bool)
    for node in range(inner):
        kind = kinds[node] >> 2 & 3
        if kinds[node] & _CATEGORICAL:
            sets[node] = _categories(tree, int(limits[node]))
            continue
        limits[node] = _limit(limits[node])
        # Where the column had no missing cell, a missing one is 0.
        missing[node] = limits[node] >= 0 if kind == _NONE else bool(kinds[node] & _DEFAULT_LEFT)
        if kind == _ZERO:
            features[node] = zero_place[int(features[node])]
    leaves = np.full(len(values), -1)
    pad = np.zeros(len(values))
    ensemble.tree(
        np.concatenate([left, leaves]),
        np.concatenate([right, leaves]),
        np.concatenate([features, leaves]),
        np.concatenate([limits, pad]),
        np.concatenate([missing, pad]),
        np.concatenate([np.zeros(inner), values]),
        target,
        sets,
    )


def _limit(threshold: float) -> float:
    """A threshold that sends each cell that LightGBM takes for 0 where it sends 0."""
    if 0 <= threshold < ZERO:
        return ZERO
    if -ZERO <= threshold < 0:
        return float(np.nextafter(-ZERO, -math.inf))
    return float(threshold)


def _categories(tree: Tree, place: int) -> list[float]:
    """The categories of a set, which go left; missing and negative ones go right."""
    start, end = _numbers(tree, "cat_boundaries", np.int64)[place : place + 2]
    words = _numbers(tree, "cat_threshold", np.uint32)[start:end]
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
    return [float(code) for code in np.flatnonzero(bits)]


def _answer(graph: Graph, objective: str, margins: str, estimator: Any, targets: int) -> str:
    name, _, words = objective.partition(" ")
    options = dict(word.partition(":")[::2] for word in words.split())
    classifier = hasattr(estimator, "predict_proba")
    if name in {"binary", "multiclassova", "cross_entropy"}:
        second = graph.op("Sigmoid", graph.mul(margins, float(options.get("sigmoid", 1.0))))
        return graph.complement(second) if name == "binary" or (classifier and targets == 1) else second
    if name == "multiclass":
        return graph.softmax(margins)
    if classifier:
        raise NoExport(f"no probabilities of LightGBM's objective {objective or 'of your own'!r}")
    if name in IDENTITY:
        if "sqrt" in options:
            return graph.op("Mul", margins, graph.op("Abs", margins))
        return margins
    if name in EXPONENTIAL:
        return graph.op("Exp", margins)
    raise NoExport(f"no exact ONNX form of LightGBM's objective {objective or 'of your own'!r}")
