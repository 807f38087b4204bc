"""A registered model is opened in a program by its address in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest
from sklearn.linear_model import LinearRegression

from artifact import load, manifest
from artifact.manifest import ArtifactError
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Callable


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
