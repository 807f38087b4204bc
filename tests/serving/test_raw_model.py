"""A model that reads raw columns, through every protocol: its answers are the model's own."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.http.gateway import Gateway
from serving.scoring import catalog
from tests.artifact import bought
from tests.artifact.bought import records
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere

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
    models = catalog.load(
        [("bought", "bought")], lambda _: (artifact.path, {"version": "1"}), PATIENT_SETTINGS
    )
    assert models.refused == {}
    yield Gateway(elsewhere, models, PATIENT_SETTINGS)
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


NUMBERS = ("money", "moment", "step")


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A model that gives back the sum of its columns, all of them numbers that float32 does not hold."""
    folder = tmp_path_factory.mktemp("exact") / "artifact"
    artifact = bought.seal_numbers(folder, NUMBERS)
    models = catalog.load([("exact", "exact")], lambda _: (artifact.path, {"version": "1"}), PATIENT_SETTINGS)
    assert models.refused == {}
    yield Gateway(elsewhere, models, PATIENT_SETTINGS)
    models.close()


@pytest.mark.parametrize("rows", [1, 3, 3_000], ids=["one row", "some rows", "a large body"])
def test_numbers_reach_a_raw_model_unrounded(exact: Gateway, rows: int) -> None:
    """By every route and form, also where a body is read in one pass; a moment in seconds has no float32."""
    random = np.random.default_rng(1)
    matrix = np.column_stack(
        [random.random(rows) * 1e6, 1_700_000_000 + np.arange(rows), np.full(rows, 1 / 3)]
    )
    lines = matrix.tolist()
    records = [dict(zip(NUMBERS, line, strict=True)) for line in lines]
    columns = {name: matrix[:, i].tolist() for i, name in enumerate(NUMBERS)}
    expected = matrix.sum(axis=1).tolist()
    for form in ({"features": lines}, {"records": records}, {"columns": columns}):
        found = sent(exact, "/predict", form)
        assert found.json()["prediction"] == expected, form.keys()
    split = {"columns": list(NUMBERS), "data": lines}
    for body in (
        {"dataframe_split": split},
        {"dataframe_records": records},
        {"instances": lines},
        {"inputs": columns},
        {"instances": records},
    ):
        assert sent(exact, "/invocations", body).json()["predictions"] == expected, body.keys()
    csv = "\n".join([",".join(NUMBERS), *(",".join(map(repr, line)) for line in lines)])
    found = asyncio.run(ask(exact, "POST", "/invocations", csv.encode(), {"Content-Type": "text/csv"}))
    assert found.json()["predictions"] == expected
    for data in (lines, matrix.ravel().tolist()):
        tensor = {"name": "features", "shape": list(matrix.shape), "datatype": "FP64", "data": data}
        infer = sent(exact, "/v2/models/exact/infer", {"inputs": [tensor]})
        assert infer.json()["outputs"][0]["data"] == expected
    about = {"name": "features", "shape": list(matrix.shape), "datatype": "FP64"}
    head = json.dumps({"inputs": [about | {"parameters": {"binary_data_size": matrix.nbytes}}]}).encode()
    binary = asyncio.run(
        ask(
            exact,
            "POST",
            "/v2/models/exact/infer",
            head + matrix.tobytes(),
            {"Inference-Header-Content-Length": str(len(head))},
        )
    )
    assert binary.json()["outputs"][0]["data"] == expected
    assert sent(exact, "/score", {"rows": lines}).json() == expected


@pytest.mark.parametrize("bad", [1e39, -1e300, float("nan"), float("inf")])
def test_a_number_that_a_raw_model_may_not_get_is_refused_in_a_binary_tensor(
    exact: Gateway, bad: float
) -> None:
    matrix = np.array([[1.0, 2.0, bad]])
    about = {"name": "features", "shape": [1, 3], "datatype": "FP64"}
    head = json.dumps({"inputs": [about | {"parameters": {"binary_data_size": matrix.nbytes}}]}).encode()
    size = {"Inference-Header-Content-Length": str(len(head))}
    found = asyncio.run(ask(exact, "POST", "/v2/models/exact/infer", head + matrix.tobytes(), size))
    assert found.status == 422
    assert "step" in found.json()["error"]
