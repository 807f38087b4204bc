"""What is live is replaced by one assignment, which both lanes, every route and every page follow."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uvicorn
import uvicorn.config

from serving.http import express
from serving.http.gateway import Gateway
from serving.scoring import catalog
from serving.scoring.costs import Limits
from serving.settings import Settings
from tests.faults.wire import read_reply, request
from tests.servers import PATIENCE_S
from tests.serving.conftest import elsewhere

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from serving.scoring.batcher import Batcher
    from serving.scoring.catalog import Catalog
    from tests.faults.wire import Reply
    from tests.serving.artifacts import Made

JSON = "Content-Type: application/json"
POSTS = {
    "/predict": b'{"features": [[1.0]]}',
    "/models/linear/predict": b'{"features": [[1.0]]}',
    "/v2/models/linear/infer": b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,1],"data":[1.0]}]}',
    "/invocations": b'{"inputs": [[1.0]]}',
    "/score": b'{"rows": [[1.0]]}',
}
PAGES = ("/models", "/models/linear", "/v2/models/linear", "/openapi.json", "/docs")


def opened(made: Made, version: str, value: float, settings: Settings) -> Catalog:
    """A catalog of one model that says `value`, so that replies tell which version made them."""
    models = catalog.load([("linear", "")], lambda _: (made.path, {"version": version}), settings)
    models.live["linear"].batcher._score = lambda matrix: np.full((len(matrix), 1), value)
    return models


async def in_process(gateway: Gateway, client: Callable[[int], Awaitable[None]]) -> None:
    """Serve with uvicorn, as a worker does, and let a client ask."""
    config = uvicorn.Config(gateway, host="127.0.0.1", port=0, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    try:
        await until(lambda: server.started, "uvicorn did not start")
        await client(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await serving


async def until(found: Callable[[], object], what: str) -> None:
    for _ in range(600):
        if found():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(what)


class Asking:
    """A client with connections that stay open."""

    def __init__(self, connections: list[Any]) -> None:
        self.connections = connections

    async def __call__(self, at: int, data: bytes) -> Reply:
        reader, writer = self.connections[at]
        writer.write(data)
        reply: Reply = await read_reply(reader)
        return reply

    async def every_route_says(self, value: float, version: str) -> None:
        for path, lane in product(POSTS, ("", "?gateway")):
            # Twice the same head, which is remembered, and heads that differ in a value.
            for more in ((), (), ("X-Request-Id: a",), ("X-Request-Id: b",)):
                reply = await self(0, request(path + lane, POSTS[path], JSON, *more))
                assert reply.status == 200, reply
                assert b"%.1f" % value in reply.body, (path, lane, more, reply.body)
                named = path in ("/invocations", "/score") or b'"%s"' % version.encode() in reply.body
                assert named, reply.body
        for path in PAGES:
            said = (await self(1, request(path, method="GET"))).body.decode()
            assert f'"{version}"' in said or f"version {version}" in said, (path, said[:300])


@dataclass
class Held:
    """A model whose next calls wait in its thread, two rows a call."""

    batcher: Batcher
    release: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        release = self.release

        def held(matrix: Any) -> Any:
            release.wait(PATIENCE_S)
            return np.full((len(matrix), 1), 111.0)

        self.batcher._score = held
        self.batcher.limits = Limits(0, 2, 0.001)

    def busy(self) -> bool:
        return self.batcher._running > 0 and self.batcher.queued_rows > 0


@pytest.mark.parametrize("logged", [False, True], ids=["", "with a prediction log"])
def test_what_is_live_is_replaced_by_one_assignment(
    made: dict[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: bool
) -> None:
    settings = Settings(prediction_log=str(tmp_path / "log") if logged else "")
    monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", dict(uvicorn.config.HTTP_PROTOCOLS))
    gateway = Gateway(elsewhere, opened(made["linear"], "1", 111.0, settings), settings)
    express.install(gateway.live, gateway.observe_express, settings)

    async def client(port: int) -> None:
        ask = Asking([await asyncio.open_connection("127.0.0.1", port) for _ in range(8)])
        await ask.every_route_says(111.0, "1")
        # Requests under way, of both lanes, in the thread of the old model and in its queue.
        held = Held(gateway.catalog.live["linear"].batcher)
        paths = ("/predict", "/predict?gateway", "/v2/models/linear/infer", "/invocations?gateway")
        sent = [request(path, POSTS[path.partition("?")[0]], JSON) for path in paths]
        asked = [asyncio.ensure_future(ask(2 + i, data)) for i, data in enumerate(sent)]
        await until(held.busy, "nothing is under way")
        old = gateway.catalog

        gateway.live.routes = gateway.routes_of(opened(made["linear"], "2", 222.0, settings))

        await ask.every_route_says(222.0, "2")
        assert not any(one.done() for one in asked)
        held.release.set()
        replies = await asyncio.gather(*asked)
        assert [(reply.status, b"111.0" in reply.body) for reply in replies] == [(200, True)] * 4
        # Every connection is open and idle; nothing holds on to the old model.
        gone = weakref.ref(old.live["linear"])
        old.close()
        del old, held
        await until(
            lambda: gc.collect() is not None and gone() is None, "something holds on to the old model"
        )
        await ask.every_route_says(222.0, "2")
        if gateway.predictions is not None:
            told = json.loads((await ask(0, sent[0])).body)
            await asyncio.get_running_loop().run_in_executor(None, gateway.predictions.flush)
            body = json.dumps({"id": told["id"], "actual": 3.0}).encode()
            assert (await ask(0, request("/feedback", body, JSON))).status == 200
        for _, writer in ask.connections:
            writer.close()

    asyncio.run(in_process(gateway, client))
    if gateway.predictions is not None:
        gateway.predictions.close()
    gateway.catalog.close()


def test_a_snapshot_cannot_be_changed(gateway: Gateway) -> None:
    with pytest.raises(AttributeError):
        gateway.live.routes.catalog = None  # type: ignore[misc, assignment]
