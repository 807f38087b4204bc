"""`/predict` with a CSV or Parquet file, alone or in a form, as curl and browsers send it."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import decimal
import io
import json
import random
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from artifact.signature import Column, Signature
from serving.http.gateway import Gateway
from serving.protocols import Head
from serving.protocols.media import prefers
from serving.protocols.predict import files, parquet
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
POOL = pa.proxy_memory_pool(pa.default_memory_pool())
"""Counts what pyarrow allocates; it must outlive all that was allocated from it."""


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


def to_parquet(columns: dict[str, Any], **how: Any) -> bytes:
    out = io.BytesIO()
    write_table(pa.table(columns), out, **how)
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


def test_names_with_quotes_come_as_browsers_escape_them() -> None:
    """`"` is sent as `%22` (HTML, "multipart/form-data encoding"); a name that has `%22` itself stays."""
    names = ('say "hi"', "two\nlines", "a%22b", "客户")
    columns = tuple(Column(name=name, kind="text") for name in names)
    model: Any = SimpleNamespace(signature=Signature(task="regression", target="y", columns=columns))
    sent = httpx.Request("POST", "http://h/", files={name: (None, f"of {name}") for name in names})
    head = Head(content_type=sent.headers["content-type"].encode())
    found = files.read(sent.read(), head, model)
    assert found.request == {"records": [{name: f"of {name}" for name in names}]}


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
    assert "a reply in CSV has no place for it" in found.json()["detail"]


@pytest.mark.parametrize(
    ("accept", "csv_wanted"),
    [
        ("text/csv", True),
        ("Text/CSV; header=present", True),
        ("text/csv, */*", True),
        ("text/*", True),
        ("application/json;q=0.1, text/csv;q=0.2", True),
        ("application/json;q=0, text/csv", True),
        ("text/csv, text/csv;q=1, application/*;q=0.9", True),
        ("*/*", False),
        ("", False),
        ("text/csv;q=0", False),
        ("text/csv;Q=0.000", False),
        ("text/csv;q=0, */*;q=0", False),
        ("text/csv;q=x", False),
        ("text/csv;q=0.5, */*", False),
        ("text/csv;q=0.5, application/json;q=0.9", False),
        ("text/csv, application/json", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/xml", False),
    ],
)
def test_the_weights_of_accept_count(accept: str, *, csv_wanted: bool) -> None:
    assert prefers(Head(headers=((b"accept", accept.encode()),)), b"text/csv") is csv_wanted
    lines = tuple((b"accept", part.encode()) for part in accept.split(","))
    assert prefers(Head(headers=lines), b"text/csv") is csv_wanted


@pytest.mark.parametrize("path", ["/predict", "/invocations"])
def test_a_column_that_stands_twice_is_refused(loans: Gateway, path: str) -> None:
    """Which of the two a client means is not to be guessed; a name may have two spellings in Unicode."""
    body = in_csv(LOANS.assign(other=LOANS["age"] + 1)).replace(b"other", b"age")
    found = post(loans, body, CSV, path)
    assert (found.status, b"The column 'age' stands twice in the header." in found.body) == (400, True)
    accents = in_csv(LOANS.assign(one=1, two=2)).replace(b"one", "caf\u00e9".encode())
    assert post(loans, accents.replace(b"two", "cafe\u0301".encode()), CSV, path).status == 400


def test_columns_of_parquet_and_fields_of_forms_stand_once(loans: Gateway) -> None:
    once = pa.Table.from_pandas(LOANS, preserve_index=False)
    out = io.BytesIO()
    write_table(once.append_column("age", once["age"]), out)
    found = form(loans, file=("a.parquet", out.getvalue()))
    assert (found.status, found.json()["detail"]) == (400, "The column 'age' stands twice in a.parquet.")
    row = {name: (None, str(cell).encode()) for name, cell in LOANS.iloc[0].dropna().items()}
    for parts, name in (
        ([*row.items(), ("age", (None, b"31"))], "age"),
        ([("f", ("a.csv", in_csv(LOANS))), *2 * [("probabilities", (None, b"true"))]], "probabilities"),
    ):
        sent = httpx.Request("POST", "http://h/", files=parts)
        found = post(loans, sent.read(), sent.headers["content-type"])
        assert (found.status, found.json()["detail"]) == (422, f"The form has the field {name!r} twice.")


def test_the_charset_of_a_part_is_that_of_a_body(loans: Gateway, expected: Any) -> None:
    file = in_csv(LOANS)
    found = form(loans, file=("a.csv", file, "text/csv; charset=UTF-8"))
    assert (found.status, found.json().get("prediction")) == (200, expected)
    found = form(loans, file=("a.csv", file, "text/csv; charset=iso-8859-1"))
    assert (found.status, "Charset 'iso-8859-1' is not supported" in found.json()["detail"]) == (415, True)


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
    many = httpx.Request("POST", "http://h/", files=[("age", (None, b"1"))] * 40)
    found = post(loans, many.read(), many.headers["content-type"])
    assert (found.status, "more than " in found.json()["detail"]) == (400, True)


@pytest.mark.parametrize("kind", [CSV, PARQUET, "form"])
def test_parquet_and_forms_are_read_in_a_thread_however_small(
    loans: Gateway, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    read, threads = files.read, []

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return read(*arguments)

    monkeypatch.setattr(files, "read", noted)
    rows = in_parquet(LOANS) if kind == PARQUET else in_csv(LOANS)
    found = form(loans, file=("a.csv", rows)) if kind == "form" else post(loans, rows, kind)
    assert found.status == 200
    assert [name.startswith("okamochi-read") for name in threads] == [kind != CSV]


def test_few_bytes_of_parquet_that_are_many_cells_are_refused(loans: Gateway) -> None:
    """A text of 1 MB in each of 500 rows is a file of less than 1 MB."""
    bomb = in_parquet(pd.DataFrame({"note": ["x" * (1 << 20)] * 500, "age": 1}))
    assert len(bomb) < 1 << 20
    found = post(loans, bomb, PARQUET)
    assert (found.status, "more than 64 MB of cells" in found.json()["detail"]) == (413, True)


def test_texts_of_a_parquet_file_are_bounded_before_they_are_expanded(loans: Gateway) -> None:
    """A page of 160 MB in a file of some KB, and a text of 2 MB that a dictionary has for 100 rows."""
    whole = to_parquet({"note": pa.array(["x" * 160_000_000])}, compression="zstd", use_dictionary=False)
    assert len(whole) < 100_000
    twice = to_parquet({"note": pa.array(["x" * 2_000_000] * 100).dictionary_encode()}, compression="zstd")
    assert len(twice) < 10_000
    usual = pa.default_memory_pool()
    pa.set_memory_pool(POOL)
    try:
        for body in (whole, twice):
            found = post(loans, body, PARQUET)
            assert (found.status, "more than 64 MB of cells" in found.json()["detail"]) == (413, True)
    finally:
        pa.set_memory_pool(usual)
    assert POOL.max_memory() < 150_000_000


@pytest.mark.parametrize(
    "header",
    [
        b"\x15\x00\x15\x01\x15\x00\x00",
        b"\x15\x00\x15\x00\x15\x80\x80\x80\x80\x20\x00",
        b"\x05\x84\x80\x08\x00\x00",
        b"\x19\x00\x00",
        b"\xf5" * 30,
    ],
)
def test_a_page_whose_header_pyarrow_could_read_otherwise_is_refused(header: bytes) -> None:
    """A negative size, a size that 32 bits cut, a field that 16 bits cut, a list, a long number."""
    with pytest.raises(ValueError, match="a page|its footer"):
        list(parquet._pages(header, 0, len(header)))


def test_the_pages_of_ordinary_files_are_read_as_pyarrow_reads_them() -> None:
    table = {"a": list(range(5_000)), "b": [str(i % 7) for i in range(5_000)], "c": [None, 1.5] * 2_500}
    for how in (
        {},
        {"use_dictionary": False, "compression": "none"},
        {"data_page_version": "2.0", "compression": "gzip", "data_page_size": 1_000},
        {"row_group_size": 900, "write_page_index": True, "write_page_checksum": True},
    ):
        columns, rows = parquet.columns_of(to_parquet(table, **how), "it", lambda _rows: None, {})
        assert (columns, rows) == (table, 5_000)


@pytest.mark.parametrize(
    ("cells", "status"),
    [
        (pa.array([2**62], pa.timestamp("us")), 400),
        (pa.array([-(2**62)], pa.timestamp("ms", tz="UTC")), 400),
        (pa.array([0], pa.timestamp("ms", tz="Nowhere/City")), 400),
        (pa.array([2**31 - 1], pa.date32()), 400),
        (pa.array([2**60], pa.time64("us")), 400),
        (pa.array([2**62], pa.duration("ms")), 400),
        (pa.array([dt.timedelta(1)]), 422),
        (pa.array([[1.0]]), 422),
        (pa.array([{"a": {"b": 1}}]), 422),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), 422),
        (pa.nulls(1), 200),
        (pa.array([decimal.Decimal("30.5")]), 200),
    ],
)
def test_a_cell_of_parquet_that_no_column_takes_is_refused(
    loans: Gateway, cells: pa.Array, status: int
) -> None:
    """Dates that Python does not have, and nested cells; never a 5xx, nor a missing value in silence."""
    row = {str(name): [value] for name, value in LOANS.iloc[0].items()}
    sent = to_parquet(row | {"income": cells})
    assert post(loans, sent, PARQUET).status == status


def test_a_schema_that_is_nested_too_deep_ends_no_worker(loans: Gateway) -> None:
    """pyarrow follows each level on its stack; this file of some KB would overrun it."""
    level = b"\x35\x02\x18\x01a\x15\x02\x00"  # optional, the name a, one child
    leaf = b"\x15\x0a\x25\x02\x18\x01x\x00"
    footer = b"\x15\x02\x19\xfc\xa2\x9c\x01" + level * 20_001 + leaf + b"\x16\x00\x19\x0c\x00"
    found = post(loans, b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1", PARQUET)
    assert (found.status, "no Parquet that can be read" in found.json()["detail"]) == (400, True), found.body


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
