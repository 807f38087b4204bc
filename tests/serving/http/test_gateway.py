"""What the gateway does that a real server shows only under load: overload, isolation, clients that leave."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.http.gateway import Gateway
from serving.scoring import catalog
from serving.settings import Settings
from tests.servers import PATIENCE_S
from tests.serving.conftest import PATIENT_SETTINGS, VERSIONS, ask, elsewhere

if TYPE_CHECKING:
    from serving.scoring.catalog import Catalog
    from tests.serving.artifacts import Made

X = b'{"x": 1}'


def gateway_of(made: dict[str, Made], *names: str, settings: Settings | None = None) -> Gateway:
    """A gateway with models of its own, which a test may slow down."""
    settings = settings or PATIENT_SETTINGS
    found = catalog.load(
        [(name, name) for name in names], lambda tag: (made[tag].path, {"version": VERSIONS[tag]}), settings
    )
    return Gateway(elsewhere, found, settings)


def slow_down(models: Catalog, name: str) -> threading.Event:
    """Let the calls of a model last until the event is set."""
    release = threading.Event()
    queue = models.live[name].batcher
    score = queue._score

    def held(matrix: Any) -> Any:
        release.wait(PATIENCE_S)
        return score(matrix)

    queue._score = held
    queue.limits = type(queue.limits)(inline_rows=0, batch_rows=16, row_s=0.02)
    return release


def test_a_slow_model_holds_up_neither_health_nor_another_model(made: dict[str, Made]) -> None:
    async def main() -> None:
        gateway = gateway_of(made, "linear", "iris")
        release = slow_down(gateway.catalog, "linear")
        waiting = [asyncio.ensure_future(ask(gateway, "POST", "/predict", X)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert (await ask(gateway, "GET", "/livez")).status == 200
        body = b'{"features": [[5.1, 3.5, 1.4, 0.2]]}'
        assert (await ask(gateway, "POST", "/models/iris/predict", body)).json()["prediction"] == ["setosa"]
        assert not any(one.done() for one in waiting)
        release.set()
        assert [one.status for one in await asyncio.gather(*waiting)] == [200] * 3
        gateway.catalog.close()

    asyncio.run(main())


def test_a_full_queue_is_429_with_retry_after(made: dict[str, Made]) -> None:
    async def main() -> None:
        gateway = gateway_of(made, "linear", settings=Settings(queue_rows=5))
        release = slow_down(gateway.catalog, "linear")
        waiting = [asyncio.ensure_future(ask(gateway, "POST", "/predict", X)) for _ in range(10)]
        await asyncio.sleep(0.05)
        refused = [one.result() for one in waiting if one.done()]
        assert [one.status for one in refused] == [429] * 5
        assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
        release.set()
        assert sorted(one.status for one in await asyncio.gather(*waiting)) == [200] * 5 + [429] * 5
        gateway.catalog.close()

    asyncio.run(main())


def test_a_deadline_that_passes_in_the_queue_is_429(made: dict[str, Made]) -> None:
    async def main() -> None:
        gateway = gateway_of(made, "linear")
        release = slow_down(gateway.catalog, "linear")
        first = asyncio.ensure_future(ask(gateway, "POST", "/predict", X))
        await asyncio.sleep(0.01)
        hasty = await ask(gateway, "POST", "/predict", X, {"X-Deadline-Ms": "60", "X-Request-Id": "q"})
        assert hasty.status == 429
        assert hasty.headers["x-request-id"] == "q"
        release.set()
        assert (await first).status == 200
        gateway.catalog.close()

    asyncio.run(main())


def test_a_client_that_leaves_frees_its_place(made: dict[str, Made]) -> None:
    async def main() -> None:
        gateway = gateway_of(made, "linear")
        release = slow_down(gateway.catalog, "linear")
        queue = gateway.catalog.live["linear"].batcher
        first = asyncio.ensure_future(ask(gateway, "POST", "/predict", X))
        await asyncio.sleep(0.01)
        leave = asyncio.Event()
        sent: list[Any] = []
        messages = [{"type": "http.request", "body": b'{"features": [[1], [2], [3]]}', "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
        left = asyncio.ensure_future(gateway(scope, receive, send))
        await asyncio.sleep(0.01)
        assert queue.queued_rows == 3
        leave.set()
        await left
        assert queue.queued_rows == 0
        assert sent == []
        release.set()
        await first
        gateway.catalog.close()

    asyncio.run(main())


def test_more_rows_than_a_request_may_have_is_413(made: dict[str, Made]) -> None:
    async def main() -> None:
        gateway = gateway_of(made, "linear", settings=Settings(queue_rows=10))
        for body in (
            {"features": [[1.0]] * 11},
            {"features": [[1]] * 11, "threshold": None},
            {"records": [{"x": 1}] * 11},
            {"columns": {"x": [1] * 11}},
        ):
            found = await ask(gateway, "POST", "/predict", json.dumps(body).encode())
            assert found.status == 413
            assert "11 rows" in found.json()["detail"]

    asyncio.run(main())


def test_a_length_over_the_limit_is_413_before_the_body_is_sent(gateway: Gateway) -> None:
    async def main() -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            raise AssertionError("nothing of the body needs to be read")

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-length", b"99999999999")]
        await gateway(
            {"type": "http", "method": "POST", "path": "/predict", "headers": headers}, receive, send
        )
        assert sent[0]["status"] == 413

    asyncio.run(main())


def test_memory_bounds_the_rows_of_a_wide_model(made: dict[str, Made]) -> None:
    """Thirty columns of 8 bytes in 24,000 bytes: a hundred rows."""
    models = gateway_of(made, "breast_cancer", settings=Settings(max_matrix_bytes=24_000)).catalog
    assert models.live["breast_cancer"].max_rows == 100


def test_a_large_body_is_read_in_a_thread_and_answered_alike(
    gateway: Gateway, made: dict[str, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = made["breast_cancer"].rows
    endpoint = gateway.live.routes.endpoints["/predict"]
    threads: list[str] = []
    read = type(endpoint).read

    def noted(self: Any, body: bytes, call: Any) -> Any:
        threads.append(threading.current_thread().name)
        return read(self, body, call)

    monkeypatch.setattr(type(endpoint), "read", noted)
    body = json.dumps({"features": rows * 4}).encode()
    found = asyncio.run(ask(gateway, "POST", "/predict", [body[:1000], body[1000:]]))
    assert found.json()["prediction"] == made["breast_cancer"].labels(rows) * 4
    assert threads[0].startswith("okamochi-read")
    bad = json.dumps({"features": [*rows * 4, rows[0][:5]]}).encode()
    found = asyncio.run(ask(gateway, "POST", "/predict", bad))
    assert found.status == 422
    assert found.json()["errors"][0]["row"] == 4 * len(rows)


def test_a_forest_answers_as_scikit_learn_does(gateway: Gateway, made: dict[str, Made]) -> None:
    """In float32, and in several calls for one request."""
    rows = made["forest"].rows * 3
    body = json.dumps({"features": rows, "probabilities": True}).encode()
    gateway.catalog.live["forest"].batcher.limits = type(gateway.catalog.live["forest"].batcher.limits)(
        inline_rows=0, batch_rows=100, row_s=1e-5
    )
    found = asyncio.run(ask(gateway, "POST", "/models/forest/predict", body)).json()
    assert found["prediction"] == made["forest"].labels(rows)
    assert np.allclose(found["probabilities"], made["forest"].scores(rows), atol=1e-5)


def test_values_without_a_finite_answer_are_422(made: dict[str, Made]) -> None:
    """A model that divides by zero for what a client sent: the client is told, the server is well."""

    async def main() -> None:
        gateway = gateway_of(made, "linear")
        gateway.catalog.live["linear"].batcher._score = lambda matrix: np.full((len(matrix), 1), np.inf)
        found = await ask(gateway, "POST", "/predict", X)
        assert found.status == 422
        assert found.json()["errors"] == [
            {"row": 0, "column": None, "reason": "the model gives no finite number for these values"}
        ]

    asyncio.run(main())


def test_only_the_fixed_list_reaches_bentoml(gateway: Gateway) -> None:
    async def main() -> None:
        assert (await ask(gateway, "GET", "/")).status == 200
        assert (await ask(gateway, "GET", "/docs.json")).status == 299
        assert (await ask(gateway, "GET", "/schema.json")).status == 404

    asyncio.run(main())


def test_an_exception_in_a_page_is_500_and_the_server_goes_on(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.observe.metrics.exposition", lambda: 1 / 0)
    found = asyncio.run(ask(gateway, "GET", "/metrics"))
    assert found.status == 500
    assert found.headers["content-type"] == "application/problem+json"


def test_an_unknown_compression_is_415_which_says_what_is_read(gateway: Gateway) -> None:
    """RFC 9110, 15.5.16: so that a client can tell a coding from a media type."""
    found = asyncio.run(ask(gateway, "POST", "/predict", b"x", {"content-encoding": "br"}))
    assert (found.status, found.headers["accept-encoding"]) == (415, "gzip, deflate, identity")


def test_options_of_the_whole_server(gateway: Gateway) -> None:
    """RFC 9110, 9.3.7: `OPTIONS *` is a ping."""
    found = asyncio.run(ask(gateway, "OPTIONS", "*"))
    assert (found.status, found.body) == (204, b"")
    assert asyncio.run(ask(gateway, "GET", "*")).status == 405


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", b'{"x": 5}'),
        ("/models/linear/predict", b'{"features": [[5]]}'),
        (
            "/v2/models/linear/infer",
            b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [5]}]}',
        ),
        ("/invocations", b'{"inputs": [5]}'),
    ],
)
def test_a_byte_order_mark_before_json_is_passed_over(gateway: Gateway, path: str, body: bytes) -> None:
    """As .NET and PowerShell write it; RFC 8259, 8.1."""
    plain = asyncio.run(ask(gateway, "POST", path, body)).status
    assert asyncio.run(ask(gateway, "POST", path, b"\xef\xbb\xbf" + body)).status == plain
    if "linear" in path:
        assert plain == 200


def test_websockets_are_refused(gateway: Gateway) -> None:
    async def main() -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await gateway({"type": "websocket", "path": "/predict", "headers": []}, receive, send)
        assert sent[0]["type"] == "websocket.close"

    asyncio.run(main())


def test_a_client_that_leaves_before_its_body_ends_is_not_answered(gateway: Gateway) -> None:
    async def main() -> None:
        messages = [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.disconnect"},
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
        await gateway(scope, receive, send)
        assert sent == []

    asyncio.run(main())
