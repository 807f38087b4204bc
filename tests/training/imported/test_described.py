"""What a model says of itself, and what it says that no use case has a place for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from training.imported.describe import describe
from training.imported.load import ModelError

ROWS = np.random.default_rng(0).normal(size=(40, 2))
LABELS = (ROWS > 0).astype(int)


@pytest.mark.parametrize(
    "model",
    [
        MultiOutputClassifier(DecisionTreeClassifier()),
        DecisionTreeClassifier(),
        ClassifierChain(DecisionTreeClassifier()),
    ],
)
def test_classes_of_several_targets_are_refused_with_what_to_do(model: Any) -> None:
    """Before any row is scored."""
    with pytest.raises(ModelError, match="classes of 2 targets at once.* save a model for each target"):
        describe(make_pipeline(StandardScaler(), model).fit(ROWS, LABELS))


def test_a_model_of_a_single_class_is_refused_with_it() -> None:
    """There is nothing that it tells apart, and nothing to measure."""
    with pytest.raises(ModelError, match="fitted on a single class, 'no'"):
        describe(DecisionTreeClassifier().fit(ROWS, ["no"] * len(ROWS)))


def test_a_pipeline_without_predict_names_its_last_step() -> None:
    """A DBSCAN knows the clusters of its own rows alone."""
    with pytest.raises(ModelError, match="a Pipeline that ends in a DBSCAN, which has no method predict"):
        describe(make_pipeline(StandardScaler(), DBSCAN()).fit(ROWS))
