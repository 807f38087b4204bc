"""What access is decided by, and what is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serving.access.rights import RIGHTS
from serving.errors import Problem

if TYPE_CHECKING:
    from serving.access.certificate import Certificate
    from serving.errors import Headers


class AccessRequest(msgspec.Struct, frozen=True, gc=False):
    """The part of a request that access is decided by.

    Parameters
    ----------
    path
        Percent-decoded, without the query.
    credentials
        The request's headers among `serving.http.access.HEADERS`, names in lower case, each as often as it
        was sent.
    model
        The model that a route without a name in its path leads to.
    certificate
        Of the client at the other end of the connection; None without one.
    """

    method: str
    path: str
    credentials: Headers
    model: str = ""
    certificate: Certificate | None = None


class Principal(msgspec.Struct, frozen=True, gc=False):
    """The authenticated caller.

    Parameters
    ----------
    name
        It may be logged. Several keys may have one name: the old and the new one of a rotation.
    rights
        Of `rights.RIGHTS`.
    models
        The names of the models that the caller may use; None for all.
    digits
        Digits that probabilities are rounded to for this caller; 0: not rounded.
    """

    name: str
    rights: frozenset[str] = frozenset(RIGHTS)
    models: frozenset[str] | None = None
    digits: int = 0

    def may(self, right: str) -> bool:
        """Whether the caller has a right."""
        return right in self.rights

    def may_use(self, model: str) -> bool:
        """Whether the caller may use a model, whether that exists or not."""
        return self.models is None or model in self.models


class Refused(Problem):
    """A refusal of a caller who has shown a valid key, for the logs."""

    def __init__(self, problem: Problem, principal: Principal | None) -> None:
        super().__init__(problem.status, problem.detail, headers=problem.headers, reason=problem.reason)
        self.principal = principal


def refused(problem: Problem) -> Principal | None:
    """The caller who is refused; None without a valid key."""
    return problem.principal if isinstance(problem, Refused) else None
