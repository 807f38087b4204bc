"""`/predict` with a CSV or Parquet file, alone or in a form, as curl and browsers send it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pandas as pd
import pytest

from serving.http.gateway import Gateway
from serving.protocols.predict import files
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere

if TYPE_CHECKING:
    from serving.scoring.catalog import Catalog

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
LOANS = pd.DataFrame(
    [
        {
            "age": 30,
            "income": None,
            "job": "clerk",
            "city": "Ulm",
            "since": "2020-05-17",
            "note": "late, twice",
        },
        {"age": 61, "income": 9e4, "job": "cook", "city": None, "since": "2001-01-02", "note": None},
    ]
)


@pytest.fixture(scope="module")
def loans(models: Catalog) -> Gateway:
    live = {"loans": models.live["loans"]}
    return Gateway(elsewhere, replace(models, live=live, default="loans"), PATIENT_SETTINGS)


def in_csv(frame: pd.DataFrame, **options: Any) -> bytes:
    return frame.to_csv(index=False, **options).encode()


def in_parquet(frame: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


def post(gateway: Gateway, body: bytes, kind: str, path: str = "/predict", **headers: str) -> Any:
    all_headers = {"content-type": kind, **headers}
    return asyncio.run(ask(gateway, "POST", path, body, all_headers))


def form(gateway: Gateway, path: str = "/predict", accept: str = "*/*", **parts: Any) -> Any:
    """A form as httpx, and so requests and browsers, write it."""
    sent = httpx.Request("POST", "http://h/", files=parts)
    return post(gateway, sent.read(), sent.headers["content-type"], path, accept=accept)


@pytest.fixture(scope="module")
def expected(loans: Gateway) -> Any:
    body = json.dumps({"records": json.loads(LOANS.to_json(orient="records"))}).encode()
    found = post(loans, body, "application/json").json()["prediction"]
    assert len(found) == 2
    return found


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CSV, in_csv(LOANS)),
        ("text/csv; charset=utf-8", b"\xef\xbb\xbf" + in_csv(LOANS, lineterminator="\r\n")),
        (CSV, LOANS.to_csv().encode()),  # with pandas' row numbers
        (PARQUET, in_parquet(LOANS)),
        (PARQUET, in_parquet(LOANS.set_index(pd.Index([5, 9])))),
    ],
)
def test_a_file_is_a_body(loans: Gateway, expected: Any, kind: str, body: bytes) -> None:
    found = post(loans, body, kind)
    assert (found.status, found.json().get("prediction")) == (200, expected), found.body


@pytest.mark.parametrize(
    "part",
    [
        ("loans.csv", in_csv(LOANS), CSV),
        ("loans.csv", in_csv(LOANS)),
        ("LOANS.CSV", in_csv(LOANS), "application/octet-stream"),
        ("loans.parquet", in_parquet(LOANS)),
        ("loans", in_parquet(LOANS), "application/octet-stream"),
    ],
)
def test_a_file_is_a_part_of_a_form(loans: Gateway, expected: Any, part: Any) -> None:
    found = form(loans, upload=part)
    assert (found.status, found.json().get("prediction")) == (200, expected), found.body


def test_fields_of_a_form_are_options_or_one_row(loans: Gateway, expected: Any) -> None:
    found = form(loans, file=("a.csv", in_csv(LOANS)), probabilities=(None, b"true"), threshold=(None, b"1"))
    assert found.status == 200
    assert len(found.json()["probabilities"]) == 2
    row = {name: (None, str(cell).encode()) for name, cell in LOANS.iloc[0].dropna().items()}
    found = form(loans, **row)
    assert (found.status, found.json()["prediction"]) == (200, expected[:1])
    found = form(loans, "/explain", file=("a.csv", in_csv(LOANS)))
    assert (found.status, len(found.json()["explanations"])) == (200, 2)


def test_accept_chooses_an_answer_in_csv(loans: Gateway, expected: Any) -> None:
    found = post(loans, in_csv(LOANS), CSV, accept="text/csv")
    assert found.status == 200
    assert found.headers["content-type"] == CSV
    assert list(csv.reader(io.StringIO(found.body.decode()))) == [
        ["prediction"],
        *([json.dumps(one)] for one in expected),
    ]
    found = form(loans, accept="text/csv", file=("a.csv", in_csv(LOANS)), probabilities=(None, b"true"))
    rows = list(csv.DictReader(io.StringIO(found.body.decode())))
    assert [json.loads(row.pop("prediction")) for row in rows] == expected
    assert all(name.startswith("probability_") for name in rows[0])
    assert sum(map(float, rows[0].values())) == pytest.approx(1)
    for accept in ("application/json, text/csv", "*/*"):
        assert post(loans, in_csv(LOANS), CSV, accept=accept).json()["prediction"] == expected
    found = form(loans, accept="text/csv", file=("a.csv", in_csv(LOANS)), warnings=(None, b"true"))
    assert found.status == 422
    assert "an answer in CSV has none" in found.json()["detail"]


@pytest.mark.parametrize("file", ["loans.csv", "loans.parquet"])
def test_a_wrong_cell_is_named_by_file_line_and_column(loans: Gateway, file: str) -> None:
    wrong = LOANS.assign(job=["clerk", "pope"], note=["two\nlines", "one"])
    content = in_parquet(wrong) if file.endswith("parquet") else in_csv(wrong)
    found = form(loans, upload=(file, content))
    assert found.status == 422
    place = f"{file}, row 2" if file.endswith("parquet") else f"{file}, line 4"
    assert found.json()["detail"].startswith(f"{place}, column 'job': ")
    (error,) = found.json()["errors"]
    assert (error["row"], error["column"]) == (1, "job")
    assert error["reason"].startswith(f"{place}: ")


def bad_form(body: bytes) -> tuple[bytes, str]:
    return body, 'multipart/form-data; boundary="x"'


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", CSV, 400, "The body is empty; expected CSV with a header."),
        (b"age\n\xff\n", CSV, 400, "not UTF-8 at byte 4"),
        (b'age\n"1\n', CSV, 400, "The body is not CSV: line"),
        (b"age,job\n1\n", CSV, 400, "line 2 has 1 fields, the header has 2"),
        (b"agee\n1\n", CSV, 422, "column 'agee': unknown column; did you mean 'age'?"),
        (b"PAR1", PARQUET, 400, "The body is no Parquet that can be read"),
        (in_parquet(LOANS)[:-50], PARQUET, 400, "The body is no Parquet that can be read"),
        (in_parquet(pd.DataFrame({"age": range(200_000)})), PARQUET, 413, "200000 rows in one request"),
        (b"x", "multipart/form-data", 400, "has no boundary"),
        (*bad_form(b"nothing of a form"), 400, "The form cannot be read"),
        (
            *bad_form(b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\nabc'),
            400,
            "The form is cut off",
        ),
        (*bad_form(b"--x\r\nA: b\r\n\r\nabc\r\n--x--\r\n"), 400, "no Content-Disposition: form-data"),
        (*bad_form(b"--x--\r\n"), 422, "The form has no file"),
        (b"<x/>", "application/xml", 415, "multipart/form-data"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(
    loans: Gateway, body: bytes, kind: str, status: int, said: str
) -> None:
    found = post(loans, body, kind)
    assert (found.status, said in found.json()["detail"]) == (status, True), found.body


def test_a_form_with_too_much_or_the_wrong_fields_is_refused(loans: Gateway) -> None:
    rows = in_csv(LOANS)
    for parts, said in [
        ({"a": ("a.csv", rows), "b": ("b.csv", rows)}, "2 tables: 'a.csv', 'b.csv'; expected one"),
        ({"a": ("a.csv", rows), "age": (None, b"3")}, "the file 'a.csv' and the field 'age'; expected one"),
        ({"a": ("a.csv", rows), "colour": (None, b"3")}, "The form has the field 'colour'; expected"),
        ({"a": ("a.csv", rows), "threshold": (None, b"2")}, "threshold"),
    ]:
        found = form(loans, **parts)
        assert (found.status, said in found.json()["detail"]) == (422, True), found.body
    assert form(loans, a=("a.csv", rows), probabilities=(None, b"yes")).status == 400  # no JSON
    many = httpx.Request("POST", "http://h/", files=[("age", (None, b"1"))] * 1_001)
    found = post(loans, many.read(), many.headers["content-type"])
    assert (found.status, "more than 1000 fields" in found.json()["detail"]) == (400, True)


def test_few_bytes_of_parquet_that_are_many_cells_are_refused(loans: Gateway) -> None:
    """A text of 1 MB in each of 500 rows is a file of less than 1 MB."""
    bomb = in_parquet(pd.DataFrame({"note": ["x" * (1 << 20)] * 500, "age": 1}))
    assert len(bomb) < 1 << 20
    found = post(loans, bomb, PARQUET)
    assert (found.status, "more than 64 MB of cells" in found.json()["detail"]) == (413, True)


def test_a_cut_or_changed_form_is_an_answer_or_a_sentence(loans: Gateway) -> None:
    sent = httpx.Request(
        "POST", "http://h/", files={"f": ("a.csv", in_csv(LOANS)), "threshold": (None, b"1")}
    )
    body, kind = sent.read(), sent.headers["content-type"]
    chance = random.Random(0)  # noqa: S311
    for _ in range(300):
        changed = bytearray(body[: chance.randrange(1, len(body) + 1)])
        for _ in range(chance.randrange(3)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        assert post(loans, bytes(changed), kind).status in {200, 400, 413, 422}


def test_without_pyarrow_parquet_is_415(loans: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the server's image."""
    content = in_parquet(LOANS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = post(loans, content, PARQUET)
    assert (found.status, "needs the package pyarrow; send CSV" in found.json()["detail"]) == (415, True)


def test_numbers_in_csv_are_as_json_has_them() -> None:
    assert files.csv_of({"a": [1.5, None], "b": ["x,y", 'q"']}) == b'a,b\r\n1.5,"x,y"\r\n,"q"""\r\n'
