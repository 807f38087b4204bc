"""The file of keys: which keys there are, what each may do, and until when. It holds no key, only hashes.

A key has 256 random bits, so one round of SHA-256 hides it: there is nothing to guess, and checking it costs
a microsecond (docs/decisions/0029).
"""

from __future__ import annotations

import codecs
import hashlib
import hmac
import math
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec

from artifact import atomic
from artifact.models_lock import NAME_RULE
from artifact.regular import read_regular
from serving.access import certificate as certificates
from serving.access.rates import per_second
from serving.access.rights import RIGHTS, Role

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from serving.access.certificate import Certificate

VARIABLE = "OKAMOCHI_KEYS"
PREFIX = "okamochi"
"""Every key begins with it, so that scanners for secrets recognise one."""
MAX_BYTES = 16 * 1024 * 1024
MAX_DIGITS = 15
OWNER_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
"""Names of keys; they are logged."""
EXPECTED_NAME = "1 to 64 letters, digits and . _ @ -, the first a letter or a digit"

_ID = re.compile(r"[0-9a-f]{8}")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class KeysError(Exception):
    """The file of keys cannot be used: where, what was found and what was expected (exit code 2)."""

    exit_code = 2


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key as the file has it.

    Parameters
    ----------
    id
        Eight hexadecimal digits, which the key itself has too, so that a person can find it here.
    name
        Whose key it is.
    hash
        `sha256:` and the digest of the whole key.
    certificate
        Instead of a hash, a name of the client certificate that stands for the key, such as
        `DNS:shop.example.com`.
    models
        The models that it is for; none: all.
    rate
        Such as `100/s`; "": no limit.
    digits
        Digits that probabilities are rounded to for its callers; 0: as the server's setting says.
    """

    id: str
    name: str
    hash: str = ""
    certificate: str = ""
    roles: tuple[Role, ...]
    models: tuple[str, ...] = ()
    rate: str = ""
    digits: int = 0
    created: _Time | None = None
    expires: _Time | None = None
    revoked: _Time | None = None

    @property
    def expires_at(self) -> float:
        """In seconds since 1970."""
        return math.inf if self.expires is None else self.expires.timestamp()

    @property
    def rights(self) -> frozenset[str]:
        """Of `rights.RIGHTS`."""
        return frozenset(RIGHTS if "admin" in self.roles else self.roles)

    def state(self, now: datetime) -> str:
        """`valid`, `expired` or `revoked`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires_at <= now.timestamp() else "valid"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: tuple[Key, ...]


class Keys:
    """The keys of one state of the file."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.all = tuple(keys)
        self._by_digest = {bytes.fromhex(key.hash.partition(":")[2]): key for key in self.all if key.hash}

    def find(self, secret: bytes) -> Key | None:
        """The key with this secret, be it valid or not.

        The look-up is by a digest that nobody can steer, so its time tells nothing about a key that is half
        right.
        """
        digest = digest_of(secret)
        key = self._by_digest.get(digest)
        found = key.hash if key is not None else ""
        return key if hmac.compare_digest(found, f"sha256:{digest.hex()}") else None

    def of_certificate(self, certificate: Certificate) -> list[Key]:
        """The entries, valid or not, that have one of the certificate's names."""
        names = set(certificate.names)
        return [key for key in self.all if key.certificate and certificates.name_of(key.certificate) in names]


def digest_of(secret: bytes) -> bytes:
    """The digest that the file keeps."""
    return hashlib.sha256(secret).digest()


def make(
    name: str,
    roles: Iterable[Role],
    *,
    certificate: str = "",
    models: Iterable[str] = (),
    rate: str = "",
    digits: int = 0,
    expires: datetime | None = None,
) -> tuple[str, Key]:
    """A new key and its entry; a certificate's entry has no key, so the key is "".

    Raises
    ------
    KeysError
        The name, a model's name or the rate is not valid.
    """
    key_id = secrets.token_hex(4)
    secret = "" if certificate else f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    key = Key(
        id=key_id,
        name=name,
        hash=f"sha256:{digest_of(secret.encode()).hex()}" if secret else "",
        certificate=certificate,
        roles=tuple(dict.fromkeys(roles)),
        models=tuple(dict.fromkeys(models)),
        rate=rate,
        digits=digits,
        created=datetime.now(UTC).replace(microsecond=0),
        expires=expires,
    )
    wrong = _wrong(key)
    if wrong:
        raise KeysError(wrong)
    return secret, key


def read_bytes(path: Path) -> bytes:
    """The content of the file.

    Raises
    ------
    KeysError
    """
    try:
        content = read_regular(path, MAX_BYTES + 1)
    except OSError as error:
        raise KeysError(
            f"{VARIABLE}: {path} cannot be read ({error.strerror}). "
            "`python -m deploy keys add NAME --role predict` makes it."
        ) from None
    if len(content) > MAX_BYTES:
        raise KeysError(f"{VARIABLE}: {path} is larger than {MAX_BYTES} bytes.")
    return content


def parse(content: bytes, path: Path) -> tuple[Key, ...]:
    """The keys of a file's content.

    Raises
    ------
    KeysError
    """
    try:
        # Editors on Windows begin a file with a byte order mark.
        keys = msgspec.json.decode(content.removeprefix(codecs.BOM_UTF8), type=_File).keys
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysError(
            f"{VARIABLE}: {path} is not a file of keys: {error}. "
            "Expected what `python -m deploy keys add` writes."
        ) from None
    seen: set[str] = set()
    for number, key in enumerate(keys, 1):
        wrong = _wrong(key)
        if not wrong and (key.id in seen or key.hash in seen):
            wrong = f"the id {key.id} or its hash stands twice"
        holds = certificates.name_of(key.certificate) if key.revoked is None else ""
        if not wrong and holds in seen:
            wrong = f"the certificate {key.certificate} stands twice and neither entry is revoked"
        if wrong:
            raise KeysError(f"{VARIABLE}: {path}, key {number}: {wrong}.")
        seen |= {key.id, key.hash, holds} - {""}
    return keys


def read(path: Path) -> tuple[Key, ...]:
    """The keys of a file.

    Raises
    ------
    KeysError
    """
    return parse(read_bytes(path), path)


def write(path: Path, keys: Iterable[Key]) -> None:
    """Write the file so that a reader finds the old or the new one, whole.

    Raises
    ------
    KeysError
    """
    content = msgspec.json.format(msgspec.json.encode(_File(tuple(keys))), indent=2) + b"\n"
    try:
        atomic.write(path, content, private=True)
    except OSError as error:
        raise KeysError(f"{VARIABLE}: {path} cannot be written ({error.strerror}).") from None


def _wrong(key: Key) -> str:
    """What is wrong with an entry; "" for a right one."""
    if not _ID.fullmatch(key.id):
        return f"the id {key.id[:40]!r}, expected eight hexadecimal digits"
    if not OWNER_RULE.fullmatch(key.name):
        return f"the name {key.name[:80]!r}, expected {EXPECTED_NAME}"
    if wrong := _wrong_proof(key):
        return wrong
    if not 0 <= key.digits <= MAX_DIGITS:
        return f"the digits {key.digits}, expected 1 to {MAX_DIGITS}, or 0 for none"
    if not key.roles:
        return f"no role, expected at least one of {', '.join(RIGHTS)}"
    for model in key.models:
        if not NAME_RULE.fullmatch(model):
            return f"the model {model[:80]!r}, expected lower-case letters, digits and _"
    try:
        if key.rate:
            per_second(key.rate)
    except ValueError as error:
        return f"the rate: {error}"
    return ""


def _wrong_proof(key: Key) -> str:
    """What is wrong with the hash or the certificate of an entry."""
    if bool(key.hash) == bool(key.certificate):
        return "expected either a hash or a certificate"
    if key.certificate and not certificates.NAME_RULE.fullmatch(key.certificate):
        return f"the certificate {key.certificate[:80]!r}, expected {certificates.EXPECTED_NAME}"
    if key.hash and not _HASH.fullmatch(key.hash):
        return "the hash is not `sha256:` and 64 hexadecimal digits"  # it may be a key, so it is not shown
    return ""
