"""Heads that were read before are remembered: most clients send the same bytes, or the same but for values.

What is remembered of a head includes every header that somebody looks at, `access.HEADERS` among them: a head
with another value of one of these is another head.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from serving.errors import Problem
from serving.http.access import HEADERS, Asking, credentials_of
from serving.http.forms import MOST_HEAD_BYTES, Form, form_of
from serving.http.head import MOST_REQUEST_ID, check_deadline_ms
from serving.http.plain import Plain
from serving.protocols import Head

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_HEADS = 512
MOST_KINDS = 8

# Of the headers whose values may be others each time: those that somebody looks at.
_LOOKED_AT = HEADERS | frozenset(
    b"content-length inference-header-content-length traceparent tracestate".split()
    + b"x-deadline-ms x-request-id".split()
)


_keys = itertools.count(1)  # never given twice, not even by what is live next


class Kind(NamedTuple):
    """Heads of one form, and what one of them was."""

    form: Form
    plain: Plain
    single: tuple[tuple[bytes, bytes], ...]  # its headers that a protocol or a trace may look at
    looked_at: tuple[tuple[int, bytes], ...]  # which values of the form count, and for what
    key: int  # of `Heads.kept`


class Client:
    """What one client's heads were; without an endpoint, since its connection outlives what is live."""

    __slots__ = ("key", "previous")

    def __init__(self) -> None:
        self.key = 0  # of the kind in `Heads.kept`
        self.previous = b""  # the last that was read, while it has no kind


class Heads:
    """The heads that a worker has read.

    Parameters
    ----------
    read
        Reads one by llhttp: ten times what a look-up in `seen` costs.
    """

    def __init__(self, read: Callable[[bytes], Plain | None], most_body_bytes: int) -> None:
        self.read = read
        self._most_body_bytes = most_body_bytes
        self.seen: dict[bytes, Plain | None] = {}
        self.kinds: tuple[Kind, ...] = ()  # the last found; a new connection has most likely one of them
        self.kept: dict[int, Kind] = {}  # of all clients
        self._previous = b""  # the last head that was read

    def unseen(self, head: bytes, client: Client) -> Plain | None:
        """What a head is that was not seen before; remembered, unless it is one of a single request."""
        plain = self._by_kind(head, client)
        if plain is None:
            plain = self._by_reading(head, client)
        if len(head) <= MOST_HEAD_BYTES and (plain is None or not _single(plain.head)):
            if len(self.seen) >= MOST_HEADS:
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
        """What two heads have in common, of which `head` is that of `plain`; kept for others."""
        known = next((kind.form for kind in self.kinds if kind.plain.endpoint is plain.endpoint), None)
        form = form_of(previous, head, known) if len(head) <= MOST_HEAD_BYTES else None
        if form is None:
            return None
        looked_at = tuple((i, name) for i, name in enumerate(form.names) if name in _LOOKED_AT)
        names = [name for _, name in looked_at]
        if len(set(names)) < len(names) or any(
            sum(name == other for other, _ in plain.head.headers) > 1 for name in names
        ):
            return None  # a header that stands twice: the gateway decides which one counts
        single = tuple(pair for pair in plain.head.headers if pair[0] not in form.names)
        kind = Kind(form, plain, single, looked_at, next(_keys))
        if len(self.kept) >= MOST_HEADS:
            self.kept.clear()
        self.kept[kind.key] = kind
        self.kinds = (kind, *self.kinds[: MOST_KINDS - 1])
        return kind

    def of_kind(self, kind: Kind, head: bytes) -> Plain | None:  # noqa: C901 - one header a branch
        """What a head is that has the form of others; None as well where the gateway says what is wrong."""
        form, plain, headers, looked_at, _ = kind
        values = form.values(head)
        if values is None or not looked_at:
            return plain if values is not None else None
        seen, length, asking = plain.head, plain.length, plain.asking
        request_id, deadline_ms, trace = seen.request_id, seen.deadline_ms, seen.trace
        for i, name in looked_at:
            value = values[i]
            if name == b"x-request-id":
                request_id = value  # printable ASCII, as all values
                if len(value) > MOST_REQUEST_ID:
                    return None
            elif name == b"traceparent":
                trace = value
            elif name == b"content-length":
                length = int(value)
            elif name == b"x-deadline-ms":
                try:
                    deadline_ms = check_deadline_ms(value)
                except Problem:
                    return None
            else:
                headers = (*headers, (name, value))
                if name in HEADERS:
                    asking = Asking(asking.method, asking.path, credentials_of(headers))
        if length > self._most_body_bytes:
            return None
        found = Head(seen.content_type, length, request_id, deadline_ms, headers, trace, asking.credentials)
        return Plain(plain.endpoint, length, found, asking, plain.tally, plain.answer)


def _single(head: Head) -> bool:
    """Whether a head is that of one request alone, so that the same bytes do not come again."""
    return head.request_id is not None or head.deadline_ms is not None or head.trace is not None
