"""The relevant headers of a request, checked: the same for both lanes."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from serving.errors import Problem
from serving.http.access import credentials_of
from serving.protocols import Head
from serving.protocols.codings import coding_of
from serving.protocols.media import check_charset, media_type

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_REQUEST_ID = 128
MAX_LENGTH_DIGITS = 20
CANARY_KEY = b"x-canary-key"
"""The header by whose value the champion or the canary answers; the same value gets the same answerer."""
FORM = "application/x-www-form-urlencoded"
"""The content type that `curl -d` sends by default, whatever the body is."""

_PREFIX = os.urandom(6).hex()
_count = itertools.count(1).__next__


def name_request(head: Head) -> str:
    """The request id of a refusal and its log line: the client's X-Request-Id, or a new id."""
    return head.request_id.decode("latin-1") if head.request_id is not None else f"{_PREFIX}-{_count():x}"


def read_head(  # noqa: C901 - one header a branch
    headers: Iterable[tuple[bytes, bytes]], content_types: tuple[str, ...] | None
) -> Head:
    """The relevant headers, checked.

    Parameters
    ----------
    content_types
        The media types that the route reads; None for a route that reads no body.

    Raises
    ------
    Problem
        400 for a malformed header, 415 for a body that the route does not support.
    """
    content_type = b""
    length: int | None = None
    request_id: bytes | None = None
    deadline_ms: int | None = None
    trace: bytes | None = None
    canary_key: bytes | None = None
    coding = b""
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = length_of(value)
        elif name == b"x-request-id":
            request_id = _request_id(value)
        elif name == b"x-deadline-ms":
            deadline_ms = check_deadline_ms(value)
        elif name == b"traceparent":
            trace = value if trace is None else b""  # of two, neither counts
        elif name == CANARY_KEY:
            canary_key = value
        elif name == b"content-encoding" and content_types is not None:
            coding = coding_of(value, coding)
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            shown = value[:40].decode("latin-1")
            raise Problem(
                501,
                f"Transfer-Encoding {shown!r} is not supported; expected chunked.",
                reason="bad_transfer_encoding",
            )
    if content_types is not None and content_type not in (b"", b"application/json"):
        check_content_type(content_type, content_types)
    found = tuple(headers)
    return Head(
        content_type, length, request_id, deadline_ms, found, trace, credentials_of(found), canary_key, coding
    )


def is_request_id(value: bytes) -> bool:
    """Whether a reply and the log can repeat this X-Request-Id."""
    return value.isascii() and value.decode().isprintable() and 0 < len(value) <= MAX_REQUEST_ID


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The `X-Request-Id` of a head that was refused or is not whole, if a reply and the log can repeat it."""
    own = [value for name, value in headers if name == b"x-request-id"]
    return own[-1] if own and is_request_id(own[-1]) else None


def _request_id(value: bytes) -> bytes:
    if not is_request_id(value):
        raise Problem(
            400,
            f"X-Request-Id: expected 1 to {MAX_REQUEST_ID} printable ASCII characters.",
            reason="bad_request_id",
        )
    return value


def length_of(value: bytes) -> int | None:
    """The value of `Content-Length`; None if it is no whole number, or one that 64 bits do not hold.

    Zeros in front count for nothing, however many; `int` alone raises at 4,301 digits.
    """
    digits = value.lstrip(b"0") or value[:1]
    return int(digits) if digits.isdigit() and len(digits) <= MAX_LENGTH_DIGITS else None


def check_deadline_ms(value: bytes) -> int:
    """The value of `X-Deadline-Ms`.

    Raises
    ------
    Problem
        400.
    """
    if not value.isdigit() or len(value) > 18 or int(value) == 0:
        shown = value[:40].decode("latin-1")
        raise Problem(
            400,
            f"X-Deadline-Ms: expected a whole number of milliseconds from 1, got {shown!r}.",
            reason="bad_deadline",
        )
    return int(value)


def check_content_type(value: bytes, content_types: tuple[str, ...]) -> None:
    """Refuse a media type that a route does not support, or a charset other than UTF-8.

    Raises
    ------
    Problem
        415.
    """
    media = media_type(value).decode("latin-1")
    if media not in content_types and not (media == FORM and "application/json" in content_types):
        raise Problem(
            415, f"Content-Type {media[:80]!r} is not supported; expected {' or '.join(content_types)}."
        )
    check_charset(value)


def as_sent(problem: Problem, head: Head) -> Problem:
    """415 for a body that is a real form: with this content type, every route accepts JSON only."""
    if problem.reason != "not_json" or not head.content_type.strip().lower().startswith(FORM.encode()):
        return problem
    detail = f"Content-Type '{FORM}' is supported only if the body is JSON. {problem.detail}"
    return Problem(415, detail, reason="bad_content_type")
