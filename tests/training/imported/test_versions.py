"""A model that another version of a library has made: both versions are told, whatever its file is."""

from __future__ import annotations

import json
import pickle
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.imported.load import load
from training.imported.versions import made_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Said

    from artifact.python_model import Flavor


@pytest.fixture
def place(place: Path) -> Path:
    """The folder, with a table in it."""
    rows().to_csv(place / "fruit.csv", index=False)
    return place


def rows() -> pd.DataFrame:
    random = np.random.default_rng(3)
    frame = pd.DataFrame({"size": random.normal(5, 2, 120), "weight": random.normal(9, 1, 120)})
    frame["fruit"] = (frame["size"] + random.normal(0, 1, 120) > 5).astype(int)
    return frame


@contextmanager
def old_scikit_learn() -> Iterator[None]:
    """What is saved meanwhile says that scikit-learn 0.24.2 made it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.base.__version__", "0.24.2")
        yield


@pytest.fixture
def model() -> Any:
    frame = rows()
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(
        frame[["size", "weight"]], frame["fruit"]
    )


SAVED: dict[str, Callable[[Any, Path], object]] = {
    "model.joblib": joblib.dump,
    "small.joblib": lambda model, path: joblib.dump(model, path, compress=3),
    "model.pkl": lambda model, path: path.write_bytes(pickle.dumps(model)),
    "model.skops": skops.io.dump,
}


@pytest.mark.parametrize("name", SAVED)
def test_a_measured_model_of_another_scikit_learn_is_said_and_an_unmeasured_one_refused(
    name: str, cli: Callable[..., Said], place: Path, model: Any
) -> None:
    """`init`, `run` and the card say both versions; without a table nothing shows what it answers."""
    with old_scikit_learn():
        SAVED[name](model, place / name)
    said = r"was made with scikit-learn 0\.24\.2, and this is 1\.\d+\.\d"
    use_case = "old_" + name.replace(".", "_")

    alone = cli("init", name, "--name", use_case, "--trust")
    assert alone.code == 2
    assert re.search(said, alone.err)
    assert "pip install scikit-learn==0.24.2" in alone.err
    made = cli("init", name, "--data", "fruit.csv", "--target", "fruit", "--name", use_case, "--trust")
    assert made.code == 0, made.err
    assert re.search(said, made.err)
    ran = cli("run", use_case + ".toml")
    assert ran.code == 0, ran.out + ran.err
    assert re.search(said, ran.err)
    assert re.search(said, cli("card", use_case).out)


def test_a_model_that_its_version_alone_can_open_is_told_with_both(
    cli: Callable[..., Said], place: Path, model: Any
) -> None:
    """The library's own error says nothing of versions."""
    model.steps[0][1].lost = Unopened()
    with old_scikit_learn():
        (place / "model.pkl").write_bytes(pickle.dumps(model))

    failed = cli("init", "model.pkl", "--name", "unopened", "--trust")

    assert failed.code == 2
    assert "incompatible dtype" in failed.err
    assert "was made with scikit-learn 0.24.2, and this is" in failed.err


class Unopened:
    """A part whose layout is another here, as that of scikit-learn's trees was."""

    def __getstate__(self) -> dict[str, int]:
        return {"nodes": 1}

    def __setstate__(self, state: Any) -> None:
        raise ValueError("node array from the pickle has an incompatible dtype")


def boosters() -> list[tuple[str, Flavor, str]]:
    return [
        ("model.ubj", "xgboost", "xgboost"), ("model.json", "xgboost", "xgboost"),
        ("model.pkl", "pickle", "xgboost"), ("model.cbm", "catboost", "catboost"),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "flavor", "package"), boosters())
def test_a_booster_says_what_made_it(name: str, flavor: Flavor, package: str, place: Path) -> None:
    library: Any = pytest.importorskip(package)
    frame = rows()
    features, labels = frame[["size", "weight"]], frame["fruit"]
    if package == "catboost":
        options = {"verbose": 0, "allow_writing_files": False}
        library.CatBoostClassifier(iterations=2, **options).fit(features, labels).save_model(
            str(place / name)
        )
    else:
        model = library.XGBClassifier(n_estimators=2).fit(features, labels)
        if name.endswith(".pkl"):
            (place / name).write_bytes(pickle.dumps(model))
        else:
            model.save_model(place / name)

    assert made_with(place / name, flavor)[package] == library.__version__


def test_a_file_of_another_xgboost_is_said_and_served(cli: Callable[..., Said], place: Path) -> None:
    """Its own format is made for that."""
    xgboost = pytest.importorskip("xgboost")
    frame = rows()
    model = xgboost.XGBClassifier(n_estimators=2).fit(frame[["size", "weight"]], frame["fruit"])
    model.save_model(place / "model.json")
    written = json.loads((place / "model.json").read_text())
    (place / "model.json").write_text(json.dumps(written | {"version": [2, 0, 3]}))

    made = cli("init", "model.json", "--name", "old_booster")

    assert made.code == 0, made.err
    assert "was made with xgboost 2.0.3, and this is" in made.err


def test_an_mlmodel_says_what_made_it(place: Path) -> None:
    """Its flavor does, also where there is no requirements.txt; the model's file counts more."""
    (place / "m").mkdir()
    flavors = {"sklearn": {"pickled_model": "model.pkl", "sklearn_version": "1.2.2"}}
    (place / "m" / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors}))
    frame = rows()
    model = LogisticRegression().fit(frame[["size"]], frame["fruit"])
    (place / "m" / "model.pkl").write_bytes(
        re.sub(b"_sklearn_version", b"_sklearn_versiom", pickle.dumps(model))
    )

    loaded = load(place / "m", trust=True)

    assert loaded.other_versions["scikit-learn"][0] == "1.2.2"
    (place / "m" / "model.pkl").write_bytes(pickle.dumps(model))
    assert load(place / "m", trust=True).other_versions == {}


def test_requirements_are_read_with_their_markers(place: Path) -> None:
    (place / "MLmodel").write_text("flavors: {}")
    lines = 'mlflow==3.0\nnumpy == 1.26.4\nxgboost==1.7.6 ; python_version < "3.12"\nscikit-learn>=1.0\nodd\n'
    (place / "requirements.txt").write_text(lines)
    assert made_with(place, "pyfunc") == {"numpy": "1.26.4", "xgboost": "1.7.6"}
