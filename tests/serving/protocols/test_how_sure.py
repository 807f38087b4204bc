"""The options `interval` and `warnings` of `/predict`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from serving.http.gateway import Gateway
from serving.scoring import catalog
from tests.serving import artifacts
from tests.serving.conftest import PATIENT_SETTINGS, Answer, ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.serving.artifacts import Made


def post(gateway: Gateway, path: str, body: Any) -> Answer:
    return asyncio.run(ask(gateway, "POST", path, json.dumps(body).encode()))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A model from before artifacts were calibrated."""
    made = artifacts.iris(tmp_path_factory.mktemp("bare") / "iris")
    (made.path / "calibration.json").unlink()
    artifacts.reseal(made.path)
    found = catalog.load([("iris", "iris")], lambda _: (made.path, {"version": "1"}), PATIENT_SETTINGS)
    yield Gateway(elsewhere, found, PATIENT_SETTINGS)
    found.close()


def test_a_regression_has_intervals_around_its_predictions(gateway: Gateway) -> None:
    """The artifact's misses are 0.1, 0.2, ... of 99 rows, so that the ninetieth is 9.0."""
    found = post(gateway, "/models/linear/predict", {"features": [[3], [4]], "interval": 0.9}).json()
    assert found["level"] == 0.9
    assert np.allclose(found["intervals"], [[6 - 9, 6 + 9], [8 - 9, 8 + 9]])
    alone = post(gateway, "/models/linear/predict", {"x": 3, "interval": 0.5}).json()
    assert np.allclose(alone["intervals"], [6 - 5, 6 + 5])
    assert alone["prediction"] == pytest.approx(6)


def test_classes_have_sets_that_grow_with_the_level(gateway: Gateway, made: dict[str, Made]) -> None:
    rows = made["iris"].rows[70:74]
    sizes = []
    for level in (0.1, 0.9, 0.99):
        found = post(gateway, "/models/iris/predict", {"features": rows, "interval": level}).json()
        assert [each[0] for each in found["sets"]] == found["prediction"]
        sizes.append(sum(map(len, found["sets"])))
    assert sizes[0] == 4
    assert sizes == sorted(sizes)
    assert sizes[2] > 4


@pytest.mark.parametrize("level", [0, 1, -0.5, 1.5, 90, "0.9", True, [0.9], 1e-400])
def test_a_level_outside_0_to_1_is_refused(gateway: Gateway, level: Any) -> None:
    answer = post(gateway, "/models/linear/predict", {"features": [[3]], "interval": level})
    assert answer.status == 422
    assert "'interval': expected a number between 0 and 1" in answer.json()["detail"]


def test_a_level_that_the_rows_cannot_promise_names_the_highest(gateway: Gateway) -> None:
    answer = post(gateway, "/models/linear/predict", {"features": [[3]], "interval": 0.999})
    assert answer.status == 422
    assert "99 held-out rows, which can promise at most 0.99" in answer.json()["detail"]


def test_a_model_that_is_not_calibrated_says_how(bare: Gateway, made: dict[str, Made]) -> None:
    answer = post(bare, "/predict", {"features": made["iris"].rows[:1], "interval": 0.9})
    assert answer.status == 422
    assert "python -m training run iris" in answer.json()["detail"]


def test_options_go_together(gateway: Gateway, made: dict[str, Made]) -> None:
    body = {"features": made["iris"].rows[:2], "interval": 0.9, "warnings": True, "probabilities": True}
    found = post(gateway, "/models/iris/explain", body).json()
    assert {"sets", "level", "warnings", "probabilities", "explanations"} <= found.keys()


# ---- warnings


def counted(model: str, kind: str) -> float:
    (metric,) = (each for each in REGISTRY.collect() if each.name == "okamochi_warnings")
    found = [s for s in metric.samples if s.name.endswith("_total") and s.labels["kind"] == kind]
    return sum(s.value for s in found if s.labels["model"] == model and s.labels["version"])


GOOD = {"age": 40, "income": None, "job": "clerk", "city": "Ulm", "since": "2020-05-17", "note": "paid"}


@pytest.mark.parametrize("form", ["records", "features", "columns"])
def test_what_is_unusual_is_told_with_its_place_and_counted(gateway: Gateway, form: str) -> None:
    rows = [GOOD, GOOD | {"age": 95}, GOOD | {"city": "Rome"}, GOOD | {"city": None}, GOOD | {"age": 18}]
    body: Any = {"records": rows}
    if form == "features":
        body = {"features": [list(row.values()) for row in rows]}
    elif form == "columns":
        body = {"columns": {name: [row[name] for row in rows] for name in GOOD}}
    before = counted("loans", "outside_training"), counted("loans", "unknown_category")

    found = post(gateway, "/models/loans/predict", body | {"warnings": True}).json()

    assert found["warnings"] == [
        {
            "row": 1,
            "column": "age",
            "kind": "outside_training",
            "detail": "95 is outside the training rows' 18 to 90",
        },
        {
            "row": 2,
            "column": "city",
            "kind": "unknown_category",
            "detail": "'Rome' is unknown and counts as missing",
        },
    ]
    assert found["warnings_left_out"] == 0
    after = counted("loans", "outside_training"), counted("loans", "unknown_category")
    assert after == (before[0] + 1, before[1] + 1)


def test_usual_rows_have_no_warnings_and_a_bound_is_no_outside(
    gateway: Gateway, made: dict[str, Made]
) -> None:
    """Every training row, as the float32 of the matrix rounds it."""
    found = post(gateway, "/predict", {"features": made["breast_cancer"].rows, "warnings": True}).json()
    assert found["warnings"] == []
    assert "warnings" not in post(gateway, "/predict", {"features": made["breast_cancer"].rows[:1]}).json()


def test_many_warnings_are_cut_and_the_rest_is_counted(gateway: Gateway) -> None:
    body = {"features": [[1e6]] * 250, "warnings": True}
    found = post(gateway, "/models/linear/predict", body).json()
    assert len(found["warnings"]) == 100
    assert found["warnings_left_out"] == 150


def test_a_drift_alarm_is_a_warning_about_its_column(gateway: Gateway, made: dict[str, Made]) -> None:
    model = gateway.catalog.live["iris"]

    class Alarmed:
        alarmed = frozenset({"petal_length", ""})

    object.__setattr__(model, "drift", Alarmed())
    try:
        found = post(gateway, "/models/iris/predict", {"features": made["iris"].rows[:1], "warnings": True})
    finally:
        object.__setattr__(model, "drift", None)
    warnings = found.json()["warnings"]
    assert [(each["row"], each["column"], each["kind"]) for each in warnings] == [
        (None, "", "drift"),
        (None, "petal_length", "drift"),
    ]


@pytest.mark.parametrize("value", [1, "true", []])
def test_a_wrong_value_of_warnings_is_refused(gateway: Gateway, value: Any) -> None:
    answer = post(gateway, "/models/linear/predict", {"features": [[3]], "warnings": value})
    assert answer.status == 422
    assert "'warnings': expected true or false" in answer.json()["detail"]


def test_an_artifact_holds_its_misses_sorted(made: dict[str, Made]) -> None:
    found = msgspec.json.decode((made["linear"].path / "calibration.json").read_bytes())["misses"]
    assert found == sorted(found)


def test_the_setting_rounds_for_callers_without_a_key(made: dict[str, Made]) -> None:
    """A threshold is compared with what is shown, so that a few of them do not find out the rest."""
    settings = replace(PATIENT_SETTINGS, probability_digits=1)
    found = catalog.load(
        [("breast_cancer", "")], lambda _: (made["breast_cancer"].path, {"version": "1"}), settings
    )
    gateway, rows = Gateway(elsewhere, found, settings), made["breast_cancer"].rows
    positive = made["breast_cancer"].signature.positive_index
    chances = post(gateway, "/predict", {"features": rows, "probabilities": True}).json()["probabilities"]
    assert all(round(chance, 1) == chance for row in chances for chance in row)
    for threshold in (0.3, 0.5001, 0.62):
        body = {"features": rows, "threshold": threshold}
        labels = post(gateway, "/predict", body).json()["prediction"]
        assert [label == "malignant" for label in labels] == [row[positive] >= threshold for row in chances]
        body = {"inputs": rows, "params": {"threshold": threshold}}
        assert post(gateway, "/invocations", body).json()["predictions"] == labels
    found.close()
