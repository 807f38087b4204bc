"""A model that was made elsewhere takes the road of one of ours: init, run, gate, artifact."""

from __future__ import annotations

import json
import pickle
import re
import sys
from typing import TYPE_CHECKING, Any

import joblib
import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from artifact import manifest, runtime
from artifact.encode import Encoder
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Said


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    random = np.random.default_rng(5)
    frame = pd.DataFrame(
        {"size": random.normal(5, 2, 200).round(2), "colour": random.choice(["red", "blue"], 200)}
    )
    frame["fruit"] = np.where(frame["size"] + 3 * (frame["colour"] == "red") > 6, "plum", "cherry")
    return frame


def pipeline(table: pd.DataFrame) -> Any:
    columns = ColumnTransformer([("n", StandardScaler(), ["size"]), ("c", OneHotEncoder(), ["colour"])])
    return make_pipeline(columns, LogisticRegression()).fit(table[["size", "colour"]], table["fruit"])


@pytest.fixture
def place(place: Path, table: pd.DataFrame) -> Path:
    """The folder, with a table in it."""
    table.to_csv(place / "fruit.csv", index=False)
    return place


def test_a_pickle_becomes_a_champion_that_answers_as_it_does_itself(
    cli: Callable[..., Said], place: Path, table: pd.DataFrame, mlflow_url: str
) -> None:
    """In two commands; every row of the table measures it, and MLflow has figures, card and pictures."""
    model = pipeline(table)
    joblib.dump(model, place / "model.joblib")
    options = ("--data", "fruit.csv", "--target", "fruit", "--name", "bought_fruit")

    refused = cli("init", "model.joblib", *options)
    assert refused.code == 2
    assert "opening it runs whatever it names" in refused.err
    assert "sklearn.pipeline.Pipeline" in refused.err
    assert "init --trust" in refused.err
    assert not (place / "bought_fruit.toml").exists()

    assert cli("init", "model.joblib", *options, "--trust").code == 0
    ran = cli("run", "bought_fruit.toml")

    assert ran.code == 0, ran.err
    assert "200 test rows" in ran.out
    registry = Registry(mlflow_url)
    champion = registry.version("bought_fruit", CHAMPION)
    assert champion is not None
    artifact = manifest.load(registry.download(champion, place / "champion"))
    assert artifact.manifest.runtime == "onnx"
    assert sorted(artifact.manifest.files) == [
        "background.json", "calibration.json", "card.md", "golden.json", "model.onnx", "reference.json",
        "signature.json",
    ]  # fmt: skip
    asked = [{"size": 4.123456789, "colour": "red"}, {"size": -1e3, "colour": "blue"}]
    found = runtime.load(artifact)(Encoder(artifact.signature).records(asked))
    np.testing.assert_array_equal(found, model.predict_proba(pd.DataFrame(asked)))
    assert float(champion.tags["test_accuracy"]) == pytest.approx(
        model.score(table[["size", "colour"]], table["fruit"]), abs=1e-4
    )
    assert "made elsewhere and read from model.joblib" in cli("card", "bought_fruit").out
    assert json.loads(cli("show", "bought_fruit", "--json").out)["champion"]["runtime"] == "onnx"
    pictures = mlflow.MlflowClient(mlflow_url).list_artifacts(champion.run_id, "pictures")
    wanted = {"roc", "confusion", "importances", "dependence_1", "dependence_2"}
    assert {f"pictures/{name}.png" for name in wanted} <= {each.path for each in pictures}
    check_reliance((artifact.path / manifest.CARD).read_text("utf-8"), ["size", "colour"])
    note = mlflow.MlflowClient(mlflow_url).get_run(champion.run_id).data.tags["mlflow.note.content"]
    assert "data:image" not in note
    assert "(pictures/dependence_1.png)" in note
    assert "### Robustness" in note
    assert "nothing to train" in cli("ensure", "bought_fruit.toml").out


def check_reliance(card: str, columns: list[str]) -> None:
    """The card has intervals, a picture for each curve, and what noise changes."""
    for name in columns:
        assert re.search(rf"^\| {name} \| \S+ \| \S+ to \S+ \|$", card, re.MULTILINE), card
        assert re.search(rf"^!\[Partial dependence on {name}: .*\]\[dependence_\d\]$", card, re.MULTILINE)
    assert len(re.findall(r"^\[dependence_\d\]: data:image/svg", card, re.MULTILINE)) == len(columns)
    assert re.search(r"With noise of 1%.*\d%", card)


def test_a_new_file_is_measured_again_and_must_be_better(
    cli: Callable[..., Said], place: Path, table: pd.DataFrame
) -> None:
    """The champion and its challenger meet on the same rows."""
    joblib.dump(pipeline(table), place / "model.joblib")
    options = ("--data", "fruit.csv", "--target", "fruit", "--name", "second_fruit", "--trust")
    assert cli("init", "model.joblib", *options).code == 0
    assert cli("ensure", "second_fruit.toml").code == 0

    joblib.dump(DummyClassifier().fit(table[["size", "colour"]], table["fruit"]), place / "model.joblib")
    worse = cli("ensure", "second_fruit.toml")

    assert worse.code == 3
    assert "version 1" in worse.out


@pytest.fixture
def own_module(tmp_path: Path) -> Iterator[Path]:
    """A folder with a module that holds a class of the model; gone from Python when the test ends."""
    folder = tmp_path / "mycode"
    folder.mkdir()
    (folder / "my_steps.py").write_text(
        "class Doubler:\n    def fit(self, X, y=None):\n        return self\n"
        "    def transform(self, X):\n        return X * 2\n"
    )
    yield folder
    sys.modules.pop("my_steps", None)
    sys.path[:] = [each for each in sys.path if each != str(folder)]


def test_a_class_of_its_own_travels_with_the_model(
    cli: Callable[..., Said], place: Path, table: pd.DataFrame, own_module: Path, mlflow_url: str
) -> None:
    """Without `code` the module is named; with it the artifact holds the module and opens anywhere."""
    sys.path.insert(0, str(own_module))
    import my_steps

    model = make_pipeline(my_steps.Doubler(), LinearRegression())
    numbers = table.assign(price=table["size"] * 3)[["size", "price"]]
    numbers.to_csv(place / "prices.csv", index=False)
    joblib.dump(model.fit(numbers[["size"]], numbers["price"]), place / "own.pkl")
    sys.modules.pop("my_steps")
    sys.path.remove(str(own_module))
    options = ("--data", "prices.csv", "--target", "price", "--name", "own_steps", "--trust")

    lacking = cli("init", "own.pkl", *options)
    assert lacking.code == 2
    assert "needs the module 'my_steps'" in lacking.err
    assert "--code FOLDER" in lacking.err
    assert cli("init", "own.pkl", *options, "--code", "mycode").code == 0
    assert cli("run", "own_steps.toml").code == 0

    registry = Registry(mlflow_url)
    champion = registry.version("own_steps", CHAMPION)
    assert champion is not None
    artifact = manifest.load(registry.download(champion, place / "champion"))
    assert (artifact.path / "code" / "my_steps.py").is_file()
    assert artifact.manifest.runtime == "python"
    assert "no ONNX form of Doubler" in artifact.manifest.runtime_reason
    assert "no ONNX form of Doubler" in cli("show", "own_steps").out
    assert runtime.load(artifact)(np.array([[2.0]]))[0, 0] == pytest.approx(6.0)
    check_reliance((artifact.path / manifest.CARD).read_text("utf-8"), ["size"])


def test_a_model_of_mlflow_is_taken_by_its_name_and_alias(
    cli: Callable[..., Said], place: Path, table: pd.DataFrame, mlflow_url: str
) -> None:
    """As its owner registered it, with the sklearn flavor."""
    mlflow.set_tracking_uri(mlflow_url)
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            pipeline(table),
            name="model",
            registered_model_name="owners_fruit",
            serialization_format="cloudpickle",
        )
    mlflow.MlflowClient(mlflow_url).set_registered_model_alias("owners_fruit", "live", "1")
    options = ("--data", "fruit.csv", "--target", "fruit", "--name", "from_registry")

    assert cli("init", "models:/owners_fruit@live", *options, "--trust").code == 0
    assert 'source = "models:/owners_fruit@live"' in (place / "from_registry.toml").read_text()
    assert cli("run", "from_registry.toml").code == 0
    absent = cli("init", "models:/owners_fruit@nobody", *options[:-1], "other_name", "--trust")
    assert absent.code in {2, 4}
    assert "nobody" in absent.err


def of_weight(table: pd.DataFrame, path: Path) -> None:
    renamed = table[["size"]].rename(columns={"size": "weight"})
    joblib.dump(LinearRegression().fit(renamed, table["size"]), path)


def of_apples(table: pd.DataFrame, path: Path) -> None:
    joblib.dump(DummyClassifier().fit(table[["size"]], ["plum", "apple"] * 100), path)


WRONG: dict[str, tuple[str, Callable[[pd.DataFrame, Path], object], str]] = {
    "no file": ("model.pkl", lambda _table, _path: None, "there is no such file"),
    "no model": (
        "model.pkl",
        lambda _table, path: path.write_bytes(pickle.dumps({"a": 1})),
        "a dict with a, expected a fitted model",
    ),
    "a transformer": (
        "model.pkl",
        lambda table, path: joblib.dump(StandardScaler().fit(table[["size"]]), path),
        "a StandardScaler, which has no method predict",
    ),
    "cut short": (
        "model.joblib",
        lambda table, path: (joblib.dump(pipeline(table), path), path.write_bytes(path.read_bytes()[:900])),
        "is cut short",
    ),
    "not a pickle": ("model.pkl", lambda _table, path: path.write_text("hello"), "is no pickle"),
    "another ending": ("model.docx", lambda _table, path: path.write_text("x"), ".docx is no kind of model"),
    "not skops": ("model.skops", lambda _table, path: path.write_text("x"), "is no skops file"),
    "a column that the table lacks": (
        "model.joblib",
        of_weight,
        "reads the columns 'weight', which fruit.csv does not have",
    ),
    "another number of columns": (
        "model.joblib",
        lambda table, path: joblib.dump(LogisticRegression().fit(np.ones((200, 3)), table["fruit"]), path),
        "an array of 3 columns without names, and fruit.csv has 2",
    ),
    "a class that it never saw": (
        "model.joblib",
        of_apples,
        "the class 'cherry' in 'fruit', which the model never saw; it knows 'apple', 'plum'",
    ),
    "a regression": (
        "model.joblib",
        lambda table, path: joblib.dump(LinearRegression().fit(table[["size"]], table["size"]), path),
        "fruit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_model_that_cannot_be_taken_is_one_sentence(
    what: str, cli: Callable[..., Said], place: Path, table: pd.DataFrame
) -> None:
    """Exit code 2 from `init` or `run`; no traceback, and no model registered."""
    file, make, said = WRONG[what]
    make(table, place / file)
    name = f"wrong_{list(WRONG).index(what)}"

    found = cli("init", file, "--data", "fruit.csv", "--target", "fruit", "--name", name, "--trust")
    if found.code == 0:
        found = cli("run", f"{name}.toml")

    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err


def test_skops_opens_its_own_types_without_a_word_and_others_when_trusted(
    cli: Callable[..., Said], place: Path, table: pd.DataFrame
) -> None:
    skops.io.dump(pipeline(table), place / "model.skops")

    assert (
        cli("init", "model.skops", "--data", "fruit.csv", "--target", "fruit", "--name", "of_skops").code == 0
    )
    assert "trust" not in (place / "of_skops.toml").read_text()
    assert cli("run", "of_skops.toml").code == 0
