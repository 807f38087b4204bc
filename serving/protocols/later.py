"""Answers that take longer than the event loop may wait (`AnswerLater`): a thread makes them.

The thread is the worker's only one for this, so it takes no more of the processor than that; the answers that
wait for it are bounded in number, and each until its request's deadline.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from serving.errors import overloaded
from serving.observe.supervised import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.errors import Problem, Reason
    from serving.protocols import AnswerLater

MAX_WAITING = 64
RETRY_AFTER_S = 1

_pool = Pool("replying")


def make(
    later: AnswerLater, due: float, still_wanted: Callable[[], bool] = lambda: True
) -> asyncio.Future[Any]:
    """Make an answer in the thread; the result is the query to answer, or a `Problem` is raised.

    Parameters
    ----------
    due
        The request's deadline by `time.perf_counter`.
    still_wanted
        Whether the client is still there; the thread asks before it begins.

    Raises
    ------
    Problem
        429: too many answers wait.
    """
    if _pool.waiting >= MAX_WAITING:
        raise _refusal(f"{MAX_WAITING} long replies wait to be made", "queue_full")

    def made() -> Any:
        if perf_counter() > due or not still_wanted():
            raise _refusal("the reply was not made before the deadline", "deadline")
        return later.make()

    return asyncio.get_running_loop().run_in_executor(_pool, made)


def _refusal(what: str, reason: Reason) -> Problem:
    return overloaded(f"Too busy: {what}. Try again in {RETRY_AFTER_S} s.", reason, RETRY_AFTER_S)
