"""The interface of a protocol: bytes to rows, scores to bytes. It knows neither sockets nor threads.

Each one is a class that satisfies `Protocol`, in a module or folder of its own, and a line in `registry`.
Both lanes of HTTP, and any other transport, call its endpoints; see `data_plane`.
"""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

import msgspec

from artifact.json_text import LARGE_BYTES
from serving.errors import PROBLEM_JSON, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.errors import Headers
    from serving.scoring.catalog import Catalog, LiveModel
    from serving.scoring.explain import Explain
    from serving.scoring.scores import Scores
    from serving.settings import Settings

# A larger body is decoded in a thread, so that the loop goes on answering others; a thread costs 0.1 ms, the
# worst body of this size 30 ms.
LARGE_BODY_BYTES = LARGE_BYTES


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A reply without the headers that every reply has (Content-Length, `X-Request-Id`)."""

    status: int
    content_type: bytes
    body: bytes
    headers: Headers = ()
    reason: str = ""  # the reason of a refusal, for the metric and the log; "" otherwise
    # Of a page that is kept (`serving.http.kept`): its body in gzip, once that is made. None: it is not kept.
    gzip: list[bytes] | None = None


class Head(msgspec.Struct, frozen=True, gc=False):
    """The relevant headers of a request.

    Parameters
    ----------
    content_type
        As sent; empty if absent.
    length
        Content-Length in bytes, if given.
    request_id
        The client's `X-Request-Id`.
    deadline_ms
        The client's `X-Deadline-Ms`.
    headers
        All headers, names in lower case.
    trace
        The client's `traceparent`, as sent.
    credentials
        The headers with credentials.
    canary_key
        The client's `X-Canary-Key`.
    coding
        The result of `codings.coding_of`; always "" on the express lane.
    """

    content_type: bytes = b""
    length: int | None = None
    request_id: bytes | None = None
    deadline_ms: int | None = None
    headers: Headers = ()
    trace: bytes | None = None
    credentials: Headers = ()
    canary_key: bytes | None = None
    coding: bytes = b""


class Query(typing.Protocol):
    """A valid request.

    `rows` are the `n` rows for `Batcher.submit`. `within_s` is the deadline in seconds, if the body has one.
    `explain` is what to explain of the rows; they are then for `Explainer.submit`.
    """

    rows: Any
    n: int
    within_s: float | None
    explain: Explain | None


class AnswerLater(Exception):  # noqa: N818 - no error: the answer would hold up the event loop
    """Raised instead of an answer: `make`, called in a thread, gives a query that is answered at once."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__("the answer is made in a thread")
        self.make = make


class Endpoint(typing.Protocol):
    """A prediction route of one model in one protocol."""

    name: str  # its value of the metric label `endpoint`
    model: LiveModel
    content_types: tuple[str, ...]  # the supported media types; the first is the default

    def read(self, body: bytes, head: Head) -> Any:
        """Decode and check, to a `Query`. A large body is read in a thread.

        Raises
        ------
        Problem
            The error in the body.
        """

    def answer(self, query: Any, scores: Scores, first: int) -> Reply:
        """The reply of 200 from the scores of a batch in which the query's rows begin at `first`.

        Raises
        ------
        Problem
            The reason why there is none.
        AnswerLater
            It takes long. It is then asked for again with another query.
        """

    def refuse(self, problem: Problem) -> Reply:
        """A problem in the shape of this protocol."""


class Described(typing.NamedTuple):
    """A part of the OpenAPI document: operations by path, and the schemas that they name."""

    paths: dict[str, Any]
    schemas: dict[str, Any]


class Protocol(typing.Protocol):
    """A protocol: its routes, its pages, its form of a refusal, its part of OpenAPI."""

    name: str  # the value of the metric label `endpoint` of its pages

    def endpoints(self, catalog: Catalog) -> Mapping[str, Endpoint]:
        """The prediction routes of the live models, by path."""

    def pages(self, catalog: Catalog) -> Mapping[str, Callable[[], Reply]]:
        """The pages that GET answers, by path; a page may raise a `Problem`."""

    def owns(self, path: str) -> bool:
        """Whether `refuse` makes the refusals at this path."""

    def refuse(self, problem: Problem) -> Reply:
        """A problem in the shape of this protocol."""

    def refused(self, path: str, catalog: Catalog) -> str:
        """The name of the refused or unloaded model whose prediction route this path is; "" if none."""

    def not_found(self, path: str, catalog: Catalog) -> Problem | None:
        """The problem for an unknown path; None for the gateway's own."""

    def document(self, catalog: Catalog) -> Described:
        """Its part of the OpenAPI document."""


def deadline(head: Head, query: Query | None, started: float, settings: Settings) -> tuple[float, bool]:
    """The deadline of a request that came at `started`, and whether the client sent one.

    Both times are by `time.perf_counter`.

    Parameters
    ----------
    query
        None if the body is not read yet.
    """
    ms = head.deadline_ms
    explicit = ms is not None
    seconds = min(ms or settings.default_deadline_ms, settings.max_deadline_ms) / 1000
    if query is not None and query.within_s is not None and query.within_s < seconds:
        seconds, explicit = query.within_s, True
    return started + seconds, explicit


def problem_reply(problem: Problem) -> Reply:
    """A problem as `application/problem+json`."""
    return Reply(problem.status, PROBLEM_JSON, problem.body(), problem.headers, problem.reason)


def unknown_version(catalog: Catalog, name: str, version: str) -> Problem:
    """404 for a version of a live model that is not loaded."""
    loaded = catalog.versions(name)
    are = "versions are" if len(loaded) > 1 else "version is"
    return Problem(
        404,
        f"Unknown version {version[:40]!r} of {name!r}; the loaded {are} {', '.join(map(repr, loaded))}.",
        reason="unknown_version",
    )
