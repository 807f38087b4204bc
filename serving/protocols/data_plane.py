"""From a message to its answer, for any transport: the HTTP gateway calls this.

The express lane alone does the same in callbacks, without a future and a task for each request.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from serving.access.check import demand
from serving.errors import Problem, overloaded
from serving.protocols import LARGE_BODY_BYTES, AnswerLater, deadline
from serving.protocols.codings import expanded
from serving.protocols.later import make
from serving.protocols.media import is_packed
from serving.protocols.options import check_digits
from serving.waiting import unless_left

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from serving.access.request import Principal
    from serving.protocols import Endpoint, Head, Reply
    from serving.scoring.scores import Scores
    from serving.settings import Settings


class Progress(Protocol):
    """The progress of a request, for its log line and its spans."""

    started: float
    queued: float | None  # when its rows were read
    scores: Scores | None
    principal: Principal | None

    def caller(self) -> str:
        """See `serving.http.caller.caller_of`."""


async def answer(
    endpoint: Endpoint,
    body: bytes,
    head: Head,
    progress: Progress,
    *,
    settings: Settings,
    readers: Executor,
    left: Callable[[], Awaitable[object]] | None,
) -> Reply | None:
    """The reply to one message; None if the client has left.

    Parameters
    ----------
    readers
        Threads for large bodies, and for pictures: a small file may have many pixels.
    left
        Returns once the client has left; called only if the answer may take long. None where this is
        cancelled then.

    Raises
    ------
    Problem
        The reason why there is no answer.
    """
    pictures = bool(endpoint.model.signature.pictures)
    large = len(body) >= LARGE_BODY_BYTES or bool(head.coding) or is_packed(head.content_type) or pictures
    if large:
        reading = readers.submit(_read, endpoint, body, head, settings.max_body_bytes)
        query = await _read_in_time(asyncio.wrap_future(reading), head, progress.started, settings, left)
        if query is None:
            return None
    else:
        query = endpoint.read(body, head)
    return await answer_query(endpoint, query, head, progress, settings=settings, left=left, large=large)


async def answer_query(
    endpoint: Endpoint,
    query: Any,
    head: Head,
    progress: Progress,
    *,
    settings: Settings,
    left: Callable[[], Awaitable[object]] | None,
    large: bool,
) -> Reply | None:
    """The reply to a message that was read; otherwise as `answer`.

    Parameters
    ----------
    large
        Whether the answer may take long with any model.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[Scores, int]] = loop.create_future()

    def scored(scores: Scores | None, first: int, problem: Problem | None) -> None:
        if future.done():
            return
        if scores is None:
            future.set_exception(problem or Problem(500, "There are no scores."))
        else:
            future.set_result((scores, first))

    model, explain = endpoint.model, query.explain
    digits = digits_of(progress.principal, settings)
    if explain is not None:
        demand(progress.principal, "explain")
        check_digits(explain, digits)
    batcher = model.batcher
    due, explicit = deadline(head, query, progress.started, settings)
    progress.queued = perf_counter()
    if explain is None:
        ticket = batcher.submit(query.rows, query.n, scored, due, explicit=explicit)
    else:
        caller = progress.caller()
        ticket = model.explainer.submit(explain, query.rows, query.n, scored, due, caller, explicit=explicit)
    try:
        if left is None or (not large and explain is None and not batcher.slow):
            found: tuple[Scores, int] | None = await future
        else:
            found = await unless_left(future, left)
    finally:
        batcher.cancel(ticket)
    if found is None:
        return None
    progress.scores = found[0]
    scores, first = found[0].rounded(digits), found[1]
    try:
        return endpoint.answer(query, scores, first)
    except AnswerLater as later:
        making = make(later, due)
        made = await (making if left is None else unless_left(making, left))
        return None if made is None else endpoint.answer(made, scores, first)


async def _read_in_time(
    reading: asyncio.Future[Any],
    head: Head,
    started: float,
    settings: Settings,
    left: Callable[[], Awaitable[object]] | None,
) -> Any:
    """What a thread has read; None if the client has left. Then, a body that waits is not read.

    Raises
    ------
    Problem
        429 when the deadline is over, and the reason why the body cannot be read.
    """
    due, _ = deadline(head, None, started, settings)
    try:
        async with asyncio.timeout(due - perf_counter()):
            return await (reading if left is None else unless_left(reading, left))
    except TimeoutError:
        raise overloaded(
            "Too busy: the body was not read before the deadline. Try again in 1 s.", "deadline", 1
        ) from None


def digits_of(principal: Principal | None, settings: Settings) -> int:
    """The digits that a caller's probabilities are rounded to; 0 if they are not rounded."""
    return settings.probability_digits if principal is None else principal.digits


def _read(endpoint: Endpoint, body: bytes, head: Head, limit: int) -> Any:
    """Expand and read in one call: only as many bodies are expanded at a time as there are threads."""
    return endpoint.read(expanded(body, head.coding, limit), head)
