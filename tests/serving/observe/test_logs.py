"""Lines of the log: which requests have one, what stands in it, and what never does."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from artifact.raised import raised_at
from serving.observe import logs
from serving.observe.logs import Allowance, BoundedHandler
from tests.bento_server import bento_server, prepare
from tests.faults.wire import ask, request
from tests.servers import PATIENCE_S
from tests.serving.conftest import VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made

SECRET = "hunter2-4711"  # noqa: S105 - of a cell
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def logging_server(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Every request has its line."""
    folder: Path = tmp_path_factory.mktemp("logs") / "work"
    prepare(folder, {name: (made[name].path, VERSIONS[name]) for name in ("iris", "loans")})
    with bento_server(folder, settings={"OKAMOCHI_LOG_SAMPLE": "1"}) as started:
        yield started


def line_of(server: Server, request_id: str) -> dict[str, Any]:
    """The line about a request, as soon as it is written."""
    for _ in range(4_000):
        for line in server.log.read_text().splitlines():
            if line.startswith("{") and json.loads(line).get("request_id") == request_id:
                return json.loads(line)  # type: ignore[no-any-return]
        time.sleep(0.05)
    raise AssertionError(f"no line about {request_id}: {server.log.read_text()[-2000:]}")


@pytest.mark.parametrize("path", ["/models/iris/predict", "/models/iris/predict?gateway"])
def test_a_line_says_who_asked_for_what_and_how_it_ended(logging_server: Server, path: str) -> None:
    name = f"whole-{len(path)}"
    reply = httpx.post(
        logging_server.url + path,
        json={"features": [[5.1, 3.5, 1.4, 0.2]]},
        headers={"X-Request-Id": name, "traceparent": f"00-{TRACE}-b7ad6b7169203331-00"},
    )
    line = line_of(logging_server, name)
    assert line.pop("ms") >= 0
    assert line.pop("time").endswith("Z")
    assert line.pop("pid") > 0
    assert line == {
        "level": "info",
        "logger": "bentoml.okamochi.request",
        "message": "request",
        "lane": "gateway" if "?" in path else "express",
        "endpoint": "predict",
        "model": "iris",
        "version": VERSIONS["iris"],
        "status": 200,
        "id": reply.json()["id"],
        "request_id": name,
        "trace_id": TRACE,
        "span_id": "b7ad6b7169203331",
    }


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models/iris/predict", 422),
        ("/models/iris/predict?gateway", 422),
        ("/models/none", 404),
        ("/v2/models/iris/infer", 422),
        ("/v2/models/iris/infer?gateway", 422),
        ("/invocations", 400),
    ],
)
def test_a_refusal_names_the_request_as_its_line_does(logging_server: Server, path: str, status: int) -> None:
    """By the client's own name for it, else by one of ours."""
    for headers in ({}, {"X-Request-Id": f"refused-{status}-{len(path)}"}):
        reply = httpx.post(logging_server.url + path, json={"features": [["x"]]}, headers=headers)
        if path == "/models/none":
            reply = httpx.get(logging_server.url + path, headers=headers)
        assert reply.status_code == status
        named = reply.headers["x-request-id"]
        assert reply.json().get("request_id", named) == named, "the protocols' own shapes have no such key"
        assert named == headers.get("X-Request-Id", named)
        line = line_of(logging_server, named)
        assert (line["status"], line["level"]) == (status, "warning")


def test_no_line_has_a_value_of_a_cell(logging_server: Server) -> None:
    """Not of a column that is left out, nor of one that is refused, nor of one that is scored."""
    loan = {"age": 30, "income": 1000, "job": "cook", "city": "Ulm", "since": "2020-05-17", "note": SECRET}
    url = logging_server.url + "/models/loans/predict"
    for body in (
        {"records": [loan | {"gender": SECRET}]},
        {"records": [loan | {"age": SECRET}]},
        {"records": [loan | {"job": SECRET}]},
        {"records": [loan | {SECRET: 1}]},
        {SECRET: 1},
    ):
        for query in ("", "?gateway"):
            httpx.post(url + query, json=body)
    httpx.post(url, content=f'{{"records": {SECRET}')
    httpx.get(logging_server.url + f"/{SECRET}")
    last = httpx.post(url, json={}, headers={"X-Request-Id": "after-all"})
    assert last.status_code == 422
    line_of(logging_server, "after-all")
    assert SECRET not in logging_server.log.read_text()


def test_a_flood_of_refusals_leaves_a_bounded_number_of_lines(logging_server: Server) -> None:
    """And a line says how many it stands for beside itself."""

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in logging_server.log.read_text().splitlines() if line[0] == "{"]
        return [line for line in found if line.get("status", 0) >= 400]

    line_of(logging_server, _refused(logging_server))
    before, counted = lines(), _left_out(logging_server)
    ask(logging_server, *(request(f"/flood/{i}", method="GET") for i in range(2_000)))
    time.sleep(0.5)
    line_of(logging_server, _refused(logging_server))
    new = lines()[len(before) :]
    left_out = sum(line.get("lines_left_out", 0) for line in new)
    assert len(new) + left_out == 2_001
    assert left_out > 1_000
    end = time.monotonic() + PATIENCE_S
    while _left_out(logging_server) - counted != left_out:
        assert time.monotonic() < end, f"{left_out} lines were left out, and the metric does not say so"


def _left_out(server: Server) -> float:
    time.sleep(2 * logs.COUNT_S)
    found = re.search(
        r"^okamochi_log_lines_left_out_total (\S+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE
    )
    assert found
    return float(found[1])


def _refused(server: Server) -> str:
    """What a request that is refused, and has its line, is called."""
    time.sleep(0.2)
    return str(httpx.get(server.url + "/models/none").json()["request_id"])


def test_an_allowance_fills_up_with_time() -> None:
    now = [0.0]
    allowance = Allowance(2, 3, lambda: now[0])
    assert [allowance.take() for _ in range(5)] == [True] * 3 + [False] * 2
    now[0] = 1.0
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    assert allowance.refused == 3


def test_the_place_of_an_error_says_where_and_never_what() -> None:
    try:
        float(SECRET)
    except ValueError as error:
        found = raised_at(error)
    assert found.startswith("ValueError at ")
    assert "test_logs.py" in found
    assert SECRET not in found


def test_lines_that_nobody_reads_are_dropped_and_told_of_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_LINES", 100)
    source, sink = os.pipe()
    handler = BoundedHandler(sink)
    logger = logging.Logger("of this test")  # noqa: LOG001 - of nobody else
    logger.addHandler(handler)
    for i in range(5_000):
        logger.warning("%s", f"{i} " + "x" * 400)
    written, dropped = [], 0
    with open(source, "rb", closefd=False) as reader:
        while len(written) + dropped < 5_000:
            first, *rest = json.loads(reader.readline())["message"].split(" ", 1)
            if rest == ["log lines were dropped"]:
                dropped += int(first)
            else:
                written.append(int(first))
    assert written == sorted(written)
    assert dropped > 1_000
    os.close(source)
    logger.warning("nobody is there at all")
    handler.flush()
