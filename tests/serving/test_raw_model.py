"""A model that reads raw columns, through every protocol: its answers are the model's own."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.http.gateway import Gateway
from serving.scoring import catalog
from serving.settings import Settings
from tests.artifact import bought
from tests.artifact.bought import records
from tests.serving.conftest import ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from tests.serving.conftest import Answer


@pytest.fixture(scope="module")
def gateway(
    bought_table: pd.DataFrame, bought_pipeline: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("bought")
    artifact = bought.seal(folder / "artifact", bought_pipeline, bought_table)
    models = catalog.load([("bought", "bought")], lambda _: (artifact.path, {"version": "1"}), Settings())
    assert models.refused == {}
    yield Gateway(elsewhere, models, Settings())
    models.close()


def sent(gateway: Gateway, path: str, body: Any) -> Answer:
    return asyncio.run(ask(gateway, "POST", path, json.dumps(body).encode()))


def test_predict_answers_what_the_model_answers(
    gateway: Gateway, bought_pipeline: Any, bought_table: pd.DataFrame
) -> None:
    """By record, by position and by column, with probabilities in the order of the signature's classes."""
    rows = records(bought_table, 30)
    names = ["age", "city", "member", "note"]
    expected = bought_pipeline.predict(bought_table.head(30)).tolist()
    forms = (
        {"records": rows},
        {"features": [[row[name] for name in names] for row in rows]},
        {"columns": {name: [row[name] for row in rows] for name in names}},
    )
    for form in forms:
        found = sent(gateway, "/predict", form | {"probabilities": True})
        assert found.status == 200, found.body
        assert found.json()["prediction"] == expected
        assert found.json()["classes"] == ["yes", "no"]
        np.testing.assert_allclose(
            found.json()["probabilities"],
            bought_pipeline.predict_proba(bought_table.head(30))[:, [1, 0]],
            rtol=0,
            atol=1e-12,
        )


def test_the_other_protocols_answer_the_same(
    gateway: Gateway, bought_pipeline: Any, bought_table: pd.DataFrame
) -> None:
    rows = [row for row in records(bought_table, 40) if None not in row.values()]
    kept = [i for i, row in enumerate(records(bought_table, 40)) if None not in row.values()]
    expected = bought_pipeline.predict(bought_table.iloc[kept]).tolist()
    mlflow = sent(gateway, "/invocations", {"dataframe_records": rows})
    assert mlflow.status == 200, mlflow.body
    assert mlflow.json()["predictions"] == expected
    datatypes = {"age": "FP64", "city": "BYTES", "member": "BYTES", "note": "BYTES"}
    inputs = [
        {
            "name": name,
            "shape": [len(rows), 1],
            "datatype": kind,
            "data": [str(row[name]).lower() if name == "member" else row[name] for row in rows],
        }
        for name, kind in datatypes.items()
    ]
    oip = sent(gateway, "/v2/models/bought/infer", {"inputs": inputs})
    assert oip.status == 200, oip.body
    assert oip.json()["outputs"][0]["data"] == expected


def test_its_page_and_the_openapi_document_describe_it(gateway: Gateway) -> None:
    page = asyncio.run(ask(gateway, "GET", "/models/bought"))
    assert page.json()["runtime"] == "python"
    assert page.json()["signature"]["columns"][1]["categories"] == ["Ulm", "Bern"]
    example = page.json()["example"]
    assert sent(gateway, "/predict", {"records": [example]}).status == 200
    assert asyncio.run(ask(gateway, "GET", "/openapi.json")).status == 200
