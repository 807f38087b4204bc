"""A pipeline whose first step is somebody's own: the steps behind it do not say what the model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from artifact.python_model import score_of
from artifact.signature import probabilities
from tests.training.imported.test_categories import held_against
from training.decide.test_set import encode
from training.imported.adopt import contract, with_its_columns
from training.imported.describe import describe

if TYPE_CHECKING:
    from pathlib import Path

ANSWERS = {"yes": 1, "no": 0}


def made_table() -> pd.DataFrame:
    random = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "id": [f"k{number}" for number in range(240)],
            "size": random.normal(5, 2, 240).round(2),
            "weight": random.normal(9, 3, 240).round(2),
            "town": random.choice(["Ulm", "BERN", "Basel"], 240),
            "garden": random.choice(["yes", "no"], 240),
        }
    )
    frame["dear"] = np.where(frame["size"] + 3 * (frame["town"] == "Ulm") > 6, "dear", "cheap")
    return frame


class Ratio:
    """Names no column, and makes others than it reads."""

    def fit(self, _rows: Any, _labels: Any = None) -> Ratio:
        return self

    def transform(self, rows: Any) -> Any:
        return pd.DataFrame({"size": rows["size"], "ratio": rows["size"] / rows["weight"]})


class Without:
    """Takes a column away that has to be there."""

    def fit(self, _rows: Any, _labels: Any = None) -> Without:
        return self

    def transform(self, rows: Any) -> Any:
        return rows.drop(columns=["weight"])[["size"]]


class Gaps:
    """Gives back what it gets."""

    def fit(self, _rows: Any, _labels: Any = None) -> Gaps:
        return self

    def transform(self, rows: Any) -> Any:
        return rows.fillna(0)


STEPS = {
    "makes other columns": (Ratio(), ["size", "weight"]),
    "takes a column away": (Without(), ["size", "weight"]),
    "gives back what it gets": (Gaps(), ["size"]),
}


@pytest.mark.parametrize("what", STEPS)
def test_it_is_given_the_columns_that_it_works_with(what: str, tmp_path: Path) -> None:
    """All of the table's; or those of the step behind it, where the model fails on all."""
    step, columns = STEPS[what]
    table = made_table()
    model = make_pipeline(step, StandardScaler(), LogisticRegression())
    (tmp_path / "model.pkl").write_bytes(cloudpickle.dumps(model.fit(table[columns], table["dear"])))
    cleaned, loaded, described, _, _ = held_against(
        table[["dear", "size", "weight"]], "dear", tmp_path / "model.pkl"
    )

    signature, spec = contract(loaded, with_its_columns(loaded, described, cleaned), cleaned)

    assert [each.name for each in spec.inputs] == columns
    rows = encode(signature, cleaned, np.ones(cleaned.rows, bool))
    found = probabilities(signature, score_of(loaded.model, spec, signature)(rows))
    order = [list(model.classes_).index(label) for label in signature.classes]
    np.testing.assert_array_equal(found, model.predict_proba(table[columns])[:, order])


def test_what_an_encoder_knows_behind_a_function_is_not_what_the_model_takes() -> None:
    """Words that a function writes in small letters, or answers that it makes numbers of."""

    def plain(rows: Any) -> Any:
        return rows.assign(town=rows["town"].str.lower(), garden=rows["garden"].map(ANSWERS))

    def lower(rows: Any) -> Any:
        return rows.apply(lambda cells: cells.str.lower())

    table = made_table()
    columns = ColumnTransformer(
        [("w", OneHotEncoder(), ["town", "garden"]), ("n", StandardScaler(), ["size"])]
    )
    inside = ColumnTransformer([("w", make_pipeline(FunctionTransformer(lower), OneHotEncoder()), ["town"])])
    for model in (
        make_pipeline(FunctionTransformer(plain), columns, LogisticRegression()),
        make_pipeline(inside, LogisticRegression()),
    ):
        described = describe(model.fit(table.drop(columns="dear"), table["dear"]))
        assert (described.dtypes, described.known) == ({}, {})


def test_an_encoder_behind_an_imputer_still_says_what_it_takes(tmp_path: Path) -> None:
    """An imputer leaves the words that are there as they are."""
    from sklearn.impute import SimpleImputer

    table = made_table()
    steps = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    model = make_pipeline(ColumnTransformer([("w", steps, ["town"])]), LogisticRegression())
    joblib.dump(model.fit(table.drop(columns="dear"), table["dear"]), tmp_path / "model.joblib")
    described = describe(joblib.load(tmp_path / "model.joblib"))
    assert described.known == {"town": ("BERN", "Basel", "Ulm")}
