"""Classifiers with habits of their own: a server answers their own `predict` and `predict_proba`."""

from __future__ import annotations

import json
import shutil
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from artifact import manifest
from artifact.encode import Encoder
from artifact.manifest import MODEL, Golden
from artifact.python_model import CODE, score_of
from tests.bento_server import bento_server, prepare
from training.decide.test_set import encode
from training.export import golden_records
from training.imported.contract import columns_wanted, dtypes_of, signature_of, spec_of
from training.imported.describe import describe
from training.imported.init import write_model_use_case
from training.imported.load import load
from training.settings import Read, load_use_case
from training.tables.data import load_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 240
COLUMNS = ["a", "b", "c"]

OWN = '''
import numpy as np
from sklearn.linear_model import LogisticRegression


class Wary:
    """Says yes from a fifth on; its classes are a list, in an order of their own, of several types."""

    def __init__(self, classes):
        self.classes_ = classes

    def fit(self, X, y):
        self.inner = LogisticRegression().fit(X, np.asarray(y, object) == self.classes_[0])
        return self

    def predict_proba(self, X):
        return self.inner.predict_proba(X)[:, ::-1]

    def predict(self, X):
        chosen = self.predict_proba(X)[:, 0] < 0.2
        return np.array([self.classes_[each] for each in chosen.astype(int)], object)
'''


@dataclass(frozen=True)
class Case:
    """A fitted model, the labels that its table has, and whether it was fitted on an array."""

    model: Any
    array: bool = False


def rows() -> pd.DataFrame:
    random = np.random.default_rng(8)
    return pd.DataFrame(random.normal(0, 1, (ROWS, 3)).round(3), columns=COLUMNS)


def truth(frame: pd.DataFrame, labels: list[Any]) -> Any:
    random = np.random.default_rng(9)
    score = frame["a"] + 0.6 * frame["b"] + random.normal(0, 0.8, ROWS)
    places = np.searchsorted(np.quantile(score, np.linspace(0, 1, len(labels) + 1)[1:-1]), score)
    return np.array([labels[place] for place in places], object if len({*map(type, labels)}) > 1 else None)


def scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


TWO, THREE = ["no", "yes"], ["low", "mid", "high"]
MODELS: dict[str, tuple[Any, list[Any], bool]] = {
    "margin_of_two": (scaled(SVC(probability=True, random_state=0)), TWO, False),
    "margin_of_three": (SVC(probability=True, random_state=0), THREE, False),
    "searched_margin": (GridSearchCV(SVC(probability=True, random_state=0), {"C": [1, 3]}, cv=2), TWO, False),
    "fixed_threshold": (FixedThresholdClassifier(LogisticRegression(), threshold=0.27), TWO, False),
    "tuned_threshold": (TunedThresholdClassifierCV(LogisticRegression(), random_state=0), [0, 1], False),
    "one_against_rest": (OneVsRestClassifier(SVC(probability=True, random_state=0)), THREE, True),
    "clipped": (SGDClassifier(loss="modified_huber", random_state=0), THREE, False),
    "truth_values": (LogisticRegression(), [False, True], False),
    "numbers": (LogisticRegression(), [1.0, 2.0, 10.0], True),
    "words_of_digits": (scaled(RidgeClassifier()), ["10", "9", "100"], False),
    "no_probabilities": (LinearSVC(), [3, 2, 1], True),
    "ties": (RandomForestClassifier(2, max_depth=3, random_state=1), THREE, False),
    "own_words": ("Wary", ["yes", "no"], False),
    "own_mixture": ("Wary", ["n/b", 7], True),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the module of a class of one's own."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_estimators.py").write_text(OWN)
    sys.path.insert(0, str(folder))
    yield folder
    sys.modules.pop("own_estimators", None)
    sys.path[:] = [each for each in sys.path if each != str(folder)]


@pytest.fixture(scope="module")
def fitted(own: Path) -> dict[str, Any]:  # noqa: ARG001 - it makes the import work
    import own_estimators

    found = {}
    frame = rows()
    for name, (model, labels, array) in MODELS.items():
        fresh = own_estimators.Wary(labels) if model == "Wary" else model
        found[name] = fresh.fit(frame.to_numpy() if array else frame, truth(frame, labels))
    return found


def seal(folder: Path, model: Any, table: pd.DataFrame, name: str, code: Path) -> Path:
    """An artifact of a saved model and its table, made of the steps that `run` takes."""
    folder.mkdir()
    joblib.dump(model, folder / "model.joblib")
    table.to_csv(folder / "table.csv", index=False)
    path = write_model_use_case(
        str(folder / "model.joblib"), str(folder / "table.csv"), "y", name=name, trust=True,
        directory=folder, read=Read(), formats={},
    )  # fmt: skip
    cleaned = load_table(load_use_case(path))
    loaded = load(folder / "model.joblib", trust=True)
    described = describe(loaded.model)
    names = columns_wanted(described, list(cleaned.frame.columns), "y", "the table")
    dtypes = dtypes_of(described, cleaned, names)
    signature = signature_of(described, cleaned, dtypes)
    spec = msgspec.structs.replace(spec_of(loaded, described, signature, dtypes), code=True)
    score = score_of(loaded.model, spec, signature)
    made = folder / "artifact"
    (made / "model").mkdir(parents=True)
    shutil.copy(loaded.file, made / spec.file)
    shutil.copytree(code, made / CODE, ignore=shutil.ignore_patterns("__pycache__"))
    (made / MODEL).write_bytes(msgspec.json.encode(spec))
    matrix = encode(signature, cleaned, np.ones(cleaned.rows, bool))
    records = golden_records(signature, cleaned.frame, score(matrix))
    golden = score(Encoder(signature).records(records)).tolist()
    manifest.write(
        made, signature=signature, golden=Golden(records=records, scores=golden, tolerance=1e-9), name=name,
        run_id="0", created="2026-01-01T00:00:00Z", runtime="python", precision="float64",
        algorithm="", metric="accuracy", metrics={}, libraries=loaded.versions,
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def url(fitted: dict[str, Any], own: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("estimators")
    frame = rows()
    made = {
        name: (seal(folder / name, model, frame.assign(y=truth(frame, MODELS[name][1])), name, own), "1")
        for name, model in fitted.items()
    }
    prepare(folder / "site", made)
    with bento_server(folder / "site") as server:
        yield server.url


def sent(url: str, body: Any) -> Any:
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as reply:
        return json.load(reply)


def new_rows() -> pd.DataFrame:
    """Rows about the border between the classes, where label and probability part ways."""
    random = np.random.default_rng(10)
    return pd.DataFrame(random.normal(0, 0.4, (400, 3)), columns=COLUMNS)


def plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


@pytest.mark.parametrize("name", MODELS)
def test_the_served_label_is_the_models_own(name: str, url: str, fitted: dict[str, Any]) -> None:
    """Of one row and of many, by each protocol, with and without probabilities, which are its own too."""
    model, frame = fitted[name], new_rows()
    given = frame.to_numpy() if MODELS[name][2] else frame
    expected = [plain(label) for label in model.predict(given)]
    lines = frame.to_numpy().tolist()
    predict = f"{url}/models/{name}/predict"

    answer = sent(predict, {"features": lines, "probabilities": True})
    assert answer["prediction"] == expected
    assert sent(predict, {"features": lines})["prediction"] == expected
    for line, label in zip(lines[:12], expected, strict=False):
        assert sent(predict, {"features": [line]})["prediction"] == [label]
    if hasattr(model, "predict_proba"):
        order = [[plain(own) for own in model.classes_].index(label) for label in answer["classes"]]
        wanted = np.array([model.predict_proba(given[i : i + 1])[0] for i in range(len(lines))])[:, order]
        np.testing.assert_allclose(answer["probabilities"], wanted, rtol=0, atol=1e-6)
    tensor = {"name": "features", "shape": [len(lines), 3], "datatype": "FP64", "data": lines}
    outputs = sent(f"{url}/v2/models/{name}/infer", {"inputs": [tensor]})["outputs"]
    texts = outputs[0]["datatype"] == "BYTES"
    assert outputs[0]["data"] == [str(label) if texts else label for label in expected]
    assert outputs[1]["shape"] == [len(lines), len(answer["classes"])]
    assert outputs[1]["data"] == np.ravel(answer["probabilities"]).tolist()
    tensor |= {"shape": [1, 3], "data": lines[0]}
    outputs = sent(f"{url}/v2/models/{name}/infer", {"inputs": [tensor]})["outputs"]
    assert outputs[0]["data"] == [str(expected[0]) if texts else expected[0]]
    assert len(outputs[1]["data"]) == len(answer["classes"])


def test_a_threshold_of_the_request_decides_by_the_probability(url: str, fitted: dict[str, Any]) -> None:
    """In place of the model's own decision."""
    frame = new_rows()
    chances = fitted["fixed_threshold"].predict_proba(frame)[:, 1]
    answer = sent(
        f"{url}/models/fixed_threshold/predict", {"features": frame.to_numpy().tolist(), "threshold": 0.6}
    )
    assert answer["prediction"] == np.where(chances >= 0.6, "yes", "no").tolist()
