"""Who asks, for limits that callers share, and whether that client is still there."""

from __future__ import annotations

import os
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

if TYPE_CHECKING:
    from serving.errors import Headers
    from serving.http.access import Principal
    from serving.http.asgi import Scope

PRESENCE = "okamochi.presence"
"""Where a scope has its `Presence`, where the server is ours."""
CERTIFICATE = "okamochi.certificate"
"""Where a scope has the client certificate of its connection, if there is one."""


class Presence:
    """What the connection knows of the client of one request.

    Attributes
    ----------
    may_have_left
        It sends no more. A client that waits for its answer may do that, and one that has closed its side of
        the connection looks the same.
    dispensable
        Nobody need wait for this request when the server ends, if the client may have left.
    """

    __slots__ = ("dispensable", "may_have_left")

    def __init__(self) -> None:
        self.may_have_left = False
        self.dispensable = False


def presence_of(scope: Scope) -> Presence:
    """The client of a request; of another server than ours, one that never leaves."""
    presence: Presence = scope.get(PRESENCE) or Presence()
    return presence


PROXIED = (b"forwarded", b"x-forwarded-for", b"x-real-ip")
SAME_SITE = (b"same-origin", b"none")
FORWARDED_FOR = b"x-forwarded-for"


class Proxies:
    """The proxies whose word about their clients counts; uvicorn's own rule, as in the gateway.

    Parameters
    ----------
    trusted
        As of uvicorn's `FORWARDED_ALLOW_IPS`.
    """

    def __init__(self, trusted: str) -> None:
        self._middleware = ProxyHeadersMiddleware(_nothing, trusted)

    def client_of(self, client: tuple[str, int] | None, headers: Headers) -> Any:
        """The client of a request that came over the connection of `client`."""
        scope: Any = {"type": "http", "client": client, "headers": headers}
        unused: Any = None
        with suppress(StopIteration):  # it ends without a wait
            self._middleware(scope, unused, unused).__await__().send(None)
        return scope["client"]


async def _nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    """Stands where the application does."""


def proxies() -> Proxies | None:
    """The proxies that this process trusts; None if it trusts no proxy."""
    trusted = os.environ.get("FORWARDED_ALLOW_IPS", "").strip()
    return Proxies(trusted) if trusted else None


def is_local(scope: Scope) -> bool:
    """Whether the client is a program on this machine, or a page that this server itself has sent.

    `Sec-Fetch-Site` reveals a page of another site, and a proxy's headers reveal a client elsewhere.
    """
    client = scope.get("client")
    try:
        local = client is not None and ip_address(str(client[0]).partition("%")[0]).is_loopback
    except ValueError:
        local = False
    return local and not any(
        name in PROXIED or (name == b"sec-fetch-site" and value not in SAME_SITE)
        for name, value in scope["headers"]
    )


def caller_of(scope: Scope, principal: Principal | None) -> str:
    """Who asks: the principal, else the address at the other end of the connection.

    Of an IPv6 address the first 64 bits count, since one client has all addresses that begin with them.
    `X-Forwarded-For` counts where the other end is a proxy that `FORWARDED_ALLOW_IPS` names: then uvicorn has
    put the client's own address here.
    """
    if principal is not None:
        return f"principal {principal.name}"
    client = scope.get("client")
    host = str(client[0]) if client else ""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)
