"""Work that a model does while no prediction waits: rows in chunks, each shorter than a batch may last.

A chunk runs where a batch of its size would: on the event loop, or in the batcher's thread, behind the call
that runs there. On an idle server the next chunk follows at once. As long as predictions come, of whatever
model of this worker, each chunk is followed by a pause: the work then takes at most `1 / (1 + PAUSE)` of the
time, and it never stands still either.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from artifact.raised import raised_at
from serving.errors import Problem, server_failed
from serving.scoring.batcher import Batcher, calls, on_loop

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from artifact.runtime import Score

logger = logging.getLogger("bentoml.okamochi")

PAUSE = 49
MIN_INLINE_ROWS = 64  # a model that scores fewer in a millisecond does this work in its thread
CHUNK_BYTES = 4 * 1024 * 1024  # of rows

Chunk = Callable[[], "NDArray[Any]"]


class Work(Protocol):
    """Rows to score, a chunk at a time."""

    @property
    def open(self) -> bool:
        """Whether somebody waits for it."""

    def chunk(self, most: int) -> Chunk | None:
        """A function that makes the next rows, at most `most`, in any thread; None if no rows are left.

        Raises
        ------
        Problem
            The work ends here.
        """

    def scored(self, scores: NDArray[Any]) -> None:
        """The scores of the last chunk."""

    def failed(self, problem: Problem) -> None:
        """The work has ended without its result."""


class LowPriority:
    """The work of one model, in the order in which it comes.

    Parameters
    ----------
    score
        Scores a matrix; these rows do not count for drift.
    observe_rows
        Called with the rows of each chunk.
    """

    def __init__(
        self,
        batcher: Batcher,
        score: Score,
        width: int,
        *,
        observe_rows: Callable[[int], None] = lambda _rows: None,
    ) -> None:
        self._batcher = batcher
        self._score = score
        self._most = max(1, CHUNK_BYTES // (8 * width))
        self._observe_rows = observe_rows
        self._queue: deque[Work] = deque()
        self._busy = False  # a chunk runs, or the next one is due
        self._calls = 0

    def submit(self, work: Work) -> None:
        """Begin the work once what came before it has ended; called on the event loop."""
        self._queue.append(work)
        if not self._busy:
            self._busy = True
            self._calls = calls()
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        started = perf_counter()
        limits = self._batcher.limits
        inline = limits.inline_rows >= MIN_INLINE_ROWS
        most = min(self._most, limits.inline_rows if inline else max(1, limits.batch_rows // 2))
        found = self._next(most)
        if found is None:
            self._busy = False
            return
        work, chunk = found
        if inline:
            scores, error = self._scored(chunk)
            self._take(work, scores, error, started)
            return
        loop = asyncio.get_running_loop()

        def called(future: Future[Any]) -> None:
            lost = future.exception()
            scores, error = (None, lost) if lost is not None else future.result()
            on_loop(loop, self._take, work, scores, error, perf_counter())

        try:
            future = self._batcher.in_thread(self._scored, chunk)
        except RuntimeError as no_thread:
            self._take(work, None, no_thread, started)
        else:
            future.add_done_callback(called)

    def _next(self, most: int) -> tuple[Work, Chunk] | None:
        """The first work that somebody waits for, and its next rows."""
        while self._queue:
            work = self._queue[0]
            if work.open:
                try:
                    chunk = work.chunk(most)
                except Problem as problem:
                    work.failed(problem)
                except Exception as error:  # noqa: BLE001 - a bug ends this work, not the others
                    work.failed(server_failed(error))
                else:
                    if chunk is not None:
                        return work, chunk
            self._queue.popleft()
        return None

    def _scored(self, chunk: Chunk) -> tuple[tuple[NDArray[Any], float] | None, Exception | None]:
        started = perf_counter()
        try:
            rows = chunk()
            scores = self._score(rows)
        except Exception as error:  # noqa: BLE001 - whatever a model raises ends the work
            return None, error
        self._observe_rows(len(rows))
        return (scores, perf_counter() - started), None

    def _take(
        self,
        work: Work,
        scored: tuple[NDArray[Any], float] | None,
        error: BaseException | None,
        started: float,
    ) -> None:
        seconds = 0.0
        if work.open:
            if scored is None:
                work.failed(_failed(error))
            else:
                seconds = scored[1]
                try:
                    work.scored(scored[0])
                except Exception as bug:  # noqa: BLE001 - as above
                    work.failed(server_failed(bug))
        seconds = max(seconds, perf_counter() - started)
        now = calls()
        loop = asyncio.get_running_loop()
        if now == self._calls:
            loop.call_soon(self._run)
        else:
            self._calls = now
            loop.call_later(PAUSE * seconds, self._run)


def _failed(error: BaseException | None) -> Problem:
    if isinstance(error, Problem):
        return error
    return Problem(
        500,
        "The model failed on rows that the explanation mixes of this one and background rows; the server's "
        "log has the reason.",
        reason="model_failed",
        error=raised_at(error) if error is not None else "",
    )
