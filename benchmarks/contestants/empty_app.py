"""The least that an ASGI application can do with a POST: read its body and answer one byte."""

from __future__ import annotations

from typing import Any

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"1")],
}
BODY = {"type": "http.response.body", "body": b"1"}


async def app(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer any request."""
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(BODY)
