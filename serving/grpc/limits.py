"""What one client may take of the server: cheap frames by the second, and room for large messages."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from serving.grpc.frames import Code, ConnectionEnds

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.grpc.stream import Stream

MAX_CREDIT, CREDIT_PER_S, CREDIT_PER_CALL = 20_000, 2_000, 8
"""What a client may spend on frames that bring no call further; a cancelled call costs `RESET_COSTS`."""
RESET_COSTS = 10


class Credit:
    """Ends the connection of a client that sends too many frames that bring no call further.

    Parameters
    ----------
    clock
        In seconds.
    """

    __slots__ = ("_at", "_clock", "_left")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left, self._at = float(MAX_CREDIT), clock()

    def spend(self, cost: float) -> None:
        """Take one such frame.

        Raises
        ------
        ConnectionEnds
            There were too many.
        """
        self._left -= cost
        if self._left < 0:
            now = self._clock()
            self._left += min(MAX_CREDIT, CREDIT_PER_S * (now - self._at))
            self._at = now
            if self._left < 0:
                raise ConnectionEnds(Code.ENHANCE_YOUR_CALM, "too many frames that bring no call further")

    def earn(self) -> None:
        """A call was answered."""
        self._left = min(MAX_CREDIT, self._left + CREDIT_PER_CALL)


class Room:
    """Lets the calls of a connection send large messages: together only up to a limit, the others in turn.

    Parameters
    ----------
    limit
        In bytes; one message may be larger.
    give
        Tells the client that a call may send so many bytes more.
    """

    __slots__ = ("_give", "_given", "_limit", "_waiting")

    def __init__(self, limit: int, give: Callable[[Stream, int], None]) -> None:
        self._limit = limit
        self._give = give
        self._given = 0
        self._waiting: deque[Stream] = deque()

    def ask(self, call: Stream, more: int) -> None:
        """Give a call so many bytes more, now or when others have ended."""
        call.granted = more
        if self._given and self._given + more > self._limit:
            self._waiting.append(call)
            return
        self._given += more
        self._give(call, more)

    def ended(self, call: Stream) -> None:
        """A call has ended: those that wait have its room."""
        if not call.granted:
            return
        if call in self._waiting:
            self._waiting.remove(call)
        else:
            self._given -= call.granted
        call.granted = 0
        while self._waiting:
            following = self._waiting[0]
            if self._given and self._given + following.granted > self._limit:
                return
            self._waiting.popleft()
            self._given += following.granted
            self._give(following, following.granted)
