"""A few candidates together: the weighted mean of their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import Bunch

from training.onnx.graph import NoExport, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.onnx.graph import Graph

ENSEMBLE = "ensemble"


def together(members: Sequence[tuple[str, Any]], weights: Sequence[float], classes: int) -> Any:
    """Unfitted pipelines by name as one model; `classes` is 0 for a regression."""
    if classes:
        return VotingClassifier(list(members), voting="soft", weights=list(weights))
    return VotingRegressor(list(members), weights=list(weights))


def fitted_together(
    members: Sequence[tuple[str, Any]], weights: Sequence[float], classes: int, y: NDArray[Any]
) -> Any:
    """One model of pipelines that are already fitted, as if it had fitted them itself."""
    model = together([(name, clone(each)) for name, each in members], weights, classes)
    model.estimators_ = [each for _, each in members]
    model.named_estimators_ = Bunch(**dict(members))
    if classes:
        model.le_ = LabelEncoder().fit(y)
        model.classes_ = model.le_.classes_
    return model


def _write(graph: Graph, model: VotingClassifier | VotingRegressor, x: Any) -> str:
    if isinstance(model, VotingClassifier) and model.voting != "soft":
        raise NoExport("no ONNX form of a vote by labels")
    given = model.weights if model.weights is not None else [1.0] * len(model.estimators)
    members = zip(model.estimators, given, strict=True)
    weights = np.array([weight for (_, each), weight in members if each != "drop"], float)
    weights = weights / weights.sum()
    parts = [
        graph.mul(graph.predict(each, x), [[weight]])
        for each, weight in zip(model.estimators_, weights, strict=True)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = graph.op("Add", total, part)
    return total


def _members(model: VotingClassifier | VotingRegressor) -> Sequence[Any]:
    return list(model.estimators_)


_WRITER = Writer(_write, members=_members, holds=True)
WRITERS = {VotingClassifier: _WRITER, VotingRegressor: _WRITER}
