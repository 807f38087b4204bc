"""Whole numbers reach a model as `read_csv` gives them, if it makes a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from artifact.encode import BadRows, Encoder
from artifact.python_model import score_of
from artifact.signature import probabilities
from tests.training.imported.test_categories import held_against
from training.decide.test_set import encode
from training.imported.contract import with_fractions_refused, with_missing_refused
from training.imported.whole_numbers import as_read_csv_gives_them

if TYPE_CHECKING:
    from pathlib import Path

TOWNS = {"10115": 0.0, "80331": 4.0, "20095": 1.0}
FEATURES = ["zip", "floor", "rooms", "size"]


def made_table() -> pd.DataFrame:
    random = np.random.default_rng(8)
    frame = pd.DataFrame(
        {
            "zip": random.choice([10115, 80331, 20095], 200),
            "floor": random.integers(0, 4, 200).astype(float),
            "rooms": random.integers(1, 6, 200),
            "size": random.normal(50, 9, 200).round(1),
        }
    )
    value = frame["zip"].astype(str).map(TOWNS) + frame["rooms"] + random.normal(0, 1, 200)
    frame["dear"] = np.where(value > 5, "yes", "no")
    return frame


def fitted(to_words: Any, table: pd.DataFrame) -> Any:
    def townwise(rows: Any) -> Any:
        return rows.assign(zip=to_words(rows["zip"]), floor=rows["floor"].astype(str).str.len())

    model = make_pipeline(FunctionTransformer(townwise), StandardScaler(), LogisticRegression())
    return model.fit(table[FEATURES], table["dear"])


@pytest.mark.parametrize(
    "to_words",
    [
        lambda zips: zips.astype(str).map(TOWNS).fillna(9.0),
        lambda zips: zips.map(lambda each: TOWNS[str(each)]),
        lambda zips: zips.map(lambda each: TOWNS[format(each, "05d")]),
    ],
    ids=["by a silent map", "by a look-up that fails", "by a format of whole numbers"],
)
def test_a_step_that_makes_words_of_whole_numbers_gets_integers(to_words: Any, tmp_path: Path) -> None:
    """A column that the file writes as 3.0 stays a float, and a fraction or a missing cell is refused."""
    table = made_table()
    model = fitted(to_words, table)
    (tmp_path / "model.pkl").write_bytes(cloudpickle.dumps(model))
    cleaned, loaded, _, signature, spec = held_against(table, "dear", tmp_path / "model.pkl")
    rows = encode(signature, cleaned, np.ones(cleaned.rows, bool))

    spec, signature = as_read_csv_gives_them(loaded.model, spec, signature, rows, cleaned.use_case)
    score = score_of(loaded.model, spec, signature)
    signature = with_fractions_refused(with_missing_refused(signature, score, rows), spec, score, rows)

    assert {each.name: each.dtype for each in spec.inputs if each.dtype == "int"} == {"zip": "int"}
    found = probabilities(signature, score(encode(signature, cleaned, np.ones(cleaned.rows, bool))))
    np.testing.assert_array_equal(found, model.predict_proba(table[FEATURES]))
    sent = {"zip": 80331, "floor": 2, "rooms": 3, "size": 51.5}
    Encoder(signature).records([sent, sent | {"rooms": 2.5}])
    for wrong in (80331.5, None):
        with pytest.raises(BadRows, match="zip"):
            Encoder(signature).records([sent | {"zip": wrong}])
