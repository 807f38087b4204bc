"""Who may ask for what: the one question that every request is asked, on either lane and of every route.

Today everybody may. What will look at keys stands in `admit`, which is asked for each request anew. What the
express lane remembers of a head includes the headers named here, and `admit` is given no others, so that a
remembered head never stands for another caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serving.errors import Headers

HEADERS = frozenset((b"authorization", b"x-api-key"))
"""The headers that say who asks; a connection's client certificate would be the third way."""


class Asking(msgspec.Struct, frozen=True, gc=False):
    """What is to be decided upon.

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
    """Who asks, by the name that the log may have."""

    name: str


def credentials_of(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that `admit` is given."""
    return tuple(pair for pair in headers if pair[0] in HEADERS)


def admit(_asking: Asking) -> Principal | None:
    """Let a request pass, and say who asks where that is known.

    Both lanes look this function up in its module for each request, before its body is read.

    Raises
    ------
    Problem
        401 without valid credentials (with `WWW-Authenticate`), 403 where they do not suffice. The lane
        answers it in the shape of the route's protocol.
    """
    return None
