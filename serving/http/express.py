"""The express lane: a whole, plain prediction request is answered from the socket, before ASGI.

`Connection` is uvicorn's own HTTP protocol with one addition. Bytes that reach an idle connection and hold
exactly one plain request to a prediction route (or do with the next packet) are decoded, queued and answered
by one `transport.write`. Anything else, the same bytes, goes uvicorn's way to the gateway, which has the same
endpoints. What makes a request plain is decided by llhttp, as in uvicorn; see `_read_head`.

What it uses of uvicorn is held by `missing`: where a release changes that, the gateway serves alone.
"""

from __future__ import annotations

import fcntl
import inspect
import logging
import math
import sys
import termios
from contextlib import suppress
from random import random
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import httptools
import msgspec
import uvicorn.config
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import is_ssl

from serving.errors import Problem, server_failed
from serving.http.gateway import (
    MOST_REQUEST_ID,
    check_deadline_ms,
    name_request,
    read_head,
)
from serving.http.heads import MOST_HEAD_BYTES, Form, form_of
from serving.observe import metrics
from serving.observe.logs import RequestLog
from serving.protocols import LARGE_BODY_BYTES, Endpoint, Head, Reply, deadline, problem_reply

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from serving.observe.traces import Tracer
    from serving.scoring.batcher import Scores, Ticket
    from serving.settings import Settings

logger = logging.getLogger("bentoml.okamochi")

HELD_BYTES = 64 * 1024  # what a client may send ahead while its reply is due, before we stop reading
MOST_HEADS = 512
MOST_KINDS = 8
UVICORN_KEEP_ALIVE_S = 5  # its default, where `--timeout-keep-alive` was not given

# What the protocol below overrides or reads, by the class that has it.
_USED: dict[type, tuple[str, ...]] = {
    HttpToolsProtocol: (
        "connection_made",
        "connection_lost",
        "data_received",
        "eof_received",
        "on_message_begin",
        "on_message_complete",
        "on_header",
        "on_response_complete",
        "pause_writing",
        "resume_writing",
        "send_400_response",
        "shutdown",
        "_start_asgi_task",
        "_unset_keepalive_if_required",
    ),
    httptools_impl.RequestResponseCycle: ("send", "receive"),
    flow_control.FlowControl: ("pause_reading", "resume_reading"),
}
_ATTRIBUTES = (
    "cycle",
    "flow",
    "pipeline",
    "transport",
    "server_state",
    "timeout_keep_alive",
    "parser",
    "loop",
    "expect_100_continue",
)


class Plain(msgspec.Struct, frozen=True, gc=False):
    """The head of a request that this lane takes."""

    endpoint: Endpoint
    length: int  # of the body
    head: Head
    tally: metrics.Tally
    answer: Callable[[Any, Scores, int], Reply]  # of the endpoint, or what logs its answers


class Lane:
    """What the connections of this worker share; set once by `install`."""

    settings: Settings
    observe: metrics.Observer
    observe_refused: metrics.Observer  # of requests whose head or body HTTP refuses: no endpoint has them

    def __init__(self) -> None:
        self.endpoints: Mapping[bytes, Endpoint] = {}
        # Heads seen before: most clients send the same bytes each time; a look-up is a tenth of parsing.
        self.heads: dict[bytes, Plain | None] = {}
        self.kinds: tuple[Kind, ...] = ()  # the last found; a new connection has most likely one of them
        self.previous = b""  # the last head that was parsed
        self.deadline_s = math.inf
        self.most_body_bytes = 0  # a larger body is read in a thread, by the gateway
        self.log = RequestLog("express", 0)
        self.log_refused = RequestLog("gateway", 0)
        self.traced = False
        self.looked_at: float | None = None  # share of the usual replies that `log` is asked about
        self.max_head_bytes = 64 * 1024
        self.receive_s = 60.0
        self.keep_alive_s = 75


lane = Lane()
"""One worker, one lane. An instance: to look up an attribute of a class takes ten times as long."""


def missing() -> str:
    """What the installed uvicorn lacks of what this module uses; "" for nothing."""
    for owner, names in _USED.items():
        for name in names:
            if not callable(getattr(owner, name, None)):
                return f"{owner.__name__}.{name}"
    source = inspect.getsource(HttpToolsProtocol)
    for name in _ATTRIBUTES:
        if f"self.{name}" not in source:
            return f"HttpToolsProtocol().{name}"
    parameters = list(inspect.signature(HttpToolsProtocol.__init__).parameters)
    if parameters != ["self", "config", "server_state", "app_state", "_loop"]:
        return f"HttpToolsProtocol{tuple(parameters[1:])}"
    if "auto" not in getattr(uvicorn.config, "HTTP_PROTOCOLS", {}):
        return 'uvicorn.config.HTTP_PROTOCOLS["auto"]'
    return ""


def install(endpoints: Mapping[str, Endpoint], settings: Settings, tracer: Tracer | None = None) -> None:
    """Have the worker's uvicorn, which is started next, make its connections here.

    Parameters
    ----------
    endpoints
        The prediction routes, by path.
    """
    lacking = missing()
    if lacking:
        logger.warning("this uvicorn has no %s: serving without the express lane, at half its rate", lacking)
        return
    lane.endpoints = (
        {path.encode(): endpoint for path, endpoint in endpoints.items()} if settings.express else {}
    )
    lane.settings = settings
    lane.observe, lane.observe_refused = metrics.Observer("express"), metrics.Observer("gateway")
    lane.heads, lane.kinds, lane.previous = {}, (), b""
    lane.most_body_bytes = min(LARGE_BODY_BYTES - 1, settings.max_body_bytes)
    lane.deadline_s = min(settings.default_deadline_ms, settings.max_deadline_ms) / 1000
    lane.log = RequestLog("express", settings.log_sample, tracer)
    lane.looked_at, lane.traced = lane.log.looked_at, tracer is not None
    lane.max_head_bytes = settings.max_head_bytes
    lane.receive_s = settings.receive_s
    lane.keep_alive_s = settings.keep_alive_s
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"


class _Reader:
    """Collects what llhttp finds in the head of one request."""

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


def _without_offer(
    parser: httptools.HttpRequestParser, target: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The head of a request, by a parser that has read it, without the offer to go on in another protocol."""
    lines = [b"%s %s HTTP/%s" % (parser.get_method(), target, parser.get_http_version().encode())]
    for name, value in headers:
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            kept = b", ".join(option for option in options if option.lower() not in _OFFER)
            lines += [b"connection: " + kept] if kept else []
        elif name not in _OFFER:
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes that the client has still to take: ours, else those that the kernel holds for it.

    Through TLS uvloop says that its buffer is empty whatever is in it. Then the kernel's is full.
    """
    held: int = transport.get_write_buffer_size()
    connection = transport.get_extra_info("socket")
    if held or connection is None:
        return held
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:  # not every system can say
        return 0


def _one_host(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request names its host once, as RFC 9112 (3.2) has any of HTTP/1.1 refused that does not."""
    return sum(name == b"host" for name, _ in headers) == 1


_OFFER = frozenset((b"upgrade", b"http2-settings"))

# A request with one of these is the gateway's: its connection, its body or its reply is not the usual one.
_NOT_PLAIN = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"content-encoding", b"trailer", b"te"))


def _read_head(head: bytes) -> Plain | None:
    """Read the bytes up to the empty line; None for a request that this lane leaves to the gateway."""
    if len(head) > lane.max_head_bytes:
        return None
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        if parser.get_method() != b"POST":
            return None
        return _read_head(_without_offer(parser, reader.target, reader.headers))
    except httptools.HttpParserError:
        return None
    endpoint = lane.endpoints.get(reader.target)
    if (
        endpoint is None
        or not reader.complete
        or reader.body
        or reader.ended
        or parser.get_method() != b"POST"
        or parser.get_http_version() != "1.1"
        or not parser.should_keep_alive()
        or parser.should_upgrade()
        or any(name in _NOT_PLAIN for name, _ in reader.headers)
        or not _one_host(reader.headers)
    ):
        return None
    try:
        found = read_head(reader.headers, endpoint.content_types)
    except Problem:
        return None
    if found.length is None or found.length > lane.most_body_bytes:
        return None
    tally = lane.observe.tally(endpoint.model.name, endpoint.name)
    return Plain(endpoint, found.length, found, tally, endpoint.answer)


def _single(head: Head) -> bool:
    return head.request_id is not None or head.deadline_ms is not None or head.trace is not None


class Kind(NamedTuple):
    """Heads of one form, and what one of them was."""

    form: Form
    plain: Plain
    single: tuple[tuple[bytes, bytes], ...]  # its headers that a protocol or a trace may look at
    looked_at: tuple[tuple[int, bytes], ...]  # which values of the form count, and for what


# Of the headers whose values may be others each time: those that somebody looks at.
_LOOKED_AT = frozenset(
    b"content-length inference-header-content-length traceparent tracestate".split()
    + b"x-deadline-ms x-request-id".split()
)


def _kind_of(previous: bytes, head: bytes, plain: Plain) -> Kind | None:
    """What two heads of this lane have in common, of which `head` is that of `plain`; kept for others."""
    known = next((kind.form for kind in lane.kinds if kind.plain.endpoint is plain.endpoint), None)
    form = form_of(previous, head, known) if len(head) <= MOST_HEAD_BYTES else None
    if form is None:
        return None
    looked_at = tuple((i, name) for i, name in enumerate(form.names) if name in _LOOKED_AT)
    names = [name for _, name in looked_at]
    if len(set(names)) < len(names) or any(
        sum(name == other for other, _ in plain.head.headers) > 1 for name in names
    ):
        return None  # of two, which one counts is for the other way to say
    single = tuple(pair for pair in plain.head.headers if pair[0] not in form.names)
    kind = Kind(form, plain, single, looked_at)
    lane.kinds = (kind, *lane.kinds[: MOST_KINDS - 1])
    return kind


def _of_kind(kind: Kind, head: bytes) -> Plain | None:
    """What a head is that has the form of others; None as well where the gateway says what is wrong."""
    form, plain, headers, looked_at = kind
    values = form.values(head)
    if values is None or not looked_at:
        return plain if values is not None else None
    seen, length = plain.head, plain.length
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
    if length > lane.most_body_bytes:
        return None
    found = Head(seen.content_type, length, request_id, deadline_ms, headers, trace)
    return Plain(plain.endpoint, length, found, plain.tally, plain.answer)


# Default headers of uvicorn, new ones each second, and a reply of 200 with them up to its media type.
_ok_head: list[Any] = [None, b""]


class Flow(flow_control.FlowControl):
    """Reads on only when every request that was pipelined is being answered.

    uvicorn's own reads on after each reply, so that a client which sends without reading could pile up
    requests in the worker without end: 200 MB of them in 20 s.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        """Read on, unless requests wait; after the last one, what comes is dropped."""
        if not self._connection.pipeline or self._connection.ended:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One client's connection, on both lanes."""

    __slots__ = (
        "_active",
        "_closing",
        "_declined",
        "_due",
        "_half_closed",
        "_head_bytes",
        "_header_bytes",
        "_heard",
        "_held",
        "_idle_since",
        "_in_head",
        "_in_message",
        "_kind",
        "_last",
        "_partial",
        "_patience",
        "_plain",
        "_previous",
        "_query",
        "_queued",
        "_reaper",
        "_refusal",
        "_started",
        "_ticket",
        "_unsent",
        "ended",
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Of the request that uvicorn's parser is in:
        self._in_message = False
        self._in_head = False
        self._head_bytes = 0  # fed since the bytes that it began in
        self._header_bytes = 0
        self._declined = False  # it offers another protocol, where llhttp stops
        self._half_closed = False
        self._refusal: Problem | None = None  # of a request that llhttp would take
        self._active: httptools_impl.RequestResponseCycle | None = None  # that the gateway is answering
        self.ended = False  # nothing more is read; the connection closes once all before has its reply
        self._last: Problem | None = None  # the reply to the request that ended it
        # Of the request that the express lane is answering:
        self._due = False
        self._ticket: Ticket | None = None
        self._plain: Plain | None = None
        self._kind: Kind | None = None  # of this client's heads
        self._previous = b""  # its last head that was parsed, while it has no kind
        self._query: Any = None
        self._started = 0.0
        self._queued: float | None = None
        self._held = b""  # came while a reply was due
        self._partial = b""  # a plain head whose body is still to come
        self._closing = False
        if self.timeout_keep_alive == UVICORN_KEEP_ALIVE_S:
            self.timeout_keep_alive = lane.keep_alive_s
        # The keep-alive timer of this lane runs on and looks when it is due, instead of being set and
        # cancelled for each request: 1.4 us less.
        self._idle_since = math.inf
        self._reaper: asyncio.TimerHandle | None = None
        # When the head began, or the last of the body came: no client is waited for without end.
        self._heard = self.loop.time()
        self._unsent = 0  # bytes of replies when the client was last looked at
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `Flow`."""
        super().connection_made(transport)
        self.flow = Flow(transport, self)
        self._patience = self.loop.call_later(lane.receive_s, self._look_at_client)

    # ---- in

    def data_received(self, data: bytes) -> None:
        """Take what is a whole plain request, hand the rest to uvicorn."""
        if self._due:
            self._hold(data)
            return
        partial, self._partial = self._partial, b""
        if partial:
            data = partial + data
        cycle = self.cycle
        if (
            not self._in_message
            and data[:5] == b"POST "
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
        ):
            end = data.find(b"\r\n\r\n") + 4  # without an empty line: 3, and "POS" is no plain head
            head = data[:end]
            heads = lane.heads
            plain = heads[head] if head in heads else self._unseen(head)
            if plain is not None:
                left = end + plain.length - len(data)
                if left == 0:
                    self._take(plain, data[end:])
                    return
                if 0 < left <= HELD_BYTES and not partial:
                    self._wait_for_body(data)
                    return
        self._idle_since = math.inf  # uvicorn's own timer from here on
        if not self._in_head:
            self._heard = self.loop.time()
        self._feed(data)

    def _unseen(self, head: bytes) -> Plain | None:
        """What a head is that was not seen before; remembered, unless it is one of a single request."""
        plain = self._by_kind(head)
        if plain is None:
            plain = self._parsed(head)
        if len(head) <= MOST_HEAD_BYTES and (plain is None or not _single(plain.head)):
            if len(lane.heads) >= MOST_HEADS:
                lane.heads.clear()
            lane.heads[head] = plain
        return plain

    def _by_kind(self, head: bytes) -> Plain | None:
        kind = self._kind
        if kind is not None:
            plain = _of_kind(kind, head)
            if plain is not None:
                return plain
        for kind in lane.kinds:
            plain = _of_kind(kind, head) if kind is not self._kind else None
            if plain is not None:
                self._kind = kind
                return plain
        return None

    def _parsed(self, head: bytes) -> Plain | None:
        plain = _read_head(head)
        if plain is not None:
            kind = _kind_of(self._previous or lane.previous, head, plain)
            self._previous, lane.previous = (b"" if kind else head), head
            self._kind = kind or self._kind
        return plain

    def _wait_for_body(self, data: bytes) -> None:
        """Keep a head whose body is in the next packet, as Python's own clients send it.

        Only once a request, so that a body in many small packets is joined by uvicorn, in a buffer.
        """
        self._partial = data
        self._idle_since = math.inf
        self._heard = self.loop.time()
        self._unset_keepalive_if_required()

    def _take(self, plain: Plain, body: bytes) -> None:
        """Answer a request, now or when its batch has been scored."""
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._due = True
        self._plain = plain
        self._started = started = perf_counter()
        endpoint, head = plain.endpoint, plain.head
        try:
            self._query = query = endpoint.read(body, head)
            if head.deadline_ms is None and query.within_s is None:
                due, explicit = started + lane.deadline_s, False
            else:
                due, explicit = deadline(head, query, started, lane.settings)
            if lane.traced:
                self._queued = perf_counter()
            ticket = endpoint.model.batcher.submit(query.rows, query.n, self._scored, due, explicit=explicit)
            if self._due:
                self._ticket = ticket
        except Problem as problem:
            self._refuse(problem)
        except Exception as error:  # noqa: BLE001 - as in the gateway: a bug is a 500 and a line in the log
            self._fail(error)

    def _refuse(self, problem: Problem) -> None:
        assert self._plain is not None  # noqa: S101 - set with _due
        problem.request_id = name_request(self._plain.head)
        self._reply(self._plain.endpoint.refuse(problem), None, problem)

    def _fail(self, error: Exception) -> None:
        assert self._plain is not None  # noqa: S101 - set with _due
        self._refuse(server_failed(error))

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > HELD_BYTES:
            self.flow.pause_reading()

    # ---- out

    def _scored(self, scores: Scores | None, first: int, problem: Problem | None) -> None:
        """The batcher has scored the request, or not."""
        plain = self._plain
        assert plain is not None  # noqa: S101 - set with _due
        if scores is None:
            assert problem is not None  # noqa: S101 - one of the two
            self._refuse(problem)
            return
        try:
            answer = plain.answer  # called as an attribute, Python 3.11 would look it up anew each time
            reply = answer(self._query, scores, first)
        except Exception as error:  # noqa: BLE001 - the other requests of the batch get their replies
            self._fail(error)
            return
        content_type, body = reply.content_type, reply.body
        if reply.headers or self._closing or self._half_closed:
            self._reply(reply, scores)
            return
        # The usual reply, in one write; its metrics by the batch: 1.5 us less than `_reply`.
        tally = plain.tally
        tally(self._started)
        request_id = plain.head.request_id
        if request_id is None:
            self.transport.write(
                b"%s%s\r\ncontent-length: %d\r\n\r\n%s" % (self._ok(), content_type, len(body), body)
            )
        else:
            self.transport.write(
                b"%s%s\r\ncontent-length: %d\r\nx-request-id: %s\r\n\r\n%s"
                % (self._ok(), content_type, len(body), request_id, body)
            )
        if lane.looked_at is not None:
            draw = random()  # noqa: S311 - no secret
            trace = plain.head.trace
            if draw < lane.looked_at or (trace is not None and lane.log.follows(trace)):
                self._tell(reply, scores, draw)
        self._answered()

    def _tell(self, reply: Reply, scores: Scores | None, draw: float, problem: Problem | None = None) -> None:
        """Log and trace the request that was just answered."""
        plain = self._plain
        assert plain is not None  # noqa: S101 - set with _due
        lane.log(
            plain.endpoint.name,
            reply,
            self._started,
            draw=draw,
            endpoint=plain.endpoint,
            head=plain.head,
            queued=self._queued,
            scores=scores,
            request_id=problem.request_id if problem is not None else "",
            problem=problem,
        )

    def _reply(self, reply: Reply, scores: Scores | None = None, problem: Problem | None = None) -> None:
        """Write any reply at once."""
        plain = self._plain
        assert plain is not None  # noqa: S101 - set with _due
        seconds = perf_counter() - self._started
        lane.observe(plain.endpoint.model.name, plain.endpoint.name, reply.status, seconds, reply.reason)
        close = self._closing or (self._half_closed and not self._held)
        name = problem.request_id.encode("latin-1") if problem is not None else plain.head.request_id
        self.transport.write(self._whole(reply, name, close=close))
        if close:
            self.transport.close()
        self._tell(reply, scores, random(), problem)  # noqa: S311 - no secret
        self._answered()

    def _answered(self) -> None:
        """The connection is idle again."""
        self._due = False
        self._ticket = self._query = None
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self._reaper is None:
            self._reaper = self.loop.call_later(self.timeout_keep_alive, self._reap)
        if self.transport.is_closing():
            return
        if self._held:
            self._release()
        if self._half_closed and not self._due and not self.ended:
            self._end_with(None)

    def _ok(self) -> bytes:
        defaults = self.server_state.default_headers
        if _ok_head[0] is not defaults:
            head = httptools_impl.STATUS_LINE[200] + b"".join(b"%s: %s\r\n" % pair for pair in defaults)
            _ok_head[:] = defaults, head + b"content-type: "
        return _ok_head[1]  # type: ignore[no-any-return]

    def _whole(self, reply: Reply, request_id: bytes | None, *, close: bool) -> bytes:
        """Any reply, its headers in the gateway's order."""
        headers = [*self.server_state.default_headers, (b"content-type", reply.content_type)]
        headers.append((b"content-length", b"%d" % len(reply.body)))
        if request_id is not None:
            headers.append((b"x-request-id", request_id))
        headers += reply.headers
        if close:
            headers.append((b"connection", b"close"))
        lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        return httptools_impl.STATUS_LINE[reply.status] + lines + b"\r\n" + reply.body

    def _release(self) -> None:
        """Go on with what came while the reply was due."""
        held, self._held = self._held, b""
        if not self.flow.write_paused:
            self.flow.resume_reading()
        self.data_received(held)

    # ---- uvicorn's way

    def _feed(self, data: bytes) -> None:
        if self.ended:
            return
        # llhttp keeps however much of one header comes, so a head is fed no more than it may have.
        while self._in_head:
            room = lane.max_head_bytes - self._head_bytes
            if room <= 0:
                self._end_with(_head_too_large())
                return
            part, data = data[:room], data[room:]
            self._head_bytes += len(part)
            self._parse(part)
            if not data or self.ended or self.transport.is_closing():
                return
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Do uvicorn's `data_received`; but what offers another protocol is answered in this one.

        llhttp, as httptools sets it, ends such a request with its head: its body would be lost, and whatever
        follows. So it is read once more without the offer, which is how RFC 9110 (7.8) has it declined.
        """
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if not self._declined:
                    return  # CONNECT
                self._declined = False
                data = _without_offer(self.parser, self.url, self.headers) + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                with suppress(AttributeError):  # as uvicorn, which has an older httptools without
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            else:
                return

    def on_message_begin(self) -> None:
        """The parser has seen the first byte of a request."""
        super().on_message_begin()
        self._in_message = self._in_head = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has read a header."""
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > lane.max_head_bytes:
            self._refusal = _head_too_large()
            raise _RefusedError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The parser has read the head."""
        self._header_bytes = 0
        tunnel = self.parser.get_method() == b"CONNECT"
        # Whatever is offered, as `h2c` is by Java's HttpClient, is a protocol that we do not speak.
        self._declined = self.parser.should_upgrade() and not tunnel
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # which no such client understands (RFC 9110, 10.1.1)
        elif not _one_host(self.headers):
            self._refusal = Problem(400, "A request of HTTP/1.1 has one header Host.", reason="host")
            raise _RefusedError
        if not self._declined:
            super().on_headers_complete()
            if tunnel:
                self.cycle.keep_alive = False  # nobody knows what follows
            self._in_head = False  # from here on the request has a cycle

    def on_message_complete(self) -> None:
        """The parser has read the whole request."""
        if not self._declined:
            self._in_message = False
            super().on_message_complete()

    def _start_asgi_task(self, cycle: httptools_impl.RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """The gateway's reply is written."""
        super().on_response_complete()
        if self._in_message:
            self._unset_keepalive_if_required()  # the next request has begun
        if self.ended and not self._answering():
            self._close()

    def send_400_response(self, msg: str) -> None:
        """Answer what llhttp or a callback of its refuses, in the shape of our other refusals, and close."""
        self._end_with(self._refusal or Problem(400, msg, reason="bad_http"))

    def _answering(self) -> bool:
        """Whether a request that the gateway has is still to be answered."""
        return bool(self.pipeline) or (self._active is not None and not self._active.response_complete)

    def _end_with(self, problem: Problem | None) -> None:
        """Read no more; close when the requests before this one have their replies, and this one has its own.

        Parameters
        ----------
        problem
            The reply to the request that the parser is in; None where it gets none.
        """
        own = self.cycle if self._in_message and not self._in_head else None
        if own is not None and self.pipeline and self.pipeline[0][0] is own:
            self.pipeline.popleft()  # its body will never be whole
        elif own is not None and own.response_started:
            problem = None  # it was refused before its body had ended
        elif own is not None:
            own.disconnected = True  # whatever the gateway says of it goes nowhere
            own.message_event.set()
            self._active = None
        self.ended = self._in_message = True  # so that nothing that follows is taken for a plain request
        self._last = problem
        if self._answering():
            self.flow.resume_reading()  # to see the client leave; a close with bytes unread is a reset
        else:
            self._close()

    def _close(self) -> None:
        """Close after what `_end_with` has left to say."""
        problem, self._last = self._last, None
        if problem is not None and not self.transport.is_closing():
            problem.request_id = name_request(Head())
            reply = problem_reply(problem)
            self.transport.write(self._whole(reply, problem.request_id.encode(), close=True))
            lane.observe_refused("", "other", reply.status, 0.0, reply.reason)
            lane.log_refused("other", reply, perf_counter(), request_id=problem.request_id, problem=problem)
        self.transport.close()

    # ---- the end of a connection

    def _reap(self) -> None:
        """Close a connection that was idle for the keep-alive time, or look again when it will have been."""
        self._reaper = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self._due or math.isinf(left):
            return  # the next reply of this lane sets the timer again
        if left > 0:
            self._reaper = self.loop.call_later(left, self._reap)
        else:
            self.transport.close()

    def _look_at_client(self) -> None:
        """End a connection whose client was silent for too long while it is its turn, else look again."""
        unsent, self._unsent = self._unsent, _unsent(self.transport)
        if unsent and unsent == self._unsent:
            self.transport.abort()
            return
        left = lane.receive_s
        new = self.cycle is None and not self._due and math.isinf(self._idle_since)
        if (new or self._in_message or self._partial) and not (self.pipeline or self.flow.read_paused):
            left += self._heard - self.loop.time()
        replying = self.cycle is not None and not self.cycle.response_complete
        if left > 0 or self.ended or self.transport.is_closing() or (self._in_head and replying):
            pass  # it is not the client's turn: of a head, the reply to the request before it is due
        elif self._in_head or self._partial or (replying and not self.cycle.response_started):
            what = "head" if self._in_head else "body"
            waited = f"{lane.receive_s:g} s (OKAMOCHI_RECEIVE_S)"
            self._end_with(Problem(408, f"The rest of the {what} did not come within {waited}."))
        else:
            self.transport.close()
        self._patience = self.loop.call_later(left if left > 0 else lane.receive_s, self._look_at_client)

    def shutdown(self) -> None:
        """Close when idle, else once the reply that is due has been written."""
        if self._due:
            self._closing = True
            return
        if self._partial:
            partial, self._partial = self._partial, b""
            self._feed(partial)
        super().shutdown()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client will send no more; it still gets what it asked for."""
        if is_ssl(self.transport):
            return False  # asyncio's TLS has no half-closed connections
        self._half_closed = True
        if not self._due and not self.ended:
            self._end_with(None)
        return not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left: its place in the queue is free."""
        if self._ticket is not None:
            assert self._plain is not None  # noqa: S101 - set with the ticket
            self._plain.endpoint.model.batcher.cancel(self._ticket)
            self._ticket = None
        for timer in (self._reaper, self._patience):
            if timer is not None:
                timer.cancel()
        self._reaper = self._patience = None
        self._held = self._partial = b""
        active = self._active
        if active is not None and not active.response_complete:
            # uvicorn tells the last of pipelined requests alone; the one that is being answered would write
            # to a transport that is gone, which raises.
            active.disconnected = True
            active.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    # ---- back-pressure: a client that reads nothing is read no further

    def pause_writing(self) -> None:
        """The transport holds more than the client takes."""
        super().pause_writing()
        if self.cycle is None or self.cycle.response_complete:
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if not self._due:
            self.flow.resume_reading()


class _RefusedError(Exception):
    """Stops the parser; the connection's `_refusal` says why."""


def _head_too_large() -> Problem:
    return Problem(431, f"The head is larger than {lane.max_head_bytes} bytes (OKAMOCHI_MAX_HEAD_BYTES).")
