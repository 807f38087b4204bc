"""One line of the log says all about a failed request: which, why and where; and the docs show such lines."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import httpx
import pytest

from serving.errors import Reason
from serving.http.gateway import Gateway
from serving.observe import logs
from serving.observe.logs import Allowance, BoundedHandler, RequestLog
from serving.scoring import catalog
from serving.scoring.catalog import Catalog
from serving.settings import Settings
from tests.bento_server import bento_server, prepare
from tests.servers import PATIENCE_S
from tests.serving.conftest import PATIENT_SETTINGS, VERSIONS, ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Server
    from tests.serving.artifacts import Made

    Lines = Callable[[], list[dict[str, Any]]]

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text()
SHOWN = [json.loads(line) for line in DOCS.splitlines() if line.startswith('{"time"')]
SECRET = "hunter2-4711"  # noqa: S105 - of a cell
LOAN = {"age": 30, "income": 1000, "job": "cook", "city": "Ulm", "since": "2020-05-17", "note": "x"}
VARYING = ("time", "pid", "ms", "request_id", "lane", "error")


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """The lines about requests that this process has written since."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        handler = BoundedHandler(file.fileno())
        monkeypatch.setattr(logs, "_handlers", [handler])
        monkeypatch.setattr(RequestLog, "allowance", Allowance(1000, 1000))

        def written() -> list[dict[str, Any]]:
            handler.flush()
            return [json.loads(line) for line in path.read_text().splitlines()]

        yield written


def gateway_of(made: dict[str, Made], settings: Settings | None = None) -> Gateway:
    settings = settings or PATIENT_SETTINGS
    found = catalog.load(
        [("loans", "loans")], lambda tag: (made[tag].path, {"version": VERSIONS[tag]}), settings
    )
    refused = {"wine": "model.onnx is not the file that was promoted"}
    return Gateway(elsewhere, Catalog(found.live, refused, "loans"), settings)


def records(*changes: dict[str, Any]) -> bytes:
    return json.dumps({"records": [LOAN | change for change in changes]}).encode()


def shown(status: int) -> dict[str, Any]:
    """The line of a status in the docs."""
    (line,) = (line for line in SHOWN if line["status"] == status)
    return line


def assert_as_shown(line: dict[str, Any]) -> None:
    example = shown(line["status"])
    assert line.keys() == example.keys()
    for key in line.keys() - set(VARYING):
        assert line[key] == example[key], key
    assert ("error" in line) == ("error" in example)


def test_a_refused_row_has_a_line_as_the_docs_show(made: dict[str, Made], lines: Lines) -> None:
    async def main() -> None:
        gateway = gateway_of(made)
        reply = await ask(gateway, "POST", "/predict", records({}, {"job": SECRET}), {"x-request-id": "a"})
        assert reply.status == 422
        gateway.catalog.close()

    asyncio.run(main())
    (line,) = lines()
    assert_as_shown(line)
    assert line["request_id"] == "a"


def test_a_full_queue_has_a_line_as_the_docs_show(made: dict[str, Made], lines: Lines) -> None:
    async def main() -> None:
        gateway = gateway_of(made, Settings(queue_rows=1))
        batcher = gateway.catalog.live["loans"].batcher
        batcher.limits = type(batcher.limits)(inline_rows=0, batch_rows=1, row_s=0.01)
        replies = await asyncio.gather(*(ask(gateway, "POST", "/predict", records({})) for _ in range(8)))
        assert {reply.status for reply in replies} == {200, 429}
        gateway.catalog.close()

    asyncio.run(main())
    assert_as_shown(lines()[0])


@pytest.mark.parametrize("where", ["model", "reading", "answer", "page", "feedback"])
def test_a_bug_has_one_line_with_its_place_and_the_name_of_the_request(
    made: dict[str, Made], lines: Lines, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        return {SECRET: 1}["x"] / 0

    async def main() -> None:
        gateway = gateway_of(made)
        endpoint = gateway.live.routes.endpoints["/predict"]
        path = {"page": "/readyz", "feedback": "/feedback"}.get(where, "/predict")
        if where == "model":
            gateway.catalog.live["loans"].batcher._score = fail
        elif where in ("reading", "answer"):
            monkeypatch.setattr(type(endpoint), "read" if where == "reading" else "answer", fail)
        elif where == "page":
            monkeypatch.setattr(type(gateway.catalog), "not_ready", property(fail))
        else:
            monkeypatch.setattr(type(gateway._feedback), "answer", fail)
        method = "GET" if where == "page" else "POST"
        reply = await ask(gateway, method, path, records({}), {"x-request-id": "order-79"})
        assert reply.status == 500
        assert reply.json()["request_id"] == "order-79"
        gateway.catalog.close()

    asyncio.run(main())
    (line,) = lines()
    assert line["request_id"] == "order-79"
    assert re.fullmatch(r"KeyError at (\S+:\d+ \S+( > )?)+", line["error"])
    assert "test_refusal_lines.py" in line["error"]
    assert SECRET not in json.dumps(line)
    if where == "model":
        assert_as_shown(line)
    else:
        assert line["reason"] == "server_failed"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "endpoint"),
    [
        ("POST", "/feedback", {"x-deadline-ms": "soon"}, 400, "feedback"),
        ("GET", "/feedback", {}, 405, "feedback"),
        ("POST", "/v2/repository/index", {"x-deadline-ms": "soon"}, 400, "repository"),
        ("GET", "/v2/repository/models/loans/load", {}, 405, "repository"),
        ("POST", "/models", {}, 405, "models"),
        ("GET", "/predict", {}, 405, "predict"),
        ("GET", "/nowhere", {}, 404, "other"),
    ],
)
def test_a_request_that_is_refused_early_has_the_endpoint_of_its_route(  # noqa: PLR0917 - one request
    made: dict[str, Made],
    lines: Lines,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
    endpoint: str,
) -> None:
    async def main() -> None:
        gateway = gateway_of(made)
        assert (await ask(gateway, method, path, b"{}", headers)).status == status
        gateway.catalog.close()

    asyncio.run(main())
    (line,) = lines()
    assert (line["status"], line["endpoint"]) == (status, endpoint)


@pytest.mark.parametrize(
    ("path", "settings", "named"),
    [
        ("/v2/repository/index", Settings(), "65536 bytes."),
        ("/v2/repository/index", Settings(max_body_bytes=900), "900 bytes (OKAMOCHI_MAX_BODY_BYTES)."),
        ("/feedback", Settings(), "1048576 bytes (OKAMOCHI_FEEDBACK_BODY_BYTES)."),
        ("/feedback", Settings(max_body_bytes=900), "900 bytes (OKAMOCHI_MAX_BODY_BYTES)."),
    ],
)
def test_a_body_that_is_too_large_is_told_the_key_that_changes_its_limit(
    made: dict[str, Made], path: str, settings: Settings, named: str
) -> None:
    async def main() -> None:
        gateway = gateway_of(made, settings)
        reply = await ask(gateway, "POST", path, b"x" * 1_100_000)
        assert (reply.status, named in reply.body.decode()) == (413, True), reply.body
        gateway.catalog.close()

    asyncio.run(main())


def test_a_model_that_is_not_live_has_a_line_as_the_docs_show(made: dict[str, Made], lines: Lines) -> None:
    async def main() -> None:
        gateway = gateway_of(made)
        assert (await ask(gateway, "POST", "/models/wine/predict", records({}))).status == 503
        gateway.catalog.close()

    asyncio.run(main())
    (line,) = lines()
    assert_as_shown(line)
    assert line["error"] == shown(503)["error"]


def test_every_reason_is_in_the_docs_and_no_other() -> None:
    table = DOCS[DOCS.index("| reason | status |") :].split("\n\n", 1)[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {name for part in get_args(Reason) for name in get_args(part) or (part,)}


@pytest.fixture(scope="module")
def served(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("refusals") / "work"
    prepare(folder, {"loans": (made["loans"].path, VERSIONS["loans"])})
    with bento_server(
        folder, settings={"OKAMOCHI_MAX_BODY_BYTES": "5000", "OKAMOCHI_RECEIVE_S": "2"}
    ) as started:
        yield started


CASES: dict[str, tuple[str, str, bytes, dict[str, str], dict[str, Any]]] = {
    "no number": (
        "POST",
        "/predict",
        records({"age": SECRET}),
        {},
        {"status": 422, "reason": "no_number", "row": 0, "column": "age"},
    ),
    "infinity": (
        "POST",
        "/predict",
        records({}).replace(b"30", b"1e999"),
        {},
        {"status": 422, "reason": "number_too_large", "row": 0, "column": "age"},
    ),
    "missing": (
        "POST",
        "/predict",
        records({"job": None}),
        {},
        {"status": 422, "reason": "missing", "row": 0, "column": "job"},
    ),
    "category": (
        "POST",
        "/predict",
        records({}, {}, {"job": SECRET}, {"job": 1}),
        {},
        {"status": 422, "reason": "unknown_category", "row": 2, "column": "job", "errors": 2},
    ),
    "date": (
        "POST",
        "/predict",
        records({"since": SECRET}),
        {},
        {"status": 422, "reason": "no_date", "row": 0, "column": "since"},
    ),
    "unknown column": (
        "POST",
        "/predict",
        records({SECRET: 1}),
        {},
        {"status": 422, "reason": "unknown_column", "row": 0, "column": None},
    ),
    "width": (
        "POST",
        "/predict",
        b'{"features": [[1, 2]]}',
        {},
        {"status": 422, "reason": "wrong_width", "row": 0, "column": None},
    ),
    "no rows": ("POST", "/predict", b'{"features": []}', {}, {"status": 422, "reason": "no_rows"}),
    "option": (
        "POST",
        "/predict",
        records({}).replace(b"}]}", b'}], "threshold": 7}'),
        {},
        {"status": 422, "reason": "bad_option", "column": "threshold"},
    ),
    "unknown key": ("POST", "/predict", f'{{"{SECRET}": 1}}'.encode(), {}, {"status": 422, "column": None}),
    "not JSON": ("POST", "/predict", SECRET.encode(), {}, {"status": 400, "reason": "not_json"}),
    "media type": (
        "POST",
        "/predict",
        b"<a/>",
        {"Content-Type": "text/xml"},
        {"status": 415, "reason": "bad_content_type"},
    ),
    "compressed": (
        "POST",
        "/predict",
        b"x",
        {"Content-Encoding": "br"},
        {"status": 415, "reason": "bad_content_encoding"},
    ),
    "damaged": (
        "POST",
        "/predict",
        SECRET.encode(),
        {"Content-Encoding": "gzip"},
        {"status": 400, "reason": "bad_content_encoding"},
    ),
    "deadline": (
        "POST",
        "/predict",
        records({}),
        {"X-Deadline-Ms": "soon"},
        {"status": 400, "reason": "bad_deadline"},
    ),
    "too large": ("POST", "/predict", records(*[{}] * 100), {}, {"status": 413, "reason": "body_too_large"}),
    "oip": (
        "POST",
        "/v2/models/loans/infer",
        b"[]",
        {},
        {"status": 422, "reason": "bad_input", "endpoint": "infer"},
    ),
    "mlflow": (
        "POST",
        "/invocations",
        json.dumps({"dataframe_records": [LOAN | {"age": SECRET}]}).encode(),
        {},
        {"status": 400, "row": 0, "endpoint": "invocations"},
    ),
    "mlflow, header of values": (
        "POST",
        "/invocations",
        f"{SECRET},1\n2,3\n".encode(),
        {"Content-Type": "text/csv"},
        {"status": 400, "column": None},
    ),
    "no path": ("GET", f"/{SECRET}", b"", {}, {"status": 404, "reason": "not_found", "model": None}),
    "no model": (
        "POST",
        "/models/nobody/predict",
        records({}),
        {},
        {"status": 404, "reason": "unknown_model", "model": None},
    ),
    "method": ("GET", "/predict", b"", {}, {"status": 405, "reason": "method_not_allowed"}),
    "score": (
        "POST",
        "/score",
        b'{"rows": [[1]]}',
        {},
        {"status": 422, "reason": "wrong_width", "row": 0, "endpoint": "score"},
    ),
    "feedback": (
        "POST",
        "/feedback",
        b"{",
        {},
        {"status": 400, "reason": "not_json", "endpoint": "feedback", "model": None},
    ),
    "feedback without a value": (
        "POST",
        "/feedback",
        b'[{"id": "0123456789ab-1", "actual": 1}, {"id": "0123456789ab-1"}]',
        {},
        {"status": 422, "reason": "bad_input", "row": 1, "column": "actual"},
    ),
    "feedback with a key that is none": (
        "POST",
        "/feedback",
        f'{{"id": "0123456789ab-1", "actual": 1, "{SECRET}": 1}}'.encode(),
        {},
        {"status": 422, "reason": "bad_input", "row": 0, "column": None},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_refusal_has_one_line_that_says_which_why_and_where(served: Server, case: str) -> None:
    """On both lanes; and never a value of a cell."""
    method, path, body, headers, expected = CASES[case]
    for query in ("", "?gateway"):
        name = f"{case.replace(' ', '-')}{query}"
        reply = httpx.request(
            method, served.url + path + query, content=body, headers={"X-Request-Id": name} | headers
        )
        assert reply.status_code == expected["status"]
        line = line_of(served, name)
        found = {key: line.get(key) for key in expected}
        assert found == expected
        assert line["reason"] in {name for part in get_args(Reason) for name in get_args(part) or (part,)}
        assert "model" in line
        assert (line["version"] is None) == (line["model"] is None)
    assert SECRET not in served.log.read_text()


def line_of(server: Server, request_id: str) -> dict[str, Any]:
    """The only line about a request, as soon as it is written."""
    for _ in range(4_000):
        found = [
            json.loads(line)
            for line in server.log.read_text().splitlines()
            if line.startswith("{") and json.loads(line).get("request_id") == request_id
        ]
        if found:
            (line,) = found
            return dict(line)
        time.sleep(0.05)
    raise AssertionError(f"no line about {request_id}: {server.log.read_text()[-2000:]}")


CHUNKED = b"Transfer-Encoding: chunked\r\n"
CUT_SHORT: dict[str, tuple[bytes, dict[str, Any]]] = {
    "body-stays-away": (b"Content-Length: 9\r\n\r\n", {"status": 408, "model": "loans"}),
    "body-stops": (b"Content-Length: 9\r\n\r\n{", {"status": 408, "model": "loans"}),
    "chunks-stop": (CHUNKED + b"\r\n5\r\n{", {"status": 408, "model": "loans"}),
    "chunk-is-broken": (CHUNKED + b"\r\nzz\r\n", {"status": 400, "model": "loans"}),
    "head-stops": (b"Content-Le", {"status": 408, "model": None}),
    "head-is-broken": (b"Content-Length: 2\r\n" + CHUNKED + b"\r\n", {"status": 400, "model": None}),
}


@pytest.mark.parametrize("case", CUT_SHORT)
def test_a_request_that_http_refuses_is_named_by_what_its_head_says(served: Server, case: str) -> None:
    sent, expected = CUT_SHORT[case]
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: {case}\r\n".encode()
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(head + sent)
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    assert f"\r\nx-request-id: {case}\r\n".encode() in reply
    line = line_of(served, case)
    assert {key: line.get(key) for key in expected} == expected
    assert line["endpoint"] == ("predict" if expected["model"] else "other")
    assert (line["version"] is None) == (line["model"] is None)


def test_a_server_that_is_not_ready_says_why_in_the_line_of_its_probe(
    made: dict[str, Made], lines: Lines
) -> None:
    async def main() -> None:
        gateway = gateway_of(made)
        for path in ("/readyz", "/v2/health/ready"):
            reply = await ask(gateway, "GET", path, headers={"x-request-id": "probe"})
            assert reply.status == 503
            assert reply.headers["x-request-id"] == "probe"
        gateway.catalog.close()

    asyncio.run(main())
    for line in lines():
        assert (line["request_id"], line["reason"]) == ("probe", "not_ready")
        assert "wine" in line["error"]
