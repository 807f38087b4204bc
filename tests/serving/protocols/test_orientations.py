"""What pandas itself writes by `DataFrame.to_json`, in each orientation."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from serving.http.gateway import Gateway
from serving.protocols.orientations import frame_of
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere

if TYPE_CHECKING:
    from serving.scoring.catalog import Catalog

ORIENTS = ("records", "split", "columns", "index", "values", "table")
LOANS = pd.DataFrame(
    [
        {"age": 30, "income": None, "job": "clerk", "city": "Ulm", "since": "2020-05-17", "note": "late"},
        {"age": 61, "income": 9e4, "job": "cook", "city": None, "since": "2001-01-02", "note": None},
    ],
    index=[7, 3],
)


@pytest.fixture(scope="module")
def loans(models: Catalog) -> Gateway:
    from dataclasses import replace

    live = {"loans": models.live["loans"]}
    return Gateway(elsewhere, replace(models, live=live, default="loans"), PATIENT_SETTINGS)


def post(gateway: Gateway, path: str, body: str) -> tuple[int, Any]:
    found = asyncio.run(ask(gateway, "POST", path, body.encode()))
    return found.status, found.json()


@pytest.mark.parametrize("orient", ORIENTS)
@pytest.mark.parametrize("order", [1, -1])
def test_every_orientation_is_read(loans: Gateway, orient: Any, order: int) -> None:
    frame = LOANS.iloc[::order]
    names = loans.catalog.live["loans"].signature.names
    expected = post(loans, "/predict", json.dumps({"records": json.loads(frame.to_json(orient="records"))}))[
        1
    ]
    body = frame[list(names)].to_json(orient=orient)
    status, found = post(loans, "/predict", body)
    assert (status, found["prediction"]) == (200, expected["prediction"])
    status, found = post(loans, "/invocations", body)
    assert (status, found["predictions"]) == (200, expected["prediction"])
    if orient != "values":
        body = frame.iloc[:, ::-1].to_json(orient=orient)
        assert post(loans, "/predict", body)[1]["prediction"] == expected["prediction"], "other order"


@pytest.mark.parametrize("orient", ORIENTS)
def test_a_wrong_cell_is_named(loans: Gateway, orient: Any) -> None:
    names = list(loans.catalog.live["loans"].signature.names)
    body = LOANS.assign(job=["clerk", "pope"])[names].to_json(orient=orient)
    status, found = post(loans, "/predict", body)
    assert (status, found["errors"][0]["row"], found["errors"][0]["column"]) == (422, 1, "job")


def test_an_index_with_a_name_of_its_own_is_left_out(loans: Gateway) -> None:
    frame = LOANS.rename_axis("customer")
    assert post(loans, "/predict", frame.to_json(orient="table"))[0] == 200


def test_names_of_columns_outside_and_inside_are_refused(loans: Gateway) -> None:
    frame = LOANS.set_axis(["age", "job"], axis=0)
    for orient in ("columns", "index"):
        for path in ("/predict", "/invocations"):
            status, found = post(loans, path, frame.to_json(orient=orient))
            text = found.get("detail") or found["message"]
            assert status == (422 if path == "/predict" else 400)
            assert 'orient="split" or orient="records"' in text


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"age": {"0": 1, "1": 2}, "job": {"0": "cook"}}, "its index differs from that of 'age'"),
        ({"columns": ["age", "age"], "data": [[1, 2]]}, "stands twice"),
        ({"columns": ["age", "job"], "data": [[1, "cook"], [1]]}, "row 1: expected 2 values"),
        ({"columns": ["age", 5], "data": [[1, 2]]}, "list of names"),
        ({"columns": ["age", "jb"], "data": [[1, "cook"]]}, "jb"),
        ([[1, 2], {"age": 1}], "got a list"),
        ([1, 2], "got a list"),
        ([], "got a list"),
        ({"a": {"0": 1}}, "unknown key"),
        ({"age": {"0": [1]}}, "unknown key"),
        ({"schema": {"fields": []}, "data": [5]}, "row 0"),
    ],
)
def test_what_is_no_frame_is_refused(loans: Gateway, body: Any, says: str) -> None:
    status, found = post(loans, "/predict", json.dumps(body))
    assert (status, says in found["detail"]) == (422, True), found["detail"]
    assert post(loans, "/invocations", json.dumps(body))[0] == 400


def test_the_protocols_own_forms_stay_what_they_are(models: Catalog) -> None:
    model = models.live["linear"]
    for body, forms in (
        ({"columns": {"x": [1]}}, ("features", "records", "columns")),
        ({"x": 5}, ("features", "records", "columns")),
        ({"inputs": {"x": 5}}, ("inputs",)),
        ({"records": [{"x": 5}]}, ("records",)),
    ):
        assert frame_of(body, model, forms) is None
    assert frame_of({"x": {"0": 5}}, model, ()) == ("columns", {"x": [5]})
