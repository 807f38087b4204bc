"""Models that MLflow keeps: by path, run, version and alias, also those that only python_function opens."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from artifact import manifest, runtime
from artifact.encode import Encoder
from tests.kept import empty_registry
from tests.training.imported.champions import champion
from tests.training.imported.test_onnx_files import network
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Said

ROWS = pd.DataFrame({"size": [1.0, 2.5], "colour": ["red", "blue"], "count": [3, 4]})


class Plums(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A model of somebody's own: a number from a number, a word and a whole number."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:  # noqa: ARG002
        return model_input["size"] * 2 + (model_input["colour"] == "red") + model_input["count"]


class More(Plums):
    """The next version of it."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return super().predict(context, model_input, params) + 100


class Words(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """One that answers labels and lists them nowhere."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:  # noqa: ARG002
        return np.where(model_input["size"] > 2, "plum", "cherry")


@pytest.fixture
def tracked(mlflow_url: str) -> Iterator[str]:
    """A real MLflow server as the one that MLflow's own functions speak to."""
    mlflow.set_tracking_uri(mlflow_url)
    yield mlflow_url
    mlflow.set_tracking_uri(None)


def logged(name: str, model: Any = None) -> Any:
    """A python_function in the registry."""
    with mlflow.start_run():
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=model or Plums(),
            signature=infer_signature(ROWS, np.array([1.0])),
            input_example=ROWS[:1],
            registered_model_name=name,
            pip_requirements=["mlflow", "pandas"],
        )


def test_a_python_function_is_opened_with_trust_and_answers_as_mlflow_does(
    cli: Callable[..., Said], place: Path, tracked: str
) -> None:
    """By alias, version, run and path; the columns and their types are those of its signature."""
    info = logged("plums_of_others")
    client = mlflow.MlflowClient(tracked)
    client.set_registered_model_alias("plums_of_others", "live", "1")
    downloaded = mlflow.artifacts.download_artifacts("models:/plums_of_others/1", dst_path=str(place / "m"))
    own = mlflow.pyfunc.load_model(downloaded)

    for number, source in enumerate(
        ("models:/plums_of_others@live", "models:/plums_of_others/1", info.model_uri, downloaded)
    ):
        name = f"plums_{number}"
        refused = cli("init", source, "--name", name)
        assert refused.code == 2
        assert "is a python_function of MLflow, and opening it runs its code" in refused.err
        made = cli("init", source, "--name", name, "--trust")
        assert made.code == 0, made.err
    ran = cli("run", "plums_0.toml")

    assert ran.code == 0, ran.err
    artifact = champion("plums_0", tracked, place / "champion")
    assert artifact.signature.task == "regression"
    assert [column.kind for column in artifact.signature.columns] == ["number", "category", "number"]
    record = {"size": 7.25, "colour": "red", "count": 2}
    found = runtime.load(artifact)(Encoder(artifact.signature).records([record]))
    np.testing.assert_array_equal(found[:, 0], own.predict(pd.DataFrame([record])))
    assert found[0, 0] == 17.5
    runtime.load(manifest.load(artifact.path))  # opening it has written nothing into the artifact


@pytest.mark.usefixtures("place")
def test_labels_that_a_function_does_not_list_are_those_of_the_table(
    cli: Callable[..., Said], tracked: str
) -> None:
    """With a table they are seen in its answers; without one a sentence says what is missing."""
    logged("words_of_others", Words())
    random = np.random.default_rng(2)
    table = pd.DataFrame({"size": random.normal(2, 1, 80), "colour": "red", "count": 1})
    table["colour"] = np.where(np.arange(80) % 2, "red", "blue")
    table["count"] = np.arange(80)
    table["fruit"] = np.where(table["size"] > 2, "plum", "cherry")
    table.to_csv("fruit.csv", index=False)

    alone = cli("init", "models:/words_of_others/1", "--name", "words_alone", "--trust")
    assert alone.code == 2
    assert "answers labels such as" in alone.err
    options = ("--data", "fruit.csv", "--target", "fruit", "--name", "words_measured", "--trust")
    assert cli("init", "models:/words_of_others/1", *options).code == 0
    ran = cli("run", "words_measured.toml")

    assert ran.code == 0, ran.err
    found = Registry(tracked).version("words_measured", CHAMPION)
    assert found is not None
    assert float(found.tags["test_accuracy"]) == 1.0


def test_a_graph_that_mlflow_keeps_is_opened_by_its_own_flavor(
    cli: Callable[..., Said], place: Path, tracked: str
) -> None:
    """Without trust, weights in a file of their own included."""
    with mlflow.start_run():
        mlflow.onnx.log_model(
            network(last="Softmax", outputs=3), name="model", registered_model_name="graphs"
        )

    made = cli("init", "models:/graphs/1", "--name", "graph_of_others")

    assert made.code == 0, made.err
    assert cli("run", "graph_of_others.toml").code == 0
    artifact = champion("graph_of_others", tracked, place / "champion")
    assert artifact.signature.classes == (0, 1, 2)


@pytest.mark.usefixtures("place", "tracked")
@pytest.mark.parametrize("local", [False, True], ids=["a server", "a local database"])
def test_what_is_not_there_is_one_true_sentence(
    local: bool, cli: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An absent name, version, alias or run, and files that are gone; nobody is told to start a server."""
    if local:
        uri = empty_registry(tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
    name = f"gone_{'here' if local else 'there'}"
    info = logged(name)
    run = "0123456789abcdef0123456789abcdef"
    for source, said in (
        ("models:/nobody/1", "There is no registered model 'nobody'"),
        (f"models:/{name}/7", f"The model '{name}' has no version '7'; it has 1."),
        (f"models:/{name}@nobody", f"The model '{name}' has no alias 'nobody'; it has none."),
        (f"models:/{name}", f"models:/{name} names no version"),
        (f"runs:/{run}/model", f"There is no run '{run}'."),
        ("models:/a/b/c", "names no model: expected models:/NAME/VERSION"),
    ):
        found = cli("init", source, "--name", "absent", "--trust")
        assert found.code == 4, found.err
        assert said in found.err
        assert found.err.count("\n") == 1
        assert "Start that server" not in found.err
    place = mlflow.MlflowClient().get_logged_model(info.model_id).artifact_location
    get_artifact_repository(place).delete_artifacts()

    gone = cli("init", f"models:/{name}/1", "--name", "absent", "--trust")

    assert gone.code == 4, gone.err
    assert f"The files of models:/{name}/1 are no longer in the registry's store" in gone.err


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize(("pin", "code"), [("numpy==1.21.6", 0), ("scikit-learn==0.24.2", 2)])
def test_another_version_of_a_library_is_said(
    pin: str, code: int, cli: Callable[..., Said], place: Path
) -> None:
    """Where the folder pins it; what computes the answers has to be the same, as no table measures them."""
    logged("pinned_of_others")
    folder = mlflow.artifacts.download_artifacts("models:/pinned_of_others/1", dst_path=str(place / "m"))
    shutil.copytree(folder, place / "pinned")
    (place / "pinned" / "requirements.txt").write_text(f"mlflow\n{pin}\n")

    made = cli("init", "pinned", "--name", "pinned_one", "--trust")

    assert made.code == code, made.err
    assert f"was made with {pin.replace('==', ' ')}, and this is" in made.err


@pytest.mark.parametrize("moving", ["@live", "/latest"])
def test_a_name_that_has_moved_brings_the_new_version(
    moving: str, cli: Callable[..., Said], place: Path, tracked: str
) -> None:
    """`ensure` measures the version that an alias names now, and repeats nothing where it has not moved."""
    name = "moving_plums" + moving.strip("@/")
    logged(name)
    client = mlflow.MlflowClient(tracked)
    client.set_registered_model_alias(name, "live", "1")
    assert cli("init", f"models:/{name}{moving}", "--name", name + "_served", "--trust").code == 0
    assert cli("ensure", f"{name}_served.toml").code == 0
    assert "nothing to train" in cli("ensure", f"{name}_served.toml").out

    logged(name, More())
    client.set_registered_model_alias(name, "live", "2")
    moved = cli("ensure", f"{name}_served.toml")

    assert moved.code == 0, moved.err
    assert "nothing to train" not in moved.out
    artifact = champion(name + "_served", tracked, place / "champion")
    record = {"size": 7.25, "colour": "red", "count": 2}
    assert runtime.load(artifact)(Encoder(artifact.signature).records([record]))[0, 0] == 117.5
    assert f"models:/{name}/2" in cli("card", name + "_served").out
    assert "nothing to train" in cli("ensure", f"{name}_served.toml").out
