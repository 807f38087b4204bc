"""The client certificate of a call: gRPC has verified it and hands it over in PEM."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from serving.access.certificate import Certificate, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PEM = "x509_pem_cert"


def certificate_of(peer: Mapping[str, Any]) -> Certificate | None:
    """The certificate in what `ServicerContext.auth_context` gives; None without one."""
    found = peer.get(PEM)
    return _read(bytes(found[0])) if found else None


@lru_cache(1_024)
def _read(pem: bytes) -> Certificate:
    from cryptography import x509

    found = x509.load_pem_x509_certificate(pem)
    return Certificate(tuple(dict.fromkeys(_names(found))), found.not_valid_after_utc.timestamp())


def _names(found: Any) -> Iterator[str]:
    """The names as `serving.access.certificate` has them, in the same order."""
    from cryptography import x509

    kinds = {x509.DNSName: "DNS", x509.UniformResourceIdentifier: "URI", x509.RFC822Name: "email"}
    try:
        others = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        others = ()
    for other in others:
        if type(other) in kinds:
            yield name_of(f"{kinds[type(other)]}:{other.value}")
    for attribute in found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        yield f"CN:{attribute.value}"
