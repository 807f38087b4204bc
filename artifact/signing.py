"""Signatures of artifacts: Ed25519 over the digest of the manifest, which has the digests of all other files.

Training signs a version when it becomes champion, with the key that `OKAMOCHI_SIGNING_KEY` names, and keeps
the signature as a tag of the version; bundling puts it beside the artifact. A server that has trusted keys
(`OKAMOCHI_TRUSTED_KEYS`) opens no artifact without the signature of one of them.
"""

from __future__ import annotations

import base64
import codecs
import os
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from artifact.key_lines import content_of, key_of, lines_of
from artifact.manifest import MANIFEST, ArtifactError, digest
from artifact.regular import read_regular

SIGNED = "signed.json"
"""The file with the signature, beside the folder of a stored artifact."""
SIGNING_VARIABLE, DAYS_VARIABLE = "OKAMOCHI_SIGNING_KEY", "OKAMOCHI_SIGNATURE_DAYS"
TRUSTED_VARIABLE = "OKAMOCHI_TRUSTED_KEYS"
PUBLIC_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_PURPOSE = b"okamochi artifact 1\n"  # so that a signature of other data is never one of an artifact


class SigningKeyError(Exception):
    """A file of keys cannot be used; the message names it (exit code 2)."""

    exit_code = 2


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed.

    Parameters
    ----------
    manifest_sha256
        SHA-256 of manifest.json, which has those of all other files.
    signer
        The name of the key.
    at, expires
        When it was signed, and until when it holds ("": for ever), in ISO 8601, UTC.
    """

    name: str
    version: str
    manifest_sha256: str
    signer: str
    at: str
    expires: str = ""


class Signature(msgspec.Struct, frozen=True):
    """A statement, the very text that was signed, and its signature in base64."""

    statement: str
    signature: str


class Trusted(NamedTuple):
    """A key that a server trusts, until the end of a day (None: always)."""

    public: bytes
    until: date | None


# ---- keys


def make_key(path: Path, name: str) -> str:
    """Write a new private key to `path` (PEM, mode 0600); give its line for a file of trusted keys.

    Raises
    ------
    SigningKeyError
        The file exists or cannot be written, or the name is not valid.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not _NAME.fullmatch(name):
        raise SigningKeyError(
            f"{name!r} is not the name of a key: expected up to 64 letters, digits and . _ @ -, the first a "
            "letter or a digit"
        )
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(f"name: {name}\n".encode() + pem)
    except FileExistsError:
        raise SigningKeyError(f"{path} exists already; a key is never overwritten") from None
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be written: {error.strerror}") from None
    return f"{name} {base64.b64encode(_public(key)).decode()}"


def _public(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return bytes(key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def _signing_key(path: Path) -> tuple[str, Any]:
    """The name of a private key, and the key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        head, _, pem = read_regular(path).removeprefix(codecs.BOM_UTF8).partition(b"\n")
    except OSError as error:
        raise SigningKeyError(f"{SIGNING_VARIABLE}: {path} cannot be read: {error.strerror}") from None
    name = head.removeprefix(b"name: ").decode("utf-8", "replace").strip()
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey) or not _NAME.fullmatch(name):
        raise SigningKeyError(
            f"{SIGNING_VARIABLE}: {path} is not a signing key; `python -m deploy signing-key FILE --name "
            "NAME` makes one"
        )
    return name, key


def trusted_content(path: Path) -> bytes:
    """The content of a file of trusted keys.

    Raises
    ------
    SigningKeyError
    """
    return content_of(path, TRUSTED_VARIABLE, SigningKeyError)


def read_trusted(path: Path) -> dict[str, Trusted]:
    """The keys of a file.

    Raises
    ------
    SigningKeyError
    """
    return parse_trusted(trusted_content(path), path)


def parse_trusted(content: bytes, path: Path) -> dict[str, Trusted]:
    """The keys of a file's content: a line is a name, a public key in base64 and perhaps its last day.

    Raises
    ------
    SigningKeyError
        The message names the file and the line.
    """
    keys: dict[str, Trusted] = {}
    for place, words in lines_of(content, path, TRUSTED_VARIABLE, SigningKeyError):
        if len(words) not in (2, 3) or not _NAME.fullmatch(words[0]):
            raise SigningKeyError(f"{place} expected a name, a public key and, if it has one, its last day")
        if words[0] in keys:
            raise SigningKeyError(f"{place} the name {words[0]!r} is there twice")
        public = key_of(words[1], PUBLIC_BYTES)
        if public is None:
            raise SigningKeyError(
                f"{place} the key of {words[0]!r} is not {PUBLIC_BYTES} bytes in base64; expected the line "
                "that `python -m deploy signing-key` printed"
            )
        keys[words[0]] = Trusted(public, _day(words[2], place) if len(words) == 3 else None)
    if not keys:
        raise SigningKeyError(f"{TRUSTED_VARIABLE}: {path} has no key, so no model could be served")
    return keys


def _day(text: str, place: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SigningKeyError(f"{place} {text!r} is not a day; expected one such as 2027-01-31") from None


# ---- signing


def configured() -> bool:
    """Whether this process signs what it promotes."""
    return bool(os.environ.get("OKAMOCHI_SIGNING_KEY", "").strip())


def sign(directory: Path, *, name: str, version: str) -> str:
    """The signature of a verified artifact, by the key that the environment names, as JSON.

    Raises
    ------
    SigningKeyError
        The key, or the number of days, cannot be used.
    """
    signer, key = _signing_key(Path(os.environ.get("OKAMOCHI_SIGNING_KEY", "").strip()).expanduser())
    now = datetime.now(UTC)
    days = _days()
    statement = Statement(
        name=name,
        version=version,
        manifest_sha256=digest(directory / MANIFEST),
        signer=signer,
        at=now.isoformat(timespec="seconds"),
        expires=(now + timedelta(days=days)).isoformat(timespec="seconds") if days else "",
    )
    text = msgspec.json.encode(statement)
    signature = base64.b64encode(key.sign(_PURPOSE + text)).decode()
    return msgspec.json.encode(Signature(text.decode(), signature)).decode()


def _days() -> float:
    text = os.environ.get("OKAMOCHI_SIGNATURE_DAYS", "").strip() or "0"
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not 0 <= days <= 36_500:
        raise SigningKeyError(f"{DAYS_VARIABLE}={text!r}: expected a number of days from 0 to 36500")
    return days


def statement_of(text: str) -> Statement | None:
    """What a signature says, unchecked; None where it is not one."""
    try:
        return msgspec.json.decode(msgspec.json.decode(text, type=Signature).statement, type=Statement)
    except (msgspec.MsgspecError, UnicodeError):
        return None


# ---- checking


def trusted_file() -> Path | None:
    """The file of trusted keys that the environment names; None: unsigned models are opened as well."""
    named = os.environ.get("OKAMOCHI_TRUSTED_KEYS", "").strip()
    return Path(named).expanduser() if named else None


def check(
    directory: Path, *, name: str, version: str, trusted: Path, now: datetime | None = None
) -> Statement:
    """The statement of a stored artifact's signature, which a trusted key has made of this very artifact.

    Parameters
    ----------
    directory
        The folder of the artifact; the signature is beside it.
    version
        "" if only the signature states the version.
    trusted
        The file of trusted keys; it is read each time, so a change needs no restart.

    Raises
    ------
    ArtifactError
        It is not signed, or not by a trusted key, or the signature has expired or is of another artifact.
    """
    return check_text(
        _beside(directory),
        directory,
        name=name,
        version=version,
        trusted=trusted,
        now=now or datetime.now(UTC),
    )


def check_text(
    text: str | None, directory: Path, *, name: str, version: str, trusted: Path, now: datetime
) -> Statement:
    """As `check`, with the text of the signature, or None for an unsigned artifact."""
    try:
        keys = read_trusted(trusted)
    except SigningKeyError as error:
        raise ArtifactError(str(error)) from None
    said = _by_trusted(text, directory, name=name, version=version, keys=keys, today=now.date())
    if said.expires and now >= datetime.fromisoformat(said.expires):
        raise ArtifactError(
            f"the signature of {_called(name, version)} by {said.signer!r} expired at {said.expires}: sign "
            f"it again by `python -m deploy sign {name}` and bundle it again"
        )
    return said


def distrusted(directory: Path, *, name: str, version: str, keys: dict[str, Trusted]) -> str:
    """Why an open artifact has no signature by these keys; "" if it has one.

    An expired signature is accepted: a live model stays until its key is removed.
    """
    try:
        text = _beside(directory)
        _by_trusted(text, directory, name=name, version=version, keys=keys, today=datetime.now(UTC).date())
    except (ArtifactError, OSError) as error:
        return str(error)
    return ""


def _beside(directory: Path) -> str | None:
    """The text of the signature beside an artifact's folder; None for an unsigned artifact."""
    path = directory.parent / SIGNED
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None


def _called(name: str, version: str) -> str:
    return f"version {version} of {name}" if version else name


def _by_trusted(
    text: str | None, directory: Path, *, name: str, version: str, keys: dict[str, Trusted], today: date
) -> Statement:
    """As `check`, but an expired signature is accepted."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    what = _called(name, version)
    if text is None:
        raise ArtifactError(
            f"{what} is not signed, and with {TRUSTED_VARIABLE} only signed models are served: sign it by "
            f"`python -m deploy sign {name}` and bundle it again"
        )
    said = statement_of(text)
    if said is None:
        raise ArtifactError(f"the signature of {what} is damaged: it cannot be read")
    key = keys.get(said.signer)
    if key is None:
        raise ArtifactError(
            f"{what} is signed by {said.signer!r}, "
            f"which is not among the keys that {TRUSTED_VARIABLE} names: {', '.join(keys)}"
        )
    found = msgspec.json.decode(text, type=Signature)
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(
            base64.b64decode(found.signature), _PURPOSE + found.statement.encode()
        )
    except (InvalidSignature, ValueError):
        raise ArtifactError(
            f"the signature of {what} was not made by the key of {said.signer!r} that is trusted here"
        ) from None
    own = digest(directory / MANIFEST)
    if (said.name, said.version, said.manifest_sha256) != (name, version or said.version, own):
        raise ArtifactError(
            f"the signature by {said.signer!r} is of other files: it says version {said.version} of "
            f"{said.name}, {said.manifest_sha256[:12]}..., and this is {what}, {own[:12]}..."
        )
    if key.until is not None and today > key.until:
        raise ArtifactError(
            f"{what} is signed by {said.signer!r}, whose key is trusted until {key.until} only: sign it with "
            "another key and bundle it again"
        )
    return said
