"""A registered model is opened in a program by its address in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest
from sklearn.linear_model import LinearRegression

from artifact import load, manifest, signing
from artifact.manifest import ArtifactError
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION, SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_program_opens_the_champion_by_its_address(
    mlflow_url: str, make_artifact: Callable[..., manifest.Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(mlflow_url)
    run = registry.start("opened", "opened", {})
    version = registry.register(
        make_artifact("opened", run_id=run), run, tags={}, metrics={}, description="", about=""
    )
    registry.set_alias("opened", CHAMPION, version)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    mlflow.set_tracking_uri(mlflow_url)
    for address in ("models:/opened@champion", "models:/opened/1"):
        model = load(address)
        assert list(model.predict([{"weight": 1.0, "colour": "red"}, {"weight": 5.0}])) == ["plum", "apple"]
    for absent in (
        "models:/opened@shadow",
        "models:/absent/1",
        "runs:/0123456789abcdef0123456789abcdef/model",
    ):
        with pytest.raises(ArtifactError, match="MLflow does not give "):
            load(absent)


def test_with_trusted_keys_the_version_that_an_address_names_must_be_signed(
    mlflow_url: str,
    make_artifact: Callable[..., manifest.Artifact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry(mlflow_url)
    run = registry.start("signed", "signed", {})
    made = make_artifact("signed", run_id=run)
    version = registry.register(made, run, tags={}, metrics={}, description="", about="")
    registry.set_alias("signed", CHAMPION, version)
    (tmp_path / "trusted").write_text(signing.make_key(tmp_path / "private", "release"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    mlflow.set_tracking_uri(mlflow_url)
    monkeypatch.setenv("OKAMOCHI_SIGNING_KEY", str(tmp_path / "private"))
    monkeypatch.setenv("OKAMOCHI_TRUSTED_KEYS", str(tmp_path / "trusted"))
    for number, said in (("2", "it says version 2 of signed"), ("1", "")):
        for address in ("models:/signed@champion", "models:/signed/1"):
            if number == "2" and address.endswith("champion"):
                with pytest.raises(ArtifactError, match="version 1 of signed is not signed"):
                    load(address)
                signature = signing.sign(made.path, name="signed", version=number)
                registry.tag(version, {SIGNATURE: signature})
            if said:
                with pytest.raises(ArtifactError, match=said):
                    load(address)
            else:
                assert load(address).name == "signed"
        registry.tag(version, {SIGNATURE: signing.sign(made.path, name="signed", version="1")})
    with pytest.raises(ArtifactError, match="only signed ones are opened: name one as models:/NAME/VERSION"):
        load(f"runs:/{run}/model")


def test_a_model_of_somebody_else_is_told_so(mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    mlflow.set_tracking_uri(mlflow_url)
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0]), name="theirs", registered_model_name="theirs"
        )
    assert logged.model_id
    with pytest.raises(ArtifactError, match="is no model that Okamochi registered"):
        load("models:/theirs/1")
