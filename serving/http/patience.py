"""No client is waited for without end, neither for what it has to send nor for what it has to take."""

from __future__ import annotations

import fcntl
import sys
import termios
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

Turn = Literal["", "silent", "head", "body"]
"""What a client has to send: nothing now, anything at all, or the rest of a head or of a body."""


class Waiting(Protocol):
    """A connection as `Patience` sees it."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop

    def turn(self) -> Turn:
        """What is waited for, of the client."""


class Patience:
    """Ends the connection of a client that is silent for too long while it is its turn.

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
        self._unsent = 0  # bytes of replies when the client was last looked at
        self.heard = connection.loop.time()  # when the head began, or the last of the body came
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look at the client, from time to time."""
        self._timer = self._connection.loop.call_later(self._receive_s, self._look)

    def end(self) -> None:
        """Look no more."""
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
    """Bytes that the client has still to take: ours, else those that the kernel holds for it.

    Through TLS uvloop says that its buffer is empty whatever is in it. Then the kernel's is full.
    """
    held: int = transport.get_write_buffer_size()
    connection = transport.get_extra_info("socket")
    if held or connection is None:
        return held
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:  # not every system can say
        return 0
