"""The messages of ASGI: a body is read from them, a reply is sent by them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from serving.errors import Problem

if TYPE_CHECKING:
    from serving.protocols import Reply

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def read_body(receive: Receive, length: int | None, most: int) -> bytes | None:
    """The whole body, counted as it streams; None if the client leaves before its end.

    Raises
    ------
    Problem
        413, at the first byte too many or before the first one where the length says so.
    """
    if length is not None and length > most:
        raise _too_large(most)
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    if len(body) > most:
        raise _too_large(most)
    if not message.get("more_body", False):
        return body
    chunks, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > most:
            raise _too_large(most)
    return b"".join(chunks)


def _too_large(most: int) -> Problem:
    return Problem(
        413, f"The body is larger than {most} bytes (OKAMOCHI_MAX_BODY_BYTES).", reason="body_too_large"
    )


def close_unless_read(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Close the connection of a client that waits for `100 Continue` and is refused before that.

    It may send the body or not: what comes next on that connection could be either (RFC 9110, 10.1.1).
    """
    read = False

    async def reading() -> Message:
        nonlocal read
        read = True
        return await receive()

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and not read:
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return reading, sending


async def send_reply(send: Send, reply: Reply, request_id: bytes | None) -> None:
    """Send a whole reply."""
    headers = [(b"content-type", reply.content_type)] if reply.content_type else []
    if reply.status != 204:
        headers.append((b"content-length", b"%d" % len(reply.body)))
    if request_id is not None:
        headers.append((b"x-request-id", request_id))
    headers.extend(reply.headers)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
