"""Pages that many clients get are made once, in gzip too."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Any

import pytest

from serving.http.kept import Elsewhere, Seldom
from serving.protocols import codings
from tests.serving.conftest import ask

if TYPE_CHECKING:
    from serving.http.gateway import Gateway


class Application:
    """Counts how often it is asked; the first replies are refusals."""

    def __init__(self, refusals: int = 0) -> None:
        self.asked = 0
        self._refusals = refusals

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        assert (scope["path"], (await receive())["body"]) == ("/docs.json", b"")
        status = 500 if self.asked <= self._refusals else 200
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/x")]}
        )
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})


def test_another_application_is_asked_once_by_all_clients() -> None:
    async def main() -> None:
        application = Application()
        page = Elsewhere(application, "/docs.json")
        replies = await asyncio.gather(*(page() for _ in range(5)))
        assert {(reply.status, reply.content_type, reply.body) for reply in replies} == {
            (200, b"text/x", b"ab")
        }
        assert application.asked == 1

    asyncio.run(main())


def test_a_refusal_is_not_kept() -> None:
    async def main() -> None:
        page = Elsewhere(Application(refusals=2), "/docs.json")
        assert [(await page()).status for _ in range(4)] == [500, 500, 200, 200]

    asyncio.run(main())


def test_a_page_is_the_same_reply_until_it_changes() -> None:
    bodies = iter([b"1", b"1", b"2"])
    page = Seldom(lambda: next(bodies))

    one, two, three = page(), page(), page()

    assert one is two
    assert three.body == b"2"


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/models", "/models/loans"])
def test_a_page_is_compressed_once(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    accept = {"Accept-Encoding": "gzip, identity;q=0"}
    first = asyncio.run(ask(gateway, "GET", path, headers=accept))
    plain = asyncio.run(ask(gateway, "GET", path))
    monkeypatch.setattr(codings, "zlib", None)

    again = asyncio.run(ask(gateway, "GET", path, headers=accept))

    assert (again.status, again.headers["content-encoding"]) == (200, "gzip")
    assert again.body == first.body
    assert gzip.decompress(again.body) == plain.body
    assert "content-encoding" not in plain.headers
