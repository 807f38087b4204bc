"""What a value means, as docs/protocols.md says it: value x protocol x form, read from its own tables."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import math
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from artifact import csv_cells
from artifact.encode import MAX_NUMBER, BadRows, Encoder
from artifact.signature import Column, Signature
from deploy.score import rows
from serving.errors import Problem
from serving.protocols import Head, score
from serving.protocols.kserve import endpoint as kserve
from serving.protocols.mlflow.endpoint import InvocationsEndpoint
from serving.protocols.oip.endpoint import InferEndpoint
from serving.protocols.oip.tensors import DTYPES
from serving.protocols.predict.endpoint import PredictEndpoint
from serving.scoring import catalog
from tests.serving import artifacts
from tests.serving.conftest import PATIENT_SETTINGS
from tests.serving.protocols.forms import SCALAR, Form, forms, joined, tensor, tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.scoring.catalog import LiveModel

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "protocols.md").read_text()
KINDS = ("number", "category", "date", "text")
POLICIES = ("refuse", "allow")


class Line(NamedTuple):
    """One spelling of a table, and what it is said to mean in a column of each kind."""

    datatype: str  # of a binary tensor, else ""
    written: str
    means: dict[str, str]

    def __str__(self) -> str:
        return f"{self.datatype} {self.written}".strip()


def table(before: str) -> Iterator[Line]:
    """The lines of the table that follows a sentence of the page."""
    rows = DOCS.split(before, 1)[1].lstrip("\n").split("\n\n", 1)[0].splitlines()[2:]
    for row in rows:
        *head, number, category, date, text = (cell.strip(" ") for cell in row.strip("|").split("|"))
        means = dict(zip(KINDS, (number, category, date, text), strict=True))
        for datatype in head[0].split(", ") if len(head) == 2 else [""]:
            for written in re.findall(r"(?<!`)`([^`]*)`(?!`)|(``)(?= )", head[-1]):
                yield Line(datatype, written[0], means)


IN_JSON = list(table("In JSON, and in the texts of a BYTES tensor:"))
IN_CSV = list(table("In CSV, quoted or not:"))
IN_BINARY = list(table("In a binary tensor:"))


def column(kind: str, policy: str) -> Column:
    shape: dict[str, Any] = {
        "number": {"median": 7.0},
        "category": {"categories": ("clerk", "3", "0.1", "true"), "mode": "clerk"},
        "date": {"parts": ("year", "month", "day"), "formats": ("%d.%m.%Y",), "middle": "2021-03-04"},
        "text": {"terms": ("2020", "clerk", "na"), "idf": (1.5, 1.25, 2.0)},
    }[kind]
    unknown = "missing" if policy == "allow" else "refuse"
    own = {"unknown": unknown} if kind == "category" else {}
    return Column(name=f"{kind}_{policy}", kind=kind, missing=policy, marks=("?",), **shape, **own)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LiveModel]:
    """A model with a column of each kind and policy, one of two numbers and one of a single number."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    folder = tmp_path_factory.mktemp("values")
    every = tuple(column(kind, policy) for kind in KINDS for policy in POLICIES)
    numbers = tuple(column("number", policy) for policy in POLICIES)
    made = {}
    for name, columns in (("every", every), ("numbers", numbers), ("number", numbers[:1])):
        signature = Signature(
            task="binary", target="y", columns=columns, classes=("no", "yes"), positive="yes", ignored=("y",)
        )
        rows = [list(signature.example.values())] * 60
        model = HistGradientBoostingClassifier(max_iter=2)
        model.fit(np.random.default_rng(0).random((60, signature.width)), [0, 1] * 30)
        made[name] = artifacts.seal(folder / name, name, model, signature, rows, runtime="sklearn")
    found = catalog.load(
        [(name, name) for name in made], lambda tag: (made[tag].path, {"version": "1"}), PATIENT_SETTINGS
    )
    assert found.refused == {}
    return found.live


def matrix(model: LiveModel, form_path: str, body: bytes, head: Head | None = None) -> Any:
    """The rows that an endpoint reads, as float32, or "refused"."""
    try:
        module = {
            "/pre": PredictEndpoint,
            "/v1/": kserve.PredictEndpoint,
            "/v2/": InferEndpoint,
            "/inv": InvocationsEndpoint,
            "/sco": score.ScoreEndpoint,
        }
        kind = "/pre" if form_path.endswith("/predict") else form_path[:4]
        found: Any = module[kind](model).read(body, head or Head()).rows  # type: ignore[abstract]
    except Problem as problem:
        assert problem.status in (400, 422), problem.detail
        return "refused"
    if isinstance(found, bytes):
        found = np.frombuffer(found, np.float64)
    with np.errstate(over="raise"):
        return np.asarray(found, np.float32).reshape(-1, model.signature.width)


def examples(model: LiveModel) -> list[bytes]:
    return [json.dumps(cell).encode() for cell in model.signature.example.values()]


def place(model: LiveModel, name: str) -> slice:
    start = 0
    for each in model.signature.columns:
        if each.name == name:
            return slice(start, start + each.width)
        start += each.width
    raise KeyError(name)


def missing(kind: str, width: int) -> list[float]:
    return {"number": [math.nan], "category": [-1.0], "date": [math.nan] * width, "text": [0.0] * width}[kind]


def expected(line: Line, each: Column, value: Any) -> list[float] | str:
    """What a column becomes, from the words of the table; `value` is what was sent."""
    means = line.means[each.kind]
    if means == "refused":
        return "refused"
    if means in ("missing", "unknown"):
        policy = (
            each.missing if means == "missing" else {"refuse": "refuse", "missing": "allow"}[each.unknown]
        )
        return "refused" if policy == "refuse" else missing(each.kind, each.width)
    if means == "number":
        return [float(np.float32(float(value)))]
    if means == "text":
        found = np.zeros(each.width)
        for i, term in enumerate(each.terms):
            found[i] = re.findall(r"\w\w+", str(value).lower()).count(term) * each.idf[i]
        return (found / (np.sqrt(found @ found) or 1)).tolist()
    said = re.search(r"`([^`]+)`", means)
    assert said, means
    if means.startswith("category"):
        return [float(each.categories.index(said[1]))]
    assert means.startswith("date"), means
    return [float(part) for part in said[1].split("-")]


def check(  # noqa: PLR0917 - what was found, what was said, and where
    found: Any, line: Line, each: Column, value: Any, model: LiveModel, where: str
) -> None:
    wanted = expected(line, each, value)
    shown = f"{line} in {each.name}, {where}: {found!r}, expected {wanted!r}"
    if isinstance(wanted, str) or isinstance(found, str):
        assert isinstance(found, str), shown
        assert found == wanted, shown
        return
    for row in found:
        assert np.allclose(
            row[place(model, each.name)], np.float32(wanted), rtol=1e-7, atol=0, equal_nan=True
        ), shown


def columns_of(live: dict[str, LiveModel]) -> Iterator[tuple[LiveModel, int, Column]]:
    for model in live.values():
        for i, each in enumerate(model.signature.columns):
            yield model, i, each


@pytest.mark.parametrize("line", IN_JSON, ids=str)
@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_value_in_json(live: dict[str, LiveModel], line: Line, count: int) -> None:
    """In every form, in one row, few and many, alone in its column and beside others."""
    cell = line.written.encode()
    for model, i, each in columns_of(live):
        for alone in (True, False) if count > 1 else (True,):
            rows = [examples(model) for _ in range(count)]
            for row in rows if alone else rows[:1]:
                row[i] = cell
            for form in forms(model, default=True):
                if form == SCALAR and count > 1:
                    continue
                tensors = form.path == "/invocations" or form.path.startswith("/v1/")
                if cell[:1] == b"[" and tensors and len(rows[0]) == 1:
                    continue  # of one column, nested lists are a tensor
                if form.name.startswith("/v2") and _not_in_a_tensor(form, line, each, alone=alone):
                    continue
                found = matrix(model, form.path, form.body(model.signature, rows, None))
                found = found if isinstance(found, str) else found[: count if alone else 1]
                check(found, line, each, json.loads(cell), model, f"{form.name}, {count} rows")


def _not_in_a_tensor(form: Form, line: Line, each: Column, *, alone: bool) -> bool:
    """A tensor has one datatype, with which only null goes; and a list in it may be a row of it."""
    if line.written[0] == "[":
        return True
    if form.name != "/v2 by column":
        return line.written[0] == '"'
    return not alone and line.written != "null" and _type(line.written) != _type(json.dumps(each.example))


def _type(cell: str) -> str:
    return {'"': "text", "t": "bool", "f": "bool"}.get(cell[:1], "number")


@pytest.mark.parametrize("line", [line for line in IN_JSON if line.written[0] == '"'], ids=str)
def test_a_text_in_a_binary_tensor(live: dict[str, LiveModel], line: Line) -> None:
    text = json.loads(line.written)
    data = struct.pack("<I", len(text.encode())) + text.encode()
    for model, i, each in columns_of(live):
        body, head = binary(model, i, "BYTES", data)
        check(matrix(model, "/v2/", body, head), line, each, text, model, "binary")


def test_no_value_at_all(live: dict[str, LiveModel]) -> None:
    """An absent key is what null is."""
    line = next(line for line in IN_JSON if line.written == "null")
    for model, i, each in columns_of(live):
        signature = model.signature
        if len(signature.columns) == 1:
            continue
        names = [json.dumps(name).encode() for name in signature.names]
        pairs = [
            pair
            for pair in zip(names, examples(model), strict=True)
            if pair != (names[i], examples(model)[i])
        ]
        record = b"{%b}" % b",".join(b"%b:%b" % pair for pair in pairs)
        columns = b"{%b}" % b",".join(b"%b:[%b]" % pair for pair in pairs)
        bodies = {
            "/predict": [b'{"records":[%b]}' % record, b'{"columns":%b}' % columns],
            "/invocations": [
                b'{"dataframe_records":[%b]}' % record,
                b'{"instances":[%b]}' % record,
                b'{"inputs":%b}' % columns,
                b'{"dataframe_split":{"columns":%b,"data":[%b]}}'
                % (joined(name for name, _ in pairs), joined(cell for _, cell in pairs)),
            ],
        }
        several = tensors(signature, [examples(model)])
        bodies["/v2/"] = [b'{"inputs":%b}' % joined(each for j, each in enumerate(several) if j != i)]
        for path, many in bodies.items():
            for body in many:
                check(matrix(model, path, body), line, each, None, model, f"{path} {body!r}")
        text = b"%b\n%b\n" % tuple(
            b",".join(part.strip(b'"') for part in parts) for parts in zip(*pairs, strict=True)
        )  # type: ignore[str-bytes-safe]
        check(matrix(model, "/invocations", text, Head(b"text/csv")), line, each, None, model, "CSV")


@pytest.mark.parametrize("line", IN_CSV, ids=str)
@pytest.mark.parametrize("beside", ["nothing", "valid", "missing", "quoted"])
def test_a_cell_in_csv(live: dict[str, LiveModel], line: Line, beside: str) -> None:
    """Alone, and beside what makes the column be read cell by cell: the same."""
    for model, i, each in columns_of(live):
        lines = [",".join(f'"{name}"' for name in model.signature.names)]
        count = 1 if beside in ("nothing", "quoted") else 2
        for number in range(count):
            cells = [str(cell) for cell in model.signature.example.values()]
            cells[i] = line.written if number == 0 else "NA" if beside == "missing" else cells[i]
            quoted = beside == "quoted" or "," in cells[i] or len(cells) == 1
            cells[i] = f'"{cells[i]}"' if quoted else cells[i]
            lines.append(",".join(cells))
        if beside == "missing" and each.missing == "refuse":
            continue
        body = "\r\n".join(lines).encode()
        found = matrix(model, "/invocations", body, Head(b"text/csv"))
        found = found if isinstance(found, str) else found[:1]
        check(found, line, each, line.written, model, f"CSV beside {beside}")


def binary(model: LiveModel, i: int, datatype: str, data: bytes) -> tuple[bytes, Head]:
    """An infer request whose column `i` is a binary tensor of one cell, the others the example's."""
    signature = model.signature
    others = tensors(signature, [examples(model)])
    said = tensor(signature.names[i].encode(), datatype.encode(), [1], b"null")
    said = said.replace(b'"data":null', b'"parameters":{"binary_data_size":%d}' % len(data))
    header = b'{"inputs":%b}' % joined([*others[:i], said, *others[i + 1 :]])
    length = (b"inference-header-content-length", b"%d" % len(header))
    return header + data, Head(headers=(length,))


def whole(model: LiveModel, i: int, datatype: str, value: Any) -> tuple[bytes, Head]:
    """The same as one binary tensor of all columns."""
    row = np.array(list(model.signature.example.values()), DTYPES[datatype])
    row[i] = value
    said = tensor(b"features", datatype.encode(), [1, len(row)], b"null")
    said = said.replace(b'"data":null', b'"parameters":{"binary_data_size":%d}' % row.nbytes)
    header = b'{"inputs":[%b]}' % said
    length = (b"inference-header-content-length", b"%d" % len(header))
    return header + row.tobytes(), Head(headers=(length,))


@pytest.mark.parametrize("line", IN_BINARY, ids=str)
def test_a_value_in_a_binary_tensor(live: dict[str, LiveModel], line: Line) -> None:
    """As a column's own tensor, in one of all columns, in JSON of the datatype, as Triton's raw request."""
    dtype = DTYPES[line.datatype]
    value = np.array([float(line.written) if dtype.kind == "f" else int(line.written)], dtype)[0]
    for model, i, each in columns_of(live):
        body, head = binary(model, i, line.datatype, value.tobytes())
        check(matrix(model, "/v2/", body, head), line, each, value, model, "own tensor")
        if model.signature.numeric and line.datatype != "BOOL":
            body, head = whole(model, i, line.datatype, value)
            check(matrix(model, "/v2/", body, head), line, each, value, model, "all columns")
        if model.signature.numeric and line.datatype == "FP64":
            row = np.array(list(model.signature.example.values()), np.float64)
            row[i] = value
            raw = Head(headers=((b"inference-header-content-length", b"0"),))
            check(matrix(model, "/v2/", row.tobytes(), raw), line, each, value, model, "raw")
        if line.datatype == "BOOL" or math.isfinite(value):
            cells = [*examples(model)[:i], b"?", *examples(model)[i + 1 :]]
            said = tensor(
                model.signature.names[i].encode(),
                line.datatype.encode(),
                [1],
                b"[%b]" % line.written.encode(),
            )
            others = tensors(model.signature, [[cell if cell != b"?" else b"null" for cell in cells]])
            body = b'{"inputs":%b}' % joined([*others[:i], said, *others[i + 1 :]])
            said_in_json = json.loads(line.written) if dtype.kind == "f" else value
            check(matrix(model, "/v2/", body), line, each, said_in_json, model, "JSON of the datatype")


IN_PARQUET: dict[str, tuple[pa.Array, Any]] = {
    "a text": (pa.array(["clerk"]), "clerk"),
    "a text without its type": (pa.array([b"clerk"]), "clerk"),
    "bytes of one length": (pa.array([b"clerk"], pa.binary(5)), "clerk"),
    "a category": (pa.array([" 3 "]).dictionary_encode(), " 3 "),
    "bytes that are not UTF-8": (pa.array([b"\xff"]), []),
    "float32 0.1": (pa.array([0.1], pa.float32()), 0.1),
    "float32 3": (pa.array([3], pa.float32()), 3),
    "float16 0.1": (pa.array([np.float16(0.1)]), 0.1),
    "float32 NaN": (pa.array([math.nan], pa.float32()), None),
    "float64 NaN": (pa.array([math.nan]), None),
    "float64": (pa.array([3.4028235677973362e38]), 3.4028235677973362e38),
    "int8": (pa.array([3], pa.int8()), 3),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
    "a decimal": (pa.array([decimal.Decimal("0.1")]), 0.1),
    "a bool": (pa.array([True]), True),
    "a date": (pa.array([dt.date(2020, 5, 17)]), "2020-05-17"),
    "a time stamp": (pa.array([dt.datetime(2020, 5, 17, 10, 30)], pa.timestamp("us")), "2020-05-17T10:30:00"),
    "a time of day": (pa.array([dt.time(3)]), "03:00:00"),
    "a duration": (pa.array([dt.timedelta(seconds=5)]), []),
    "a list": (pa.array([[5]]), []),
    "null": (pa.nulls(1, pa.string()), None),
}
"""Cells of Arrow, each with the value of JSON that it is."""


@pytest.mark.parametrize("what", IN_PARQUET)
@pytest.mark.parametrize("beside_null", [False, True], ids=["", "beside null"])
def test_a_cell_of_parquet(live: dict[str, LiveModel], what: str, beside_null: bool) -> None:
    """What its value is in JSON: in a body of `/predict`, and in a table that is scored without a server."""
    cells, value = IN_PARQUET[what]
    if beside_null:
        cells = pa.concat_arrays([cells, pa.nulls(1, cells.type)])
    for model, i, each in columns_of(live):
        if beside_null and each.missing == "refuse":
            continue
        row = examples(model)
        is_narrow = what == "float16 0.1" and each.kind == "number"  # then its value counts, not its spelling
        row[i] = json.dumps(float(np.float16(0.1)) if is_narrow else value).encode()
        wanted = matrix(model, "/predict", b'{"features":[%b]}' % joined(row))
        columns = {name: pa.array([cell] * len(cells)) for name, cell in model.signature.example.items()}
        table = pa.table(columns | {each.name: cells})
        out = io.BytesIO()
        parquet.write_table(table, out)
        head = Head(content_type=b"application/vnd.apache.parquet")
        try:
            of_table: Any = Encoder(model.signature).columns(
                rows.columns_of(model.signature, table, texts=False)
            )
        except BadRows:
            of_table = "refused"
        if not isinstance(of_table, str):
            of_table = np.asarray(of_table, np.float32).reshape(-1, model.signature.width)
        for where, found in (
            ("/predict", matrix(model, "/predict", out.getvalue(), head)),
            ("score", of_table),
        ):
            shown = f"{what} in {each.name}, {where}: {found!r}, expected {wanted!r}"
            if isinstance(wanted, str) or isinstance(found, str):
                assert isinstance(found, str), shown
                assert found == wanted, shown
                continue
            of = place(model, each.name)
            assert np.array_equal(found[:1, of], wanted[:1, of], equal_nan=True), shown


def test_the_page_and_the_code_have_the_same_spellings_and_bounds() -> None:
    missing_in_csv = {line.written.strip() for line in IN_CSV if line.means["number"] == "missing"}
    assert missing_in_csv - {"", "?"} == csv_cells.MISSING
    numbers = [float(line.written) for line in IN_JSON if line.means["number"] == "number"]
    assert max(numbers) == MAX_NUMBER
    refused = [line.written for line in IN_JSON if line.means["number"] == "refused"]
    beyond = [float(written) for written in refused if written[0] in "-0123456789"]
    assert min(map(abs, beyond)) == math.nextafter(MAX_NUMBER, math.inf)
    with np.errstate(over="ignore"):
        assert np.isfinite(np.float32(MAX_NUMBER))
        assert np.isinf(np.float32(math.nextafter(MAX_NUMBER, math.inf)))
