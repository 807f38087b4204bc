"""Rows that follow a model's signature, and answers held against golden ones."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact.encode import Encoder
from artifact.signature import Column, Signature
from loadtests import payloads
from loadtests.errors import UsageError
from loadtests.payloads import Expected, Golden, Request
from loadtests.protocols import INFER, INVOCATIONS, PREDICT, Answer, Model, WrongAnswerError

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.protocols import Protocol


def description(signature: Signature) -> dict[str, Any]:
    """As `GET /models/{name}` shows a signature."""
    return {
        "name": "m",
        "version": "3",
        "run_id": "r" * 16,
        "task": signature.task,
        "signature": {
            "columns": [
                msgspec.to_builtins(column) | {"missing": column.missing} for column in signature.columns
            ],
            "classes": list(signature.classes),
            "positive": signature.positive,
            "threshold": signature.threshold,
        },
        "example": signature.example,
    }


finite = st.floats(-1e6, 1e6)
names = st.text("abcdefgh_", min_size=1, max_size=8)


@st.composite
def columns(draw: st.DrawFn) -> Column:
    kind = draw(st.sampled_from(["number", "category", "text", "date"]))
    column: dict[str, Any] = {
        "name": draw(names),
        "kind": kind,
        "missing": draw(st.sampled_from(["allow", "refuse"])),
    }
    if kind == "number":
        low, middle, high = sorted(draw(st.tuples(finite, finite, finite)))
        column |= {"integer": draw(st.booleans())}
        if draw(st.booleans()):
            column |= {"minimum": low, "median": middle, "maximum": high}
        if column["integer"]:
            column |= {key: float(round(column[key])) for key in ("minimum", "maximum") if key in column}
    elif kind == "category":
        known = draw(st.lists(names, min_size=1, max_size=5, unique=True))
        column |= {"categories": tuple(known), "mode": known[0]}
    elif kind == "text":
        column |= {"terms": ("late", "paid"), "idf": (1.5, 1.25)}
    else:
        column |= {"parts": ("year", "month"), "middle": draw(st.dates()).isoformat()}
    return Column(**column)


@given(st.lists(columns(), min_size=1, max_size=6, unique_by=lambda column: column.name), st.integers())
def test_every_row_is_one_that_the_model_takes(found: list[Column], seed: int) -> None:
    """Within the bounds, of the known categories, and missing only where that is allowed."""
    signature = Signature(task="regression", target="y", columns=tuple(found))
    model = Model.of(description(signature), default=True)
    random = Random(seed)  # noqa: S311 - the same rows in each run

    rows = [payloads.row(model, random) for _ in range(20)]

    Encoder(signature).rows(rows)
    for row in rows:
        for column, cell in zip(found, row, strict=True):
            if column.kind == "number" and column.minimum is not None and cell is not None:
                assert column.minimum <= cell <= column.maximum
                assert isinstance(cell, int) or not column.integer


def test_rows_differ_and_are_the_same_in_each_run() -> None:
    signature = Signature(task="regression", target="y", columns=(Column(name="x", kind="number"),))
    model = Model.of(description(signature), default=True)

    one, two = (payloads.made(PREDICT, model, Random(7), 20) for _ in range(2))  # noqa: S311

    assert one == two
    assert len({request.body for request in one}) > 10


def test_a_value_may_be_missing_where_the_signature_allows_it() -> None:
    column = {"name": "x", "kind": "number", "missing": "allow"}

    cells = [payloads.cell(column, 3.0, Random(seed)) for seed in range(300)]  # noqa: S311

    assert 0 < cells.count(None) < 100


# ---- golden rows

COLUMNS = tuple(Column(name=name, kind="number", median=1.0) for name in "ab")
BINARY = Signature(task="binary", target="y", columns=COLUMNS, classes=("no", "yes"), positive="yes")
NUMBER = Signature(task="regression", target="y", columns=COLUMNS)
GOLDEN = {"records": [{"a": 1, "b": 2}], "scores": [[0.25, 0.75]], "tolerance": 1e-5}


def model_of(signature: Signature) -> Model:
    return Model.of(description(signature), default=True)


def read_golden(tmp_path: Path, model: Model, **changes: Any) -> Golden:
    path = tmp_path / "golden.json"
    path.write_text(json.dumps(GOLDEN | changes))
    return payloads.read_golden(path, model)


def test_golden_rows_of_the_live_model_are_read(tmp_path: Path) -> None:
    found = read_golden(tmp_path, model_of(BINARY))

    assert found == Golden(**GOLDEN)
    assert Golden(**found.message()) == found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"records": [{"a": 1}]}, "not that of the live model 'm' version 3 .its rows have no 'b'"),
        ({"scores": [[1, 2, 3]]}, "its rows have 3 scores, the model has 2"),
        ({"records": []}, "has 0 records and 1 lists of scores"),
        ({"records": [1]}, "is not the golden.json"),
        ({"tolerance": None}, "is not the golden.json"),
    ],
)
def test_golden_rows_of_another_model_are_refused(tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_golden(tmp_path, model_of(BINARY), **changes)


def test_the_manifest_beside_the_golden_rows_says_whose_they_are(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"sha256": "", "manifest": {"name": "m", "run_id": "r" * 16}}))
    read_golden(tmp_path, model_of(BINARY))

    manifest.write_text(json.dumps({"sha256": "", "manifest": {"name": "old", "run_id": "0" * 16}}))
    with pytest.raises(UsageError, match="its manifest names 'old', run 000000000000"):
        read_golden(tmp_path, model_of(BINARY))


def test_a_golden_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        payloads.read_golden(tmp_path / "golden.json", model_of(BINARY))


def right(protocol: Protocol, *, label: Any = "yes", scores: tuple[float, ...] = (0.25, 0.75)) -> bytes:
    """What the server answers to a golden row."""
    answers: dict[str, Any] = {
        "predict": {"prediction": [label], "probabilities": [scores]},
        "infer": {
            "outputs": [{"name": "prediction", "data": [label]}, {"name": "probabilities", "data": scores}]
        },
        "invocations": {"predictions": [dict(zip(("no", "yes"), scores, strict=True))]},
    }
    return json.dumps(answers[protocol.endpoint]).encode()


REQUEST = Request(b"", Expected(0, [0.25, 0.75], 1e-5))


@pytest.mark.parametrize("protocol", [PREDICT, INFER, INVOCATIONS], ids=lambda one: one.endpoint)
def test_an_answer_within_the_tolerance_is_right_and_any_other_wrong(protocol: Protocol) -> None:
    model = model_of(BINARY)

    payloads.check(protocol, model, REQUEST, right(protocol, scores=(0.250009, 0.749991)))
    for wrong in (
        right(protocol, scores=(0.2502, 0.7498)),
        right(protocol, scores=(0.75, 0.25)),
        b"{}",
        b"[]",
        b"<html>",
        b"",
    ):
        with pytest.raises(WrongAnswerError):
            payloads.check(protocol, model, REQUEST, wrong)


@pytest.mark.parametrize("protocol", [PREDICT, INFER], ids=lambda one: one.endpoint)
def test_a_label_that_does_not_follow_from_the_scores_is_wrong(protocol: Protocol) -> None:
    with pytest.raises(WrongAnswerError, match="'no', expected 'yes'"):
        payloads.check(protocol, model_of(BINARY), REQUEST, right(protocol, label="no"))


@pytest.mark.parametrize(
    ("threshold", "positive", "allowed"),
    [(None, "yes", ["yes"]), (0.8, "yes", ["no"]), (0.75, "yes", ["yes", "no"]), (0.3, "no", ["yes"])],
)
def test_the_threshold_decides_the_label(threshold: float | None, positive: str, allowed: list[str]) -> None:
    signature = msgspec.structs.replace(BINARY, threshold=threshold, positive=positive)

    assert payloads.right_labels(model_of(signature), Expected(0, [0.25, 0.75], 1e-5)) == allowed


def test_a_regression_is_held_against_its_number() -> None:
    model, request = model_of(NUMBER), Request(b"", Expected(0, [7.0], 0.5))

    payloads.check(PREDICT, model, request, b'{"prediction":[7.4]}')
    payloads.check(INVOCATIONS, model, request, b'{"predictions":[6.6]}')
    with pytest.raises(WrongAnswerError):
        payloads.check(PREDICT, model, request, b'{"prediction":[7.6]}')


@pytest.mark.parametrize("label", ["maybe", 1, None, [1]])
def test_without_golden_rows_a_label_has_to_be_one_of_the_models_own(label: Any) -> None:
    body = json.dumps({"prediction": [label]}).encode()

    with pytest.raises(WrongAnswerError):
        payloads.check(PREDICT, model_of(BINARY), Request(b""), body)


@pytest.mark.parametrize(("one", "other"), [("a", "a"), (1, 1), (True, "true"), ("3", 3)])
def test_a_protocol_may_write_a_label_as_text(one: Any, other: Any) -> None:
    assert payloads.same(one, other)
    assert payloads.same(other, one)
    assert not payloads.same(one, "b")


def test_a_golden_score_that_is_not_a_number_is_never_right() -> None:
    with pytest.raises(WrongAnswerError):
        payloads.compare(model_of(NUMBER), Expected(0, [1.0], 1.0), Answer(float("nan"), [float("nan")]))
