"""Once with all real parts: callers, a server, a shadow, their feedback, MLflow, and the follower's rule."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artifact.encode import Encoder
from tests.bento_server import bento_server, environment, prepare
from tests.deploy.registered import crown, version_of
from tests.servers import CHECKOUT, PATIENCE_S, mlflow_server
from tests.serving import artifacts
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION, SHADOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.serving.artifacts import Made

pytestmark = pytest.mark.deep

ROWS = 400
TOML = """target = "species"
[source]
kind = "bundled"
name = "iris"
[live]
promote_shadow = true
metric = "accuracy"
"""


def iris(folder: Path, *, columns: int) -> Made:
    """A model of the first `columns` columns; with one it is right on two thirds of the rows."""
    data = load_iris()
    signature = artifacts.iris_signature(data.data)
    rows: list[list[Any]] = data.data.tolist()
    matrix = np.array(Encoder(signature).rows(rows), float)
    if columns < 4:  # its coefficients of the others are near 0
        matrix[:, columns:] = np.random.default_rng(0).permutation(matrix[:, columns:])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(matrix, data.target)
    return artifacts.seal(folder, "iris", model, signature, rows)


def until(found: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def asked(client: httpx.Client) -> list[tuple[str, str]]:
    """Ids of the answers to rows that all differ, each with the true label."""
    data = load_iris()
    random = np.random.default_rng(1)
    found = []
    for i in random.integers(0, 150, ROWS):
        row = (data.data[i] + random.normal(0, 0.02, 4)).round(5).tolist()
        reply = client.post("/predict", json={"features": [row]}).json()
        assert reply["version"] == "1"
        found.append((reply["id"], str(data.target_names[data.target[i]])))
        time.sleep(0.002)  # the shadow has time
    return found


def test_a_shadow_that_proves_better_by_feedback_goes_live_by_itself(tmp_path: Path) -> None:
    made = [iris(tmp_path / "worse", columns=1), iris(tmp_path / "better", columns=4)]
    work, log = tmp_path / "work", tmp_path / "log"
    (tmp_path / "iris.toml").write_text(TOML)
    with mlflow_server(tmp_path / "mlflow") as mlflow:
        registry = Registry(mlflow.url)
        for each in made:
            crown(registry, each, "iris")
        registry.set_alias("iris", CHAMPION, version_of(registry, "1"))
        registry.set_alias("iris", SHADOW, version_of(registry, "2"))
        prepare(work, {"iris": (made[0].path, "1")})
        variables = {**os.environ, **environment(work), "MLFLOW_TRACKING_URI": mlflow.url}
        variables |= {"OKAMOCHI_PREDICTION_LOG": str(log), "OKAMOCHI_STATE_DIR": str(tmp_path / "state")}

        def run(package: str, *arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", package, *arguments],
                cwd=CHECKOUT,
                env=variables | {"PYTHONPATH": str(CHECKOUT)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        follow = ("follow", str(tmp_path / "iris.toml"), "--once", "--lock", str(work / "models.lock"))
        settings = {"OKAMOCHI_PREDICTION_LOG": str(log), "OKAMOCHI_WATCH_S": "0.5"}
        settings["OKAMOCHI_PREDICTION_LOG_ROWS_PER_S"] = "100000"  # every row, however quick the machine
        with (
            bento_server(work, settings=settings) as server,
            httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client,
        ):
            run("deploy", *follow)
            until(lambda: client.get("/models/iris").json()["beside"], "the shadow does not come")
            told = asked(client)

            def scored() -> float:
                text = client.get("/metrics").text
                found = re.search(r"^okamochi_shadow_rows_total\{[^}]*\} (\S+)", text, re.MULTILINE)
                return float(found[1]) if found else 0.0

            until(lambda: scored() >= ROWS // 2, "the shadow has scored too few rows")
            assert "version 1" not in run("deploy", *follow)  # no outcome is known, so nothing changes
            assert client.get("/models/iris").json()["version"] == "1"
            feedback = [{"id": id_, "actual": actual} for id_, actual in told]
            until(lambda: client.post("/feedback", json=feedback).status_code == 200, "a row is not stored")

            said = run("deploy", *follow)
            assert "version 2 is champion by a rule of [live]" in said, said
            until(lambda: client.get("/models/iris").json()["version"] == "2", "it does not go live")
            answer = client.post("/predict", json={"features": [[5.1, 3.5, 1.4, 0.2]]}).json()
            assert (answer["prediction"], answer["version"]) == (["setosa"], "2")
        history = json.loads(run("training", "timeline", "iris", "--json"))
        assert "The shadow is better than the champion" in json.dumps(history)
        champion = registry.version("iris", CHAMPION)
        assert champion is not None
        assert champion.number == "2"
