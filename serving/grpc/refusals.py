"""A problem as gRPC says it: a code, the text, and details that a program can read."""

from __future__ import annotations

import binascii
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from serving.grpc.schema import BadRequest, RetryInfo, Status
from serving.protocols.oip import OpenInference

if TYPE_CHECKING:
    from serving.errors import Problem
    from serving.grpc.header_block import Field
    from serving.protocols import Reply


class Code(IntEnum):
    """The codes of gRPC that are used here."""

    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    413: Code.INVALID_ARGUMENT,  # too many rows; a message that is too large is refused before it is whole
    415: Code.INVALID_ARGUMENT,
    422: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
}
"""The code of each HTTP status."""
MAX_TEXT = 3_000
"""Characters of a refusal: a client takes 8 KB of metadata, with a text twice and percent-encoded."""
MAX_VIOLATIONS = 5
MAX_SHOWN = 200
DETAILS = b"grpc-status-details-bin"
TYPES = "type.googleapis.com/"

_decode = msgspec.json.decode


class Refusal(NamedTuple):
    """What `Stream.end` takes."""

    code: Code
    text: str
    trailers: tuple[Field, ...]


def refusal_of(problem: Problem, reply: Reply | None = None, *, has_deadline: bool = False) -> Refusal:
    """A problem for the client.

    Parameters
    ----------
    reply
        The refusal of the endpoint, if the request had reached one.
    has_deadline
        Whether the client has set a deadline. If so, a missed deadline is DEADLINE_EXCEEDED; otherwise it was
        the server's own deadline, and the code is RESOURCE_EXHAUSTED.
    """
    if reply is None:
        reply = OpenInference().refuse(problem)
    text = _short(_decode(reply.body)["error"], MAX_TEXT)
    code = CODES.get(problem.status, Code.UNKNOWN)
    if problem.reason == "deadline" and has_deadline:
        code = Code.DEADLINE_EXCEEDED
    trailers = [(b"x-request-id", problem.request_id.encode("latin-1", "replace"))]
    details = Status(code=code, message=_short(text, MAX_SHOWN))
    for name, value in problem.headers:
        trailers.append((name.lower(), value))
        if name == b"retry-after":
            trailers.append((b"grpc-retry-pushback-ms", b"%d" % (1000 * int(value))))
            wait = RetryInfo()
            wait.retry_delay.seconds = int(value)
            _add(details, wait)
    if problem.errors:
        found = BadRequest()
        for error in problem.errors[:MAX_VIOLATIONS]:
            place = f"row {error.row}" if error.row is not None else ""
            where = ", ".join(filter(None, (place, error.column)))
            found.field_violations.add(
                field=_short(_utf8(where), MAX_SHOWN), description=_short(_utf8(error.reason), MAX_SHOWN)
            )
        _add(details, found)
    if details.details:
        binary = binascii.b2a_base64(details.SerializeToString(), newline=False).rstrip(b"=")
        trailers.append((DETAILS, binary))
    return Refusal(code, text, tuple(trailers))


def _add(details: object, message: object) -> None:
    each = details.details.add()  # type: ignore[attr-defined]
    each.type_url = TYPES + message.DESCRIPTOR.full_name  # type: ignore[attr-defined]
    each.value = message.SerializeToString()  # type: ignore[attr-defined]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
