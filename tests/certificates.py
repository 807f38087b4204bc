"""Certificates for tests: an authority and what it has issued, valid for an hour; clients that use them."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import Server


def issued(folder: Path, name: str, *, authority: str = "authority") -> tuple[Path, Path, Path]:
    """The certificate of an authority of `folder`, and one for a name or an address with its key."""
    ca_file, ca_key_file = folder / f"{authority}.pem", folder / f"{authority}.key"
    if not ca_file.exists():
        ca_key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"test {authority}")
        made = (
            _builder(subject, subject, ca_key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(ca_key, hashes.SHA256())
        )
        ca_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        ca_key_file.write_bytes(_pem(ca_key))
    ca = x509.load_pem_x509_certificate(ca_file.read_bytes())
    loaded = serialization.load_pem_private_key(ca_key_file.read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        other: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        other = x509.DNSName(name)
    certificate = (
        _builder(_name(name), ca.subject, key)
        .add_extension(x509.SubjectAlternativeName([other]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(loaded.public_key()), critical=False
        )
        .sign(loaded, hashes.SHA256())
    )
    file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(_pem(key))
    return ca_file, file, key_file


def context(authority: Path, *own: Path) -> ssl.SSLContext:
    """A client that trusts an authority, and shows a certificate if it is given with its key."""
    found = ssl.create_default_context(cafile=str(authority))
    if own:
        found.load_cert_chain(*own)
    return found


def answers_to(client: ssl.SSLContext) -> Callable[[Server, str, float], None]:
    """A wait for a server to start that knows TLS, in place of `tests.servers._await`."""

    def wait(server: Server, ready: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                assert httpx.get(server.url + ready, verify=client).status_code == 200
            except httpx.TransportError:
                assert server.process.poll() is None, server.log.read_text()
                time.sleep(0.1)
            else:
                return

    return wait


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
