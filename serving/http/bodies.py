"""The memory that bodies take together, by HTTP and gRPC: it is bounded, and shared by callers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from serving.errors import overloaded
from serving.protocols import LARGE_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_AFTER_S = 1


class Bodies:
    """Counts the bodies of requests in progress beyond their first 64 KiB, so no usual request is refused.

    Parameters
    ----------
    most
        In bytes, for all callers together. A single caller has at most half of it.
    largest
        The largest body that is accepted, in bytes; `most` is never less than twice that.
    """

    def __init__(self, most: int, largest: int) -> None:
        self._most = max(most, 2 * largest)
        self._by_caller: Counter[str] = Counter()
        self.bytes = 0

    def of(self, caller: Callable[[], str]) -> Body:
        """A new body; who sends it is asked once it is a large one."""
        return Body(self, caller)

    def take(self, caller: str, size: int) -> None:
        """See `Body.hold`."""
        own = self._by_caller[caller]
        if self.bytes + size > self._most or own + size > self._most // 2:
            if not own:
                del self._by_caller[caller]
            whose, held = (
                ("all callers", self.bytes) if self.bytes + size > self._most else ("this caller", own)
            )
            raise overloaded(
                f"Too busy for a body of this size: requests of {whose} hold {held} bytes already "
                f"(OKAMOCHI_BODIES_BYTES). Try again in {RETRY_AFTER_S} s.",
                "queue_full",
                RETRY_AFTER_S,
            )
        self._by_caller[caller] = own + size
        self.bytes += size

    def give_back(self, caller: str, size: int) -> None:
        """See `Body.release`."""
        self.bytes -= size
        self._by_caller[caller] -= size
        if not self._by_caller[caller]:
            del self._by_caller[caller]


class Body:
    """The body of one request, while it is received and until its request ends."""

    __slots__ = ("_asked", "_bodies", "_caller", "_counted", "_received")

    def __init__(self, bodies: Bodies, caller: Callable[[], str]) -> None:
        self._bodies, self._asked = bodies, caller
        self._caller = ""
        self._received = self._counted = 0

    def hold(self, size: int) -> None:
        """Count bytes that are in memory from now on.

        Raises
        ------
        Problem
            429: all bodies together, or those of this caller, are too many bytes.
        """
        self._received += size
        more = self._received - LARGE_BODY_BYTES - self._counted
        if more > 0:
            if not self._counted:
                self._caller = self._asked()
            self._bodies.take(self._caller, more)
            self._counted += more

    def release(self) -> None:
        """The request has ended."""
        if self._counted:
            self._bodies.give_back(self._caller, self._counted)
            self._received = self._counted = 0
