"""Where gRPC listens, and with which certificate: on the address of HTTP, with its files."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUIRED = 2
"""`ssl.CERT_REQUIRED`, as `--ssl-cert-reqs` takes it."""


class Tls(NamedTuple):
    """The files that `bentoml serve --ssl-...` names.

    Parameters
    ----------
    authorities
        Of client certificates; "": client certificates are not checked.
    """

    certificate: str
    key: str
    password: str
    authorities: str
    client_required: bool

    def credentials(self) -> grpc.ServerCredentials:
        """The content of the files."""
        key = Path(self.key or self.certificate).read_bytes()
        if self.password:
            key = _decrypted(key, self.password)
        authorities = Path(self.authorities).read_bytes() if self.authorities else None
        return grpc.ssl_server_credentials(
            [(key, Path(self.certificate).read_bytes())],
            root_certificates=authorities,
            require_client_auth=self.client_required,
        )


class Place(NamedTuple):
    """An address such as `127.0.0.1:3001`, and TLS if it is on."""

    address: str
    tls: Tls | None


def place_of(options: Mapping[str, Any], port: int) -> Place:
    """The place beside HTTP, by the options of BentoML's worker."""
    beside = socket.socket(fileno=os.dup(options["fd"]))
    with beside:
        host = beside.getsockname()[0]
    certificate = options.get("ssl_certfile")
    tls = None
    if certificate:
        authorities = options.get("ssl_ca_certs") or ""
        required = bool(authorities) and options.get("ssl_cert_reqs") == REQUIRED
        tls = Tls(
            certificate,
            options.get("ssl_keyfile") or "",
            options.get("ssl_keyfile_password") or "",
            authorities,
            required,
        )
    return Place(address_of(host, port), tls)


def address_of(host: str, port: int) -> str:
    """An address as gRPC takes it."""
    is_v6 = isinstance(ip_address(host.partition("%")[0]), IPv6Address)
    return f"[{host}]:{port}" if is_v6 else f"{host}:{port}"


def _decrypted(key: bytes, password: str) -> bytes:
    """A key in PEM without its password, which gRPC does not take."""
    from cryptography.hazmat.primitives import serialization as pem

    opened = pem.load_pem_private_key(key, password.encode())
    return opened.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
