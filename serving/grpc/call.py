"""A call in progress: its caller, its deadline, and the data for its log line and its spans."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from serving.grpc.certificates import certificate_of
from serving.http import access
from serving.http.head import name_request, read_head
from serving.protocols import Head
from serving.protocols.oip.request import HEADER_LENGTH

if TYPE_CHECKING:
    from serving.access.certificate import Certificate
    from serving.errors import Problem
    from serving.scoring.scores import Scores

LENGTH = HEADER_LENGTH.decode()


class Call:
    """See the module and `serving.protocols.data_plane.Progress`."""

    __slots__ = (
        "certificate",
        "due",
        "head",
        "principal",
        "problem",
        "queued",
        "request_id",
        "scores",
        "started",
    )

    def __init__(self) -> None:
        self.started = perf_counter()
        self.due: float | None = None  # the client's deadline
        self.head = Head()
        self.certificate: Certificate | None = None
        self.principal: access.Principal | None = None
        self.problem: Problem | None = None
        self.queued: float | None = None
        self.scores: Scores | None = None
        self.request_id = ""

    def read(self, context: Any) -> None:
        """Read the metadata, the deadline and the client's certificate.

        Raises
        ------
        Problem
            400 for malformed metadata.
        """
        remaining = context.time_remaining()
        if remaining is not None:
            self.due = self.started + remaining
        self.head = head = read_head(
            tuple(
                (name.encode(), value.encode() if isinstance(value, str) else value)
                for name, value in context.invocation_metadata() or ()
                if name != LENGTH
            ),
            None,
        )
        if remaining is not None:
            ms = max(1, int(1000 * remaining))
            self.head = msgspec.structs.replace(head, deadline_ms=min(ms, head.deadline_ms or ms))

        if access.required():
            self.certificate = certificate_of(context.auth_context())

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
        self.problem = problem = access.discreet(problem, self.principal)
        self.request_id = problem.request_id = name_request(self.head)
        return problem

    @property
    def is_late(self) -> bool:
        """Whether the client's deadline has passed."""
        return self.due is not None and perf_counter() >= self.due

    @property
    def caller(self) -> str:
        """The name of the principal; "" without one."""
        return self.principal.name if self.principal is not None else ""
