"""A real MLflow server for the session, and small artifacts to register."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import sklearn
import skops.io
from sklearn.linear_model import LogisticRegression

from artifact import manifest
from artifact.signature import Column, Signature
from training.__main__ import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from servers import Cut, mlflow_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers import Server

FRUIT = Signature(
    task="binary",
    target="fruit",
    classes=("apple", "plum"),
    positive="plum",
    columns=(
        Column(name="weight", kind="number", median=3.0),
        Column(
            name="colour",
            kind="category",
            categories=("blue", "red"),
            mode="red",
            missing="allow",
            unknown="missing",
        ),
    ),
    ignored=("fruit", "farm"),
)


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's MLflow server keeps its files."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="session")
def mlflow_url(mlflow_folder: Path) -> Iterator[str]:
    """An MLflow server that the session's tests share; each test takes a name of its own."""
    with mlflow_server(mlflow_folder) as server:
        yield server.url


@pytest.fixture
def own_mlflow(tmp_path: Path) -> Iterator[Server]:
    """An MLflow server to be frozen or killed."""
    with mlflow_server(tmp_path / "mlflow") as server:
        yield server


@pytest.fixture
def cut(mlflow_url: str) -> Iterator[Cut]:
    """A connection to the session's MLflow server that a test can cut at a request."""
    proxy = Cut(mlflow_url)
    yield proxy
    proxy.close()


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(
    mlflow_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """`python -m training ...` in this process, which has imported the libraries already."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> Said:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Said(code, *capsys.readouterr())

    return command


@pytest.fixture
def make_artifact(tmp_path: Path) -> Callable[..., manifest.Artifact]:
    """Make a sealed artifact of a logistic regression that tells plums by their weight."""

    def make(name: str, *, run_id: str = "", turn: float = 3.0, coloured: bool = True) -> manifest.Artifact:
        folder = Path(tempfile.mkdtemp(prefix=f"artifact-{name}-", dir=tmp_path))
        rows = np.array([[weight, code] for weight in np.linspace(0, 6, 60) for code in (-1.0, 0.0, 1.0)])
        signature = FRUIT if coloured else msgspec.structs.replace(FRUIT, columns=FRUIT.columns[:1])
        rows = rows[:, : signature.width]
        fruit = np.where(rows[:, 0] > turn, "apple", "plum").astype(object)
        model = LogisticRegression(C=100).fit(rows, fruit)
        skops.io.dump(model, folder / manifest.SKOPS)
        (folder / manifest.CARD).write_text("# Plums\n\nTold by weight.\n")
        manifest.write(
            folder,
            signature=signature,
            golden=manifest.Golden(
                records=[{"weight": 1.0, "colour": "blue"} if coloured else {"weight": 1.0}],
                scores=model.predict_proba([[1.0, 0.0][: signature.width]]).tolist(),
                tolerance=1e-9,
            ),
            name=name,
            run_id=run_id,
            created="2026-11-21T11:00:00Z",
            runtime="python",
            runtime_reason="a test",
            algorithm="logistic regression",
            metric="roc_auc",
            metrics={"roc_auc": 0.9},
            libraries={"scikit-learn": sklearn.__version__},
        )
        return manifest.load(folder, name=name)

    return make
