"""One queue a model: batch while busy.

What arrives in one turn of the event loop is scored in one call: a busy loop finds the requests that the
sockets held meanwhile (in a crowd, the first are scored before the last are read). If requests keep coming
one by one, each is scored in the turn that brought it. A call expected to last over a millisecond runs in a
thread, and what arrives while it runs is the next batch. Callbacks instead of futures: a lane below asyncio's
tasks submits rows and gets its answer by plain calls.

`costs` decides, from the measured cost of calls, how many rows go into a call and whether a request can still
be answered in time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import struct
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from artifact.encode import CellError
from artifact.raised import raised_at
from serving.errors import Problem, Reason, overloaded, thread_failed
from serving.observe.supervised import Pool
from serving.scoring.costs import INLINE_S, MAX_BATCH_ROWS, Costs, limits, wait_s
from serving.scoring.scores import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.runtime import Score
    from artifact.signature import Signature

logger = logging.getLogger("bentoml.okamochi")

WARM_UP_BYTES = 4 * 1024 * 1024  # what warming up may add to a worker's memory
MAX_ERRORS = 20
LONE_AFTER = 16  # turns in a row that brought one request, after which the next ones are not waited for
CROWD_ROWS = 128  # this many rows are scored before the loop's turn that brings more has ended
FORGET_EVERY = 256  # decisions about the limits, after which batch sizes that were too slow are tried again
EXPIRE_EVERY_S = 0.005  # how often at most the queue is searched for requests whose deadline has passed


# The scores and the request's first row in them, or the problem if there are no scores.
Done = Callable[["Scores | None", int, "Problem | None"], None]


class Ticket(msgspec.Struct, eq=False):
    """A request's place in the queue."""

    rows: Any
    n: int
    done: Done
    deadline: float
    explicit: bool
    taken: int = 0  # rows that went into a call
    scored: int = 0  # rows that came back
    out: NDArray[np.float64] | None = None  # of a request that needs several calls
    open: bool = True  # neither answered nor cancelled
    began: float = 0.0  # of the first of several calls


Part = tuple[Ticket, int, int]  # rows [start, stop) of a ticket

T = TypeVar("T")

_batchers: list[tuple[weakref.ref[Batcher], ...]] = [()]  # replaced as a whole: a model opens in a thread


def batches() -> int:
    """How many batches with predictions this worker has scored, of all models.

    It changes as long as predictions come; batches of rows to explain alone do not count.
    """
    return sum(batcher.calls - batcher.low_calls for batcher in _living())


def rows_in_progress() -> int:
    """How many rows wait for a call or are in one, of all models, without those to explain."""
    return sum(max(0, each.queued_rows + each.running_rows - each.low_rows) for each in _living())


def _living() -> list[Batcher]:
    return [batcher for batcher in (reference() for reference in _batchers[0]) if batcher is not None]


class Batcher:
    """The queue of one model.

    Parameters
    ----------
    score
        Matrix (n, width) to scores (n, outputs).
    objective_s
        How long one call may take.
    max_rows
        The largest number of rows in the queue.
    observe_batch
        Called with the rows and seconds of each call.
    observe_queue
        Called with the number of queued rows, whenever a batch is taken.
    inline
        Whether a quick call may run on the event loop. A call that waits for another process may not, since
        that process may hang.
    name
        Name of the model, for the log.
    """

    def __init__(
        self,
        score: Score,
        signature: Signature,
        *,
        objective_s: float,
        max_rows: int,
        observe_batch: Callable[[int, float], None] = lambda _rows, _seconds: None,
        observe_queue: Callable[[int], None] = lambda _rows: None,
        inline: bool = True,
        name: str = "",
    ) -> None:
        self._score = score
        self._signature = signature
        self._row_bytes = 8 * signature.width
        self._dtype = signature.dtype
        self._objective_s = objective_s
        self.max_rows = max_rows
        self._observe_batch = observe_batch
        self._observe_queue = observe_queue
        self._costs = Costs()
        self._inline = inline
        self.limits = limits([], objective_s, inline=inline)
        self.calls = 0
        self._decided = 0
        self._queue: deque[Ticket] = deque()
        self._again: deque[list[Part]] = deque()  # halves of a batch that raised
        self.queued_rows = 0
        self._flushing = False  # a flush is due, or a call is running
        self._crowded = False  # a crowd is being answered
        self._lone = 0  # batches in a row that were one request
        self._running = 0  # calls in the thread: one, and under pressure one that waits for it
        self.running_rows = 0  # of these calls
        self.low_rows = 0  # of low priority, queued or in a call
        self.low_calls = 0  # calls of such rows alone
        self._low_batch = (0.0, 0)  # the end of the last call with such rows, and how many it had
        self._pool = Pool("scoring", of=name)
        self._expiry: asyncio.TimerHandle | None = None
        self._expires = math.inf  # when the timer is due, by perf_counter
        _batchers[0] = (*(each for each in _batchers[0] if each() is not None), weakref.ref(self))

    def warm_up(self, row: NDArray[np.float64], *, clock: Callable[[], float] = perf_counter) -> None:
        """Measure calls of 1, 4, 16, ... copies of a row of shape (1, width), up to the largest batch.

        A model whose lone row takes longer than the objective is measured further, since a hundred rows may
        cost it no more.

        Parameters
        ----------
        clock
            Seconds, of which a call takes some.
        """
        most = max(1, min(MAX_BATCH_ROWS, WARM_UP_BYTES // (8 * row.shape[1])))
        allowed = self._objective_s
        for rows in (4**power for power in range(8) if 4**power <= most):
            matrix = np.repeat(row, rows, axis=0)
            seconds = math.inf
            for _ in range(3):
                start = clock()
                try:
                    self._score(matrix)
                except Exception:
                    if rows == 1:
                        raise
                    # This many rows exceed the time or the memory of a call; batches stay smaller.
                    seconds = max(clock() - start, 2 * allowed)
                    break
                seconds = min(seconds, clock() - start)
                if seconds > 10 * allowed:
                    break  # no neighbour on a busy machine explains that
            self._costs.observe(rows, seconds)
            if rows == 1:
                allowed = max(allowed, 2 * seconds)
            elif seconds > allowed:
                break
        self._decide_limits()

    def _decide_limits(self) -> None:
        self._decided += 1
        if self._decided % FORGET_EVERY == 0:
            self._costs.forget(self.limits.batch_rows)
        self.limits = limits(self._costs.points(), self._objective_s, self._costs.best(), inline=self._inline)

    @property
    def row_s(self) -> float:
        """The fewest seconds that a call took, of few rows in any case; 0 before the first."""
        return self._costs.least()

    @property
    def failed(self) -> bool:
        """Whether the scoring thread has failed and has not been restarted yet, so that slow batches wait."""
        return self._pool.failed

    @property
    def running(self) -> bool:
        """Whether a call is running in the thread."""
        return self._running > 0

    @property
    def slow(self) -> bool:
        """Whether a request may wait for longer than a turn of the loop."""
        return self._running > 0 or self.limits.inline_rows == 0

    def in_thread(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run other work of the model behind the calls that its thread has.

        Raises
        ------
        RuntimeError
            No thread can be started.
        """
        return self._pool.submit(call, *arguments)

    # ---- in

    def submit(self, rows: Any, n: int, done: Done, deadline: float, *, explicit: bool = False) -> Ticket:
        """Queue `n` valid rows; `done` is called once, on the event loop, unless the ticket is cancelled.

        It may be called before this returns.

        Parameters
        ----------
        rows
            A matrix of the encoder, or the bytes that `packer` makes of floats.
        deadline
            By `time.perf_counter`.
        explicit
            Whether the client sent this deadline: its reply is then 429 if the answer is late.

        Raises
        ------
        Problem
            429: the queue is full, or the deadline cannot be kept.
        """
        queued = self.queued_rows
        if queued + n > self.max_rows and queued:
            raise self._refusal(f"the queue of this model already has {queued} rows", "queue_full")
        if queued or self._running or explicit:
            left = deadline - perf_counter()
            # An idle model is judged by its fastest call, never by an estimate: a wrong estimate would refuse
            # every request and so never be corrected.
            busy = queued or self._running
            needed = wait_s(self.limits, queued, n) if busy else self._costs.least()
            if needed > left:
                took = f"an answer would take about {1000 * needed:.0f} ms"
                raise self._refusal(f"{took}, {1000 * max(left, 0):.0f} ms are left", "deadline")
        ticket = Ticket(rows, n, done, deadline, explicit)
        self._queue.append(ticket)
        self.queued_rows = queued + n
        if not self._flushing:
            self._flushing = True
            if self._lone < LONE_AFTER or self._lone % LONE_AFTER == 0:
                asyncio.get_running_loop().call_soon(self._flush)
            else:
                # No other request is expected: an empty turn of the loop costs a lone request 10 to 30 us.
                # Every LONE_AFTER-th still waits, to find out whether others come with it by now.
                self._flush()
        elif self._running:
            if deadline < self._expires:
                self._expire_at(deadline)
        elif CROWD_ROWS <= queued + n <= self.limits.inline_rows and not self._crowded:
            self._flush_crowd()
        return ticket

    def submit_low(self, rows: Any, n: int, done: Done, deadline: float, *, explicit: bool) -> Ticket:
        """As `submit`, for rows whose request is of low priority: they do not make the worker busy.

        Such a ticket must not be cancelled.
        """

        def scored(scores: Scores | None, first: int, problem: Problem | None) -> None:
            self.low_rows -= n
            if scores is not None:
                ended, before = self._low_batch
                low = n + (before if ended == scores.ended else 0)
                self._low_batch = (scores.ended, low)
                self.low_calls += low == len(scores.values)
            done(scores, first, problem)

        self.low_rows += n
        try:
            return self.submit(rows, n, scored, deadline, explicit=explicit)
        except Problem:
            self.low_rows -= n
            raise

    def cancel(self, ticket: Ticket) -> None:
        """Remove the request of a client that has left; `done` is not called any more."""
        if ticket.open:
            ticket.open = False
            self.queued_rows -= ticket.n - ticket.taken
            if not ticket.taken:  # else a call is reading them
                ticket.rows = None

    def close(self) -> None:
        """End the thread; queued requests are not scored."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- through

    def _flush_crowd(self) -> None:
        """Score the queued rows; the flush that is due at the end of the turn scores the rest.

        With 1,024 connections this answers 20,500 requests a second instead of 17,000: their bytes are still
        in the processor's cache, and the first clients read their replies while the last are being read.
        """
        self._crowded = True  # else the requests that its own replies bring would call it recursively
        self._flush()
        self._crowded = False
        self._flushing = True

    def _flush(self) -> None:
        """Score the next batch: on the loop if that is quick, else in the thread."""
        parts = self._again.popleft() if self._again else self._next_batch()
        if not parts:
            self._flushing = self._running > 0
            return
        rows = _rows(parts)
        self._lone = self._lone + 1 if len(parts) == 1 else 0
        if rows <= self.limits.inline_rows and not self._running:
            start = perf_counter()
            try:
                scores, error = self._score(self._matrix(parts)), None
            except Exception as raised:  # noqa: BLE001 - whatever a model raises is a failed batch
                scores, error = None, raised
            self._finish(parts, rows, perf_counter() - start, scores, error)
            self._next()
            return
        self._start(parts, rows)
        if self.queued_rows >= self.limits.batch_rows and self._running < 2:
            # Under load the thread's next call is already queued, so it does not idle until the loop turns.
            ahead = self._next_batch()
            if ahead:
                self._start(ahead, _rows(ahead))

    def _start(self, parts: list[Part], rows: int) -> None:
        """Hand a call to the thread."""
        self._running += 1
        self.running_rows += rows
        self._observe_queue(self.queued_rows)
        loop = asyncio.get_running_loop()
        try:
            future = self._pool.submit(self._call, parts)
        except RuntimeError as error:
            future = self._call_without_thread(parts, error)
        future.add_done_callback(lambda done: on_loop(loop, self._called, parts, rows, done))
        if self._queue and self._expiry is None:
            self._expire_at(min(ticket.deadline for ticket in self._queue))

    def _call_without_thread(self, parts: list[Part], error: RuntimeError) -> Future[Any]:
        """Score on the event loop when no thread can be started: a slow answer is better than none."""
        future: Future[Any] = Future()
        if not self._inline:
            future.set_exception(thread_failed())
            return future
        logger.error("a batch is scored on the event loop: %s", error)
        try:
            future.set_result(self._call(parts))
        except Exception as raised:  # noqa: BLE001 - whatever a model raises is a failed batch
            future.set_exception(raised)
        return future

    def _next(self) -> None:
        if self._queue or self._again:
            asyncio.get_running_loop().call_soon(self._flush)
        else:
            self._flushing = False

    def _next_batch(self) -> list[Part]:
        """Rows for one call, the oldest first.

        A request that needs several calls goes to the end after each call, so it does not hold up small ones.
        """
        room = most = self.limits.batch_rows
        if self.queued_rows <= most:
            return self._whole_queue()
        parts: list[Part] = []
        queue = self._queue
        now = perf_counter()
        while queue and room:
            ticket = queue[0]
            if not ticket.open:
                queue.popleft()
                continue
            if ticket.deadline < now and not ticket.taken:
                queue.popleft()
                self._late(ticket)
                continue
            left = ticket.n - ticket.taken
            if left > room and (ticket.n <= most or parts):
                break  # it fits into the next one
            queue.popleft()
            count = min(left, room)
            parts.append((ticket, ticket.taken, ticket.taken + count))
            ticket.taken += count
            room -= count
            self.queued_rows -= count
            if ticket.taken < ticket.n:
                queue.append(ticket)
                break
        return parts

    def _whole_queue(self) -> list[Part]:
        """The usual case of `_next_batch`: the queue fits into one call. It saves 0.7 us a request."""
        parts: list[Part] = []
        queue, self._queue = self._queue, deque()
        now = perf_counter()
        for ticket in queue:
            if not ticket.open:
                continue
            if ticket.deadline < now and not ticket.taken:
                self._late(ticket)
                continue
            parts.append((ticket, ticket.taken, ticket.n))
            self.queued_rows -= ticket.n - ticket.taken
            ticket.taken = ticket.n
        return parts

    def _matrix(self, parts: list[Part]) -> Any:
        """The rows of a batch; packed rows get the type that the model reads."""
        packed: list[bytes] = []
        arrays: list[Any] = []
        for ticket, start, stop in parts:
            rows = ticket.rows
            if isinstance(rows, bytes):
                whole = stop - start == ticket.n
                packed.append(rows if whole else rows[start * self._row_bytes : stop * self._row_bytes])
            else:
                if packed:
                    arrays.append(self._unpacked(packed))
                    packed = []
                arrays.append(rows[start:stop])
        if packed:
            arrays.append(self._unpacked(packed))
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _unpacked(self, packed: list[bytes]) -> NDArray[np.floating[Any]]:
        rows = np.frombuffer(b"".join(packed)).astype(self._dtype, copy=False)
        return rows.reshape(-1, self._signature.width)

    def _call(self, parts: list[Part]) -> tuple[NDArray[np.float64], float]:
        start = perf_counter()
        scores = self._score(self._matrix(parts))
        return scores, perf_counter() - start

    def _called(
        self, parts: list[Part], rows: int, future: Future[tuple[NDArray[np.float64], float]]
    ) -> None:
        self._running -= 1
        self.running_rows -= rows
        error = future.exception()
        if isinstance(error, Problem):
            self._lost(parts, error)
        else:
            scores, seconds = (None, 0.0) if error else future.result()
            self._finish(parts, rows, seconds, scores, error)
        self._observe_queue(self.queued_rows)
        if self._queue or self._again:
            self._flush()
        else:
            self._flushing = self._running > 0

    # ---- out

    def _finish(
        self,
        parts: list[Part],
        rows: int,
        seconds: float,
        scores: NDArray[np.float64] | None,
        error: BaseException | None,
    ) -> None:
        if scores is None or scores.shape != (rows, self._signature.outputs):
            self._failed(parts, error or ValueError(f"{rows} rows gave scores of another shape"))
            return
        self._costs.observe(rows, seconds)
        self.calls += 1
        if self.calls % 64 == 0 or (seconds > INLINE_S and self.calls % 4 == 0):
            self._decide_limits()
        self._observe_batch(rows, seconds)
        batch = Scores(scores, self._signature)
        batch.ended = perf_counter()
        batch.began = batch.ended - seconds
        finite = bool(np.isfinite(scores).all())
        place = 0
        for ticket, start, stop in parts:
            first = place
            place += stop - start
            if not ticket.open:
                continue
            if stop - start < ticket.n:
                if ticket.out is None:
                    ticket.out = np.empty((ticket.n, self._signature.outputs))
                    ticket.began = batch.began
                ticket.out[start:stop] = scores[first:place]
                ticket.scored += stop - start
                if ticket.scored < ticket.n:
                    continue
                whole = Scores(ticket.out, self._signature)
                whole.began, whole.ended = ticket.began, batch.ended
                self._answer(ticket, whole, 0, finite=bool(np.isfinite(ticket.out).all()))
            elif finite and not ticket.explicit:
                self._reply(ticket, batch, first, None)
            else:
                self._answer(ticket, batch, first, finite=finite)

    def _answer(self, ticket: Ticket, scores: Scores, first: int, *, finite: bool) -> None:
        problem = None
        if ticket.explicit and perf_counter() > ticket.deadline:
            problem = self._refusal("the answer was late for its X-Deadline-Ms", "deadline")
        elif not finite:
            problem = _not_finite(scores.values[first : first + ticket.n])
        self._reply(ticket, None if problem else scores, first, problem)

    def _failed(self, parts: list[Part], error: BaseException) -> None:
        """Bisect: only the request whose rows make the model raise may fail."""
        if len(parts) > 1:
            middle = len(parts) // 2
            self._again.extend((parts[:middle], parts[middle:]))
            return
        ticket = parts[0][0]
        if not ticket.open:  # no client waits for it, so no request line will report it
            logger.error("a model raised on %d valid rows: %s", ticket.n, raised_at(error))
            return
        self.queued_rows -= ticket.n - ticket.taken
        problem = Problem(
            500,
            "The model failed on these rows; the server's log has the reason.",
            reason="model_failed",
            error=raised_at(error),
        )
        self._reply(ticket, None, 0, problem)

    def _lost(self, parts: list[Part], problem: Problem) -> None:
        """Refuse the requests whose call was lost with its thread; their rows are not at fault."""
        for ticket, _, _ in parts:
            if ticket.open:
                self.queued_rows -= ticket.n - ticket.taken
                self._reply(ticket, None, 0, problem)

    def _late(self, ticket: Ticket) -> None:
        self.queued_rows -= ticket.n - ticket.taken
        self._reply(ticket, None, 0, self._refusal("the request waited until its deadline", "deadline"))

    def _reply(self, ticket: Ticket, scores: Scores | None, first: int, problem: Problem | None) -> None:
        ticket.open = False
        try:
            done = ticket.done  # called as an attribute, Python 3.11 would look it up anew each time
            done(scores, first, problem)
        except Exception as error:  # noqa: BLE001 - the other requests of the batch get their replies
            logger.error("a reply could not be made: %s", raised_at(error))  # noqa: TRY400 - its message may quote a cell

    def _refusal(self, what: str, reason: Reason) -> Problem:
        after = max(1, math.ceil(wait_s(self.limits, self.queued_rows, 1)))
        return overloaded(f"Too busy: {what}. Try again in {after} s.", reason, after)

    # ---- deadlines of requests that wait for a call in the thread

    def _expire_at(self, deadline: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        delay = max(0.0, deadline - perf_counter())
        self._expires = deadline
        self._expiry = asyncio.get_running_loop().call_later(delay + 0.001, self._expire)

    def _expire(self) -> None:
        self._expiry, self._expires = None, math.inf
        now = perf_counter()
        waiting = [ticket for ticket in self._queue if ticket.open]
        for ticket in waiting:
            if ticket.deadline <= now and not ticket.taken:
                self._late(ticket)
        soonest = min((t.deadline for t in waiting if t.open and t.deadline > now), default=None)
        if soonest is not None and self._running:
            self._expire_at(max(soonest, now + EXPIRE_EVERY_S))


def packer(width: int) -> Callable[[Sequence[Sequence[float]]], bytes]:
    """A function that packs rows of `width` floats into the bytes that `Batcher.submit` takes, row by row.

    Packed rows take a fifth of the memory of floats and lists, so the queue of a crowd stays in the
    processor's cache.
    """
    pack = struct.Struct(f"{width}d").pack

    def packed(rows: Sequence[Sequence[float]]) -> bytes:
        return pack(*rows[0]) if len(rows) == 1 else b"".join([pack(*row) for row in rows])

    return packed


def matrix_of(rows: Any, signature: Signature) -> NDArray[Any]:
    """Rows as they were submitted, as a matrix of shape (n, width)."""
    if not isinstance(rows, bytes):
        return rows  # type: ignore[no-any-return]
    return np.frombuffer(rows).astype(signature.dtype, copy=False).reshape(-1, signature.width)


def _rows(parts: list[Part]) -> int:
    return sum(stop - start for _, start, stop in parts)


def _not_finite(scores: NDArray[np.float64]) -> Problem | None:
    """422 for rows with values so extreme that the model's score is not finite."""
    rows = np.flatnonzero(~np.isfinite(scores).all(axis=1)).tolist()
    if not rows:
        return None
    reason = "the model gives no finite number for these values"
    errors = [CellError(row, None, reason) for row in rows[:MAX_ERRORS]]
    return Problem(422, f"row {rows[0]}: {reason}", errors=errors, reason="not_finite")


def on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: Any) -> None:
    """Call a function on the loop, from any thread; nothing if the loop has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback, *arguments)
