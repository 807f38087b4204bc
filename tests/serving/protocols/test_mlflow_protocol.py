"""`/invocations` beside a real `mlflow models serve` of the same registered models, request by request."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from artifact import csv_cells, manifest
from artifact.signature import Column
from serving.http.gateway import Gateway
from serving.protocols.mlflow import VERSION
from serving.protocols.mlflow.endpoint import InvocationsEndpoint, parse
from serving.protocols.mlflow.frames import FORMS
from tests.kept import empty_registry
from tests.servers import CHECKOUT, PATIENCE_S, mlflow_models_serve
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere
from training.registry.mlflow_registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.scoring.catalog import Catalog
    from tests.servers import Server
    from tests.serving.artifacts import Made
    from tests.serving.conftest import Answer

NAMES = ("breast_cancer", "loans", "linear")
LOAN: dict[str, Any] = {
    "age": 40,
    "income": 30000.5,
    "job": "cook",
    "city": "Ulm",
    "since": "2020-05-17",
    "note": "paid late",
}
LOANS: list[dict[str, Any]] = [
    LOAN,
    {"age": 71, "income": None, "job": 3, "city": "Nowhere", "since": "2011-01-31T10:00:00", "note": None},
    {"age": 18.0, "income": 1e6, "job": "3.0", "city": None, "since": "2023-12-01", "note": "never, paid"},
]


@pytest.fixture(scope="module")
def gateways(models: Catalog) -> dict[str, Gateway]:
    """The server, with each of the models as its default."""
    return {
        name: Gateway(elsewhere, dataclasses.replace(models, default=name), PATIENT_SETTINGS)
        for name in models.live
    }


@pytest.fixture(scope="module")
def registry_uri(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("registry")
    uri = empty_registry(folder)
    registry = Registry(uri)
    for name in NAMES:
        run = registry.start(name, f"{name} run", {})
        found = manifest.load(made[name].path, name=name)
        registered = registry.register(found, run, tags={}, metrics={}, description="", about="")
        registry.set_alias(name, "champion", registered)
    return uri


@pytest.fixture(scope="module")
def theirs(registry_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """`mlflow models serve` of each model, started at once."""
    folders = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        serve = {
            name: mlflow_models_serve(f"models:/{name}@champion", registry_uri, folders[name])
            for name in NAMES
        }
        yield dict(zip(NAMES, pool.map(stack.enter_context, serve.values()), strict=True))


def ours(gateway: Gateway, body: bytes | str, content_type: str = "application/json") -> Answer:
    sent = body.encode() if isinstance(body, str) else body
    headers = {"content-type": content_type} if content_type else {}
    return asyncio.run(ask(gateway, "POST", "/invocations", sent, headers))


def post(server: Server, body: bytes | str, content_type: str = "application/json") -> httpx.Response:
    sent = body.encode() if isinstance(body, str) else body
    headers = {"Content-Type": content_type} if content_type else {}
    return httpx.post(f"{server.url}/invocations", content=sent, headers=headers, timeout=PATIENCE_S)


class Case(NamedTuple):
    model: str
    what: str
    body: str


def cases(made: dict[str, Made]) -> Iterator[Case]:  # noqa: PLR0915 - a list
    """Bodies that both servers answer with the same status, and the same predictions."""
    signature = made["breast_cancer"].signature
    names, rows = list(signature.names), made["breast_cancer"].rows[15:25]
    records = [dict(zip(names, row, strict=True)) for row in rows]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}

    def case(what: str, value: Any) -> Case:
        return Case("breast_cancer", what, value if isinstance(value, str) else json.dumps(value))

    split = {"columns": names, "data": rows}
    yield case("split", {"dataframe_split": split})
    yield case("split, one row", {"dataframe_split": {"columns": names, "data": rows[:1]}})
    yield case("split, index", {"dataframe_split": {**split, "index": list(range(5, 15))}})
    yield case("split, index of texts", {"dataframe_split": {**split, "index": list("abcdefghij")}})
    yield case("split, index null", {"dataframe_split": {**split, "index": None}})
    yield case("split, wrong index", {"dataframe_split": {**split, "index": [1]}})
    yield case("split, index no list", {"dataframe_split": {**split, "index": {"a": 1}}})
    yield case("split, other key", {"dataframe_split": {**split, "schema": 1}})
    yield case("split, no data", {"dataframe_split": {"columns": names}})
    yield case("split, a list", {"dataframe_split": rows})
    yield case("split, null", {"dataframe_split": None})
    yield case("split, flat row", {"dataframe_split": {"columns": names, "data": rows[0]}})
    yield case("split, data null", {"dataframe_split": {"columns": names, "data": None}})
    yield case("split, data a text", {"dataframe_split": {"columns": names, "data": "abc"}})
    yield case("split, no row", {"dataframe_split": {"columns": names, "data": []}})
    yield case("split, narrow", {"dataframe_split": {"columns": names, "data": [row[1:] for row in rows]}})
    yield case("split, one long row", {"dataframe_split": {"columns": names, "data": [*rows, [*rows[0], 1]]}})
    yield case("split, one short row", {"dataframe_split": {"columns": names, "data": [*rows, rows[0][1:]]}})
    yield case("split, too few names", {"dataframe_split": {"columns": names[1:], "data": rows}})
    yield case("split, a name twice", {"dataframe_split": {"columns": [*names[1:], names[1]], "data": rows}})
    yield case("split, names no list", {"dataframe_split": {"columns": 3, "data": rows}})
    yield case("split, names numbers", {"dataframe_split": {"columns": list(range(30)), "data": rows}})
    backwards = {"columns": names[::-1], "data": [row[::-1] for row in rows]}
    yield case("split, other order", {"dataframe_split": backwards})
    more = {"columns": ["id", *names, "note"], "data": [["u7", *row, None] for row in rows]}
    yield case("split, more columns", {"dataframe_split": more})
    less = {"columns": names[1:], "data": [row[1:] for row in rows]}
    yield case("split, a column missing", {"dataframe_split": less})
    yield case("records", {"dataframe_records": records})
    yield case("records, one", {"dataframe_records": records[:1]})
    yield case("records, more keys", {"dataframe_records": [{"id": 1, **records[0], "z": [1]}]})
    yield case("records, other order", {"dataframe_records": [dict(reversed(records[0].items()))]})
    yield case(
        "records, key missing", {"dataframe_records": [records[0], dict(list(records[1].items())[1:])]}
    )
    yield case("records, an object", {"dataframe_records": records[0]})
    yield case("records, columns", {"dataframe_records": columns})
    yield case("records, none", {"dataframe_records": []})
    yield case("records, empty", {"dataframe_records": [{}]})
    yield case("records, lists", {"dataframe_records": rows})
    yield case("records, null", {"dataframe_records": None})
    yield case("records, a text", {"dataframe_records": "abc"})
    yield case("instances, records", {"instances": records})
    yield case("instances, columns", {"instances": columns})
    yield case("instances, ragged columns", {"instances": {**columns, names[3]: [1.0]}})
    yield case("instances, key missing", {"instances": [dict(list(records[1].items())[1:])]})
    yield case("instances, none", {"instances": []})
    yield case("instances, a number", {"instances": 5})
    yield case("instances, null", {"instances": None})
    yield case("inputs, columns", {"inputs": columns})
    yield case("inputs, one row of columns", {"inputs": {name: [cell] for name, cell in records[0].items()}})
    yield case("inputs, single values", {"inputs": records[0]})
    yield case("inputs, one value for all rows", {"inputs": {**columns, names[0]: 12.5}})
    yield case("inputs, records", {"inputs": records})
    yield case("inputs, more columns", {"inputs": {"id": list(range(10)), **columns}})
    yield case("inputs, column missing", {"inputs": dict(list(columns.items())[1:])})
    yield case("inputs, ragged", {"inputs": {**columns, names[0]: [1.0]}})
    yield case("inputs, cells are lists", {"inputs": {name: [[v] for v in c] for name, c in columns.items()}})
    yield case("inputs, empty", {"inputs": {}})
    yield case("inputs, a text", {"inputs": "abc"})
    odd: dict[str, Any] = {
        "text": "abc",
        "number as text": "5",
        "null": None,
        "list": [1],
        "object": {"a": 1},
        "true": True,
        "too large": 1e39,
        "whole number": 12,
        "huge whole number": 10**30,
        "beyond float64": 10**400,
    }
    for what, value in odd.items():
        for form in ("dataframe_records", "inputs"):
            sent = [{**records[0], names[2]: value}]
            yield case(f"{form}, {what}", {form: sent})
    yield case("1e400", json.dumps({"dataframe_records": records}).replace(str(rows[0][0]), "1e400"))
    yield case("NaN", json.dumps({"dataframe_records": records}).replace(str(rows[0][0]), "NaN"))
    yield case("Infinity", json.dumps({"dataframe_records": records}).replace(str(rows[0][0]), "-Infinity"))
    good = {"dataframe_split": split}
    yield case("probabilities", {**good, "params": {"probabilities": True}})
    yield case("probabilities off", {**good, "params": {"probabilities": False}})
    yield case("probabilities null", {**good, "params": {"probabilities": None}})
    yield case("probabilities a text", {**good, "params": {"probabilities": "yes"}})
    yield case("probabilities 1", {**good, "params": {"probabilities": 1}})
    yield case("probabilities a list", {**good, "params": {"probabilities": [True]}})
    yield case("params null", {**good, "params": None})
    yield case("params empty", {**good, "params": {}})
    yield case("params a list", {**good, "params": [1]})
    yield case("params a text", {**good, "params": "probabilities"})
    yield case("params of others", {**good, "params": {"temperature": 0.7}})
    yield case("params first", json.dumps({"params": {"probabilities": True}, **good}))
    yield case("other keys", {**good, "id": 7, "messages_": []})
    yield case("two forms", {**good, "inputs": columns})
    yield case("two forms, one null", {**good, "inputs": None})
    yield case("no form", {"features": rows})
    yield case("predict's own form", {"records": records})
    yield case("null", "null")
    yield case("a number", "5")
    yield case("a text", '"dataframe_split"')
    yield case("an empty object", "{}")
    yield case("no body", "")
    yield case("blanks", "  \n")
    yield case("no JSON", "{dataframe_split}")
    yield case("half a body", json.dumps(good)[:-5])
    yield case("two values", json.dumps(good) * 2)
    yield case("byte order mark", "\ufeff" + json.dumps(good))
    yield case("blanks around", f" \n{json.dumps(good, indent=1)}\n ")
    yield case("a key twice", f'{{"inputs": 5, "inputs": {json.dumps(columns)}}}')

    def loan(what: str, value: Any) -> Case:
        return Case("loans", what, json.dumps(value))

    keys = list(LOAN)
    table = [list(record.values()) for record in LOANS]
    backwards = {"columns": keys[::-1], "data": [row[::-1] for row in table]}
    yield loan("records", {"dataframe_records": LOANS})
    yield loan("split", {"dataframe_split": {"columns": keys, "data": table}})
    yield loan("split, other order", {"dataframe_split": backwards})
    yield loan("inputs", {"inputs": {key: [LOAN[key]] * 2 for key in keys}})
    yield loan("instances", {"instances": [LOAN, {**LOAN, "age": 60, "job": "clerk"}]})
    yield loan("inputs, single values", {"inputs": LOAN})
    few = {"age": 30, "job": "cook", "since": "2020-01-01"}
    yield loan("what may be absent", {"dataframe_records": [few]})
    yield loan("probabilities", {"dataframe_records": LOANS, "params": {"probabilities": True}})
    for threshold in (0, 0.25, 0.5, 0.999, 1, None, 2, -0.1, float("nan"), "0.5", True, [0.5]):
        asked = {"dataframe_records": LOANS, "params": {"threshold": threshold}}
        yield loan(f"threshold {threshold!r}", asked)
    both = {"threshold": 0.25, "probabilities": True}
    yield loan("threshold and probabilities", {"dataframe_records": LOANS, "params": both})
    yield loan("ignored columns", {"dataframe_records": [{**LOAN, "gender": "f", "default": True}]})
    yield loan("unknown columns", {"dataframe_records": [{**LOAN, "shoe_size": 43}]})
    for key, value in [
        ("age", None), ("age", ""), ("age", "forty"), ("age", True), ("income", "high"), ("income", ""),
        ("income", float("nan")), ("age", float("nan")), ("age", float("inf")), ("job", None), ("job", ""),
        ("job", "pope"), ("job", 4), ("job", ["cook"]), ("job", " cook "), ("city", ""), ("city", 7),
        ("city", {}), ("since", None), ("since", "yesterday"), ("since", "2020-13-01"), ("since", 20200101),
        ("since", 1.5e9), ("since", "2020-02-30"), ("since", "2020-02-29T23:59:59Z"), ("note", None),
        ("note", ""), ("note", "é, 日本語 \n\t\"'"), ("note", "x" * 200_000),
    ]:  # fmt: skip
        shown = f"{key}: {str(value)[:30]!r}"
        yield loan(shown, {"dataframe_records": [{**LOAN, key: value}, LOAN]})
        yield loan(
            f"{shown}, split",
            {"dataframe_split": {"columns": keys, "data": [list({**LOAN, key: value}.values())]}},
        )

    def line(what: str, value: Any) -> Case:
        return Case("linear", what, json.dumps(value))

    yield line("records", {"dataframe_records": [{"x": 5}, {"x": 2.5}]})
    yield line("bare instances", {"instances": [5, 6.5]})
    yield line("bare inputs", {"inputs": [5, 6.5]})
    yield line("inputs", {"inputs": {"x": [5]}})
    yield line("inputs, a value", {"inputs": {"x": 5}})
    yield line("inputs, a number", {"inputs": 5})
    yield line("split, bare", {"dataframe_split": {"columns": ["x"], "data": [5, 6]}})
    yield line("split", {"dataframe_split": {"columns": ["x"], "data": [[5], [6]]}})
    yield line("split, more columns", {"dataframe_split": {"columns": ["x", "z"], "data": [[5, 1], [6, 2]]}})
    yield line("bare texts", {"instances": ["5", "a"]})
    yield line("none", {"instances": []})
    yield line("large", {"inputs": {"x": [1e38, -1e38, 1e-300, 0.1]}})
    yield line("params of a regression", {"inputs": {"x": [5]}, "params": {"probabilities": False}})


def same(mine: Answer, yours: httpx.Response) -> bool:
    if mine.status != yours.status_code:
        return False
    if mine.status != 200:
        return mine.json()["error_code"] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE") and bool(
            mine.json()["message"]
        )
    found, expected = mine.json(), yours.json()
    assert isinstance(found.pop("version"), str)  # MLflow's server does not name it
    if found == expected:
        return True
    flat = [np.array(pd.DataFrame(reply["predictions"]), float) for reply in (found, expected)]
    return found.keys() == expected.keys() and bool(np.allclose(flat[0], flat[1], rtol=1e-6, atol=1e-9))


def test_both_servers_answer_alike(
    made: dict[str, Made], gateways: dict[str, Gateway], theirs: dict[str, Server]
) -> None:
    """Good or bad, JSON gets the same status and the same predictions from MLflow's server and from ours."""
    different = []
    statuses = []
    for case in cases(made):
        mine = ours(gateways[case.model], case.body)
        yours = post(theirs[case.model], case.body)
        statuses.append(mine.status)
        if not same(mine, yours):
            different.append(
                (case.model, case.what, yours.status_code, mine.status, yours.text[:300], mine.body[:200])
            )
    assert not different, "\n".join(map(str, different))
    assert statuses.count(200) > 50
    assert statuses.count(400) > 50


LOAN_JSON = json.dumps(LOAN)
FEW = {"age": 30, "job": "cook", "since": "2020-01-01"}
CUT = {"columns": [*FEW, "city"], "data": [list(FEW.values()), [*FEW.values(), "Ulm"]]}
DIFFERENCES: list[tuple[str, str, str, int, int]] = [
    ("without a key around it", "loans", json.dumps([FEW]), 400, 200),
    ("without a key around it", "loans", json.dumps([list(LOAN.values())]), 400, 200),
    ("without a key around it", "linear", json.dumps({"x": {"0": 5, "1": 6}}), 400, 200),
    ("by position", "loans", json.dumps({"dataframe_split": {"data": [list(LOAN.values())]}}), 400, 200),
    ("by position", "loans", json.dumps({"instances": [list(LOAN.values())]}), 400, 200),
    ("by position", "loans", json.dumps({"inputs": [list(LOAN.values())] * 2}), 400, 200),
    ("by position", "linear", json.dumps({"inputs": [[5], [6]]}), 400, 200),
    ("by position", "breast_cancer", json.dumps({"instances": [[[1.0] * 5] * 6]}), 400, 200),
    ("misspelt", "loans", json.dumps({"dataframe_records": [{**FEW, "incme": 1}]}), 200, 400),
    ("beside `params`", "loans", json.dumps({"inputs": LOAN, "probabilities": True}), 200, 400),
    ("beside `params`", "loans", json.dumps({"inputs": LOAN, "param": {}}), 200, 400),
    ("beside `params`", "loans", json.dumps({"inputs": LOAN, "params": {"treshold": 0.1}}), 200, 400),
    ("`threshold`", "linear", json.dumps({"inputs": [5], "params": {"threshold": 0.5}}), 200, 400),
    ("regression", "linear", json.dumps({"inputs": [5], "params": {"probabilities": True}}), 200, 400),
    ("NumPy", "loans", json.dumps({"instances": [{**LOAN, "age": True}, LOAN]}), 200, 400),
    ("NumPy", "loans", json.dumps({"instances": [{**LOAN, "note": 5}]}), 200, 400),
    ("short rows", "loans", json.dumps({"dataframe_split": CUT}), 200, 400),
    ("absent", "loans", json.dumps({"instances": [LOAN, FEW]}), 400, 200),
    ("nested too deep", "loans", '{"inputs": ' + "[" * 100_000 + "]" * 100_000 + "}", 500, 400),
]  # fmt: skip
OTHER_TYPES: list[tuple[str, str, bytes, int, int]] = [
    ("Content-Type", "", b'{"inputs": %s}' % LOAN_JSON.encode(), 500, 200),
    ("Content-Type", "application/json; version=1", b'{"inputs": %s}' % LOAN_JSON.encode(), 415, 200),
    ("Content-Type", 'application/json; charset="utf-8"', b'{"inputs": %s}' % LOAN_JSON.encode(), 415, 200),
    (
        "x-www-form-urlencoded",
        "application/x-www-form-urlencoded",
        b'{"inputs": %s}' % LOAN_JSON.encode(),
        415,
        200,
    ),
    ("UTF-16", "application/json", f'{{"inputs": {LOAN_JSON}}}'.encode("utf-16"), 200, 400),
    ("Parquet", "application/vnd.apache.parquet", b"PAR1", 400, 415),
    ("text/csv", "text/csv", b"age,job,since\n40,cook,2020-01-01\n", 400, 200),
]


def test_every_difference_is_listed(gateways: dict[str, Gateway], theirs: dict[str, Server]) -> None:
    """docs/protocols.md says where the two servers differ, and they still do."""
    page = (CHECKOUT / "docs" / "protocols.md").read_text()
    listed = page[page.index("## MLflow") :].split("\n## ")[0]
    sent = [(word, name, "application/json", body.encode(), a, b) for word, name, body, a, b in DIFFERENCES]
    sent += [(word, "loans", kind, body, a, b) for word, kind, body, a, b in OTHER_TYPES]
    for word, name, kind, body, theirs_says, ours_says in sent:
        assert word in listed
        yours, mine = post(theirs[name], body, kind), ours(gateways[name], body, kind)
        found = (yours.status_code, mine.status)
        assert found == (theirs_says, ours_says), (word, kind, body[:200], yours.text[:500], mine.body)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200), ("Application/JSON", 200), ("application/json;charset=UTF-8", 200),
        ("application/json; charset=utf-8", 200), ("application/json; charset=latin-1", 415),
        ("text/plain", 415), ("application/xml", 415), ("application/octet-stream", 415), ("text/json", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)  # fmt: skip
def test_content_types(
    gateways: dict[str, Gateway], theirs: dict[str, Server], kind: str, status: int
) -> None:
    """The same are read, and the same refused with 415."""
    body = '{"inputs": {"x": [5]}}'
    assert ours(gateways["linear"], body, kind).status == status
    if kind != "Application/JSON":  # media types have no case (RFC 9110); MLflow's have
        assert post(theirs["linear"], body, kind).status_code == status


def test_the_small_routes(gateways: dict[str, Gateway], theirs: dict[str, Server]) -> None:
    """/ping, /health and /version answer the bytes and the type that MLflow's do."""
    for path in ("/ping", "/health", "/version"):
        mine = asyncio.run(ask(gateways["linear"], "GET", path))
        yours = httpx.get(theirs["linear"].url + path)
        assert (mine.status, mine.body) == (yours.status_code, yours.content) == (200, mine.body)
        assert mine.headers["content-type"] == yours.headers["content-type"]
    assert version("mlflow") == VERSION, "read the scoring server's source again, then raise VERSION"


def test_a_default_that_is_refused_is_not_ready(models: Catalog) -> None:
    """A model that must not serve: /ping and /invocations say 503 and why."""
    catalog = dataclasses.replace(models, default="broken", refused={"broken": "its digest is off"})
    gateway = Gateway(elsewhere, catalog, PATIENT_SETTINGS)
    for method, path in (("GET", "/ping"), ("GET", "/health"), ("POST", "/invocations")):
        found = asyncio.run(ask(gateway, method, path, b'{"inputs": [5]}'))
        assert found.status == 503
        assert found.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
        assert "its digest is off" in found.json()["message"]
    assert asyncio.run(ask(gateway, "GET", "/version")).status == 200


def test_mlflows_own_client(client: httpx.Client, made: dict[str, Made]) -> None:
    """`ScoringServerClient` reads the replies of a real server, for a frame, a list and with `params`."""
    rows = pd.DataFrame(made["breast_cancer"].rows[:5], columns=made["breast_cancer"].signature.names)
    found = ScoringServerClient(client.base_url.host, client.base_url.port)
    found.wait_server_ready(timeout=PATIENCE_S, scoring_server_proc=_Running())
    expected = made["breast_cancer"].labels(rows.to_numpy().tolist())
    assert found.invoke(rows).get_predictions()[0].tolist() == expected
    shares = found.invoke(rows, params={"probabilities": True}).get_predictions()
    assert list(shares.columns) == ["benign", "malignant"]
    assert shares.sum(axis=1).tolist() == pytest.approx([1] * 5)


class _Running:
    def poll(self) -> None:
        return None


def test_a_missing_cell_of_a_frame(gateways: dict[str, Gateway]) -> None:
    """MLflow's client writes NaN where pandas has none: missing, as the signature allows."""
    from mlflow.utils.proto_json_utils import dump_input_data

    body = dump_input_data(pd.DataFrame(LOANS[:1]).assign(income=float("nan")))
    assert "NaN" in body
    assert ours(gateways["loans"], body).status == 200
    assert ours(gateways["loans"], body.replace("40", "NaN")).status == 400


# ---- CSV


TABLES = {
    "to_csv": pd.DataFrame(LOANS).to_csv(index=False),
    "to_csv with its index": pd.DataFrame(LOANS).to_csv(),
    "CRLF": pd.DataFrame(LOANS).to_csv(index=False, lineterminator="\r\n"),
    "CR": pd.DataFrame(LOANS).to_csv(index=False, lineterminator="\r"),
    "quoted": pd.DataFrame(LOANS).to_csv(index=False, quoting=1),
    "byte order mark": "\ufeff" + pd.DataFrame(LOANS).to_csv(index=False),
    "no end of line": pd.DataFrame(LOANS).to_csv(index=False).rstrip("\n"),
    "empty lines": "\n" + pd.DataFrame(LOANS).to_csv(index=False).replace("\n", "\n\n"),
    "quotes, commas and lines": 'age,job,since,note\n40,cook,2020-01-01,"paid, ""late""\nnever"\n',
    "other order": "since,note,job,age,shoes\n2020-01-01,paid,3,4e1,43\n",
    "missing": "age,income,job,city,since,note\n40,,cook,,2020-01-01,\n41,NA,clerk,nan,2020-01-01,late\n",
    "signs and blanks": "age,job,since\n+40.0,cook,2020-01-01\n 41 ,clerk,2020-01-01\n",
    "header only": "age,job,since\n",
    "nothing": "",
    "line ends only": "\n\n",
    "no header": "40,cook,2020-01-01\n",
    "column missing": "age,job\n40,cook\n",
    "a long line": "age,job,since\n40,cook,2020-01-01\n40,cook,2020-01-01,9\n",
    "a short line": "age,job,since\n40,cook,2020-01-01\n40,cook\n",
    "text for a number": "age,job,since\nforty,cook,2020-01-01\n",
    "number missing": "age,job,since\n,cook,2020-01-01\n",
    "1e400": "age,job,since\n1e400,cook,2020-01-01\n",
    "inf": "age,job,since\ninf,cook,2020-01-01\n",
    "nan": "age,job,since\nnan,cook,2020-01-01\n",
    **{
        f"{cell} {what}": f"age,job,since,income\n40,cook,2020-01-01,{cell}\n40,cook,2020-01-01,{beside}\n"
        for cell in ("NAN", "Nan", "+nan", "nan", "-NaN")
        for what, beside in (("beside a number", "5"), ("beside NA", "NA"))
    },
    "underscore": "age,job,since\n4_0,cook,2020-01-01\n",
    "unknown category": "age,job,since\n40,pope,2020-01-01\n",
    "no date": "age,job,since\n40,cook,someday\n",
    "an open quote": 'age,job,since\n40,"cook,2020-01-01\n',
    "semicolons": "age;job;since\n40;cook;2020-01-01\n",
    "JSON": '{"inputs": {"x": [5]}}',
}


@pytest.mark.parametrize("what", TABLES)
def test_csv(what: str, gateways: dict[str, Gateway], pyfunc: Any) -> None:
    """A CSV body gets what MLflow's own reader and the registered model make of it.

    `mlflow models serve` itself refuses every CSV body for a model with a column of type Any, so its function
    is called here without the schema.
    """
    mine = ours(gateways["loans"], TABLES[what], "text/csv; charset=utf-8")
    try:
        yours = scoring_server.invocations(TABLES[what].encode(), "text/csv", pyfunc, None)
    except mlflow.exceptions.MlflowException as error:
        assert (mine.status, error.get_http_status_code()) == (400, 400), (mine.body, error)
        assert mine.json()["error_code"] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")
    else:
        assert mine.status == yours.status
        assert mine.json()["predictions"] == json.loads(yours.response)["predictions"]


@pytest.fixture(scope="module")
def pyfunc(registry_uri: str) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:  # mlflow.set_tracking_uri would outlast the test
        patch.setenv("MLFLOW_TRACKING_URI", registry_uri)
        yield mlflow.pyfunc.load_model("models:/loans@champion")


def test_csv_of_numbers(gateways: dict[str, Gateway], made: dict[str, Made]) -> None:
    """Every digit that pandas writes is read."""
    rows = made["breast_cancer"].rows
    frame = pd.DataFrame(rows, columns=made["breast_cancer"].signature.names)
    found = ours(gateways["breast_cancer"], frame.to_csv(index=False), "text/csv")
    assert found.json()["predictions"] == made["breast_cancer"].labels(rows)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("age,job,since\n40,cook,2020-01-01\nx,cook,2020-01-01\n", {"row": 1, "column": "age"}),
        ("age,job,since\n\n40,cook,2020-01-01\n40,cook\n", {"row": 1, "column": None}),
        ("age,jobb,since\n40,cook,2020-01-01\n", {"row": None, "column": "jobb"}),
    ],
)
def test_csv_says_where(gateways: dict[str, Gateway], body: str, place: dict[str, Any]) -> None:
    """A refusal names the row, counted without the header, and the column."""
    found = ours(gateways["loans"], body, "text/csv")
    assert found.status == 400
    assert found.json()["errors"][0].items() >= place.items()
    assert ours(gateways["loans"], b"age,job\n\xff,cook", "text/csv").status == 400


def test_texts_keep_what_they_say(gateways: dict[str, Gateway]) -> None:
    """A code such as 03 is not the number 3, and a known category may be called NA."""
    assert ours(gateways["loans"], "age,job,since\n40,03,2020-01-01\n", "text/csv").status == 400
    assert ours(gateways["loans"], "age,job,since\n40,3,2020-01-01\n", "text/csv").status == 200


# ---- the options, the limits, anything at all


def test_threshold(gateways: dict[str, Gateway]) -> None:
    """From this probability of the positive label on it is predicted."""
    for threshold, label in ((0, True), (1, False)):
        body = {"dataframe_records": LOANS, "params": {"threshold": threshold}}
        assert ours(gateways["loans"], json.dumps(body)).json()["predictions"] == [label] * 3


def test_the_quick_way_and_the_careful_way_agree(gateways: dict[str, Gateway], made: dict[str, Made]) -> None:
    """Each form that is decoded in one pass gives what the general reader gives."""
    names, rows = list(made["breast_cancer"].signature.names), made["breast_cancer"].rows
    endpoint = gateways["breast_cancer"].live.routes.endpoints["/invocations"]
    for some in (rows[:1], rows[:3], rows[:200]):
        records = [dict(zip(names, row, strict=True)) for row in some]
        forms: list[dict[str, Any]] = [
            {"dataframe_split": {"columns": names, "data": some}},
            {"dataframe_split": {"data": some}},
            {"dataframe_split": {"index": list(range(len(some))), "columns": names, "data": some}},
            {"dataframe_records": records},
            {"instances": some},
            {"instances": records},
            {"inputs": some},
            {"inputs": records},
            {"inputs": {name: [row[i] for row in some] for i, name in enumerate(names)}},
        ]
        for form in forms:
            for body in (json.dumps(form), json.dumps(form, separators=(",", ":"))):
                assert isinstance(endpoint, InvocationsEndpoint)
                hot = endpoint._hot[next(iter(form)).encode()](body.encode())
                careful = parse(body.encode(), endpoint.model)
                assert np.array_equal(np.array(hot, np.float32), careful.rows)
                answer = ours(gateways["breast_cancer"], body)
                assert answer.json()["predictions"] == made["breast_cancer"].labels(some)


@pytest.mark.parametrize("cell", ["null", "true", '"5"', "1e39", "-1e400", "NaN", "[1]", "{}"])
def test_the_quick_way_takes_numbers_only(gateways: dict[str, Gateway], cell: str) -> None:
    """A cell that is no number is 400 and named, in every form."""
    names = json.dumps(
        list(gateways["breast_cancer"].live.routes.endpoints["/invocations"].model.signature.names)
    )
    row = f"[{cell}{', 1' * 29}]"
    record = json.dumps(dict.fromkeys(json.loads(names), 1)).replace("1", cell, 1)
    columns = json.dumps({key: [1] for key in json.loads(names)}).replace("1", cell, 1)
    for body in (
        f'{{"dataframe_split": {{"columns": {names}, "data": [{row}]}}}}',
        f'{{"dataframe_records": [{record}]}}',
        f'{{"instances": [{row}]}}',
        f'{{"instances": [{record}]}}',
        f'{{"inputs": [{row}]}}',
        f'{{"inputs": {columns}}}',
    ):
        found = ours(gateways["breast_cancer"], body)
        assert found.status == 400
        assert found.json()["errors"][0]["column"] in (json.loads(names)[0], None)


def test_limits(models: Catalog, client: httpx.Client) -> None:
    """Too many rows and too many bytes are 413, a late answer 429, in MLflow's shape."""
    small = dataclasses.replace(models.live["linear"], max_rows=3)
    gateway = Gateway(
        elsewhere, dataclasses.replace(models, live={"linear": small}, default="linear"), PATIENT_SETTINGS
    )
    for kind, body in {
        "inputs": '{"inputs": [1, 2, 3, 4]}',
        "columns": '{"inputs": {"x": [1, 2, 3, 4]}}',
        "split": '{"dataframe_split": {"data": [[1], [2], [3], [4]]}}',
        "records": '{"dataframe_records": [{"x": 1}, {"x": 1}, {"x": 1}, {"x": 1}]}',
        "text/csv": "x\n1\n2\n3\n4\n",
    }.items():
        found = ours(gateway, body, kind if "/" in kind else "application/json")
        assert (found.status, set(found.json())) == (413, {"error_code", "message"})
    large = client.post(
        "/invocations", content=b" " * 1_000_001, headers={"Content-Type": "application/json"}
    )
    assert (large.status_code, large.json()["error_code"]) == (413, "BAD_REQUEST")
    assert client.get("/invocations").status_code == 405
    assert client.get("/invocations").headers["allow"] == "POST, OPTIONS"
    zipped = client.post("/invocations", content=b"x", headers={"Content-Encoding": "br"})
    assert (zipped.status_code, zipped.json()["error_code"]) == (415, "BAD_REQUEST")


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([1e39, 10**400, "", " ", "5", "cook", "2020-01-01", "Ulm", "\ud800"])
)  # fmt: skip
KEYS = st.sampled_from(
    [
        "x",
        "age",
        "job",
        "city",
        "since",
        "columns",
        "data",
        "index",
        "probabilities",
        "threshold",
        "agee",
        "\ud800",
    ]
)
VALUES = st.recursive(
    SCALARS | st.just(LOAN) | st.just([LOAN]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
BODIES = st.dictionaries(st.sampled_from([*FORMS, "params", "param", "x"]), VALUES, max_size=3)
MANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(body=BODIES | VALUES, name=st.sampled_from(["iris", "linear", "loans"]))
def test_any_json_is_answered_or_refused(gateways: dict[str, Gateway], body: Any, name: str) -> None:
    """200 or 400 in the protocol's shape, whatever is sent."""
    found = ours(gateways[name], json.dumps(body))
    assert found.status in (200, 400)
    assert set(found.json()) <= {"predictions", "version", "error_code", "message", "errors"}


@MANY
@given(
    body=st.binary(max_size=60) | st.text(alphabet='{}[]":,.0123456789eE+-naNIfity \\ud', max_size=40),
    kind=st.sampled_from(["application/json", "text/csv"]),
    start=st.sampled_from(
        [b"", b'{"inputs": ', b'{"dataframe_split": {"data": [', b"x\n", b"age,job,since\n"]
    ),
)
def test_any_bytes_are_answered_or_refused(
    gateways: dict[str, Gateway], body: bytes | str, kind: str, start: bytes
) -> None:
    """The same for bodies that are hardly JSON or CSV."""
    sent = start + (body if isinstance(body, bytes) else body.encode())
    for name in ("linear", "loans"):
        assert ours(gateways[name], sent, kind).status in (200, 400)


@MANY
@given(
    rows=st.lists(
        st.lists(st.text(alphabet='ab0159.,"\r\n -NA', max_size=5), min_size=3, max_size=3), max_size=4
    )
)
def test_what_csv_writes_is_read(gateways: dict[str, Gateway], rows: list[list[str]]) -> None:
    """Any table is answered, or refused with 400."""
    import csv

    text = io.StringIO()
    csv.writer(text).writerows([["age", "job", "since"], *rows])
    assert ours(gateways["loans"], text.getvalue(), "text/csv").status in (200, 400)


def test_a_dot_that_may_part_thousands_is_not_read_as_a_decimal_point() -> None:
    """Where the training table writes 66723 as "66.723", a client may mean either, so it is refused."""
    column = Column(name="turnover", kind="number", dotted_thousands=True)
    assert csv_cells.cells(column, ["66723", "66.723", "66.72", ""]) == [66723, "66.723", 66.72, None]
