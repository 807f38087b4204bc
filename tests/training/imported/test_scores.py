"""Models that answer named numbers (targets, outliers, clusters), served without a table by every route."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from serving.http.gateway import Gateway
from serving.scoring import catalog
from serving.settings import Settings
from tests.serving.conftest import ask, elsewhere
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Said


def beside(*parts: Any) -> Any:
    return np.column_stack([np.asarray(part, float) for part in parts])


OUTLIERS = ("label", "score_samples", "decision_function")


def of_outliers(model: Any, rows: Any) -> Any:
    return beside(model.predict(rows), model.score_samples(rows), model.decision_function(rows))


MODELS: dict[str, tuple[Any, str, tuple[str, ...], Callable[[Any, Any], Any]]] = {
    "forest": (IsolationForest(n_estimators=20, random_state=0), "", OUTLIERS, of_outliers),
    "local": (LocalOutlierFactor(novelty=True), "", OUTLIERS, of_outliers),
    "border": (make_pipeline(StandardScaler(), OneClassSVM()), "", OUTLIERS, of_outliers),
    "means": (
        make_pipeline(StandardScaler(), KMeans(3, random_state=0)),
        "",
        ("cluster", "distance_0", "distance_1", "distance_2"),
        lambda model, rows: beside(model.predict(rows), model.transform(rows)),
    ),
    "mixture": (
        GaussianMixture(2, random_state=0),
        "",
        ("cluster", "probability_0", "probability_1", "score_samples"),
        lambda model, rows: beside(model.predict(rows), model.predict_proba(rows), model.score_samples(rows)),
    ),
    "targets": (
        LinearRegression(),
        "height, weight",
        ("height", "weight"),
        lambda model, rows: model.predict(rows),
    ),
    "unnamed": (
        LinearRegression(),
        "y",
        ("y_0", "y_1"),
        lambda model, rows: model.predict(rows),
    ),
}  # fmt: skip


def rows() -> Any:
    return np.random.default_rng(4).normal(2, 3, (200, 3))


def sent(gateway: Gateway, path: str, body: Any) -> Any:
    return asyncio.run(ask(gateway, "POST", path, json.dumps(body).encode()))


@pytest.mark.deep
@pytest.mark.parametrize("name", MODELS)
def test_named_numbers_are_served_as_the_model_gives_them(
    name: str, cli: Callable[..., Said], tmp_path: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By two commands and each protocol; options of classes are refused in a sentence."""
    monkeypatch.chdir(tmp_path)
    model, target, names, expected = MODELS[name]
    x = rows()
    model.fit(x, x @ np.array([[1, 2], [0, 1], [3, 0.5]])) if target else model.fit(x)
    joblib.dump(model, tmp_path / "model.pkl")
    use_case = f"scores_{name}"
    more = ("--target", target) if target else ()
    begun = cli("init", "model.pkl", "--name", use_case, "--trust", *more)
    assert begun.code == 0, begun.err
    ran = cli("run", f"{use_case}.toml")
    assert ran.code == 0, ran.err
    registry = Registry(mlflow_url)
    version = registry.version(use_case, CHAMPION)
    assert version is not None
    artifact = registry.download(version, tmp_path / "champion")
    models = catalog.load([(use_case, use_case)], lambda _: (artifact, {"version": "1"}), Settings())
    assert models.refused == {}
    gateway = Gateway(elsewhere, models, Settings())
    try:
        _check(gateway, use_case, names, x[:5].tolist(), expected(model, x[:5]))
    finally:
        models.close()


def _check(gateway: Gateway, name: str, names: tuple[str, ...], lines: Any, expected: Any) -> None:
    wanted = [dict(zip(names, row, strict=True)) for row in expected.tolist()]
    for predicted in (
        sent(gateway, "/predict", {"features": lines}).json()["prediction"],
        sent(gateway, "/invocations", {"instances": lines}).json()["predictions"],
        sent(gateway, "/score", {"rows": lines}).json(),
        [sent(gateway, "/predict", {"features": [line]}).json()["prediction"][0] for line in lines],
    ):
        assert [list(row) for row in predicted] == [list(names)] * len(lines)
        for found, right in zip(predicted, wanted, strict=True):
            assert found == pytest.approx(right, abs=1e-9)
    for some in (lines, lines[:1]):
        tensor = {"name": "features", "shape": [len(some), 3], "datatype": "FP64", "data": some}
        (output,) = sent(gateway, f"/v2/models/{name}/infer", {"inputs": [tensor]}).json()["outputs"]
        assert (output["name"], output["shape"]) == ("scores", [len(some), len(names)])
        np.testing.assert_allclose(output["data"], expected[: len(some)].ravel(), rtol=0, atol=1e-9)
    about = asyncio.run(ask(gateway, "GET", f"/v2/models/{name}")).json()["outputs"]
    assert json.loads(about[0]["parameters"]["names"]) == list(names)
    page = asyncio.run(ask(gateway, "GET", f"/models/{name}")).json()
    assert page["task"] == "scores"
    assert page["signature"]["numbers"] == list(names)
    document = asyncio.run(ask(gateway, "GET", "/openapi.json")).json()
    reply = document["components"]["schemas"][f"{name}_reply"]["properties"]["prediction"]
    assert reply["items"]["required"] == list(names)
    for option in ({"probabilities": True}, {"threshold": 0.5}):
        refused = sent(gateway, "/predict", {"features": lines} | option)
        assert refused.status == 422
        assert name in refused.json()["detail"]
