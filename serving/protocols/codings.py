"""Content codings (RFC 9110, 8.4): bodies of requests in gzip and deflate, replies in gzip.

A body is expanded step by step, and no further than its limit. Both directions are for a thread: a body
of the usual limit takes 50 ms.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Literal

import msgspec

from serving.errors import Problem, body_too_large
from serving.protocols.media import weight_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serving.protocols import Reply

ACCEPTED = b"gzip, deflate, identity"
"""The codings that a request may have."""
MAX_MEMBERS = 1000
"""Gzip members in one body: an empty member has 20 bytes, and takes as long to expand as a full one."""
LEVEL = 1
"""The gzip level of replies: level 6 makes JSON a fifth smaller and takes three times as long."""

_STEP = 16 * 1024  # bytes that are expanded at once
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's `wbits`
_VARY = (b"vary", b"Accept-Encoding")

Wish = Literal["no", "may", "must"]


# ---- in


def coding_of(value: bytes, before: bytes = b"") -> bytes:
    """The coding that a `Content-Encoding` names: `gzip`, `deflate`, or "" for none.

    Parameters
    ----------
    before
        The coding of an earlier header; two codings are not supported.

    Raises
    ------
    Problem
        415, with what is accepted.
    """
    coding = value.strip().lower().removeprefix(b"x-")  # x-gzip is gzip (RFC 9110, 8.4.1.3)
    if coding in (b"identity", b""):
        return before
    if coding not in (b"gzip", b"deflate") or before:
        shown = b", ".join(filter(None, (before, value)))[:40].decode("latin-1")
        raise Problem(
            415,
            f"Content-Encoding {shown!r} is not supported; expected one of {ACCEPTED.decode()}.",
            headers=((b"accept-encoding", ACCEPTED),),
            reason="bad_content_encoding",
        )
    return coding


def expanded(body: bytes, coding: bytes, limit: int, setting: str = "MAX_BODY_BYTES") -> bytes:
    """The body without its coding.

    Parameters
    ----------
    coding
        The result of `coding_of`; "" leaves the body as it is.
    setting
        The name of the setting that holds `limit`.

    Raises
    ------
    Problem
        413 as soon as it expands beyond the limit; 400 for data that is damaged or cut short, with the place.
    """
    if not coding:
        return body
    wbits = _GZIP if coding == b"gzip" else _deflate(body)
    parts: list[bytes] = []
    at = 0
    for _ in range(MAX_MEMBERS):
        room = limit - sum(map(len, parts))
        part, at = _member(body, at, wbits, room)
        if part is None:
            raise body_too_large(limit, setting)
        parts.append(part)
        if not body[at : at + _STEP].strip(b"\0") and not body[at:].strip(b"\0"):  # gzip may be padded
            return b"".join(parts)
        if coding != b"gzip" or not body.startswith(b"\x1f\x8b", at):
            raise _damaged(coding, f"followed by other bytes from byte {at} on")
    raise Problem(413, f"The gzip body has more than {MAX_MEMBERS} members.", reason="body_too_large")


def _member(body: bytes, at: int, wbits: int, room: int) -> tuple[bytes | None, int]:
    """One member of gzip, or all of deflate, and where it ends; None if it is larger than `room`."""
    coding = b"gzip" if wbits == _GZIP else b"deflate"
    parts: list[bytes] = []
    inflate = zlib.decompressobj(wbits)
    while at < len(body):
        step = body[at : at + _STEP]
        before = inflate.copy()
        try:
            part = inflate.decompress(step, room + 1)  # 0 would be without a limit
        except zlib.error as error:
            place = at + _bad_byte(before, step, room + 1)
            raise _damaged(coding, f"damaged at byte {place} ({_reason(error)})") from None
        room -= len(part)
        if room < 0:
            return None, at
        parts.append(part)
        at += len(step) - len(inflate.unused_data)
        if inflate.eof:
            return b"".join(parts), at
    raise _damaged(coding, f"cut short: it ends at byte {len(body)}, before the end of its data")


def _deflate(body: bytes) -> int:
    """`deflate` is zlib's format (RFC 9110, 8.4.1.2); some clients send the raw data without its header."""
    zlib_header = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _ZLIB if zlib_header else _RAW


def _bad_byte(before: zlib._Decompress, step: bytes, room: int) -> int:
    """The index of the first byte of a step with which it cannot be expanded."""
    good, bad = 0, len(step)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            before.copy().decompress(step[:middle], room)
        except zlib.error:
            bad = middle
        else:
            good = middle
    return good


def _reason(error: zlib.error) -> str:
    return str(error).rpartition(": ")[2]


def _damaged(coding: bytes, how: str) -> Problem:
    return Problem(400, f"The {coding.decode()} body is {how}.", reason="bad_content_encoding")


# ---- out


def gzip_wish(headers: Iterable[tuple[bytes, bytes]]) -> Wish:
    """Whether the client accepts gzip; `must` if it accepts no other coding (RFC 9110, 12.5.3)."""
    accepted = b",".join(value for name, value in headers if name == b"accept-encoding").lower()
    if b"gzip" not in accepted and b"*" not in accepted:
        return "no"
    weights: dict[bytes, float] = {}
    for part in accepted.split(b","):
        coding, *parameters = (piece.strip() for piece in part.split(b";"))
        weights[coding.removeprefix(b"x-")] = weight_of(parameters)
    others = weights.get(b"*", 0.0)
    gzip, identity = weights.get(b"gzip", others), weights.get(b"identity")
    if gzip == 0 or gzip < (identity or 0):
        return "no"
    return "must" if identity == 0 or (identity is None and weights.get(b"*") == 0) else "may"


def negotiated(reply: Reply, headers: Iterable[tuple[bytes, bytes]], least: float) -> tuple[Reply, bool]:
    """The reply, with `Vary` if it depends on `Accept-Encoding`; and whether to compress it.

    Parameters
    ----------
    headers
        Of the request.
    least
        The size in bytes from which a reply is compressed for a client that accepts it plain too.
    """
    size = len(reply.body)
    wish = gzip_wish(headers) if size else "no"
    if not size or (size < least and wish != "must"):
        return reply, False
    return msgspec.structs.replace(reply, headers=(*reply.headers, _VARY)), wish != "no"


def compressed(reply: Reply) -> Reply:
    """The reply in gzip; that of a page that is kept is made once."""
    if not reply.gzip:
        body = zlib.compress(reply.body, LEVEL, _GZIP)
        if reply.gzip is not None:
            reply.gzip.append(body)
    else:
        body = reply.gzip[0]
    return msgspec.structs.replace(reply, body=body, headers=(*reply.headers, (b"content-encoding", b"gzip")))
