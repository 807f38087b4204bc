"""The messages of ASGI: a body is read from them, a reply is sent by them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from serving.errors import body_too_large

if TYPE_CHECKING:
    from serving.protocols import Reply

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def read_body(
    receive: Receive,
    length: int | None,
    limit: int,
    hold: Callable[[int], None] = lambda _size: None,
    setting: str = "MAX_BODY_BYTES",
) -> bytes | None:
    """The whole body, counted as it streams; None if the client leaves before its end.

    Parameters
    ----------
    hold
        Called with the size of each part, which is in memory from then on.
    setting
        The setting of `limit`.

    Raises
    ------
    Problem
        413, before the first byte if Content-Length exceeds the limit, else at the first byte beyond it.
    """
    if length is not None and length > limit:
        raise body_too_large(limit, setting)
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise body_too_large(limit, setting)
        hold(len(chunks[-1]))
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def close_unless_read(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Close the connection of a client that waits for `100 Continue` and is refused before that.

    The client may send the body or not: the next bytes could be the body or a new request (RFC 9110, 10.1.1).
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
