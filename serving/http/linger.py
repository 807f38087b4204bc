"""The end of a connection whose client is still sending (RFC 9112, 9.6).

A socket that is closed while bytes come sends a reset, and the system of a client that gets one throws away
the reply that it has not read: `413` of a large body is then "connection reset" to urllib, which sends the
whole body before it reads. So only the server's side is closed at first, and what still comes is thrown away:
for a bounded time, and as a bounded number of bytes and connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

MAX_BYTES = 64 * 1024 * 1024
"""The most bytes that one client may still send."""
MAX_S = 30.0
SILENT_S = 2.0
"""A client that has sent nothing for this long has read the reply, or will not."""
MAX_CONNECTIONS = 64
"""The most of these connections in a worker; more are closed at once."""

_open: set[Linger] = set()


class Linger:
    """Throws away what a client still sends, and closes the connection in the end."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._bytes = self._seen = 0
        self._until = loop.time() + MAX_S
        self._timer: asyncio.TimerHandle | None = None
        if len(_open) >= MAX_CONNECTIONS:
            transport.close()
            return
        _open.add(self)
        if transport.can_write_eof():  # not with TLS, where a client knows the end by Content-Length
            transport.write_eof()
        self._timer = loop.call_later(SILENT_S, self._look)

    def received(self, size: int) -> None:
        """The client has sent bytes."""
        self._bytes += size
        if self._bytes > MAX_BYTES:
            self._transport.close()

    def end(self) -> None:
        """The connection is closed."""
        _open.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._bytes == self._seen or self._loop.time() > self._until:
            self._transport.close()
            return
        self._seen = self._bytes
        self._timer = self._loop.call_later(SILENT_S, self._look)


class Outlet:
    """The transport as uvicorn's cycle of a request and its reply has it, which closes by `leave`."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, leave: Callable[[], None]) -> None:
        self.write: Callable[[Any], None] = transport.write
        self.is_closing: Callable[[], bool] = transport.is_closing
        self.close = leave
