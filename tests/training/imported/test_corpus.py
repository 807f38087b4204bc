"""Models as people have them: what a server would answer is what the model itself answers on a data frame."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest

from artifact.encode import BadRows, Encoder
from artifact.python_model import score_of
from artifact.signature import labels, probabilities
from tests.training.imported.pipelines import CASES, made_table
from training.decide.test_set import encode
from training.imported.contract import (
    columns_wanted,
    dtypes_of,
    signature_of,
    spec_of,
    with_missing_refused,
)
from training.imported.describe import describe
from training.imported.exact import onnx_form
from training.imported.init import write_model_use_case
from training.imported.load import load
from training.onnx.parity import onnx_score, tolerance_of
from training.settings import Read, load_use_case
from training.tables.data import load_table

if TYPE_CHECKING:
    from training.imported.exact import Form

pytestmark = pytest.mark.deep

MIN_EXACT = 0.8


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return made_table()


def served(tmp_path: Path, model: Any, table: pd.DataFrame, target: str) -> tuple[Any, Any, Any, Form, Any]:
    """What a server makes of a saved model and a table.

    Scores, scoring function and signature of the model itself; its ONNX form and that one's scores.
    """
    joblib.dump(model, tmp_path / "model.joblib")
    table.to_csv(tmp_path / "table.csv", index=False)
    path = write_model_use_case(
        str(tmp_path / "model.joblib"), str(tmp_path / "table.csv"), target, name="made", trust=True,
        directory=tmp_path, read=Read(), formats={},
    )  # fmt: skip
    use_case = load_use_case(path)
    cleaned = load_table(use_case)
    loaded = load(tmp_path / "model.joblib", trust=True)
    described = describe(loaded.model)
    names = columns_wanted(described, list(cleaned.frame.columns), target, "the table")
    dtypes = dtypes_of(described, cleaned, names)
    signature = signature_of(described, cleaned, dtypes)
    spec = spec_of(loaded, described, signature, dtypes)
    score = score_of(loaded.model, spec, signature)
    rows = encode(signature, cleaned, np.ones(cleaned.rows, bool))
    signature = with_missing_refused(signature, score, rows)
    tolerance = tolerance_of(signature, cleaned.target)
    form = onnx_form(loaded.model, spec, signature, score, raw_rows=rows, tolerance=tolerance)
    by_graph = None
    if form.signature is not None:
        by_graph = onnx_score(form.graph)(encode(form.signature, cleaned, np.ones(cleaned.rows, bool)))
    return score(rows), score, signature, form, by_graph


@cache
def documented() -> dict[str, str]:
    """The table of docs/onnx.md: what became of each pipeline."""
    page = Path(__file__).parents[3] / "docs" / "onnx.md"
    part = page.read_text("utf-8").partition("## Models made elsewhere")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1] for cells in lines[1:]}


def told(form: Form) -> str:
    """What the table says of a form."""
    if form.signature is not None:
        return "exact"
    if form.parity is not None:
        return "not exact"
    return form.reason.rpartition(": ")[2]


def test_the_page_names_every_pipeline_and_most_are_exact() -> None:
    """docs/onnx.md has a line for each pipeline of the corpus, and no other."""
    assert documented().keys() == {name for name, _, _ in CASES}
    assert sum(each == "exact" for each in documented().values()) >= MIN_EXACT * len(CASES)


def answers(model: Any, frame: pd.DataFrame, signature: Any) -> Any:
    """The model's own answer on a data frame, in the order of the signature's classes."""
    if not signature.classes:
        return np.asarray(model.predict(frame)).reshape(-1, 1)
    own = [str(label) for label in model.classes_]
    if hasattr(model, "predict_proba"):
        return model.predict_proba(frame)[:, [own.index(str(label)) for label in signature.classes]]
    said = model.predict(frame)
    return np.column_stack([said == label for label in signature.classes]).astype(float)


@pytest.mark.parametrize(("name", "target", "model"), CASES, ids=[f"{case[0]}" for case in CASES])
def test_a_saved_model_answers_as_it_does_itself(
    name: str, target: str, model: Any, table: pd.DataFrame, tmp_path: Path
) -> None:
    """Itself and its graph: on the table's rows, on an unknown word, and with every cell missing in turn."""
    features = table[[column for column in table.columns if column not in {"level", "churned", "spent"}]]
    model = model.fit(features.head(240), table[target].head(240))
    kept = table[[*features.columns, target]]

    found, score, signature, form, by_graph = served(tmp_path, model, kept, target)

    assert documented().get(name) == told(form)
    own = answers(model, features, signature)
    tolerance = tolerance_of(signature, table[target])
    for scores, way, within in ((found, signature, 1e-9), (by_graph, form.signature, tolerance)):
        if scores is not None:
            np.testing.assert_allclose(probabilities(way, scores), own, rtol=0, atol=within)
            if signature.classes:
                assert list(labels(way, scores)) == model.predict(features).tolist()
    row = {key: None if pd.isna(value) else value for key, value in features.iloc[0].to_dict().items()}
    sent = [dict(row, **({column: None} if column in row else {})) for column in signature.names]
    if name != "strict encoder":
        sent.append(row | {"city": "Paris", "plan": "none of them"})
        sent.append(row | {"city": "none", "plan": "?"})  # words that imputers fill in
    for asked in sent:
        # As `read_csv` gives them: a missing word is NaN, as a missing number is.
        frame = pd.DataFrame([asked], columns=features.columns).astype(object).fillna(np.nan)
        frame = frame.astype({"age": float, "income": float, "zip": float})
        known = {key: value for key, value in asked.items() if key in signature.names}
        try:
            expected = answers(model, frame, signature)
        except (ValueError, TypeError, AttributeError):  # the model itself does not take this row
            with pytest.raises(BadRows):
                Encoder(signature).records([known])
            if form.signature is not None:
                assert not np.isfinite(by_the_graph(form, known)).all()
            continue
        by_itself = probabilities(signature, score(Encoder(signature).records([known])))
        np.testing.assert_allclose(by_itself, expected, rtol=0, atol=1e-9, err_msg=str(asked))
        if form.signature is not None:
            scores = probabilities(form.signature, by_the_graph(form, known))
            np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance, err_msg=str(asked))


def by_the_graph(form: Form, record: dict[str, Any]) -> Any:
    """What a server answers by the graph; NaN for a row that the signature refuses."""
    try:
        return onnx_score(form.graph)(Encoder(form.signature).records([record]))
    except BadRows:
        return np.array([[np.nan]])
