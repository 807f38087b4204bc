"""Add, list and revoke keys of a server. A key is printed once, when it is made; the file has its hash.

A client certificate has an entry like a key, with a name of the certificate instead of the hash.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serving.access import keys
from serving.access.certificate import name_of
from serving.access.keys import VARIABLE, Key, KeysError
from serving.access.rights import RIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from serving.access.rights import Role

_SPAN = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def file_of(given: Path | None) -> Path:
    """The file of keys: the given one, else that of `OKAMOCHI_KEYS`.

    Raises
    ------
    KeysError
        Neither is there.
    """
    if given is not None:
        return given
    found = os.environ.get("OKAMOCHI_KEYS", "").strip()
    if not found:
        raise KeysError(f"No file of keys: set {VARIABLE} to its path, or give --file.")
    return Path(found)


def add(
    path: Path,
    name: str,
    roles: Sequence[str],
    *,
    certificate: str = "",
    models: Sequence[str] = (),
    rate: str = "",
    digits: int = 0,
    expires: str = "",
) -> tuple[str, Key]:
    """Make a key, or an entry for a client certificate; give the key and its entry.

    It is added to the file, which is created if it does not exist.

    Raises
    ------
    KeysError
        Nothing was written.
    """
    ends = until(expires, datetime.now(UTC))
    secret, key = keys.make(
        name,
        _roles(roles),
        certificate=certificate,
        models=models,
        rate=rate,
        digits=digits,
        expires=ends,
    )
    with _alone(path):
        there = keys.read(path) if path.exists() else ()
        for other in there:
            if certificate and name_of(other.certificate) == name_of(certificate) and other.revoked is None:
                raise KeysError(f"{path} has {certificate} as {other.id} of {other.name}; revoke it first.")
        keys.write(path, [*there, key])
    return secret, key


def revoke(path: Path, name: str) -> list[Key]:
    """Mark the keys of this name, or the one of this id, as revoked; returns them.

    Raises
    ------
    KeysError
        Nothing was written.
    """
    with _alone(path):
        there = keys.read(path)
        now = datetime.now(UTC).replace(microsecond=0)
        found = [
            msgspec.structs.replace(key, revoked=now)
            for key in there
            if name in (key.name, key.id) and key.revoked is None
        ]
        if not found:
            known = ", ".join(sorted({key.name for key in there if key.revoked is None})) or "none"
            raise KeysError(f"{path} has no valid key of {name!r}; it has keys of: {known}.")
        by_id = {key.id: key for key in found}
        keys.write(path, [by_id.get(key.id, key) for key in there])
    return found


def table(path: Path) -> Iterator[str]:
    """The keys of the file, one on a line.

    Raises
    ------
    KeysError
    """
    now = datetime.now(UTC)
    rows = [("id", "name", "roles", "models", "rate", "digits", "expires", "state", "shown by")]
    for key in keys.read(path):
        models = ",".join(key.models) or "all"
        ends = f"{key.expires:%Y-%m-%d %H:%M}Z" if key.expires is not None else "never"
        by = key.certificate or "a key"
        roles = ",".join(key.roles)
        limits = (key.rate or "-", str(key.digits or "-"), ends)
        rows.append((key.id, key.name, roles, models, *limits, key.state(now), by))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def told(key: Key, path: Path) -> str:
    """What a person should know of a new key."""
    ends = f"until {key.expires:%Y-%m-%d %H:%M} UTC" if key.expires is not None else "without an end"
    if key.certificate:
        return (
            f"Clients with a certificate of {key.certificate} are {key.name} ({key.id}), {ends}. The server "
            "asks for one with `--ssl-ca-certs FILE --ssl-cert-reqs 2` (1: without one, a key counts)."
        )
    return (
        f"This key of {key.name} is shown once; {path} has its hash as {key.id}. It is valid {ends}. "
        "A client sends it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
    )


def until(text: str, now: datetime) -> datetime | None:
    """When a key ends: after a span (`90d`) or at the end of a day (`2027-06-30`, UTC); "": never.

    Raises
    ------
    KeysError
    """
    if not text:
        return None
    span = _SPAN.fullmatch(text)
    try:
        if span is not None:
            found = now + timedelta(**{_UNITS[span[2]]: int(span[1])})
        else:
            found = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise KeysError(
            f"--expires: found {text[:40]!r}, expected 30m, 12h, 90d, 8w or 2027-06-30."
        ) from None
    if found <= now:
        raise KeysError(f"--expires: {text} is over; expected a time to come.")
    return found.replace(microsecond=0)


def _roles(roles: Sequence[str]) -> list[Role]:
    found: list[Role] = [role for role in RIGHTS if role in roles]
    wrong = [role for role in roles if role not in RIGHTS]
    if wrong or not found:
        raise KeysError(f"--role: found {', '.join(wrong) or 'none'}, expected {', '.join(RIGHTS)}.")
    return found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold off other writers of the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("a")
    except OSError as error:
        raise KeysError(f"{path} cannot be written ({error.strerror}).") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
