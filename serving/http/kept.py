"""Pages that are made once: their bytes, and their form in gzip.

A page costs each client that asks little more than its bytes on the wire, so a flood of requests for pages
holds up no prediction.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from serving.protocols import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.http.asgi import App, Message, Scope


def kept(reply: Reply) -> Reply:
    """The reply, whose form in gzip is made for the first client that wants it, and kept."""
    return msgspec.structs.replace(reply, gzip=[])


class Seldom:
    """A JSON page that seldom changes: as long as its bytes are equal, it is one reply."""

    def __init__(self, body: Callable[[], bytes]) -> None:
        self._body = body
        self._last = Reply(200, b"application/json", b"")

    def __call__(self) -> Reply:
        """The page as it is now."""
        body = self._body()
        if body != self._last.body:
            self._last = kept(Reply(200, b"application/json", body))
        return self._last


class Elsewhere:
    """A page of another application, which is asked for it once; BentoML makes `/docs.json` in 2.5 ms."""

    def __init__(self, app: App, path: str) -> None:
        self._app, self._path = app, path
        self._one_at_a_time = asyncio.Lock()
        self._reply: Reply | None = None

    async def __call__(self) -> Reply:
        """The page; one that is refused is asked for again the next time."""
        if self._reply is not None:
            return self._reply
        async with self._one_at_a_time:
            if self._reply is None:
                found = await self._ask()
                if found.status >= 400:
                    return found
                self._reply = kept(found)
        return self._reply

    async def _ask(self) -> Reply:
        here = ("127.0.0.1", 0)
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "client": here,
            "server": here,
            "state": {},
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start, *parts = sent
        content_type = dict(start.get("headers", ())).get(b"content-type", b"")
        return Reply(start["status"], content_type, b"".join(part.get("body", b"") for part in parts))
