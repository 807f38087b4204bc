"""Access: `admit` authorizes every request, on both lanes and for every route.

Without keys it admits every request. The express lane caches heads together with the headers named here, and
`admit` gets no other headers, so that a cached head never stands for another caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.access.request import AccessRequest, Principal, refused
from serving.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from serving.access.certificate import Certificate
    from serving.access.check import Check
    from serving.errors import Headers

__all__ = [
    "HEADERS",
    "AccessRequest",
    "Principal",
    "admit",
    "credentials_of",
    "discreet",
    "refused",
    "require",
    "required",
    "with_certificate",
]

HEADERS = frozenset((b"authorization", b"x-api-key"))
"""The headers with credentials; the other source is the client certificate of the connection."""


class _Installed:
    """The check of this worker; an instance, because looking up a class's attribute takes longer."""

    __slots__ = ("admit",)

    def __init__(self) -> None:
        self.admit: Callable[[AccessRequest], Principal | None] | None = None


_installed = _Installed()


def require(check: Check | None) -> None:
    """Have `admit` ask this check from now on; None: it admits everybody."""
    _installed.admit = check.admit if check is not None else None


def required() -> bool:
    """Whether requests need keys."""
    return _installed.admit is not None


def credentials_of(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that `admit` gets."""
    return tuple(pair for pair in headers if pair[0] in HEADERS)


def with_certificate(request: AccessRequest, certificate: Certificate) -> AccessRequest:
    """The same request, over a connection whose client has shown a certificate."""
    return AccessRequest(request.method, request.path, request.credentials, request.model, certificate)


def admit(request: AccessRequest) -> Principal | None:
    """Admit a request; return its caller if known.

    Both lanes look this function up in its module for each request, before its body is read.

    Raises
    ------
    Problem
        401 (with `WWW-Authenticate`) without valid credentials, 403 if they do not suffice, 429 if they are
        used too often. The lane answers it in the shape of the route's protocol.
    """
    found = _installed.admit
    return None if found is None else found(request)


def discreet(problem: Problem, principal: Principal | None) -> Problem:
    """The problem without what its caller may not know: the names of models, where keys are required."""
    if principal is None and problem.status == 503 and required():
        detail = "Not ready; the log and /models have the reason."
    elif principal is not None and principal.models is not None and problem.reason == "unknown_model":
        detail = "Unknown model."
    else:
        return problem
    return Problem(
        problem.status,
        detail,
        headers=problem.headers,
        reason=problem.reason,
        error=problem.error,
        model=problem.model,
    )
