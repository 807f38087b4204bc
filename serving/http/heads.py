"""A cache of parsed heads: most clients send the same bytes again, or the same except for values.

The cache distinguishes heads by the values of all relevant headers, `access.HEADERS` among them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from serving.errors import Problem
from serving.http.access import HEADERS, AccessRequest, credentials_of
from serving.http.forms import MAX_HEAD_BYTES, Form, form_of
from serving.http.head import CANARY_KEY, MAX_REQUEST_ID, check_deadline_ms
from serving.http.plain import Plain
from serving.protocols import Head

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HEADS = 512
MAX_KINDS = 8

# The relevant headers among those whose values may change.
_RELEVANT = HEADERS | frozenset(
    b"content-length inference-header-content-length traceparent tracestate".split()
    + b"x-deadline-ms x-request-id".split()
)


_keys = itertools.count(1)  # unique, also across snapshots of the live models


class Kind(NamedTuple):
    """Heads of one form, and one of them, parsed."""

    form: Form
    plain: Plain
    single: tuple[tuple[bytes, bytes], ...]  # headers outside the form's values, for protocols and traces
    relevant_headers: tuple[tuple[int, bytes], ...]  # index and name of the relevant values of the form
    key: int  # of `Heads.kept`


class Client:
    """The kind of one client's heads; without an endpoint, since a connection outlives the live models."""

    __slots__ = ("key", "previous")

    def __init__(self) -> None:
        self.key = 0  # of the kind in `Heads.kept`
        self.previous = b""  # the last parsed head, while the client has no kind


class Heads:
    """The heads that a worker has parsed.

    Parameters
    ----------
    read
        Parses a head by llhttp, at ten times the cost of a look-up in `seen`.
    relevant
        Names of further relevant headers.
    """

    def __init__(
        self,
        read: Callable[[bytes], Plain | None],
        max_body_bytes: int,
        *,
        relevant: frozenset[bytes] = frozenset(),
    ) -> None:
        self.read = read
        self._max_body_bytes = max_body_bytes
        self._relevant = _RELEVANT | relevant
        self.seen: dict[bytes, Plain | None] = {}
        self.kinds: tuple[Kind, ...] = ()  # the latest ones; a new connection most likely has one of them
        self.kept: dict[int, Kind] = {}  # of all clients
        self._previous = b""  # the last head that was parsed

    def unseen(self, head: bytes, client: Client) -> Plain | None:
        """Parse a head that was not seen before; cache it unless it belongs to one request alone."""
        plain = self._by_kind(head, client)
        if plain is None:
            plain = self._by_reading(head, client)
        if len(head) <= MAX_HEAD_BYTES and (plain is None or not _single(plain.head)):
            if len(self.seen) >= MAX_HEADS:
                self.seen.clear()
            self.seen[head] = plain
        return plain

    def _by_kind(self, head: bytes, client: Client) -> Plain | None:
        kind = known = self.kept.get(client.key)
        if kind is not None:
            plain = self.of_kind(kind, head)
            if plain is not None:
                return plain
        for kind in self.kinds:
            plain = self.of_kind(kind, head) if kind is not known else None
            if plain is not None:
                client.key = kind.key
                return plain
        return None

    def _by_reading(self, head: bytes, client: Client) -> Plain | None:
        plain = self.read(head)
        if plain is not None:
            kind = self.kind_of(client.previous or self._previous, head, plain)
            client.previous, self._previous = (b"" if kind else head), head
            client.key = kind.key if kind is not None else client.key
        return plain

    def kind_of(self, previous: bytes, head: bytes, plain: Plain) -> Kind | None:
        """The kind of two heads, of which `head` was parsed to `plain`; it is kept for other clients."""
        known = next((kind.form for kind in self.kinds if kind.plain.endpoint is plain.endpoint), None)
        form = form_of(previous, head, known, HEADERS) if len(head) <= MAX_HEAD_BYTES else None
        if form is None:
            return None
        relevant_headers = tuple((i, name) for i, name in enumerate(form.names) if name in self._relevant)
        names = [name for _, name in relevant_headers]
        if len(set(names)) < len(names) or any(
            sum(name == other for other, _ in plain.head.headers) > 1 for name in names
        ):
            return None  # Duplicate header: let the gateway decide.
        single = tuple(pair for pair in plain.head.headers if pair[0] not in form.names)
        kind = Kind(form, plain, single, relevant_headers, next(_keys))
        if len(self.kept) >= MAX_HEADS:
            self.kept.clear()
        self.kept[kind.key] = kind
        self.kinds = (kind, *self.kinds[: MAX_KINDS - 1])
        return kind

    def of_kind(self, kind: Kind, head: bytes) -> Plain | None:  # noqa: C901, PLR0912 - one header a branch
        """Parse a head by a known kind; None if its form differs or the gateway must refuse it."""
        form, plain, headers, relevant_headers, _ = kind
        values = form.values(head)
        if values is None or not relevant_headers:
            return plain if values is not None else None
        seen, length, access_request = plain.head, plain.length, plain.access_request
        request_id, deadline_ms, trace = seen.request_id, seen.deadline_ms, seen.trace
        canary_key = seen.canary_key
        for i, name in relevant_headers:
            value = values[i]
            if name == b"x-request-id":
                request_id = value  # printable ASCII, as all values
                if len(value) > MAX_REQUEST_ID:
                    return None
            elif name == b"traceparent":
                trace = value
            elif name == CANARY_KEY:
                canary_key = value
            elif name == b"content-length":
                length = int(value)  # of at most nine digits, see `form_of`
            elif name == b"x-deadline-ms":
                try:
                    deadline_ms = check_deadline_ms(value)
                except Problem:
                    return None
            else:
                headers = (*headers, (name, value))
                if name in HEADERS:
                    access_request = AccessRequest(
                        "POST", access_request.path, credentials_of(headers), access_request.model
                    )
        if length > self._max_body_bytes:
            return None
        found = Head(
            seen.content_type,
            length,
            request_id,
            deadline_ms,
            headers,
            trace,
            access_request.credentials,
            canary_key,
        )
        canary = plain.canary
        if canary is not None:
            canary = Plain(canary.endpoint, length, found, access_request, canary.tally, canary.answer)
        return Plain(
            plain.endpoint, length, found, access_request, plain.tally, plain.answer, plain.split, canary
        )


def _single(head: Head) -> bool:
    """Whether a head belongs to one request alone, so that the same bytes do not come again."""
    return head.request_id is not None or head.deadline_ms is not None or head.trace is not None
