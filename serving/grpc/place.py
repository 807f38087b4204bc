"""Where gRPC listens, and with which certificate: on the address of HTTP, with its files."""

from __future__ import annotations

import os
import socket
import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

BACKLOG = 2_048


class Tls(NamedTuple):
    """The files that `bentoml serve --ssl-...` names.

    Parameters
    ----------
    authorities
        Of client certificates; "": client certificates are not checked.
    asked
        Whether a client must show a certificate, as `--ssl-cert-reqs` says it.
    """

    certificate: str
    key: str
    password: str
    authorities: str
    asked: ssl.VerifyMode

    def context(self) -> ssl.SSLContext:
        """TLS for HTTP/2: the client must choose it (ALPN), by version 1.2 or later."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key or None, self.password or None)
        if self.authorities:
            context.load_verify_locations(self.authorities)
            context.verify_mode = self.asked
        context.set_alpn_protocols(["h2"])
        return context


class Place(NamedTuple):
    """An address and a port, and TLS if it is on."""

    host: str
    port: int
    tls: Tls | None

    def listen(self) -> socket.socket:
        """A socket that shares its port with those of the other workers."""
        family = socket.AF_INET6 if isinstance(_address(self.host), IPv6Address) else socket.AF_INET
        found = socket.socket(family)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            found.bind((self.host, self.port))
            found.listen(BACKLOG)
            found.setblocking(False)
        except OSError:
            found.close()
            raise
        return found

    def __str__(self) -> str:
        v6 = isinstance(_address(self.host), IPv6Address)
        return f"[{self.host}]:{self.port}" if v6 else f"{self.host}:{self.port}"


def place_of(options: Mapping[str, Any], port: int) -> Place:
    """The place beside HTTP, by the options of BentoML's worker."""
    beside = socket.socket(fileno=os.dup(options["fd"]))
    with beside:
        host = beside.getsockname()[0]
    certificate = options.get("ssl_certfile")
    tls = None
    if certificate:
        tls = Tls(
            certificate,
            options.get("ssl_keyfile") or "",
            options.get("ssl_keyfile_password") or "",
            options.get("ssl_ca_certs") or "",
            ssl.VerifyMode(options.get("ssl_cert_reqs") or 0),
        )
    return Place(host, port, tls)


def _address(host: str) -> IPv4Address | IPv6Address:
    return ip_address(host.partition("%")[0])
