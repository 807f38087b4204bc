"""A model that scores by its own library, from raw columns: what it is given, and what its answer becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline

from artifact import manifest, runtime
from artifact.encode import BadRows, Encoder
from artifact.manifest import ArtifactError
from serving.scoring.model_process import ModelProcess
from tests.artifact import bought
from tests.artifact.bought import records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd


@pytest.fixture
def sealed(tmp_path: Path, bought_table: pd.DataFrame) -> Callable[..., manifest.Artifact]:
    return lambda model, **fields: bought.seal(tmp_path / "artifact", model, bought_table, **fields)


def test_raw_rows_reach_the_model_as_it_was_fitted_on_them(
    sealed: Callable[..., manifest.Artifact], bought_pipeline: Any, bought_table: pd.DataFrame
) -> None:
    """Its columns in its order, numbers unrounded, missing cells missing, and unknown words left to it."""
    artifact = sealed(bought_pipeline)
    score = runtime.open_score(artifact)
    asked = records(bought_table, 200)
    asked[0] |= {"city": "Zürich", "age": 33.123456789012345, "note": "never seen"}
    asked[1] |= {"city": "Zu\u0308rich", "member": "TRUE"}
    expected = bought_table.head(200).copy()
    expected["city"] = expected["city"].astype(object)
    expected.loc[0, ["city", "age", "note"]] = ["Zürich", 33.123456789012345, "never seen"]
    expected.loc[1, ["city", "member"]] = ["Zürich", True]

    found = score(Encoder(artifact.signature).records(asked))

    np.testing.assert_array_equal(found, bought_pipeline.predict_proba(expected)[:, [1, 0]])


def test_its_own_process_answers_the_same(
    sealed: Callable[..., manifest.Artifact], bought_pipeline: Any, bought_table: pd.DataFrame
) -> None:
    """Numbers and words cross over; the worker needs neither pandas nor the model's library."""
    artifact = sealed(bought_pipeline)
    matrix = Encoder(artifact.signature).records(records(bought_table, 300))
    process = ModelProcess(artifact)
    try:
        np.testing.assert_array_equal(process.score(matrix), runtime.open_score(artifact)(matrix))
        np.testing.assert_array_equal(process.score(matrix[:1]), runtime.open_score(artifact)(matrix[:1]))
    finally:
        process.close()


def test_what_the_signature_refuses_does_not_reach_the_model(
    sealed: Callable[..., Any], bought_pipeline: Any
) -> None:
    """A list is no category, a word no number, and a truth value has two spellings."""
    encoder = Encoder(sealed(bought_pipeline).signature)
    good = {"age": 1, "city": "Ulm", "member": True, "note": "x"}
    for wrong in (
        {"age": "old"},
        {"city": ["Ulm"]},
        {"member": "perhaps"},
        {"note": 5},
        {"member": None},
        {"oder": 1},
    ):
        with pytest.raises(BadRows):
            encoder.records([good | wrong])


def test_labels_without_probabilities_are_certain(
    sealed: Callable[..., manifest.Artifact], bought_pipeline: Any, bought_table: pd.DataFrame
) -> None:
    """An estimator without predict_proba answers labels; the chosen class has the whole score."""
    model = make_pipeline(*(step for _, step in bought_pipeline.steps[:-1]), RidgeClassifier())
    model.fit(bought_table, bought_pipeline.predict(bought_table))
    artifact = sealed(model, method="predict", order=(), labels=("yes", "no"))

    found = runtime.open_score(artifact)(Encoder(artifact.signature).records(records(bought_table, 50)))

    assert set(found.ravel().tolist()) == {0.0, 1.0}
    assert np.where(found[:, 0] == 1, "yes", "no").tolist() == model.predict(bought_table.head(50)).tolist()


def test_an_answer_of_another_shape_is_refused(
    sealed: Callable[..., manifest.Artifact], bought_table: pd.DataFrame
) -> None:
    """A regression behind a signature of two classes answers numbers, which are none of its labels."""
    regression = make_pipeline(
        ColumnTransformer([("numbers", "passthrough", ["age"])]), HistGradientBoostingRegressor()
    ).fit(bought_table, np.arange(len(bought_table)))
    artifact = sealed(regression, method="predict", labels=("yes", "no"))

    with pytest.raises(ValueError, match="a label that its signature does not have"):
        runtime.open_score(artifact)(Encoder(artifact.signature).records(records(bought_table, 5)))


@pytest.mark.parametrize(
    ("packages", "libraries", "said"),
    [
        (("scikit-learn",), {"scikit-learn": "0.24.1"}, r"made with scikit-learn 0\.24\.1, and this is"),
        (
            ("no-such-package",),
            {"no-such-package": "1.0"},
            "needs no-such-package 1.0, which is not installed",
        ),
    ],
)
def test_another_version_of_a_package_is_refused_with_both(
    sealed: Callable[..., manifest.Artifact], bought_pipeline: Any, packages: Any, libraries: Any, said: str
) -> None:
    """Before the file is opened."""
    artifact = sealed(bought_pipeline, packages=packages)
    libraries = artifact.manifest.libraries | libraries
    other = manifest.Artifact(
        artifact.path, msgspec.structs.replace(artifact.manifest, libraries=libraries), artifact.signature
    )

    with pytest.raises(ArtifactError, match=said):
        runtime.open_score(other)


def test_a_model_whose_file_was_touched_is_not_opened(
    sealed: Callable[..., manifest.Artifact], bought_pipeline: Any
) -> None:
    """Its digest is checked first, in folders of the artifact too."""
    artifact = sealed(bought_pipeline)
    with (artifact.path / "model" / "model.joblib").open("ab") as file:
        file.write(b"x")

    with pytest.raises(ArtifactError, match="damaged or not this model's"):
        manifest.load(artifact.path)
    (artifact.path / "model" / "more.py").write_text("")
    with pytest.raises(ArtifactError, match=r"model/more\.py is not listed in the manifest"):
        manifest.load(artifact.path)
