from __future__ import annotations

import numpy as np
import pytest

from tests.training.made_tables import messy
from training.metrics.behaviour import Behaviour
from training.metrics.dependence import Dependence
from training.metrics.truth import truth_of
from training.plots import plots
from training.search.trial import Trial


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_task_has_its_pictures(task, tmp_path):
    made = messy(task, 60)
    truth = truth_of(task, made.labels, made.signature.classes, made.signature.positive)
    scores = np.eye(len(made.signature.classes))[truth.y] if made.signature.classes else made.labels[:, None]
    metric = "r2" if task == "regression" else "accuracy"
    trials = [
        Trial(0, "linear", {}, (0.8,), 0.8, 1.0, "complete"),
        Trial(1, "tree", {}, (0.7,), 0.7, 1.0, "pruned"),
        Trial(2, "svm", {}, (), float("nan"), 1.0, "failed"),
    ]
    found = plots(made.signature, made.labels, scores, metric=metric, trials=trials)
    assert found.keys() >= ({"predictions", "residuals"} if task == "regression" else {"roc", "confusion"})
    for name, figure in found.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


@pytest.mark.parametrize("values", [(1.0, 2.0, 3.0), ("red", "a name of many more than twenty letters")])
def test_partial_dependence_is_a_picture_whatever_the_column_is_called(values, tmp_path):
    made = messy("multiclass", 60)
    column = made.signature.names[0]
    curve = Dependence(column, values, np.full((len(values), len(made.signature.classes)), 0.5))
    scores = np.eye(len(made.signature.classes))[
        truth_of("multiclass", made.labels, made.signature.classes).y
    ]
    found = plots(
        made.signature, made.labels, scores, metric="accuracy", behaviour=Behaviour(dependences=(curve,))
    )
    found["dependence_1"].savefig(tmp_path / "dependence.png")
    assert (tmp_path / "dependence.png").stat().st_size > 5_000
