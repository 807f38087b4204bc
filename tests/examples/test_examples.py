"""Each example answers, as a program that a person has copied."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import httpx
import joblib
import numpy as np
import pandas as pd
import pytest

from tests.servers import CHECKOUT, PATIENCE_S, free_port, started
from tests.serving.artifacts import Made, iris

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.deep

ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
EXAMPLES = CHECKOUT / "examples"


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return iris(tmp_path_factory.mktemp("iris") / "iris")


@contextmanager
def serving(flowers: Made, *command: str, cwd: Path = CHECKOUT) -> Iterator[httpx.Client]:
    """Run an example with Python until the block ends; PORT in the command becomes a free port."""
    port = free_port()
    with (
        started(
            [sys.executable, *(part.replace("PORT", str(port)) for part in command)],
            url=f"http://127.0.0.1:{port}",
            ready="/",
            log=flowers.path.with_suffix(".log"),
            cwd=cwd,
            environment={"MODEL": str(flowers.path), "PYTHONPATH": str(CHECKOUT)},
        ) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def estimator(flowers: Made) -> Any:
    """The model as a tutorial has it in its pickle: it predicts the names."""
    found = deepcopy(flowers.estimator)
    found[-1].classes_ = np.array(flowers.signature.classes)
    return found


def before(example: Path, folder: Path) -> Path:
    """The program as the tutorial has it: the lines with `was` as they were."""
    folder.mkdir(parents=True)
    text, changed = re.subn(r"(?m)^.*  # was: (.*)$", r"\1", example.read_text())
    assert changed == 2, "an import, and the line that loads the model"
    (folder / "app.py").write_text(text)
    return folder / "app.py"


@pytest.mark.parametrize("whose", ["the tutorial's", "ours"])
def test_the_tutorial_in_flask_is_unchanged_but_for_the_lines_that_load_the_model(
    flowers: Made, estimator: Any, tmp_path: Path, whose: str
) -> None:
    app = EXAMPLES / "flask" / "app.py"
    if whose != "ours":
        app = before(app, tmp_path / "before")
        (app.parent / "model.pkl").write_bytes(pickle.dumps(estimator))
    with serving(
        flowers, "-m", "flask", "--app", str(app), "run", "--port", "PORT", cwd=app.parent
    ) as client:
        form = client.get("/").text
        assert all(f'name="{name}"' in form for name in ROW)
        assert "The prediction is setosa" in client.post("/predict", data=ROW).text
        assert client.post("/results", json=ROW).json() == "setosa"
        rows = [dict(zip(ROW, row, strict=True)) for row in flowers.rows[:20]]
        assert [client.post("/results", json=row).json() for row in rows] == flowers.labels(flowers.rows[:20])


@pytest.mark.parametrize("whose", ["the tutorial's", "ours"])
def test_the_tutorial_with_joblib_is_unchanged_but_for_the_lines_that_load_the_model(
    flowers: Made, estimator: Any, tmp_path: Path, whose: str
) -> None:
    app = EXAMPLES / "joblib" / "app.py"
    if whose != "ours":
        app = before(app, tmp_path / "before")
        joblib.dump(estimator, app.parent / "model.joblib")
    command = ("-m", "uvicorn", "--app-dir", str(app.parent), "--port", "PORT", "app:app")
    with serving(flowers, *command, cwd=app.parent) as client:
        rows = flowers.rows[:20]
        found = [client.post("/predict", json=dict(zip(ROW, row, strict=True))).json() for row in rows]
        assert [each["prediction"] for each in found] == flowers.labels(rows)
        chances = flowers.estimator.predict_proba(np.array(rows)).max(axis=1)
        assert [each["probability"] for each in found] == pytest.approx(chances, abs=2e-6)


def test_spark_adds_a_column(flowers: Made, tmp_path: Path, program: Callable[[str], str]) -> None:
    program("java")
    rows = flowers.rows[:40]
    pd.DataFrame(rows, columns=list(ROW)).assign(id=range(40)).to_parquet(tmp_path / "flowers.parquet")
    environment = {
        "MODEL": str(flowers.path),
        "PYTHONPATH": str(CHECKOUT),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_SUBMIT_ARGS": (
            "--master local[2] --driver-memory 512m --conf spark.ui.enabled=false pyspark-shell"
        ),
    }
    command = [sys.executable, f"{EXAMPLES}/spark/score.py", "flowers.parquet", "scored.parquet"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = pd.read_parquet(tmp_path / "scored.parquet").sort_values("id")
    assert found["prediction"].tolist() == flowers.labels(rows)


def test_fastapi_answers_rows_and_names_what_is_wrong(flowers: Made) -> None:
    command = ("-m", "uvicorn", "--app-dir", f"{EXAMPLES}/fastapi", "--port", "PORT", "main:app")
    with serving(flowers, *command) as client:
        rows = [dict(zip(ROW, row, strict=True)) for row in flowers.rows]
        assert client.post("/predict", json=rows).json() == {"predictions": flowers.labels(flowers.rows)}
        refused = client.post("/predict", json=[ROW, ROW | {"petal_width": "wide"}])
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["row"] == 1
        assert refused.json()["detail"][0]["column"] == "petal_width"
        assert "/predict" in client.get("/openapi.json").json()["paths"]


def test_django_answers_one_row_and_names_what_is_wrong(flowers: Made) -> None:
    with serving(flowers, f"{EXAMPLES}/django/app.py", "runserver", "--noreload", "PORT") as client:
        assert client.post("/predict", json=ROW).json() == {"prediction": "setosa"}
        assert client.post("/predict", content=b"{").status_code == 400
        refused = client.post("/predict", json={**ROW, "colour": "blue"})
        assert (refused.status_code, refused.json()["error"][0]["column"]) == (422, "colour")
        assert client.get("/predict").status_code == 405
