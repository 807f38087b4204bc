"""Models that know other classes, or the same in another order, compared on the same rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from artifact.signature import Column, Signature
from training.decide.test_set import in_order_of
from training.metrics.metric import metrics


def scored(classes: tuple[Any, ...], scores: Any, *, decided: bool = False) -> Any:
    signature = Signature(
        task="multiclass",
        target="y",
        columns=(Column(name="x", kind="number"),),
        classes=classes,
        raw=True,
        decided=decided,
    )
    return SimpleNamespace(artifact=SimpleNamespace(signature=signature), scores=np.array(scores, float))


def test_scores_are_brought_into_the_order_of_another_models_classes() -> None:
    """A class that the model does not know has no probability; a text stands for the table's number."""
    found = in_order_of((9, 10, 11), scored(("10", "9"), [[0.8, 0.2], [0.1, 0.9]]))
    np.testing.assert_array_equal(found, [[0.2, 0.8, 0], [0.9, 0.1, 0]])


def test_the_models_own_decision_moves_with_its_classes() -> None:
    found = in_order_of(("a", "b"), scored(("b", "a"), [[0.8, 0.2, 1], [0.1, 0.9, 0]], decided=True))
    np.testing.assert_array_equal(found, [[0.2, 0.8, 0], [0.9, 0.1, 1]])


def test_figures_of_labels_are_those_of_the_models_own_decision() -> None:
    """And those of probabilities look at these alone."""
    scores = np.array([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    decided = np.column_stack([scores, [1, 0, 0, 1]])
    labels = ["yes", "no", "no", "yes"]
    plain, own = (metrics("binary", labels, each, ("no", "yes"), "yes") for each in (scores, decided))

    assert plain["accuracy"] == pytest.approx(0.75)
    assert own["accuracy"] == own["f1"] == own["balanced_accuracy"] == 1.0
    for name in ("roc_auc", "log_loss", "brier", "average_precision"):
        assert own[name] == plain[name]
