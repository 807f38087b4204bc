"""A pipeline as people bring it: fitted on a data frame of words, texts and missing cells, and pickled."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import joblib
import msgspec
import numpy as np
import pandas as pd
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from artifact import manifest
from artifact.encode import Encoder
from artifact.manifest import MODEL, Golden
from artifact.python_model import Input, PythonModel, score_of
from artifact.signature import Column, Signature

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    Column(name="age", kind="number", missing="allow", median=40.0),
    Column(
        name="city", kind="category", missing="allow", unknown="pass", categories=("Ulm", "Bern"), mode="Ulm"
    ),
    Column(name="member", kind="category", categories=("false", "true"), mode="true"),
    Column(name="note", kind="text", missing="allow", terms=("paid",), idf=(1.0,)),
)
INPUTS = (
    Input(name="note", dtype="str"),  # in an order of its own
    Input(name="age", dtype="float"),
    Input(name="city", dtype="str"),
    Input(name="member", dtype="bool"),
)


def table() -> pd.DataFrame:
    random = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "note": random.choice(["paid late", "paid", "never paid, café", ""], 400),
            "age": np.where(random.random(400) < 0.1, np.nan, random.normal(40, 10, 400)),
            "city": random.choice(np.array(["Ulm", "Bern", np.nan], object), 400),
            "member": random.random(400) < 0.5,
        }
    )


def pipeline(rows: pd.DataFrame) -> Any:
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["city", "member"]),
            ("text", TfidfVectorizer(), "note"),
        ]
    )
    labels = np.where(rows["note"].str.contains("late") ^ (rows["age"] > 45), "yes", "no")
    return make_pipeline(columns, LogisticRegression()).fit(rows, labels)


def seal(
    folder: Path, model: Any, rows: pd.DataFrame, *, method: str = "predict_proba", **fields: Any
) -> manifest.Artifact:
    """An artifact with a pickled model, under a signature whose classes are in another order than its own."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    joblib.dump(model, folder / "model" / "model.joblib")
    asked: dict[str, Any] = {
        "flavor": "pickle", "file": "model/model.joblib", "inputs": INPUTS, "frame": True,
        "method": method, "order": (1, 0), "packages": ("scikit-learn",),
    }  # fmt: skip
    spec = PythonModel(**(asked | fields))
    (folder / MODEL).write_bytes(msgspec.json.encode(spec))
    signature = Signature(
        task="binary", target="y", columns=COLUMNS, classes=("yes", "no"), positive="yes", raw=True
    )
    golden = []
    scores: list[Any] = []
    if method == "predict_proba":
        golden = records(rows, 8)
        scores = score_of(model, spec, signature)(Encoder(signature).records(golden)).tolist()
    manifest.write(
        folder,
        signature=signature,
        golden=Golden(records=golden, scores=scores, tolerance=1e-9),
        name="bought",
        run_id="0123456789abcdef",
        created="2026-01-01T00:00:00Z",
        runtime="python",
        algorithm=type(model).__name__,
        metric="accuracy",
        metrics={},
        libraries={"scikit-learn": sklearn.__version__},
    )
    return manifest.load(folder)


def records(table: pd.DataFrame, rows: int) -> list[dict[str, Any]]:
    """Rows as JSON has them."""
    few = table.head(rows).astype(object)
    return few.where(few.notna(), None).to_dict("records")  # type: ignore[return-value]


class Sum:
    """A model that answers the sum of its columns."""

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows).sum(axis=1)


def seal_numbers(folder: Path, names: tuple[str, ...]) -> manifest.Artifact:
    """An artifact with a model of numbers only, whose prediction shows each bit of what it was given."""
    (folder / "model").mkdir(parents=True)
    joblib.dump(Sum(), folder / "model" / "model.joblib")
    inputs = tuple(Input(name=name, dtype="float") for name in names)
    spec = PythonModel(
        flavor="pickle", file="model/model.joblib", inputs=inputs, frame=False, method="predict", code=True
    )
    (folder / "code").mkdir()
    for package in ("tests", "tests/artifact"):
        (folder / "code" / package).mkdir(exist_ok=True)
    shutil.copy(__file__, folder / "code" / "tests" / "artifact" / "bought.py")
    (folder / MODEL).write_bytes(msgspec.json.encode(spec))
    manifest.write(
        folder,
        signature=Signature(
            task="regression",
            target="y",
            columns=tuple(Column(name=name, kind="number", median=1.0) for name in names),
            raw=True,
        ),
        golden=Golden(records=[dict.fromkeys(names, 1.0)], scores=[[float(len(names))]], tolerance=0.0),
        name="exact",
        run_id="0123456789abcdef",
        created="2026-01-01T00:00:00Z",
        runtime="python",
        algorithm="Sum",
        metric="r2",
        metrics={},
        libraries={},
    )
    return manifest.load(folder)
