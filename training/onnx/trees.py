"""Trees as ONNX has them: one node for all trees of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import numpy_helper

from training.onnx.graph import ML_OPSET, NoExport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx
    from numpy.typing import NDArray

    from training.onnx.graph import Graph

ML_OPSET_OF_MANY_TARGETS = 3
"""The version of ai.onnx.ml whose operator gives a leaf several targets: five times faster for classes."""
_LESS_OR_EQUAL, _MEMBER = 0, 6
MAX_NODES = 5_000_000
"""Of a graph: its file stays below the 2 GB that a protocol buffer may have."""


@dataclass
class TreeEnsemble:
    """The attributes of a TreeEnsemble node; inner nodes and leaves are numbered apart.

    `precision` is that of its input, splits and sums, which onnxruntime adds in the order of the trees.
    """

    precision: type = np.float64
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
        if not inner:
            self.constant(float(values[0]), target)
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

    def fitted(self, tree: Any, values: NDArray[np.float64], target: int) -> None:
        """Add a `tree_` of scikit-learn with a value for each of its nodes."""
        self.tree(
            tree.children_left,
            tree.children_right,
            tree.feature,
            tree.threshold,
            _missing_left(tree),
            values,
            target,
        )

    def constant(self, value: float, target: int) -> None:
        """Add one value for all rows: a split with one leaf on both sides, since no tree is a leaf alone."""
        self.roots.append(len(self.features))
        self._node(0, 0.0, _LESS_OR_EQUAL, missing=False)
        for side in (0, 1):
            self._leaf(side, value, target)

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
            attributes["membership_values"] = tensor(flat, self.precision)
        return graph.op(
            "TreeEnsemble",
            x,
            n_targets=targets,
            aggregate_function=1,
            post_transform=0,
            tree_roots=self.roots,
            nodes_featureids=self.features,
            nodes_splits=tensor(self.splits, self.precision),
            nodes_modes=numpy_helper.from_array(np.array(self.modes, np.uint8)),
            nodes_missing_value_tracks_true=self.missing_left,
            nodes_truenodeids=self.children[0],
            nodes_falsenodeids=self.children[1],
            nodes_trueleafs=self.are_leaves[0],
            nodes_falseleafs=self.are_leaves[1],
            leaf_targetids=self.leaf_targets,
            leaf_weights=tensor(self.leaf_values, self.precision),
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


def tensor(values: Sequence[float], precision: type = np.float64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, precision))


def _missing_left(tree: Any) -> NDArray[Any]:
    flags = tree.missing_go_to_left
    return np.zeros(tree.node_count, np.uint8) if flags is None else np.asarray(flags)


def mean_of_trees(graph: Graph, trees: Sequence[Any], x: str, outputs: int) -> str:
    """The mean of the trees' values: (rows, targets) of a regression, else each class's fraction of votes."""
    x = graph.single(x)
    if trees[0].tree_.n_outputs > 1:
        if hasattr(trees[0], "classes_"):
            raise NoExport("no ONNX form of trees that predict several classes at once")
        sums = _trees_a_target(graph, trees, x)
        return graph.op("Div", sums, graph.constant([[float(len(trees))]]))
    if outputs > 2:
        return graph.op("Div", _many_targets(graph, trees, x, outputs), graph.constant([[float(len(trees))]]))
    ensemble = TreeEnsemble()
    for each in trees:
        ensemble.fitted(each.tree_, each.tree_.value[:, 0, outputs - 1], 0)
    mean = graph.op("Div", ensemble.add_to(graph, x, 1), graph.constant([[float(len(trees))]]))
    return mean if outputs == 1 else graph.complement(mean)


def histogram_sums(graph: Graph, model: Any, x: str, known: Sequence[NDArray[Any]]) -> str:
    """The raw sums of histogram gradient boosting in float64, as scikit-learn compares.

    Parameters
    ----------
    known
        The categories of each native column, by its place in `x`, which holds their codes.
    """
    ensemble = TreeEnsemble()
    for predictors in model._predictors:  # noqa: SLF001
        for target, predictor in enumerate(predictors):
            nodes = predictor.nodes
            sets = {}
            for place in np.flatnonzero(nodes["is_categorical"] & ~nodes["is_leaf"].astype(bool)):
                bits = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][place]]
                count = len(known[nodes["feature_idx"][place]])
                sets[int(place)] = [float(c) for c in range(count) if bits[c // 32] >> np.uint32(c % 32) & 1]
            ensemble.tree(
                np.where(nodes["is_leaf"], -1, nodes["left"].astype(np.int64)),
                nodes["right"].astype(np.int64),
                nodes["feature_idx"],
                nodes["num_threshold"],
                nodes["missing_go_to_left"],
                nodes["value"],
                target,
                sets,
            )
    sums = ensemble.add_to(graph, x, model.n_trees_per_iteration_)
    return graph.add(sums, np.asarray(model._baseline_prediction).reshape(1, -1))  # noqa: SLF001


def _many_targets(graph: Graph, trees: Sequence[Any], x: str, outputs: int) -> str:
    """The sum over the trees of each class's fraction; the older operator computes it in float32."""
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
        nodes_values_as_tensor=tensor(thresholds),
        nodes_missing_value_tracks_true=missing,
        target_weights_as_tensor=tensor(weights),
        **nodes,
        **targets,
    )
    return graph.cast(sums)


def _trees_a_class(graph: Graph, trees: Sequence[Any], x: str, outputs: int) -> str:
    """A leaf of TreeEnsemble has one target: each class has its trees, without what does not concern it."""
    ensemble = TreeEnsemble()
    for target in range(outputs):
        for each in trees:
            tree = each.tree_
            values = tree.value[:, 0, target].copy()
            left = _collapsed(tree, values)
            right, missing = tree.children_right, _missing_left(tree)
            ensemble.tree(left, right, tree.feature, tree.threshold, missing, values, target)
    return ensemble.add_to(graph, x, outputs)


def _trees_a_target(graph: Graph, trees: Sequence[Any], x: str) -> str:
    """The sum over the trees of each target of a regression."""
    ensemble = TreeEnsemble()
    targets = trees[0].tree_.n_outputs
    for target in range(targets):
        for each in trees:
            ensemble.fitted(each.tree_, each.tree_.value[:, target, 0], target)
    return ensemble.add_to(graph, x, targets)


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


def thresholds_of_trees(trees: Sequence[Any]) -> Iterator[tuple[int, float]]:
    """Column and threshold of each inner node of scikit-learn's own trees."""
    for each in trees:
        inner = each.tree_.feature >= 0
        yield from zip(each.tree_.feature[inner].tolist(), each.tree_.threshold[inner].tolist(), strict=True)
