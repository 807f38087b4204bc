"""A protocol is a class of the declared type: a new one changes neither the gateway nor another protocol."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from serving.errors import Problem
from serving.http.gateway import Gateway
from serving.protocols import Described, Head, Protocol, Reply, data_plane
from serving.protocols.options import Query
from serving.protocols.registry import PROTOCOLS
from serving.scoring.catalog import Catalog
from serving.settings import Settings
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.protocols import Endpoint
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores

SERVING = Path(__file__).resolve().parents[3] / "serving"


class PlainEndpoint:
    """Rows as lines of numbers, answers as lines of labels."""

    name = "plain"
    content_types: tuple[str, ...] = ("text/plain",)

    def __init__(self, model: LiveModel) -> None:
        self.model = model

    def read(self, body: bytes, head: Head) -> Query:  # noqa: ARG002 - others look at headers
        try:
            lines = [[float(cell) for cell in line.split()] for line in body.decode().splitlines()]
        except ValueError:
            raise Problem(400, "not numbers") from None
        matrix = self.model.encoder.rows(lines)
        return Query(matrix, len(matrix))

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:
        labels = "\n".join(map(str, scores.labels(first, first + query.n)))
        return Reply(200, b"text/plain", labels.encode())

    def refuse(self, problem: Problem) -> Reply:
        return Reply(problem.status, b"text/plain", f"no: {problem.detail}".encode(), reason=problem.reason)


class Plain:
    """A protocol of this test."""

    name = "plain"

    def endpoints(self, catalog: Catalog) -> Mapping[str, Endpoint]:
        return {f"/plain/{name}": PlainEndpoint(model) for name, model in catalog.live.items()}

    def pages(self, catalog: Catalog) -> Mapping[str, Callable[[], Reply]]:
        return {"/plain": lambda: Reply(200, b"text/plain", " ".join(catalog.live).encode())}

    def owns(self, path: str) -> bool:
        return path.startswith("/plain")

    def refuse(self, problem: Problem) -> Reply:
        return Reply(problem.status, b"text/plain", f"no: {problem.detail}".encode(), reason=problem.reason)

    def refused(self, path: str, catalog: Catalog) -> str:
        return next((name for name in catalog.refused if path == f"/plain/{name}"), "")

    def not_found(self, path: str, catalog: Catalog) -> Problem | None:  # noqa: ARG002 - others look
        return Problem(404, "plain has no such page") if path.startswith("/plain/") else None

    def document(self, catalog: Catalog) -> Described:
        operation = {"operationId": "plain", "summary": "Plain rows.", "responses": {}}
        return Described({f"/plain/{name}": {"post": operation} for name in catalog.live}, {"Plain": {}})


@pytest.fixture
def gateway(models: Catalog) -> Gateway:
    one: Protocol = Plain()
    catalog = Catalog({"iris": models.live["iris"]}, {"wine": "its digest differs"}, "iris")
    return Gateway(elsewhere, catalog, PATIENT_SETTINGS, protocols=(*PROTOCOLS, one))


def say(gateway: Gateway, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    found = asyncio.run(ask(gateway, method, path, body, {"content-type": "text/plain"}))
    return found.status, found.body


def test_a_new_protocol_is_served_by_being_on_the_list(gateway: Gateway) -> None:
    """Its predictions, pages, refusals, OpenAPI and lines of /docs; the other protocols stay as they are."""
    assert say(gateway, "POST", "/plain/iris", b"5.1 3.5 1.4 0.2\n6.9 3.1 5.4 2.1") == (
        200,
        b"setosa\nvirginica",
    )
    assert say(gateway, "GET", "/plain") == (200, b"iris")
    assert say(gateway, "POST", "/plain/iris", b"five") == (400, b"no: not numbers")
    assert say(gateway, "GET", "/plain/nothing") == (404, b"no: plain has no such page")
    status, body = say(gateway, "POST", "/plain/wine")
    assert (status, body[:3]) == (503, b"no:")
    assert b"digest differs" in body
    assert say(gateway, "GET", "/plain/iris")[0] == 405
    assert say(gateway, "OPTIONS", "/plain/iris")[0] == 204
    assert b'"/plain/iris"' in say(gateway, "GET", "/openapi.json")[1]
    assert b"/plain/iris" in say(gateway, "GET", "/docs")[1]
    assert say(gateway, "GET", "/v2/models/iris")[0] == say(gateway, "GET", "/ping")[0] == 200
    assert b'"error"' in say(gateway, "GET", "/v2/nothing")[1]
    assert b'"title"' in say(gateway, "GET", "/nothing")[1]


def test_a_protocol_needs_no_http(models: Catalog) -> None:
    """Another transport, such as gRPC's, hands messages to the same endpoints."""

    class Course:
        def __init__(self) -> None:
            self.started = perf_counter()
            self.queued: float | None = None
            self.scores: Scores | None = None
            self.principal = None

    async def never() -> None:
        await asyncio.Event().wait()

    async def call(body: bytes) -> Reply | None:
        with ThreadPoolExecutor(1) as readers:
            return await data_plane.answer(
                PlainEndpoint(models.live["iris"]),
                body,
                Head(),
                course,
                settings=Settings(),
                readers=readers,
                left=never,
            )

    course = Course()
    reply = asyncio.run(call(b"5.1 3.5 1.4 0.2"))
    assert reply is not None
    assert reply.body == b"setosa"
    assert course.queued is not None
    assert course.scores is not None
    with pytest.raises(Problem):
        asyncio.run(call(b"x"))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.name)
def test_a_protocol_documents_and_refuses_all_its_routes(protocol: Protocol, models: Catalog) -> None:
    """Of live models and of refused ones."""
    routes, pages = set(protocol.endpoints(models)), set(protocol.pages(models))
    # The gateway answers the model repository, which changes what is live.
    paths = {path for path in protocol.document(models).paths if not path.startswith("/v2/repository/")}
    assert routes | pages == paths
    assert all(protocol.owns(path) for path in routes | pages)
    refused = Catalog({}, dict.fromkeys(models.live, "refused"), models.default)
    for path in routes:
        name = protocol.refused(path, refused)
        problem = protocol.not_found(path, refused)
        assert name or (problem is not None and problem.status == 503), path


def test_http_knows_no_protocol_by_name() -> None:
    """But the page at /docs, a form that sends to /predict, and the model repository, which is /v2's."""
    known = {"docs_page.py": {"predict"}, "gateway.py": {"oip"}}
    for file in sorted((SERVING / "http").glob("*.py")):
        found = set(re.findall(r"protocols\.(predict|oip|mlflow|score)\b", file.read_text()))
        assert found == known.get(file.name, set()), file.name
