from __future__ import annotations

import numpy as np
import pytest

from tests.training.made_tables import messy
from tests.training.search.test_search import run
from training.search.search import search
from training.search.spec import SearchSpec
from training.search.trial import SearchError


def test_a_group_never_stands_on_both_sides_of_a_fold():
    """Labels that only the group explains cannot be learnt where whole groups are held out."""
    made = messy("binary", 240, texts=False)
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 10)
    labels = np.array(["no", "yes"], object)[rng.integers(0, 2, 24)[groups]]
    made.matrix[:, 0] = groups
    told, leaked = (
        search(
            made.matrix,
            labels,
            made.signature,
            SearchSpec(task="binary", metric="roc_auc", groups=known, trials=4, folds=4, jobs=1),
            progress=False,
            ensemble=False,
        )
        for known in (groups, None)
    )
    assert leaked.best.score > 0.95
    assert told.best.score < 0.85


def test_with_times_each_fold_is_scored_by_its_past():
    made = messy("regression")
    found = run(made, times=np.arange(300)[::-1], trials=3, folds=3)
    assert found.folds == 3
    assert np.isfinite(found.best.score)


def test_too_few_rows_are_said_so():
    made = messy("binary", 8)
    with pytest.raises(SearchError, match="3 rows are left to train on, expected at least 4"):
        search(
            made.matrix[:3],
            made.labels[:3],
            made.signature,
            SearchSpec(task="binary", metric="roc_auc"),
            progress=False,
        )


def test_a_class_of_few_rows_gets_as_many_folds():
    made = messy("binary", 60)
    labels = np.array(["no"] * 57 + ["yes"] * 3, object)
    asked = SearchSpec(task="binary", metric="roc_auc", trials=2, jobs=1)
    found = search(made.matrix, labels, made.signature, asked, progress=False)
    assert found.folds % 3 == 0
    assert np.isfinite(found.best.score)


@pytest.mark.parametrize(("metric", "weighted"), [("roc_auc", False), ("log_loss", False), ("f1", True)])
def test_classes_are_weighted_only_for_figures_of_labels(metric, weighted):
    """A weight leaves a ranking as it is and probabilities that are far from the share of a class."""
    made = messy("binary", 200)
    labels = np.array(["yes" if i % 10 == 0 else "no" for i in range(200)], object)
    asked = SearchSpec(task="binary", metric=metric, trials=4, jobs=1)
    found = search(made.matrix, labels, made.signature, asked, progress=False, ensemble=False)
    assert any("class_weight" in trial.params for trial in found.trials) == weighted
