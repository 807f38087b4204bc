"""One module a protocol: bytes to rows, scores to bytes. Both lanes call the same endpoints.

A module has a class of `Endpoint` and `endpoints(catalog)`, which gives its routes; `PROTOCOLS` in
`serving.http.gateway` lists the modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from serving.errors import Headers, Problem
    from serving.scoring.batcher import Scores
    from serving.scoring.catalog import LiveModel
    from serving.settings import Settings

# A larger body is decoded in a thread, so that the loop goes on answering others; a thread costs 0.1 ms, the
# worst body of this size 30 ms.
LARGE_BODY_BYTES = 64 * 1024


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A whole reply, but for what every reply has (its length, `X-Request-Id`)."""

    status: int
    content_type: bytes
    body: bytes
    headers: Headers = ()
    reason: str = ""  # why it was refused, for the metric and the log; "" where it was not


class Head(msgspec.Struct, frozen=True, gc=False):
    """What the headers of a request say that we look at.

    Parameters
    ----------
    content_type
        As sent; empty for none.
    length
        Bytes of the body, where they are given.
    request_id
        The client's `X-Request-Id`.
    deadline_ms
        The client's `X-Deadline-Ms`.
    headers
        All headers, names in lower case.
    trace
        The client's `traceparent`, as sent.
    credentials
        The headers that say who asks.
    """

    content_type: bytes = b""
    length: int | None = None
    request_id: bytes | None = None
    deadline_ms: int | None = None
    headers: Headers = ()
    trace: bytes | None = None
    credentials: Headers = ()


class Query(Protocol):
    """A request that was understood.

    `rows` is what `Batcher.submit` takes, `n` of them. `within_s` is how long an answer is of use, where the
    body says so.
    """

    rows: Any
    n: int
    within_s: float | None


class Endpoint(Protocol):
    """A prediction route of one model in one protocol."""

    name: str  # its value of the metric label `endpoint`
    model: LiveModel
    content_types: tuple[str, ...]  # the media types that it reads; the first is meant where none is sent

    def read(self, body: bytes, head: Head) -> Any:
        """Decode and check, to a `Query`. A large body is read in a thread.

        Raises
        ------
        Problem
            What is wrong with it.
        """

    def answer(self, query: Any, scores: Scores, first: int) -> Reply:
        """The reply of 200 from the scores of a batch in which the query's rows begin at `first`."""

    def refuse(self, problem: Problem) -> Reply:
        """A problem in the shape of this protocol."""


def deadline(head: Head, query: Query, started: float, settings: Settings) -> tuple[float, bool]:
    """When the answer to a request that came at `started` is due, and whether the client asked for that.

    Both times are by `time.perf_counter`.
    """
    ms = head.deadline_ms
    explicit = ms is not None
    seconds = min(ms or settings.default_deadline_ms, settings.max_deadline_ms) / 1000
    if query.within_s is not None and query.within_s < seconds:
        seconds, explicit = query.within_s, True
    return started + seconds, explicit


def problem_reply(problem: Problem) -> Reply:
    """A problem as `application/problem+json`."""
    return Reply(problem.status, b"application/problem+json", problem.body(), problem.headers, problem.reason)
