"""Timeouts for clients that stop sending a request or stop reading a reply."""

from __future__ import annotations

import fcntl
import sys
import termios
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

Turn = Literal["", "silent", "head", "body"]
"""What the client must send next: nothing, any bytes, or the rest of a head or of a body."""


class Waiting(Protocol):
    """A connection as `Patience` sees it."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop

    def turn(self) -> Turn:
        """What the client must send next."""


class Patience:
    """Closes the connection of a client that does nothing for too long when it is the client's turn.

    Parameters
    ----------
    receive_s
        How long it may take to send the rest of a head, the next part of a body, or to take any of a reply.
    refuse
        Called for a client that has begun a request.
    """

    __slots__ = ("_connection", "_receive_s", "_refuse", "_timer", "_unsent", "heard")

    def __init__(self, connection: Waiting, receive_s: float, refuse: Callable[[Turn], None]) -> None:
        self._connection = connection
        self._receive_s = receive_s
        self._refuse = refuse
        self._unsent = 0  # unread bytes of replies at the last check
        self.heard = connection.loop.time()  # when the head began, or the last of the body came
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the periodic check."""
        self._timer = self._connection.loop.call_later(self._receive_s, self._look)

    def end(self) -> None:
        """Stop the periodic check."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        transport = self._connection.transport
        before, self._unsent = self._unsent, unsent(transport)
        if self._unsent and self._unsent == before:
            self.end()
            transport.abort()
            return
        turn = self._connection.turn()
        left = self._receive_s
        if turn and not transport.is_closing():
            left += self.heard - self._connection.loop.time()
            if left <= 0 and turn == "silent":
                transport.close()
            elif left <= 0:
                self._refuse(turn)
        self._timer = self._connection.loop.call_later(left if left > 0 else self._receive_s, self._look)


def unsent(transport: asyncio.Transport) -> int:
    """Bytes that the client has not read: those in our buffer, else those in the kernel's.

    With TLS, uvloop always reports an empty buffer; then the kernel's buffer is full.
    """
    held: int = transport.get_write_buffer_size()
    connection = transport.get_extra_info("socket")
    if held or connection is None:
        return held
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:  # not every system supports it
        return 0
