"""The time that predictions leave: it is given to work of low priority, of all models of a worker together.

On an idle worker the work has all of it. While predictions come, of whatever model, time that was used is
owed: work goes on once `PAUSE` times as long has passed. So all of it together takes at most
`1 / (1 + PAUSE)` of the worker's time, whether a piece of it is dear or cheap, and it never stands still.
Time is by the clock: on a machine that is shared a chunk takes longer, so more is owed for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

from serving.scoring.batcher import batches, rows_in_progress

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE = 49
IDLE_AFTER_S = 0.01
"""A worker is idle once no prediction has come for this long."""


class SpareTime:
    """See the module. For the event loop.

    Parameters
    ----------
    clock
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._due = False  # a turn is due
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owed_until = 0.0
        self._batches = 0  # when it was last looked at
        self._busy_at = -IDLE_AFTER_S

    @property
    def busy(self) -> bool:
        """Whether predictions come."""
        return self._look() < IDLE_AFTER_S

    @property
    def slowdown(self) -> float:
        """How many times as long as its own time some work takes now."""
        return 1 + PAUSE if self.busy else 1

    def turn(self, begin: Callable[[], None]) -> None:
        """Call a function once, when it may use some time; those of several models take turns."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the server was started again in this process
            self._loop, self._due = loop, False
            self._waiting.clear()
        self._waiting.append(begin)
        if not self._due:
            self._due = True
            loop.call_soon(self._next)

    def spent(self, seconds: float) -> None:
        """Time was used."""
        now = self._clock()
        # What an idle worker does is not owed, except the last piece: predictions may come right after it.
        owed_from = max(now, self._owed_until) if self.busy else now
        self._owed_until = owed_from + PAUSE * seconds

    def _look(self) -> float:
        """How long no prediction has come."""
        now, count = self._clock(), batches()
        if count != self._batches or rows_in_progress():
            self._batches, self._busy_at = count, now
        return now - self._busy_at

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        idle_s, owed_s = self._look(), self._owed_until - self._clock()
        if owed_s > 0 and idle_s < IDLE_AFTER_S:
            loop.call_later(min(owed_s, IDLE_AFTER_S - idle_s), self._next)
            return
        self._due = False
        begin = self._waiting.popleft()
        try:
            begin()
        finally:
            if self._waiting and not self._due:
                self._due = True
                loop.call_soon(self._next)
