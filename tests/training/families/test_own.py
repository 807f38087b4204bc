"""Candidates of one's own join the search, the gate and the export; a wrong one is named before training."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from artifact import manifest, runtime
from artifact.encode import Encoder
from serving.scoring.model_process import ModelProcess
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Said

TOML = """
target = "y"
trials = {trials}
folds = 2
[source]
kind = "csv"
path = "table.csv"
[candidates]
add = [{add}]
"""

MODULE = '''
"""Candidates of a test."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from {name}_more import EDGE


class Ring(ClassifierMixin, BaseEstimator):
    """Yes within a circle, which no other family of few trials finds as well."""

    def __init__(self, width=1.0):
        self.width = width

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        inside = 1 / (1 + np.exp(((np.asarray(X)[:, :2] ** 2).sum(axis=1) - EDGE) / self.width))
        return np.column_stack([1 - inside, inside])

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def ring():
    return Ring(), lambda trial: {{"width": trial.suggest_float("width", 0.05, 0.3)}}


def ours():
    return LogisticRegression(C=0.37)


def raises():
    raise RuntimeError("no weights were found")


def no_estimator():
    return {{"a": 1}}


def only_predicts():
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def wrong_parameter():
    return LogisticRegression(), lambda trial: {{"depth": trial.suggest_int("depth", 1, 3)}}


def three():
    return 1, 2, 3


number = 7
'''


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder with a table, in which only a circle tells the classes apart, and a module beside it."""
    random = np.random.default_rng(2)
    frame = pd.DataFrame(random.normal(0, 1, (400, 2)), columns=["a", "b"])
    frame["y"] = np.where((frame**2).sum(axis=1) < 1.4, "yes", "no")
    frame.to_csv(tmp_path / "table.csv", index=False)
    name = f"own_{abs(hash(request.node.name)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(name=name))
    (tmp_path / f"{name}_more.py").write_text("EDGE = 1.4\n")
    yield tmp_path
    for module in (name, f"{name}_more"):
        sys.modules.pop(module, None)
    sys.path[:] = [each for each in sys.path if each != str(tmp_path)]


def module_of(place: Path) -> str:
    return next(file.stem for file in place.glob("own_*.py") if not file.stem.endswith("_more"))


def written(place: Path, name: str, *entries: str, trials: int = 3) -> Path:
    add = ", ".join(f'"{entry}"' for entry in entries)
    file = place / f"{name}.toml"
    file.write_text(TOML.format(trials=trials, add=add))
    return file


def test_an_estimator_of_ones_own_wins_and_is_served_by_its_own_class(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    """Its module travels with it, so that a server opens it where the module is not installed."""
    module = module_of(place)
    file = written(place, "own_ring", f"{module}:ring", trials=1)

    ran = cli("run", str(file))

    assert ran.code == 0, ran.err
    version = Registry(mlflow_url).version("own_ring", CHAMPION)
    assert version is not None
    assert module in version.tags["algorithm"]
    artifact = manifest.load(Registry(mlflow_url).download(version, place / "champion"))
    assert artifact.manifest.runtime == "python"
    assert (artifact.path / "code" / f"{module}_more.py").is_file()
    matrix = Encoder(artifact.signature).records([{"a": 0.1, "b": 0.2}, {"a": 3, "b": 0}])
    process = ModelProcess(artifact)
    try:
        np.testing.assert_allclose(process.score(matrix), runtime.load(artifact)(matrix), rtol=0, atol=0)
        assert (process.score(matrix)[:, 1] > 0.5).tolist() == [True, False]
    finally:
        process.close()
    assert "nothing to train" in cli("ensure", str(file)).out
    (place / f"{module}_more.py").write_text("EDGE = 1.3\n")
    assert "nothing to train" not in cli("ensure", str(file)).out


def test_an_estimator_that_has_an_exact_graph_is_served_by_onnx(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    """The search has one trial, which is the candidate's."""
    assert (
        cli("run", str(written(place, "own_plain", f"{module_of(place)}:ours", trials=1)), "--anyway").code
        == 0
    )

    version = Registry(mlflow_url).version("own_plain", CHAMPION)
    assert version is not None
    artifact = manifest.load(Registry(mlflow_url).download(version, place / "champion"))
    assert artifact.manifest.runtime == "onnx"
    assert artifact.manifest.algorithm.endswith(":ours")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("no_such_module:build", "there is no module 'no_such_module' in"),
        ("{module}:absent", "has no function 'absent'"),
        ("{module}:number", "has no function 'number'"),
        ("{module}:raises", "cannot be built: RuntimeError: no weights were found"),
        ("{module}:no_estimator", "returns a dict without fit, predict"),
        ("{module}:only_predicts", "returns a LinearRegression without predict_proba"),
        ("{module}:wrong_parameter", "Invalid parameter 'depth'"),
        ("{module}:three", "returns a tuple of 3"),
        ("no colon", 'expected "module:function"'),
    ],
)
def test_a_wrong_candidate_is_named_before_training(
    cli: Callable[..., Said], place: Path, entry: str, said: str
) -> None:
    """Exit code 2, one sentence, no traceback."""
    entry = entry.format(module=module_of(place))
    found = cli("run", str(written(place, "own_wrong", entry)))

    assert found.code == 2, found.out
    assert said in found.err
    assert entry in found.err
    assert "Traceback" not in found.err
