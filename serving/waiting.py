"""How long a client waits for an answer: until its deadline, and no longer than it stays connected."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Found = TypeVar("Found")


async def unless_left(future: asyncio.Future[Found], left: Callable[[], Awaitable[object]]) -> Found | None:
    """Wait for a result; None as soon as `left` returns, which it does once the client has left."""
    leaving = asyncio.ensure_future(left())
    try:
        await asyncio.wait((future, leaving), return_when=asyncio.FIRST_COMPLETED)
        return future.result() if future.done() else None
    finally:
        leaving.cancel()
        future.cancel()


class NotYetError(Exception):
    """The answer is not there yet: ask again after some time, and hold no thread meanwhile."""

    def __init__(self, after_s: float) -> None:
        super().__init__(f"ask again in {after_s} s")
        self.after_s = after_s


class GivenUpError(Exception):
    """No client waits for the answer any more."""


class Until:
    """The time until which a client waits; the thread that works on the answer checks it between two steps.

    Parameters
    ----------
    due
        By `time.perf_counter`.
    """

    def __init__(self, due: float) -> None:
        self.due = due

    @property
    def left_s(self) -> float:
        return max(0.0, self.due - perf_counter())

    def give_up(self) -> None:
        """Note that the client has left or was refused; may be called from any thread."""
        self.due = 0.0

    def check(self) -> None:
        """Stop here if no client waits.

        Raises
        ------
        GivenUpError
            The time is over, or `give_up` was called.
        """
        if perf_counter() >= self.due:
            raise GivenUpError
