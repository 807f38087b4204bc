"""Work that a model does in the time that predictions leave.

It scores rows in chunks, each shorter than a batch may last. A chunk runs where a batch of its size would: on
the event loop, or in the batcher's thread, behind the call that runs there. On an idle server the next chunk
follows at once; while predictions come, `spare_time` says when. Callers take turns, chunk by chunk, so a
caller with much work delays each other caller by one chunk at a time.
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
from serving.scoring.batcher import Batcher, on_loop

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from artifact.runtime import Score
    from serving.scoring.spare_time import SpareTime

logger = logging.getLogger("bentoml.okamochi")

MIN_INLINE_ROWS = 64  # a model that scores fewer in a millisecond does this work in its thread
CHUNK_BYTES = 4 * 1024 * 1024  # of rows
REQUEST_S = 0.0003
"""What a request takes beside its chunks: its reading, the prediction of its rows, its reply."""
FAILED_S = 0.1
"""What a chunk that failed counts for at most."""

Chunk = Callable[[], "NDArray[Any]"]
Scored = tuple["NDArray[Any] | None", float, BaseException | None]
"""The scores of a chunk, None if it failed; its seconds; and why it failed."""


class Work(Protocol):
    """Rows to score, a chunk at a time."""

    @property
    def open(self) -> bool:
        """Whether somebody waits for it: it has neither ended nor been given up."""

    def chunk(self, most: int) -> Chunk | None:
        """A function that makes the next rows, at most `most`, in any thread; None if no rows are left.

        Raises
        ------
        Problem
            The work ends here.
        """

    def scored(self, scores: NDArray[Any], seconds: float) -> None:
        """The scores of the last chunk, and the time that it took."""

    def failed(self, problem: Problem) -> None:
        """The work has ended without its result."""


class LowPriority:
    """The work of one model.

    Parameters
    ----------
    score
        Scores a matrix; these rows do not count for drift.
    spare
        The time of the worker, which its models share.
    observe_rows
        Called with the rows of each chunk.
    """

    def __init__(
        self,
        batcher: Batcher,
        score: Score,
        width: int,
        spare: SpareTime,
        *,
        observe_rows: Callable[[int], None] = lambda _rows: None,
    ) -> None:
        self.spare = spare
        self._batcher = batcher
        self._score = score
        self._most = max(1, CHUNK_BYTES // (8 * width))
        self._observe_rows = observe_rows
        self._queue: dict[str, deque[Work]] = {}  # by caller; whose turn is next first
        self._busy = False  # a chunk runs, or the next one is due

    def submit(self, work: Work, caller: str = "") -> None:
        """Begin the work once what the caller submitted before has ended; called on the event loop."""
        self._queue.setdefault(caller, deque()).append(work)
        if not self._busy:
            self._busy = True
            self.spare.turn(self._run)

    def _run(self) -> None:
        started = perf_counter()
        limits = self._batcher.limits
        inline = limits.inline_rows >= MIN_INLINE_ROWS
        most = min(self._most, limits.inline_rows if inline else max(1, limits.batch_rows // 2))
        found = self._next(most)
        seconds = perf_counter() - started
        if found is None:
            self._busy = False
            self.spare.spent(seconds)
            return
        work, chunk = found
        if inline:
            self._take(work, self._scored(chunk), seconds)
            return
        loop = asyncio.get_running_loop()

        def called(future: Future[Any]) -> None:
            lost = future.exception()
            result = (None, 0.0, lost) if lost is not None else future.result()
            on_loop(loop, self._take, work, result, seconds)

        try:
            future = self._batcher.in_thread(self._scored, chunk)
        except RuntimeError as no_thread:
            self._take(work, (None, 0.0, no_thread), seconds)
        else:
            future.add_done_callback(called)

    def _next(self, most: int) -> tuple[Work, Chunk] | None:
        """The next work that somebody waits for, and its next rows."""
        while self._queue:
            caller, works = next(iter(self._queue.items()))
            work = works[0]
            if work.open:
                try:
                    chunk = work.chunk(most)
                except Problem as problem:
                    work.failed(problem)
                except Exception as error:  # noqa: BLE001 - a bug ends this work, not the others
                    work.failed(server_failed(error))
                else:
                    if chunk is not None:
                        del self._queue[caller]
                        self._queue[caller] = works  # behind all others
                        return work, chunk
            works.popleft()
            if not works:
                del self._queue[caller]
        return None

    def _scored(self, chunk: Chunk) -> Scored:
        started = perf_counter()
        try:
            rows = chunk()
            scores = self._score(rows)
        except Exception as error:  # noqa: BLE001 - whatever a model raises ends the work
            return None, perf_counter() - started, error
        self._observe_rows(len(rows))
        return scores, perf_counter() - started, None

    def _take(self, work: Work, scored: Scored, before: float) -> None:
        """Give a work its scores; `before` are the seconds that went into making its chunk."""
        started = perf_counter()
        scores, seconds, error = scored
        if work.open:
            if scores is None:
                work.failed(_failed(error))
            else:
                try:
                    work.scored(scores, seconds)
                except Exception as bug:  # noqa: BLE001 - as above
                    work.failed(server_failed(bug))
        if scores is None:
            # A model's process that hangs takes no time of the worker.
            seconds = min(seconds, FAILED_S)
        if not work.open:
            seconds += REQUEST_S
        self._drop_closed()
        self.spare.spent(before + seconds + perf_counter() - started)
        if self._queue:
            self.spare.turn(self._run)
        else:
            self._busy = False

    def _drop_closed(self) -> None:
        for caller, works in list(self._queue.items()):
            while works and not works[0].open:
                works.popleft()
            if not works:
                del self._queue[caller]


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
