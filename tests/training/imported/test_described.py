"""What a model says of itself, and what it says that no use case has a place for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from artifact.encode import Encoder
from training.__main__ import main
from training.imported.describe import describe
from training.imported.load import ModelError, load
from training.imported.unmeasured import contract_of
from training.settings import Model, UseCase

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_vectorizer_without_a_vocabulary_is_given_texts_too(tmp_path: Path) -> None:
    """A HashingVectorizer is not fitted on any words; a data frame would be a list of its column names."""
    texts = ["paid late", "paid on time"] * 10
    model = make_pipeline(HashingVectorizer(n_features=16), LogisticRegression()).fit(texts, [1, 0] * 10)
    joblib.dump(model, tmp_path / "model.pkl")

    described = describe(model)
    use_case = UseCase(name="texts", target="y", model=Model(source="model.pkl"))
    found = contract_of(load(tmp_path / "model.pkl", trust=True), use_case)

    assert (described.texts, described.columns) == (True, 1)
    (column,) = found.signature.columns
    assert column.kind == "text"
    scores = found.score(Encoder(found.signature).records([{column.name: text} for text in texts]))
    np.testing.assert_allclose(scores, model.predict_proba(texts))


def test_a_name_that_no_use_case_can_have_is_refused_before_the_model_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written, so that the next call need not remove it."""
    monkeypatch.chdir(tmp_path)

    assert main(["init", "model.pkl", "--name", "My model"]) == 2
    assert "--name is 'My model', expected a small letter" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
