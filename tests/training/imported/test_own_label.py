"""A classifier whose label is not always that of its highest probability gets no graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.svm import SVC

from artifact.python_model import Input, PythonModel
from artifact.signature import Column, Signature
from training.imported.convert import NoExport, convert
from training.imported.describe import describe


@pytest.mark.parametrize(
    "model",
    [SVC(probability=True, random_state=0), FixedThresholdClassifier(LogisticRegression(), threshold=0.3)],
    ids=["SVC", "threshold"],
)
def test_no_graph_stands_for_a_model_that_decides_by_itself(model: Any) -> None:
    """Between two far groups every row agrees; near the border, where no row of the table is, they differ."""
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(-5, 1, (40, 2)), random.normal(5, 1, (40, 2))])
    model.fit(x, np.repeat(["no", "yes"], 40))
    described = describe(model)
    names = ("a", "b")
    signature = Signature(
        task="binary",
        target="y",
        columns=tuple(Column(name=name, kind="number") for name in names),
        classes=("no", "yes"),
        positive="yes",
        raw=True,
        decided=described.decides,
    )
    spec = PythonModel(
        flavor="pickle",
        file="model/model.pkl",
        inputs=tuple(Input(name=name, dtype="float") for name in names),
        frame=False,
        method="predict_proba",
        order=(0, 1),
        labels=("no", "yes"),
    )

    assert (model.predict_proba(x).argmax(axis=1) == (model.predict(x) == "yes")).all()
    with pytest.raises(NoExport, match="own label"):
        convert(model, spec, signature)
