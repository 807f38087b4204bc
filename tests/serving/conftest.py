"""Artifacts, a catalog and a server of them, each made once a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from serving.http.gateway import Gateway
from serving.scoring import catalog
from serving.settings import Settings
from tests.bento_server import bento_server, prepare
from tests.servers import PATIENCE_S
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving.scoring.catalog import Catalog
    from tests.servers import Server
    from tests.serving.artifacts import Made

PATIENT_SETTINGS = Settings(default_deadline_ms=60_000)
"""On a busy machine a request may wait for seconds; only tests of deadlines want it refused for that."""
VERSIONS = {"breast_cancer": "3", "iris": "12", "linear": "1", "loans": "2", "forest": "7"}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("artifacts")
    return {
        "breast_cancer": artifacts.breast_cancer(folder / "breast_cancer"),
        "iris": artifacts.iris(folder / "iris"),
        "linear": artifacts.linear(folder / "linear"),
        "loans": artifacts.loans(folder / "loans"),
        "forest": artifacts.breast_cancer(folder / "forest", trees=50),
    }


@pytest.fixture(scope="session")
def models(made: dict[str, Made]) -> Catalog:
    found = catalog.load(
        [(name, name) for name in made],
        lambda tag: (made[tag].path, {"version": VERSIONS[tag]}),
        PATIENT_SETTINGS,
    )
    assert found.refused == {}
    return found


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        import json

        return json.loads(self.body)


async def ask(
    gateway: Gateway,
    method: str,
    path: str,
    body: bytes | list[bytes] = b"",
    headers: dict[str, str] | None = None,
    *,
    client: str = "",
) -> Answer:
    """One request to an ASGI application, its body in one or several messages."""
    parts = [body] if isinstance(body, bytes) else list(body)
    messages = [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)}
        for i, part in enumerate(parts)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        import asyncio

        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(key.lower().encode(), value.encode()) for key, value in (headers or {}).items()],
        "client": (client, 1) if client else None,
    }
    await gateway(scope, receive, send)
    start, *rest = sent
    return Answer(
        start["status"],
        {key.decode(): value.decode() for key, value in start["headers"]},
        b"".join(message.get("body", b"") for message in rest),
    )


async def elsewhere(_scope: Any, _receive: Any, send: Any) -> None:
    """Stands where BentoML's application does: says that the request was passed on."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"passed on"})


@pytest.fixture(scope="session")
def gateway(models: Catalog) -> Gateway:
    return Gateway(elsewhere, models, PATIENT_SETTINGS, passed_on={"/docs.json"})


@pytest.fixture(scope="session")
def server(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real `bentoml serve` of two ONNX models and one of scikit-learn; the first is the default."""
    folder: Path = tmp_path_factory.mktemp("server") / "work"
    names = ("breast_cancer", "iris", "linear", "loans")
    prepare(folder, {name: (made[name].path, VERSIONS[name]) for name in names})
    with bento_server(folder, settings={"OKAMOCHI_MAX_BODY_BYTES": "1000000"}) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as found:
        yield found
