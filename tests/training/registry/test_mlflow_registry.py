"""What stands in MLflow afterwards, as a user of MLflow finds it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
import pytest
from servers import CHECKOUT, PATIENCE_S, free_port, mlflow_models_serve
from sklearn.linear_model import LogisticRegression

from artifact import manifest
from tests.kept import empty_registry
from training.registry import place
from training.registry.mlflow_registry import Registry, read_alias
from training.registry.records import CHAMPION, SOURCE, DataInput, RegistryError, TrialRun, Version

if TYPE_CHECKING:
    from servers import Server

Make = Callable[..., manifest.Artifact]


def registered(registry: Registry, make: Make, name: str, **options: float) -> Version:
    begun = {"okamochi.use_case": name, "mlflow.source.name": f"{SOURCE} run {name}"}
    run = registry.start(name, f"{name} run", begun)
    artifact = make(name, run_id=run, **options)
    return registry.register(
        artifact,
        run,
        tags={"algorithm": "logistic regression", "data": "abc"},
        metrics={"test_roc_auc": 0.9},
        description="# Plums\n\nTold by weight.",
        about="Which fruit it is",
    )


def test_a_training_reads_as_a_story(mlflow_url: str) -> None:
    """The parent run has the data, the figures and the card; each trial is a named run inside it."""
    registry = Registry(mlflow_url)
    run = registry.start("story", "story · in work", {})
    trial = TrialRun(
        title="random forest #7",
        params={"algorithm": "random forest", "max_depth": 3},
        metric="roc_auc",
        fold_scores=[0.8, 0.9],
        score=0.85,
        status="FINISHED",
        started=time.time() - 2,
        seconds=1.5,
    )
    registry.trial("story", run, trial)
    registry.trial("story", run, TrialRun("k-NN #8", {}, "roc_auc", [0.5], None, "KILLED", time.time(), 0.1))
    registry.describe(
        run,
        title="story · 2026-11-21 10:52 · random forest 0.9",
        params={"algorithm": "random forest"},
        metrics={"test_roc_auc": 0.9},
        folds={"fold_roc_auc": [0.8, 0.9]},
        tags={"gate": "accepted"},
        note="# The card",
        card="# The card",
        data=DataInput("story", "d" * 64, "data.csv", 10, {"a": "double"}, "y"),
    )
    registry.finish(run)

    client = mlflow.MlflowClient(mlflow_url)
    parent = client.get_run(run)
    assert client.get_experiment(parent.info.experiment_id).name == "okamochi/story"
    assert parent.info.run_name == "story · 2026-11-21 10:52 · random forest 0.9"
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.note.content"] == "# The card"
    assert parent.inputs.dataset_inputs[0].dataset.name == "story"
    found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run}'")
    by_name = {each.info.run_name: each for each in found}
    assert by_name["k-NN #8"].info.status == "KILLED"
    forest = by_name["random forest #7"]
    assert forest.data.metrics == {"fold_roc_auc": 0.9, "cv_roc_auc": 0.85}
    assert [m.value for m in client.get_metric_history(forest.info.run_id, "fold_roc_auc")] == [0.8, 0.9]
    assert forest.info.end_time - forest.info.start_time == pytest.approx(1500, abs=2)


def test_the_registered_model_scores_raw_rows(
    mlflow_url: str, make_artifact: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`models:/NAME@champion` gives the data's own labels for rows as they come, or probabilities."""
    registry = Registry(mlflow_url)
    version = registered(registry, make_artifact, "raw_rows")
    registry.set_alias("raw_rows", CHAMPION, version)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    model = mlflow.pyfunc.load_model("models:/raw_rows@champion")
    rows = pd.DataFrame({"weight": [1, 5], "colour": ["red", None], "farm": ["x", "y"]})
    assert list(model.predict(rows)) == ["plum", "apple"]
    shares = model.predict(rows, params={"probabilities": True})
    assert list(shares.columns) == ["apple", "plum"]
    assert shares.sum(axis=1).tolist() == pytest.approx([1, 1])
    near = pd.DataFrame({"weight": [3.0], "colour": ["red"]})
    plum = model.predict(near, params={"probabilities": True})["plum"][0]
    for threshold, label in ((plum - 1e-9, "plum"), (plum + 1e-9, "apple"), (0, "plum"), (1, "apple")):
        assert model.predict(near, params={"threshold": threshold}).tolist() == [label]
    assert model.predict(near, params={"threshold": None}).tolist() == model.predict(near).tolist()
    for threshold in (1.5, -1, float("nan")):
        with pytest.raises(mlflow.exceptions.MlflowException, match="expected 0 to 1"):
            model.predict(rows, params={"threshold": threshold})
    with pytest.raises(mlflow.exceptions.MlflowException, match="row 0, column 'weight'"):
        model.predict(pd.DataFrame({"weight": ["heavy"], "colour": ["red"]}))
    assert model.metadata.get_input_schema().input_names() == ["weight", "colour"]

    client = mlflow.MlflowClient(mlflow_url)
    stored = client.get_model_version_by_alias("raw_rows", "champion")
    assert stored.version == version.number
    assert stored.tags["algorithm"] == "logistic regression"
    assert stored.description.startswith("# Plums")
    assert client.get_registered_model("raw_rows").description == "Which fruit it is"


def test_mlflow_models_serve_scores_raw_rows(mlflow_url: str, make_artifact: Make, tmp_path: Path) -> None:
    """MLflow's own server takes raw rows, and says 400 and the place for one that the signature refuses."""
    registry = Registry(mlflow_url)
    registry.set_alias("served_raw", CHAMPION, registered(registry, make_artifact, "served_raw"))
    with mlflow_models_serve("models:/served_raw@champion", mlflow_url, tmp_path) as server:

        def ask(records: list[dict[str, object]]) -> object:
            body = json.dumps({"dataframe_records": records}).encode()
            request = urllib.request.Request(
                f"{server.url}/invocations", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
                return json.load(reply)

        assert ask([{"weight": 1, "colour": "blue"}, {"weight": 5, "colour": None}]) == {
            "predictions": ["plum", "apple"]
        }
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask([{"weight": "heavy", "colour": "blue"}])
        assert refused.value.code == 400


def test_the_artifact_comes_back_whole(mlflow_url: str, make_artifact: Make, tmp_path: Path) -> None:
    """A version alone holds every file of the artifact, with the digests that training wrote."""
    registry = Registry(mlflow_url)
    version = registered(registry, make_artifact, "whole")
    found = manifest.load(registry.download(version, tmp_path / "got"), name="whole")
    assert found.manifest.run_id == version.run_id
    assert registry.version_of_run("whole", version.run_id) == registry.numbered("whole", version.number)


@pytest.mark.deep
def test_several_may_open_a_new_registry_at_once(tmp_path: Path) -> None:
    """The first trainings of two use cases, started together, do not both make the tables."""
    script = f"from training.registry.mlflow_registry import Registry; Registry('sqlite:///{tmp_path}/mlflow.db').names()"
    command = [sys.executable, "-c", script]
    started = [subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE) for _ in range(3)]
    for process in started:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()


def test_the_experiment_that_mlflow_makes_tells_what_it_is_for(tmp_path: Path) -> None:
    """In the checkout's own database nothing is called "Default"; a notebook's runs still land there."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    Registry(uri).start("plums", "plums · in work", {})
    client = mlflow.MlflowClient(uri)
    assert {each.name for each in client.search_experiments()} == {"okamochi/plums", "other runs"}
    assert "name no experiment" in client.get_experiment("0").tags["mlflow.note.content"]

    client.rename_experiment("0", "Default")  # as a user may, who wants it back
    Registry(uri).start("pears", "pears · in work", {})
    assert client.get_experiment("0").name == "Default"
    notebook = "import mlflow; mlflow.start_run(); mlflow.log_metric('a', 1)"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    subprocess.run([sys.executable, "-c", notebook], env=environment, check=True, cwd=tmp_path)
    assert len(client.search_runs(["0"])) == 1


def test_what_is_not_there_is_none(mlflow_url: str) -> None:
    """An unknown name or alias is no error."""
    registry = Registry(mlflow_url)
    assert registry.version("nobody", CHAMPION) is None
    assert registry.numbered("nobody", "1") is None
    assert registry.versions("nobody") == []
    assert not registry.has_run("0" * 32)


def owners_pickle(name: str, experiment: str) -> None:
    """A pipeline, as `mlflow.sklearn.log_model` registers it."""
    with mlflow.start_run(experiment_id=experiment):
        mlflow.sklearn.log_model(LogisticRegression().fit([[0], [1]], [0, 1]), registered_model_name=name)


def owners_pyfunc(name: str, experiment: str) -> None:
    """A pyfunc with files of its own under the name of our folder."""

    class Answer(mlflow.pyfunc.PythonModel):  # type: ignore[misc] # untyped
        def predict(self, model_input: list[str]) -> list[str]:
            return model_input

    with TemporaryDirectory() as folder:
        (Path(folder) / "okamochi").mkdir()
        (Path(folder) / "okamochi" / "notes.txt").write_text("not ours")
        files = {"okamochi": f"{folder}/okamochi"}
        with mlflow.start_run(experiment_id=experiment):
            mlflow.pyfunc.log_model(
                name="m", python_model=Answer(), artifacts=files, registered_model_name=name
            )


def owners_run_without_a_model(name: str, experiment: str) -> None:
    """A run that logged a text file, registered as a model."""
    client = mlflow.MlflowClient()
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_text("no model", "model/notes.txt")
    client.create_registered_model(name)
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)


def owners_empty_run(name: str, experiment: str) -> None:
    """A run that logged nothing, registered as a model."""
    client = mlflow.MlflowClient()
    with mlflow.start_run(experiment_id=experiment) as run:
        pass
    client.create_registered_model(name)
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)


@pytest.mark.parametrize("behind", ["a server", "a file"])
@pytest.mark.parametrize(
    ("register", "has"),
    [
        (owners_pickle, "its MLmodel names python_function, sklearn"),
        (owners_pyfunc, "its MLmodel names python_function"),
        (owners_run_without_a_model, "it has no MLmodel"),
        (owners_empty_run, "it has no MLmodel"),
    ],
)
def test_a_model_of_another_maker_is_called_that(
    mlflow_url: str, tmp_path: Path, register: Callable[[str, str], None], has: str, behind: str
) -> None:
    """It is not called lost: the sentence says that Okamochi did not make it, what it is, what to type."""
    registry = Registry(mlflow_url if behind == "a server" else empty_registry(tmp_path))
    name = f"theirs_{register.__name__}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registry.uri)
    try:
        register(name, owners_experiment(registry.uri, tmp_path))
    finally:
        mlflow.set_tracking_uri(before)
    version = registry.numbered(name, "1")
    assert version is not None

    with pytest.raises(manifest.ArtifactError) as said:
        registry.download(version, tmp_path / "got")

    assert f"models:/{name}/1 is not a model that Okamochi made ({has})" in str(said.value)
    assert f"training run {name}" in str(said.value)
    assert f"promote --force {name}" in str(said.value)
    assert (f"training init models:/{name}/1 --name NAME" in str(said.value)) == ("no MLmodel" not in has)


def owners_experiment(uri: str, tmp_path: Path) -> str:
    """An experiment of the owner's, whose files a test may leave behind."""
    location = (tmp_path / "theirs").as_uri() if uri.startswith("sqlite") else None
    return str(mlflow.MlflowClient(uri).create_experiment(f"theirs {time.monotonic_ns()}", location))


@pytest.mark.parametrize("behind", ["a server", "a file"])
def test_lost_files_of_ours_are_called_lost(
    mlflow_url: str, mlflow_folder: Path, make_artifact: Make, tmp_path: Path, behind: str
) -> None:
    """Whether some are gone or all, it is not said that another made them."""
    served = behind == "a server"
    registry = Registry(mlflow_url if served else empty_registry(tmp_path))
    version = registered(registry, make_artifact, "lost_files")
    (folder,) = (
        found.parent
        for found in (mlflow_folder if served else tmp_path / "mlruns").rglob("manifest.json")
        if manifest.load(found.parent).manifest.name == "lost_files"
    )
    for gone in (folder / "manifest.json", folder, folder.parent.parent):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        with pytest.raises(manifest.ArtifactError, match="no longer in the registry"):
            registry.download(version, tmp_path / "got")


def test_a_glimpse_is_what_mlflow_says(
    make_artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick look at the SQLite default agrees with MLflow, and finds nothing where nothing is."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert read_alias("glimpse", CHAMPION) is None
    registry = Registry()
    version = registered(registry, make_artifact, "glimpse")
    assert read_alias("glimpse", CHAMPION) is None
    registry.set_alias("glimpse", CHAMPION, version)
    assert read_alias("glimpse", CHAMPION) == registry.version("glimpse", CHAMPION)


def test_a_moved_checkout_finds_its_models(
    make_artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default registry works after its folder was moved, although MLflow's tables hold absolute paths."""
    old, new = tmp_path / "old_%", tmp_path / "new"
    old.mkdir()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(old))
    registry = Registry()
    registry.set_alias("moved", CHAMPION, registered(registry, make_artifact, "moved"))
    shutil.move(old, new)
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(new))
    again = Registry()
    champion = again.version("moved", CHAMPION)
    assert champion is not None
    assert manifest.load(again.download(champion, tmp_path / "got")).manifest.name == "moved"
    assert again.start("moved", "next", {})
    assert not old.exists()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{port}", "sqlite:////dev/null/mlflow.db"])
def test_an_unreachable_registry_is_one_sentence(uri: str) -> None:
    """Nobody there: the error names where it looked and what to do, without a stack of causes."""
    place = uri.format(port=free_port())
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_URI") as error:
        Registry(place)
    assert place in str(error.value)
    assert "\n" not in str(error.value)


def test_a_hanging_registry_is_given_up(own_mlflow: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes connections and never answers is an error too."""
    registry = Registry(own_mlflow.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    own_mlflow.freeze()
    with pytest.raises(RegistryError, match="timed out"):
        registry.version("any", CHAMPION)
    own_mlflow.thaw()
    own_mlflow.kill()
    with pytest.raises(RegistryError, match="refused"):
        registry.version("any", CHAMPION)


def test_a_password_is_not_shown() -> None:
    """A URI in a message keeps its password to itself."""
    assert place.shown_uri("postgresql://me:secret@db/x") == "postgresql://me:***@db/x"


@pytest.mark.parametrize(
    ("scheme", "package"), [("s3", "boto3"), ("gs", "google-cloud-storage"), ("wasbs", "azure-storage-blob")]
)
def test_a_store_without_its_client_is_said_before_training(
    tmp_path: Path, scheme: str, package: str
) -> None:
    """The run that was begun is ended, and the sentence names what to install."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    registry = Registry(uri)
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("okamochi/far", artifact_location=f"{scheme}://bucket/files")

    with pytest.raises(RegistryError, match=rf"no client for {scheme}: pip install {package}"):
        registry.start("far", "a run", {})

    (run,) = client.search_runs([experiment])
    assert run.info.status == "FAILED"


def test_a_server_that_asks_for_credentials_is_answered_with_the_variables() -> None:
    """As MLflow behind a proxy with basic authentication."""

    class Asks(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(RegistryError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
            Registry(f"http://127.0.0.1:{server.server_port}").start("far", "a run", {})
    finally:
        server.shutdown()
        server.server_close()
