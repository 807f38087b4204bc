"""Cross-origin requests (CORS, of the fetch standard): the other origins whose pages may call this server.

A browser asks before it sends JSON (the preflight, without a key), and shows a reply to the page only if its
headers allow the page's origin. A request without `Origin` does not come from a page.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from serving.errors import Problem
from serving.protocols import Reply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serving.errors import Headers
    from serving.http.asgi import Message, Send
    from serving.settings import Settings

ANY = "*"
METHODS = b"GET, HEAD, POST, OPTIONS"
MAX_AGE_S = 600
"""How long a browser remembers the reply to a preflight, so how long a changed setting may take."""
EXPOSED = (
    b"X-Request-Id, X-Prediction-Id, X-Model-Version, Retry-After, Inference-Header-Content-Length, "
    b"WWW-Authenticate, Allow, Accept-Encoding"
)
"""Headers of replies that a page's script may read beside those that every script may."""

_NAMES = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[ \t]*,[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+)*")


class Cors:
    """The headers that replies to pages of the allowed origins have.

    Parameters
    ----------
    origins
        As browsers write them (see `settings`), or `*` alone: then pages may send no cookies and no client
        certificates; keys in headers they may always send.

    Attributes
    ----------
    always
        The headers that every reply has: a cache must not give a reply for one origin to another.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._any = ANY.encode() in self._origins
        self.always: Headers = () if self._any else ((b"vary", b"Origin"),)

    def headers(self, request: Iterable[tuple[bytes, bytes]]) -> Headers:
        """The headers of a reply, beside `always`."""
        allowed = self._allowed(_values(request, b"origin"))
        return (*allowed, (b"access-control-expose-headers", EXPOSED)) if allowed else ()

    def is_preflight(self, request: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with the method OPTIONS is one."""
        names = {name for name, _ in request}
        return b"origin" in names and b"access-control-request-method" in names

    def preflight(self, request: Iterable[tuple[bytes, bytes]]) -> Reply:
        """The reply to a preflight.

        It is the same for every path, since the caller is not known yet.

        Raises
        ------
        Problem
            403 for an origin that is not allowed.
        """
        found = tuple(request)
        origins = _values(found, b"origin")
        allowed = self._allowed(origins)
        if not allowed:
            shown = origins[0][:100].decode("latin-1")
            raise Problem(
                403, f"Pages of {shown!r} may not call this server; OKAMOCHI_CORS_ORIGINS has those that may."
            )
        headers = [(b"access-control-allow-methods", METHODS)]
        names = b", ".join(_values(found, b"access-control-request-headers"))
        if _NAMES.fullmatch(names):  # tracing libraries add headers that no list would have
            headers.append((b"access-control-allow-headers", names))
        headers.append((b"access-control-max-age", b"%d" % MAX_AGE_S))
        headers.append((b"vary", b"Access-Control-Request-Headers"))
        return Reply(204, b"", b"", tuple(headers))

    def adding(self, request: Iterable[tuple[bytes, bytes]], send: Send) -> Send:
        """`send` that adds the headers to the reply to this request."""
        more = (*self.always, *self.headers(request))

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        return sending

    def _allowed(self, origins: list[bytes]) -> Headers:
        if len(origins) != 1:  # a browser never sends two Origin headers
            return ()
        if self._any:
            return ((b"access-control-allow-origin", b"*"),)
        if origins[0] not in self._origins:
            return ()
        return (
            (b"access-control-allow-origin", origins[0]),
            (b"access-control-allow-credentials", b"true"),
        )


def cors_of(settings: Settings) -> Cors | None:
    """The origins of the settings; None without any."""
    return Cors(settings.cors_origins) if settings.cors_origins else None


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]
