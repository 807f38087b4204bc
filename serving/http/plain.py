"""The head of a plain request, read by llhttp: what the express lane takes.

An unusual request is left to the gateway, which reads the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httptools
import msgspec

from serving.errors import Problem
from serving.http.access import AccessRequest
from serving.http.head import read_head
from serving.protocols.codings import gzip_wish
from serving.protocols.media import is_packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from serving.observe import metrics
    from serving.protocols import Endpoint, Head, Reply
    from serving.roles.canary import Split
    from serving.scoring.scores import Scores

# A request with one of these headers is left to the gateway: its connection, body or reply is unusual.
_NOT_PLAIN = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"content-encoding", b"trailer", b"te"))
_OFFER = frozenset((b"upgrade", b"http2-settings"))


class Plain(msgspec.Struct, frozen=True, gc=False):
    """The head of a request that the express lane takes."""

    endpoint: Endpoint
    length: int  # of the body
    head: Head
    access_request: AccessRequest
    tally: metrics.Tally
    answer: Callable[[Any, Scores, int], Reply]  # the endpoint's, or the prediction log's wrapper
    split: Split | None = None  # of a route that a canary answers in part
    canary: Plain | None = None  # the same request, answered by it


class PlainReader:
    """Reads heads of requests to some routes.

    Parameters
    ----------
    endpoints
        The prediction routes, by path.
    splits
        Those that a canary answers in part, by path.
    max_body_bytes
        A larger body is read in a thread, by the gateway.
    cors
        Whether the gateway answers pages of other origins, whose replies need further headers.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        observe: metrics.Observer,
        splits: Mapping[str, Split],
        *,
        max_head_bytes: int,
        max_body_bytes: int,
        cors: bool = False,
    ) -> None:
        self._endpoints = {path.encode(): (path, endpoint) for path, endpoint in endpoints.items()}
        self._splits = splits
        self._observe = observe
        self._max_head_bytes = max_head_bytes
        self.max_body_bytes = max_body_bytes
        self._not_plain = _NOT_PLAIN | {b"origin"} if cors else _NOT_PLAIN

    def __call__(self, head: bytes) -> Plain | None:
        """Parse the bytes up to the empty line; None for a request that is left to the gateway."""
        if len(head) > self._max_head_bytes:
            return None
        found = _Found()
        parser = httptools.HttpRequestParser(found)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            if parser.get_method() != b"POST":
                return None
            return self(without_offer(parser, found.target, found.headers))
        except httptools.HttpParserError:
            return None
        path, endpoint = self._endpoints.get(found.target, ("", None))
        if (
            endpoint is None
            or not found.complete
            or found.body
            or found.ended
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
            or not parser.should_keep_alive()
            or parser.should_upgrade()
            or any(name in self._not_plain for name, _ in found.headers)
            or not one_host(found.headers)
            or gzip_wish(found.headers) == "must"
        ):
            return None
        try:
            checked = read_head(found.headers, endpoint.content_types)
        except Problem:
            return None
        if checked.length is None or checked.length > self.max_body_bytes or is_packed(checked.content_type):
            return None
        access_request = AccessRequest("POST", path, checked.credentials, endpoint.model.name)
        plain = self._plain(endpoint, checked.length, checked, access_request)
        split = self._splits.get(path)
        if split is None:
            return plain
        canary = self._plain(split.endpoint, checked.length, checked, access_request)
        return msgspec.structs.replace(plain, split=split, canary=canary)

    def _plain(self, endpoint: Endpoint, length: int, head: Head, access_request: AccessRequest) -> Plain:
        tally = self._observe.tally(endpoint.model.name, endpoint.model.version, endpoint.name)
        return Plain(endpoint, length, head, access_request, tally, endpoint.answer)


class _Found:
    """Collects the parts that llhttp finds in the head of one request."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.body = False
        self.ended = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, _body: bytes) -> None:
        self.body = True

    def on_message_complete(self) -> None:
        self.ended = True


def without_offer(
    parser: httptools.HttpRequestParser, target: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The head of a parsed request, without its offer to switch to another protocol."""
    lines = [b"%s %s HTTP/%s" % (parser.get_method(), target, parser.get_http_version().encode())]
    for name, value in headers:
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            kept = b", ".join(option for option in options if option.lower() not in _OFFER)
            lines += [b"connection: " + kept] if kept else []
        elif name not in _OFFER:
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def one_host(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request has one Host header; RFC 9112 (3.2) demands it of HTTP/1.1."""
    return sum(name == b"host" for name, _ in headers) == 1
