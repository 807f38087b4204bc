"""One module a protocol: bytes to rows, scores to bytes. Both lanes call the same endpoints.

A module has a class of `Endpoint` and `endpoints(catalog)`, which gives its routes; `PROTOCOLS` in
`serving.gateway` lists the modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.batcher import Ticket
    from serving.catalog import LiveModel
    from serving.errors import Headers, Problem


class Reply(NamedTuple):
    """A whole reply, but for what every reply has (its length, `X-Request-Id`)."""

    status: int
    content_type: bytes
    body: bytes
    headers: Headers = ()
    reason: str = ""  # why it was rejected, for the metric; "" for all else


class Call(NamedTuple):
    """What an endpoint needs to know of a request beside its body.

    Parameters
    ----------
    deadline
        By `time.perf_counter`.
    explicit
        The client asked for that deadline.
    content_type
        As sent; empty for none.
    headers
        All headers, names in lower case.
    """

    deadline: float
    explicit: bool = False
    content_type: bytes = b""
    headers: Headers = ()


class Endpoint(Protocol):
    """A prediction route of one model in one protocol."""

    name: str  # its value of the metric label `endpoint`
    model: LiveModel
    content_types: tuple[str, ...]  # the media types that it reads; the first is meant where none is sent

    def read(self, body: bytes, call: Call) -> Any:
        """Decode and check: what `submit` takes. A large body is read in a thread.

        Raises
        ------
        Problem
            What is wrong with it.
        """

    def submit(self, query: Any, call: Call, reply: Callable[[Reply], None]) -> Ticket:
        """Queue what was read; `reply` is called once, on the event loop, unless the ticket is cancelled.

        Raises
        ------
        Problem
            429.
        """

    def refuse(self, problem: Problem) -> Reply:
        """A problem in the shape of this protocol."""


def problem_reply(problem: Problem) -> Reply:
    """A problem as `application/problem+json`."""
    return Reply(problem.status, b"application/problem+json", problem.body(), problem.headers, problem.reason)
