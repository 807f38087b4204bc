"""A call in progress: its caller, its deadline, and the data for its log line and its spans."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from serving.http import access
from serving.http.caller import caller_of
from serving.http.head import name_request
from serving.protocols import Head

if TYPE_CHECKING:
    from serving.access.certificate import Certificate
    from serving.errors import Problem
    from serving.grpc.stream import Stream
    from serving.scoring.scores import Scores


class Call:
    """See the module and `serving.protocols.data_plane.Progress`."""

    __slots__ = (
        "certificate",
        "due",
        "head",
        "peer",
        "principal",
        "problem",
        "queued",
        "request_id",
        "scores",
        "started",
    )

    def __init__(self, stream: Stream) -> None:
        self.started = stream.started
        self.due: float | None = None  # the client's deadline
        self.head = stream.heading.head if stream.heading is not None else Head()  # None: it is too large
        self.peer = stream.connection.peer
        self.certificate: Certificate | None = stream.connection.certificate
        self.principal: access.Principal | None = None
        self.problem: Problem | None = None
        self.queued: float | None = None
        self.scores: Scores | None = None
        self.request_id = ""
        if stream.timeout is not None:
            self.due = self.started + stream.timeout

    def check_metadata(self, stream: Stream) -> None:
        """Refuse malformed metadata; from here on the client's deadline is also that of the head.

        Raises
        ------
        Problem
            400.
        """
        if stream.heading.problem is not None:
            raise stream.heading.problem
        if stream.timeout is not None:
            ms = max(1, int(1000 * stream.timeout))
            self.head = msgspec.structs.replace(self.head, deadline_ms=min(ms, self.head.deadline_ms or ms))

    def admit(self, method: str, path: str, model: str = "") -> None:
        """Check the caller as HTTP does at this path.

        Raises
        ------
        Problem
            401, 403 or 429.
        """
        request = access.AccessRequest(method, path, self.head.credentials, model, self.certificate)
        self.principal = access.admit(request)

    def named(self, problem: Problem) -> Problem:
        """The problem as its caller may see it, with the request id of the log line."""
        self.principal = self.principal or access.refused(problem)
        self.problem = problem = access.discreet(problem, self.principal)
        self.request_id = problem.request_id = name_request(self.head)
        return problem

    @property
    def is_late(self) -> bool:
        """Whether the client's deadline has passed."""
        return self.due is not None and perf_counter() >= self.due

    @property
    def caller_name(self) -> str:
        """The name of the principal; "" without one."""
        return self.principal.name if self.principal is not None else ""

    def caller(self) -> str:
        """See `caller_of`."""
        return caller_of({"client": self.peer}, self.principal)
