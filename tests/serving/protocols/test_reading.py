"""Large bodies wait for a thread until their deadline, and only while their client is there."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serving.http.gateway import Gateway
from serving.protocols import data_plane
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.scoring.catalog import Catalog

CSV = {"content-type": "text/csv"}
JSON = {"content-type": "application/json"}
BODIES = [
    ("/models/iris/predict", b"not a column\n" + b"1\n" * 40_000, CSV),
    ("/models/iris/predict", b" " * 70_000 + b"{}", JSON),
    ("/v2/models/iris/infer", b" " * 70_000 + b"{}", JSON),
    ("/invocations", b" " * 70_000 + b"{}", JSON),
    ("/v1/models/iris:predict", b" " * 70_000 + b"{}", JSON),
    ("/score", b" " * 70_000 + b"{}", JSON),
]


class Busy:
    """Keeps all of the reading threads busy until it is told to go on."""

    def __init__(self, gateway: Gateway) -> None:
        self.readers = gateway._readers
        self.go = threading.Event()
        self.calls = [self.readers.submit(self.go.wait) for _ in range(2)]


@pytest.fixture
def busy(models: Catalog) -> Iterator[tuple[Gateway, Busy]]:
    gateway = Gateway(elsewhere, models, PATIENT_SETTINGS)
    found = Busy(gateway)
    try:
        yield gateway, found
    finally:
        found.go.set()


@pytest.mark.parametrize(("path", "body", "headers"), BODIES)
def test_a_body_that_waits_for_a_thread_is_refused_at_its_deadline(
    busy: tuple[Gateway, Busy], path: str, body: bytes, headers: dict[str, str]
) -> None:
    gateway, _ = busy
    found = asyncio.run(ask(gateway, "POST", path, body, {**headers, "x-deadline-ms": "30"}))
    assert (found.status, found.headers["retry-after"]) == (429, "1"), found.body


def test_bodies_of_clients_that_left_are_never_read(
    busy: tuple[Gateway, Busy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request takes the first free thread."""
    gateway, blocked = busy
    read: list[str] = []
    inner = data_plane._read

    def counted(*arguments: Any) -> Any:
        read.append("read")
        return inner(*arguments)

    monkeypatch.setattr(data_plane, "_read", counted)

    async def leave(path: str, body: bytes, headers: dict[str, str]) -> None:
        messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(_message: Any) -> None:
            raise AssertionError("nobody is there to be answered")

        pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
        await gateway(
            {"type": "http", "method": "POST", "path": path, "headers": pairs, "client": None}, receive, send
        )

    async def main() -> int:
        for path, body, headers in BODIES * 3:
            await leave(path, body, headers)
        assert read == []
        await asyncio.sleep(0)  # the loop tells the thread of the last one that it is cancelled
        blocked.go.set()
        path, body, headers = BODIES[0]
        return (await ask(gateway, "POST", path, body, headers)).status

    assert asyncio.run(main()) == 422
    assert read == ["read"]
