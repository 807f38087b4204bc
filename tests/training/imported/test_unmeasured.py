"""A model without a table: two commands serve it, nothing is claimed of it, and its example is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from artifact import manifest, runtime
from artifact.encode import Encoder
from tests.training.imported.champions import champion
from training.registry.mlflow_registry import Registry
from training.registry.records import CHALLENGER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Said


def answers(artifact: manifest.Artifact, record: dict[str, Any]) -> Any:
    return runtime.load(artifact)(Encoder(artifact.signature).records([record]))


def test_the_oldest_tutorial_works_in_two_commands(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    """A forest fitted on an array knows its width and its classes, and says so everywhere."""
    x, y = load_iris(return_X_y=True)
    model = RandomForestClassifier(20, random_state=0).fit(x, y)
    joblib.dump(model, place / "model.pkl")

    refused = cli("init", "model.pkl", "--name", "old_iris")
    assert refused.code == 2
    assert "init --trust" in refused.err
    made = cli("init", "model.pkl", "--name", "old_iris", "--trust")
    assert made.code == 0, made.err
    assert "make serve USECASES=old_iris.toml" in made.out
    assert "the example value is made up" in made.err
    ran = cli("ensure", "old_iris.toml")

    assert ran.code == 0, ran.err
    assert "it is unmeasured: no table says how good it is" in ran.out
    artifact = champion("old_iris", mlflow_url, place / "champion")
    assert artifact.signature.names == ("x0", "x1", "x2", "x3")
    assert artifact.manifest.metrics == {}
    row = dict(zip(artifact.signature.names, x[70].tolist(), strict=True))
    np.testing.assert_array_equal(answers(artifact, row)[0], model.predict_proba(x[70:71])[0])
    answers(artifact, artifact.signature.example)
    assert "RandomForestClassifier, unmeasured" in cli("ensure", "old_iris.toml").out
    assert "It is unmeasured" in cli("card", "old_iris").out
    assert "unmeasured" in cli("show", "old_iris").out
    report = cli("report", "old_iris.toml")
    assert report.code == 2
    assert "old_iris has no table: its model is unmeasured" in report.err


def test_what_its_steps_know_is_the_contract(cli: Callable[..., Said], place: Path, mlflow_url: str) -> None:
    """Columns by name, categories and whether others are refused, means as examples."""
    table = pd.DataFrame(
        {"colour": ["red", "blue"] * 20, "size": np.arange(40.0), "fruit": ["plum", "cherry"] * 20}
    )
    steps = ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["size"]),
            ("c", OneHotEncoder(), ["colour"]),
        ]
    )
    model = make_pipeline(steps, LogisticRegression()).fit(table[["colour", "size"]], table["fruit"])
    joblib.dump(model, place / "fruit.joblib")

    assert cli("init", "fruit.joblib", "--trust").code == 0
    written = (place / "fruit.toml").read_text()
    assert 'size = "number"  # for example 19.5, what its SimpleImputer fills in' in written
    assert """colour = "category"  # for example 'blue', a category of its OneHotEncoder""" in written
    assert cli("run", "fruit.toml").code == 0

    artifact = champion("fruit", mlflow_url, place / "champion")
    signature = artifact.signature
    assert signature.names == ("colour", "size")
    assert signature.classes == ("cherry", "plum")
    assert signature.example == {"colour": "blue", "size": 19.5}
    assert {column.name: column.missing for column in signature.columns} == {
        "colour": "refuse",
        "size": "allow",
    }
    with pytest.raises(ValueError, match="unknown category 'green'"):
        answers(artifact, {"colour": "green", "size": 1})


def test_a_text_classifier_is_given_texts(cli: Callable[..., Said], place: Path, mlflow_url: str) -> None:
    """A pipeline that begins with a vectorizer takes a list of texts, not a table."""
    texts = ["win money now", "cheap money", "see you at lunch", "lunch tomorrow?"] * 5
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(
        texts, ["spam", "spam", "ham", "ham"] * 5
    )
    joblib.dump(model, place / "spam.pkl")

    assert cli("init", "spam.pkl", "--trust").code == 0
    assert cli("run", "spam.toml").code == 0

    artifact = champion("spam", mlflow_url, place / "champion")
    assert artifact.signature.columns[0].kind == "text"
    found = answers(artifact, {"x0": "money for lunch"})
    np.testing.assert_array_equal(found, model.predict_proba(["money for lunch"]))


X, Y = load_iris(return_X_y=True)
FRAME = pd.DataFrame({"word": ["a", "bb"] * 20, "n": np.arange(40.0)})


def lengths(frame: pd.DataFrame) -> Any:
    return np.column_stack([frame["word"].str.len(), frame["n"]])


ALONE: dict[str, Callable[[], Any]] = {
    "labels only": lambda: SVC().fit(X, Y),
    "its own decision": lambda: SVC(probability=True).fit(X, Y),
    "a regression": lambda: LinearRegression().fit(X[:, :2], X[:, 2]),
    "refuses zero": lambda: make_pipeline(FunctionTransformer(np.log), LogisticRegression()).fit(X, Y == 1),
    "words of its own": lambda: make_pipeline(FunctionTransformer(lengths), LinearRegression()).fit(
        FRAME, FRAME["n"]
    ),
}


@pytest.mark.parametrize("what", ALONE)
def test_its_example_is_answered(what: str, cli: Callable[..., Said], place: Path, mlflow_url: str) -> None:
    """Where the model does not say what it takes, values are tried until it answers."""
    model = ALONE[what]()
    import cloudpickle

    (place / "model.pkl").write_bytes(cloudpickle.dumps(model))
    name = f"alone_{list(ALONE).index(what)}"
    made = cli("init", "model.pkl", "--name", name, "--trust")
    assert made.code == 0, made.err
    ran = cli("run", f"{name}.toml")
    assert ran.code == 0, ran.err

    artifact = champion(name, mlflow_url, place / "champion")
    found = answers(artifact, artifact.signature.example)
    assert np.isfinite(found).all()
    assert artifact.signature.decided == (what == "its own decision")


@pytest.mark.deep
def test_an_unmeasured_model_never_replaces_a_measured_one(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    """And a measured one replaces it; two unmeasured ones follow one another."""
    table = pd.DataFrame(X, columns=["a", "b", "c", "d"]).assign(kind=Y)
    table.to_csv(place / "iris.csv", index=False)
    joblib.dump(LogisticRegression(max_iter=500).fit(table[["a", "b", "c", "d"]], Y), place / "model.pkl")
    assert cli("init", "model.pkl", "--name", "both_ways", "--trust").code == 0
    assert cli("ensure", "both_ways.toml").code == 0
    joblib.dump(RandomForestClassifier(5).fit(table[["a", "b", "c", "d"]], Y), place / "model.pkl")
    second = cli("ensure", "both_ways.toml")
    assert second.code == 0
    assert "as the champion (version 1) is: the newer one is served" in second.out

    unmeasured = (place / "both_ways.toml").read_text()
    measured = unmeasured.replace("# [source]", "[source]").replace('# kind = "csv"', 'kind = "csv"')
    measured = measured.replace('# path = "test.csv"', 'path = "iris.csv"').replace('"prediction"', '"kind"')
    (place / "both_ways.toml").write_text(measured)
    third = cli("ensure", "both_ways.toml")
    assert third.code == 0, third.err
    assert "It is measured, and the champion (version 2) is not" in third.out

    (place / "both_ways.toml").write_text(unmeasured)
    fourth = cli("ensure", "both_ways.toml")
    assert fourth.code == 3
    assert (
        "It is unmeasured, and the champion (version 3) is measured: name a table in [source]" in fourth.out
    )
    again = cli("promote", "both_ways.toml")
    assert again.code == 3
    assert Registry(mlflow_url).version("both_ways", CHALLENGER) is not None


def test_floors_are_not_met_without_a_table(cli: Callable[..., Said], place: Path) -> None:
    """What [gate] demands of a figure cannot be shown."""
    joblib.dump(LogisticRegression(max_iter=500).fit(X, Y), place / "model.pkl")
    assert cli("init", "model.pkl", "--name", "floored", "--trust").code == 0
    with (place / "floored.toml").open("a") as file:
        file.write("floors = { accuracy = 0.9 }\n")

    ran = cli("run", "floored.toml")

    assert ran.code == 3
    assert "accuracy is undefined here, but [gate.floors] demands at least 0.9" in ran.out


def test_a_model_that_does_not_say_its_width_needs_a_table(cli: Callable[..., Said], place: Path) -> None:
    """One sentence, and no file is written."""

    class Plain:
        def predict(self, rows: Any) -> Any:
            return np.zeros(len(rows))

    import cloudpickle

    (place / "model.pkl").write_bytes(cloudpickle.dumps(Plain()))

    found = cli("init", "model.pkl", "--name", "wordless", "--trust")

    assert found.code == 2
    assert "does not say which columns it reads" in found.err
    assert not (place / "wordless.toml").exists()


@pytest.mark.deep
def test_the_objective_of_a_booster_file_is_its_task(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    """A booster's own file has no classes; its objective says what its numbers are."""
    xgboost = pytest.importorskip("xgboost")
    for name, objective, truth in (
        ("boosted_two", {"objective": "binary:logistic"}, Y == 1),
        ("boosted_three", {"objective": "multi:softprob", "num_class": 3}, Y),
        ("boosted_value", {"objective": "reg:squarederror"}, X[:, 0]),
    ):
        booster = xgboost.train({**objective, "max_depth": 2}, xgboost.DMatrix(X[:, 1:], truth), 3)
        booster.save_model(place / "model.json")
        assert cli("init", "model.json", "--name", name).code == 0
        ran = cli("run", f"{name}.toml")
        assert ran.code == 0, ran.err
        artifact = champion(name, mlflow_url, place / name)
        found = answers(artifact, dict(zip(artifact.signature.names, X[3, 1:].tolist(), strict=True)))[0]
        own = booster.predict(xgboost.DMatrix(X[3:4, 1:]))[0]
        expected = [1 - own, own] if name == "boosted_two" else np.atleast_1d(own)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert artifact.signature.classes == {"boosted_two": (0, 1), "boosted_three": (0, 1, 2)}.get(name, ())


def test_a_number_that_its_encoder_refuses_is_refused_with_those_that_it_knows(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    """Grades and codes are categories for a one-hot encoder, with and without a table."""
    table = pd.DataFrame({"grade": [1, 2, 3, 5] * 20, "size": np.arange(80.0)})
    table["price"] = table["grade"] * 2.0 + table["size"]
    table.to_csv(place / "grades.csv", index=False)
    steps = ColumnTransformer([("c", OneHotEncoder(), ["grade"])], remainder="passthrough")
    model = make_pipeline(steps, LinearRegression()).fit(table[["grade", "size"]], table["price"])
    joblib.dump(model, place / "grades.pkl")
    for name, options in (
        ("grades_alone", ()),
        ("grades_measured", ("--data", "grades.csv", "--target", "price")),
    ):
        assert cli("init", "grades.pkl", "--name", name, "--trust", *options).code == 0
        ran = cli("run", f"{name}.toml")
        assert ran.code == 0, ran.err
        artifact = champion(name, mlflow_url, place / name)
        for grade in (5, 5.0, "5"):
            found = answers(artifact, {"grade": grade, "size": 2.0})
            assert found[0, 0] == pytest.approx(12.0)
        with pytest.raises(ValueError, match="unknown category 4; expected one of"):
            answers(artifact, {"grade": 4, "size": 2.0})
