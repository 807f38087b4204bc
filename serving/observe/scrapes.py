"""A text from the metrics of all workers, made once for all clients that ask for it at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serving.observe import metrics
from serving.observe.supervised import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

FRACTION = 0.2  # largest fraction of the time that may go into making it: that thread holds up the event loop
MAX_PAUSE_S = 1.0


class Scrapes:
    """Makes the text in a thread, which reads a file for each worker that ever was.

    With 20 models, 8 workers and 30,000 samples that takes 75 ms of processor time. All clients that ask
    while one text is being made get the next one, so many clients cost no more than one.

    Parameters
    ----------
    make
        Makes the text: by default that of `/metrics`.
    """

    def __init__(self, make: Callable[[], bytes] | None = None) -> None:
        self._make_text = make
        self._pool = Pool("metrics")
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[bytes] | None = None  # not begun yet, so that it will have all until now
        self._not_before = 0.0

    async def text(self) -> bytes:
        """All that was answered before this was called is in it."""
        if self._next is None or self._next.done():
            self._next = asyncio.ensure_future(self._make())
        return await asyncio.shield(self._next)

    async def _make(self) -> bytes:
        async with self._one_at_a_time:
            loop = asyncio.get_running_loop()
            # What any worker has answered by now is in its file after FLUSH_S.
            await asyncio.sleep(max(2 * metrics.FLUSH_S, self._not_before - loop.time()))
            self._next = None
            began = loop.time()
            try:
                return await loop.run_in_executor(self._pool, self._make_text or metrics.exposition)
            finally:
                ended = loop.time()
                pause = (ended - began) * (1 - FRACTION) / FRACTION
                self._not_before = ended + min(pause, MAX_PAUSE_S)
