"""Access: `admit` authorizes every request, on both lanes and for every route.

Today it admits every request. A check of keys belongs in `admit`, which is called for each request. The
express lane caches heads together with the headers named here, and `admit` gets no other headers, so that a
cached head never stands for another caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serving.errors import Headers

HEADERS = frozenset((b"authorization", b"x-api-key"))
"""The headers with credentials; a client certificate would be another source."""


class AccessRequest(msgspec.Struct, frozen=True, gc=False):
    """The part of a request that access is decided by.

    Parameters
    ----------
    path
        Percent-decoded, without the query.
    credentials
        The request's headers among `HEADERS`, names in lower case, each as often as it was sent.
    """

    method: str
    path: str
    credentials: Headers


class Principal(msgspec.Struct, frozen=True, gc=False):
    """The authenticated caller, by a name that may be logged."""

    name: str


def credentials_of(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that `admit` gets."""
    return tuple(pair for pair in headers if pair[0] in HEADERS)


def admit(_request: AccessRequest) -> Principal | None:
    """Admit a request; return its caller if known.

    Both lanes look this function up in its module for each request, before its body is read.

    Raises
    ------
    Problem
        401 (with `WWW-Authenticate`) without valid credentials, 403 if they do not suffice. The lane answers
        it in the shape of the route's protocol.
    """
    return None
