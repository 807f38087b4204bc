"""The fields of a call, checked by the rules of HTTP/2 and gRPC; remembered, since clients repeat them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serving.errors import Problem
from serving.http.head import length_of, read_head, request_id_of
from serving.protocols import Head
from serving.protocols.oip.request import HEADER_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serving.grpc.header_block import Field

MAX_HEADINGS = 512
MAX_REMEMBERED_BYTES = 4_096
TIMEOUT = b"grpc-timeout"
MEDIA = b"application/grpc"

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED = (b":method", b":scheme", b":path")
_OF_A_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_NAME_ENDS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ\x00\r\n :")


class MalformedError(ValueError):
    """Fields that HTTP/2 does not allow."""


class Heading(msgspec.Struct, frozen=True):
    """What the fields of a call say.

    Parameters
    ----------
    head
        The metadata, as the protocols of HTTP read it.
    coding
        Of compressed messages; "identity" or "" where there is none.
    problem
        The reason why the metadata is refused.
    refused
        The HTTP status of a request that is not a call of gRPC; 0 for a call.
    length
        Content-Length, if it was sent.
    is_head
        Whether the method is HEAD, whose reply has no body.
    """

    path: bytes
    head: Head
    coding: bytes = b""
    problem: Problem | None = None
    refused: int = 0
    length: int | None = None
    is_head: bool = False


class Headings:
    """The headings that a worker has read."""

    def __init__(self) -> None:
        self._known: dict[tuple[Field, ...], Heading] = {}

    def read(self, fields: list[Field]) -> tuple[Heading, float | None]:
        """The heading, and the seconds that the client waits, if it says so.

        Raises
        ------
        MalformedError
            HTTP/2 does not allow these fields.
        """
        timeout: float | None = None
        key = tuple(fields)
        for i, field in enumerate(fields):
            if field[0] == TIMEOUT:
                timeout = timeout_of(field[1])
                key = (*key[:i], *key[i + 1 :])
                if key[i:] and key[i][0][:1] == b":":
                    raise MalformedError
                break
        heading = self._known.get(key)
        if heading is None:
            heading = heading_of(key)
            if heading.head.request_id is None and heading.head.trace is None:
                self._remember(key, heading)
        return heading, timeout

    def _remember(self, key: tuple[Field, ...], heading: Heading) -> None:
        if sum(len(name) + len(value) for name, value in key) > MAX_REMEMBERED_BYTES:
            return
        if len(self._known) >= MAX_HEADINGS:
            self._known.clear()
        self._known[key] = heading


def heading_of(fields: Iterable[Field]) -> Heading:  # noqa: C901, PLR0912 - one field a branch
    """The heading of a call.

    Raises
    ------
    MalformedError
        HTTP/2 does not allow these fields.
    """
    pseudo: dict[bytes, bytes] = {}
    metadata: list[Field] = []
    length: int | None = None
    content_type = coding = b""
    for name, value in fields:
        if name[:1] == b":":
            if metadata or name in pseudo or name not in _PSEUDO:
                raise MalformedError
            pseudo[name] = value
            continue
        check_field(name, value)
        if name == TIMEOUT:
            raise MalformedError  # a second one
        if name == b"content-length":
            found = length_of(value)
            if found is None or length not in (None, found):
                raise MalformedError
            length = found
        elif name == b"content-type":
            content_type = value
        elif name == b"grpc-encoding":
            coding = value
        if name != HEADER_LENGTH:
            metadata.append((name, value))
    if any(not pseudo.get(name) for name in _REQUIRED):
        raise MalformedError
    path, refused = pseudo[b":path"], 0
    if not _is_grpc(content_type):
        refused = 415
    elif pseudo[b":method"] != b"POST":
        refused = 405
    problem = None
    head = Head(headers=tuple(metadata))
    try:
        head = read_head(metadata, None)
    except Problem as found:
        problem, head = found, Head(headers=head.headers, request_id=request_id_of(metadata))
    is_head = pseudo[b":method"] == b"HEAD"
    return Heading(path, head, coding, problem, refused, length, is_head)


def check_field(name: bytes, value: bytes) -> None:
    """Refuse a field that no request may have.

    Raises
    ------
    MalformedError
        It is one.
    """
    if (
        not name
        or not _NAME_ENDS.isdisjoint(name)
        or name in _OF_A_CONNECTION
        or (name == b"te" and value != b"trailers")
        or b"\n" in value
        or b"\r" in value
        or b"\0" in value
    ):
        raise MalformedError


def _is_grpc(media: bytes) -> bool:
    rest = media[len(MEDIA) :]
    return media.startswith(MEDIA) and (not rest or rest[:1] == b";" or rest == b"+proto")


def timeout_of(value: bytes) -> float:
    """The value of `grpc-timeout` in seconds.

    Raises
    ------
    MalformedError
        It is not a number of up to eight digits and a unit.
    """
    digits, unit = value[:-1], _UNITS.get(value[-1:])
    if unit is None or not digits.isdigit() or len(digits) > 8:
        raise MalformedError
    return int(digits) * unit
