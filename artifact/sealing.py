"""Encryption of the prediction log: the keys file, and cells that only its keys open.

Of a row, columns, prediction and scores are sealed by AES-256-GCM, of feedback the actual value. Ids, times
and the names of models stay readable, so that rows are found and expire without a key. What was sealed for
one row does not open in another.

Each process derives a key of its own (HKDF-SHA256 with 16 random bytes) from the file's key, and counts. So
no nonce is used twice, however many servers share the file (NIST SP 800-38D: at most 2^32 random ones a key).
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import secrets
import struct
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from artifact import atomic
from artifact.key_lines import content_of, key_of, lines_of

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "OKAMOCHI_LOG_KEYS"
KEY_BYTES, SALT_BYTES = 32, 16
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_COUNT = struct.Struct(">Q")


class LogKeysError(Exception):
    """The keys file cannot be used; the message names it (exit code 2)."""

    exit_code = 2


class SealedError(Exception):
    """Something sealed cannot be opened; the message names the key."""


class UnknownKeyError(SealedError):
    """The key that sealed it is not in the file."""


class DamagedError(SealedError):
    """It was changed, or sealed with another key of the same id."""


class Keys(NamedTuple):
    """The keys by id, and the id of the one that seals."""

    current: str
    keys: dict[str, bytes]


class Sealed(msgspec.Struct, frozen=True):
    """What was sealed: the id of the key, and base64 of salt, count, ciphertext and tag."""

    key: str
    sealed: str


def read_keys(path: Path) -> Keys:
    """The keys of a file: a line for each, its id and base64 of its 32 bytes; the last one seals.

    Raises
    ------
    LogKeysError
        The message names the file and the line, and never a key.
    """
    keys: dict[str, bytes] = {}
    content = content_of(path, VARIABLE, LogKeysError)
    for place, words in lines_of(content, path, VARIABLE, LogKeysError):
        if len(words) != 2 or not _ID.fullmatch(words[0]):
            raise LogKeysError(
                f"{place} expected an id (letters, digits, . _ -) and a key, with a space between"
            )
        one, given = words
        key = key_of(given, KEY_BYTES)
        if key is None:
            raise LogKeysError(f"{place} the key {one!r} is not {KEY_BYTES} bytes in base64")
        if one in keys:
            raise LogKeysError(f"{place} the id {one!r} is there twice")
        keys[one] = key
    if not keys:
        raise LogKeysError(f"{VARIABLE}: {path} has no key; `python -m deploy log-key {path}` adds one")
    return Keys(next(reversed(keys)), keys)


def add_key(path: Path, one: str = "") -> str:
    """Add a new key, which seals from then on; give its id. A file that does not exist is created.

    Raises
    ------
    LogKeysError
        The file cannot be read or written, or has the id already.
    """
    old, had = "", dict[str, bytes]()
    if path.exists():
        had = read_keys(path).keys
        old = path.read_text("utf-8")
        old += "" if old.endswith("\n") else "\n"
    if not one:
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        one = next(
            name for n in itertools.count(1) if (name := today if n == 1 else f"{today}.{n}") not in had
        )
    if not _ID.fullmatch(one):
        raise LogKeysError(f"{one!r} is not an id: expected up to 64 letters, digits, dots, _ or -")
    if one in had:
        raise LogKeysError(f"{path} has a key {one!r} already; ids are never used again")
    line = f"{one} {base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n"
    try:
        atomic.write(path, (old + line).encode(), private=True)
    except OSError as error:
        raise LogKeysError(f"{path} cannot be written: {error.strerror}") from None
    return one


class Sealing:
    """The keys of a file, read again when it changes; a file that cannot be used changes nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._stamped()
        self._keys = read_keys(path)
        self._begin()

    def _begin(self) -> None:
        self._salt, self._count, self._process = os.urandom(SALT_BYTES), itertools.count(), os.getpid()

    def refresh(self) -> str:
        """Read the file again if it changed; why it could not be used, or ""."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return ""
        try:
            self._keys = read_keys(self._path)
        except LogKeysError as error:
            return f"{error}; the keys from before are used"
        self._stamp = stamp
        return ""

    def _stamped(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    def seal(self, content: bytes, about: str) -> Sealed:
        """Seal bytes for one place.

        Parameters
        ----------
        about
            What they belong to; they open only with the same text.
        """
        if self._process != os.getpid():
            self._begin()  # a forked process must not count on with the salt of its parent
        current, keys = self._keys
        count = _COUNT.pack(next(self._count))
        cipher = _cipher(keys[current], self._salt)
        sealed = cipher.encrypt(b"\0\0\0\0" + count, content, about.encode())
        return Sealed(current, base64.b64encode(self._salt + count + sealed).decode())

    def open(self, found: Sealed, about: str) -> bytes:
        """The bytes that were sealed.

        Raises
        ------
        UnknownKeyError, DamagedError
        """
        key = self._keys.keys.get(found.key)
        if key is None:
            self.refresh()
            key = self._keys.keys.get(found.key)
        if key is None:
            raise UnknownKeyError(
                f"the prediction log is encrypted with the key {found.key!r}, which {self._path} does not "
                "have"
            )
        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.b64decode(found.sealed, validate=True)
            salt, rest = raw[:SALT_BYTES], raw[SALT_BYTES:]
            nonce = b"\0\0\0\0" + rest[: _COUNT.size]
            return bytes(_cipher(key, salt).decrypt(nonce, rest[_COUNT.size :], about.encode()))
        except (InvalidTag, ValueError):  # binascii.Error is a ValueError, as is a nonce that is cut short
            raise DamagedError(
                f"a part of the prediction log does not open with the key {found.key!r} of {self._path}: it "
                "was changed, or encrypted with another key of that id"
            ) from None


@lru_cache(1_024)
def _cipher(key: bytes, salt: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, b"okamochi prediction log").derive(key))


# ---- rows and feedback


def about_row(one: str, row: int, model: str, version: str) -> str:
    """What a sealed row belongs to."""
    return f"row {one} {row} {model} {version}"


def about_feedback(one: str, row: int, model: str) -> str:
    """What a sealed actual value belongs to."""
    return f"feedback {one} {row} {model}"


def opened(said: dict[str, Any], sealing: Sealing | None) -> dict[str, Any]:
    """A decoded line of the log or of its feedback, plain or sealed, with all that it holds.

    Raises
    ------
    UnknownKeyError, DamagedError
    """
    if "sealed" not in said:
        return said
    found = Sealed(str(said.get("key")), str(said["sealed"]))
    if "version" in said:
        about = about_row(said["id"], said["row"], said["model"], said["version"])
    else:
        about = about_feedback(said["id"], said["row"], said["model"])
    content = _opener(sealing, found).open(found, about)
    return said | msgspec.json.decode(content, type=dict[str, Any])


def _opener(sealing: Sealing | None, found: Sealed) -> Sealing:
    if sealing is None:
        raise UnknownKeyError(
            f"the prediction log is encrypted with the key {found.key!r}; name the file with the servers' "
            f"keys by {VARIABLE}"
        )
    return sealing
