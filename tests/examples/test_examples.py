"""Each example answers, as a program that a person has copied."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.servers import CHECKOUT, PATIENCE_S, free_port, started
from tests.serving.artifacts import Made, iris

if TYPE_CHECKING:
    from collections.abc import Iterator

ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
EXAMPLES = CHECKOUT / "examples"


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return iris(tmp_path_factory.mktemp("iris") / "iris")


@contextmanager
def program(flowers: Made, *command: str) -> Iterator[httpx.Client]:
    """Run an example with Python, PORT being a free port, until it has been asked."""
    port = free_port()
    with (
        started(
            [sys.executable, *(part.replace("PORT", str(port)) for part in command)],
            url=f"http://127.0.0.1:{port}",
            ready="/",
            log=flowers.path.with_suffix(".log"),
            environment={"MODEL": str(flowers.path), "PYTHONPATH": str(CHECKOUT)},
        ) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client,
    ):
        yield client


def test_the_tutorial_in_flask_answers_its_form_and_its_client(flowers: Made) -> None:
    with program(
        flowers, "-m", "flask", "--app", f"{EXAMPLES}/flask/app.py", "run", "--port", "PORT"
    ) as client:
        form = client.get("/").text
        assert all(f'name="{name}"' in form for name in ROW)
        assert "The prediction is setosa" in client.post("/predict", data=ROW).text
        assert client.post("/results", json=ROW).json() == "setosa"


def test_fastapi_answers_rows_and_names_what_is_wrong(flowers: Made) -> None:
    command = ("-m", "uvicorn", "--app-dir", f"{EXAMPLES}/fastapi", "--port", "PORT", "main:app")
    with program(flowers, *command) as client:
        rows = [dict(zip(ROW, row, strict=True)) for row in flowers.rows]
        assert client.post("/predict", json=rows).json() == {"predictions": flowers.labels(flowers.rows)}
        refused = client.post("/predict", json=[ROW, ROW | {"petal_width": "wide"}])
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["row"] == 1
        assert refused.json()["detail"][0]["column"] == "petal_width"
        assert "/predict" in client.get("/openapi.json").json()["paths"]


def test_django_answers_one_row_and_names_what_is_wrong(flowers: Made) -> None:
    with program(flowers, f"{EXAMPLES}/django/app.py", "runserver", "--noreload", "PORT") as client:
        assert client.post("/predict", json=ROW).json() == {"prediction": "setosa"}
        assert client.post("/predict", content=b"{").status_code == 400
        refused = client.post("/predict", json={**ROW, "colour": "blue"})
        assert (refused.status_code, refused.json()["error"][0]["column"]) == (422, "colour")
        assert client.get("/predict").status_code == 405
