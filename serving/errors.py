"""The error replies: a status, a sentence, and the row and column that are wrong (RFC 9457)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

import msgspec

from artifact.encode import Fault
from artifact.raised import raised_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from artifact.encode import BadRows, CellError

Headers = tuple[tuple[bytes, bytes], ...]
PROBLEM_JSON = b"application/problem+json"

Reason = (
    Fault
    | Literal[
        "bad_content_encoding",
        "bad_content_type",
        "bad_credentials",
        "bad_deadline",
        "bad_http",
        "bad_input",
        "bad_request_id",
        "bad_transfer_encoding",
        "body_too_large",
        "conflict",
        "deadline",
        "forbidden",
        "head_too_large",
        "host",
        "method_not_allowed",
        "model_failed",
        "model_refused",
        "model_unloaded",
        "no_background",
        "no_credentials",
        "not_finite",
        "not_found",
        "not_json",
        "not_ready",
        "queue_full",
        "rate_exceeded",
        "server_failed",
        "timeout",
        "too_many_rows",
        "unknown_model",
        "unknown_version",
    ]
)
"""Why a request was refused: a stable name for the log and the metric; docs/operations.md lists them."""

_USUAL: dict[int, Reason] = {
    400: "bad_input",
    401: "no_credentials",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    409: "conflict",
    413: "body_too_large",
    414: "head_too_large",
    415: "bad_content_type",
    422: "bad_input",
    429: "queue_full",
    431: "head_too_large",
    500: "server_failed",
    501: "bad_transfer_encoding",
    503: "not_ready",
}


class Problem(Exception):  # noqa: N818 - named as RFC 9457 names it
    """A refused request, with its HTTP status.

    Parameters
    ----------
    status
        The HTTP status.
    detail
        One or two sentences for the person who wrote the client.
    errors
        The wrong cells, at most 20.
    headers
        Sent beside the body, such as `Allow` or `Retry-After`.
    reason
        For the log and the metric; by default the first error's reason, else the usual one of the status.
    error
        For the log alone: what failed in the server and where in the code, or why a model is refused. Never
        the message of an exception about a request, which may quote a cell.
    model
        The name of the model, where the route has no live model.

    Attributes
    ----------
    request_id
        The id of the request in the log; set by the lane that answers it.
    wait_s
        How many seconds the lane waits before it answers; not 0 for tries with wrong keys.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[CellError] = (),
        headers: Headers = (),
        reason: Reason | None = None,
        error: str = "",
        model: str = "",
    ) -> None:
        detail = _text(detail)
        super().__init__(detail)
        self.status = status
        self.title = HTTPStatus(status).phrase
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = headers
        fault = self.errors[0].fault if self.errors else None
        self.reason: Reason = reason or fault or usual_reason(status)
        self.error = error
        self.model = model
        self.request_id = ""
        self.wait_s = 0.0

    def body(self) -> bytes:
        """The problem as `application/problem+json`."""
        return msgspec.json.encode(
            {
                "type": "about:blank",
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                "request_id": self.request_id,
                "errors": [
                    {
                        "row": error.row,
                        "column": error.column and _text(error.column),
                        "reason": _text(error.reason),
                    }
                    for error in self.errors
                ],
            }
        )


def usual_reason(status: int) -> Reason:
    """The usual reason of a status."""
    return _USUAL.get(status, "server_failed" if status >= 500 else "bad_input")


def _text(text: str) -> str:
    """Escape surrogates: the text may quote what a client sent, and UTF-8 cannot encode half a pair."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


_PATH = re.compile(r"""(?<![\w.~/-])(?:~|[A-Za-z]:)?/(?!/)(?:[^\s/:;,'"()<>]+/)*([^\s/:;,'"()<>]*)""")


def without_paths(reason: str, folder: str = "") -> str:
    """The reason as clients get it: each absolute path is cut to its last part. The log has the whole path.

    Parameters
    ----------
    folder
        A path to remove first; it may contain any characters.
    """
    if folder:
        reason = reason.replace(f"{folder}/", "").replace(folder, folder.rsplit("/", 1)[-1])
    return _PATH.sub(r"\1", reason)


def bad_rows(error: BadRows) -> Problem:
    """422 for rows that the signature refuses."""
    more = "" if len(error.errors) == 1 else f" (and {len(error.errors) - 1} more, see `errors`)"
    return Problem(422, f"{error}{more}", errors=error.errors)


def body_too_large(limit: int, setting: str = "MAX_BODY_BYTES") -> Problem:
    """413 for a body of more bytes than a setting allows; "" for a limit that no setting changes."""
    key = f" (OKAMOCHI_{setting})" if setting else ""
    return Problem(413, f"The body is larger than {limit} bytes{key}.", reason="body_too_large")


def too_many_rows(rows: int, maximum: int) -> Problem:
    """413 for more rows than one request may hold."""
    return Problem(
        413,
        f"{rows} rows in one request; this model takes at most {maximum}. Send them in several requests.",
        reason="too_many_rows",
    )


def overloaded(detail: str, reason: Reason, retry_after_s: int) -> Problem:
    """429 with `Retry-After`, in whole seconds."""
    return Problem(429, detail, headers=((b"retry-after", b"%d" % retry_after_s),), reason=reason)


def server_failed(error: BaseException) -> Problem:
    """500 for a bug in the server; the request's log line says what was raised and where."""
    return Problem(500, "The server failed; its log has the reason.", error=raised_at(error))


def thread_failed() -> Problem:
    """503 for a request whose thread ended; the thread is started again."""
    return Problem(
        503,
        "The thread that worked on this request failed; the server's log has the reason. Send it again.",
        headers=((b"retry-after", b"1"),),
    )


def method_not_allowed(method: str, path: str, allowed: Sequence[str]) -> Problem:
    """405 with `Allow`."""
    allow = ", ".join(allowed)
    return Problem(405, f"{path} takes {allow}, not {method}.", headers=((b"allow", allow.encode()),))
