"""The client certificate of a connection as a credential: the names that its authority vouches for."""

from __future__ import annotations

import math
import re
import ssl
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME_RULE = re.compile(
    r"(?:CN|DNS|URI|email):[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,510}[^\s\x00-\x1f\x7f])?"
)
EXPECTED_NAME = "CN:, DNS:, URI: or email: and a name, such as DNS:shop.example.com"


class Certificate(msgspec.Struct, frozen=True, gc=False):
    """A verified client certificate.

    Parameters
    ----------
    names
        Of its subject (`CN:`) and its subject alternative names (`DNS:`, `URI:`, `email:`).
    ends
        When it expires, in seconds since 1970.
    """

    names: tuple[str, ...]
    ends: float = math.inf


def certificate_of(peer: Mapping[str, Any] | None) -> Certificate | None:
    """The certificate that a client has shown, from what `ssl.SSLSocket.getpeercert` gives.

    Python gives an empty mapping for an unverified certificate, which is not a credential.
    """
    if not peer:
        return None
    ends = peer.get("notAfter")
    names = tuple(dict.fromkeys(_names(peer)))
    return Certificate(names, ssl.cert_time_to_seconds(ends) if ends else math.inf)


def name_of(text: str) -> str:
    """A name in the form that is compared: DNS names and addresses in lower case."""
    kind, _, name = text.partition(":")
    return f"{kind}:{name.lower()}" if kind in ("DNS", "email") else text


def _names(peer: Mapping[str, Any]) -> Iterator[str]:
    for kind, name in peer.get("subjectAltName", ()):
        if kind in ("DNS", "URI", "email"):
            yield name_of(f"{kind}:{name}")
    for part in peer.get("subject", ()):
        for attribute, value in part:
            if attribute == "commonName":
                yield f"CN:{value}"
