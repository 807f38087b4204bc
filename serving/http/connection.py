"""uvicorn's HTTP/1.1 with what a server needs: limits, patience, and replies that keep their order.

A refusal of the parser waits for the replies to the requests before it; a client's offer of another protocol
is declined, not dropped; a client that sends no more still gets the replies that are due.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Any

import httptools
import msgspec
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import is_ssl

from serving.access.certificate import certificate_of
from serving.errors import Problem
from serving.http.caller import CERTIFICATE, PRESENCE, Presence
from serving.http.head import name_request, request_id_of
from serving.http.lane import lane
from serving.http.linger import MAX_BYTES, Linger, Outlet
from serving.http.patience import Patience
from serving.http.plain import one_host, without_offer
from serving.protocols import Head, Reply, problem_reply

if TYPE_CHECKING:
    import asyncio

    from serving.access.certificate import Certificate
    from serving.http.patience import Turn
    from serving.protocols import Endpoint

MAX_TARGET_BYTES = 65_535
"""Of the target of a request: httptools counts its parts with 16 bits."""
BEGINNING_BYTES = 4_096
"""What is fed at once where a head may begin: of it, what belongs to the head is not counted."""
UVICORN_KEEP_ALIVE_S = 5  # its default, where `--timeout-keep-alive` was not given


class Flow(flow_control.FlowControl):
    """Resumes reading only when every pipelined request is being answered.

    uvicorn's own resumes after each reply, so a client that sends without reading could pile up requests in
    the worker without limit: 200 MB in 20 s.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        """Resume reading unless requests are queued; bytes after the last request are dropped."""
        if not self._connection.pipeline or self._connection.ended:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One client's connection; the gateway answers its requests."""

    __slots__ = (
        "_active",
        "_certificate",
        "_declined",
        "_half_closed",
        "_head_bytes",
        "_header_bytes",
        "_in_head",
        "_in_message",
        "_last",
        "_last_endpoint",
        "_last_head",
        "_linger",
        "_patience",
        "_presence",
        "_refusal",
        "_shutting_down",
        "_unread",
        "ended",
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Of the request that the parser is in:
        self._in_message = False
        self._in_head = False
        self._head_bytes = 0  # fed since the bytes that it began in
        self._header_bytes = 0
        self._unread = 0  # bytes of its body that came after its reply
        self._declined = False  # it offers another protocol (Upgrade), at which llhttp stops
        self._refusal: Problem | None = None  # the refusal of a request that llhttp would accept
        # Of the connection:
        self._active: httptools_impl.RequestResponseCycle | None = None  # that the gateway is answering
        self._presence = Presence()  # of the request that the gateway is answering
        self._certificate: Certificate | None = None  # of the client, verified
        self._half_closed = False
        self._shutting_down = False
        self.ended = False  # nothing more is read; it closes once all requests before have their replies
        self._last: Problem | None = None  # the reply to the request that ended it
        self._last_head = Head()  # of that request: what its line in the log says of it
        self._last_endpoint: Endpoint | None = None
        self._linger: Linger | None = None  # it closes once the client has read the last reply
        self._patience = Patience(self, lane.settings.receive_s, self._refuse_late)
        if self.timeout_keep_alive == UVICORN_KEEP_ALIVE_S:
            self.timeout_keep_alive = lane.settings.keep_alive_s

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `Flow` and `Patience`; the handshake of TLS is over."""
        super().connection_made(transport)
        self._certificate = certificate_of(transport.get_extra_info("peercert"))
        self.flow = Flow(transport, self)
        self._patience.start()

    # ---- in

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser."""
        if self.ended:
            if self._linger is not None:
                self._linger.received(len(data))
            return
        if not self._in_head:
            self._patience.heard = self.loop.time()
        # llhttp keeps however much of one header comes, so a head is fed no more than it may have.
        while data and not self.ended and not self.transport.is_closing():
            room = len(data)
            if self._in_head:
                room = lane.settings.max_head_bytes - self._head_bytes
                if room <= 0:
                    self._end_with(_head_too_large())
                    return
            elif not self._in_message:
                room = BEGINNING_BYTES
            part, data = data[:room], data[room:]
            if self._in_head:
                self._head_bytes += len(part)
            self._parse(part)

    def _parse(self, data: bytes) -> None:
        """Do uvicorn's `data_received`, except that an offer of another protocol is declined.

        llhttp, as httptools configures it, ends such a request after its head: its body and all later bytes
        would be lost. So it is parsed again without the offer, which declines the offer (RFC 9110, 7.8).
        """
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if not self._declined:
                    return  # CONNECT
                self._declined = False
                data = without_offer(self.parser, self.url, self.headers) + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                with suppress(AttributeError):  # as in uvicorn: older versions of httptools lack it
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
        self._head_bytes = self._unread = 0

    def on_url(self, url: bytes) -> None:
        """The parser has read a part of the request's target."""
        self._header_bytes += len(url)
        if self._header_bytes > lane.settings.max_head_bytes:
            self._refusal = _head_too_large()
            raise _RefusedError
        if self._header_bytes > MAX_TARGET_BYTES:
            detail = f"The target of the request is too long; at most {MAX_TARGET_BYTES} bytes are accepted."
            self._refusal = Problem(414, detail)
            raise _RefusedError
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has read a header."""
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > lane.settings.max_head_bytes:
            self._refusal = _head_too_large()
            raise _RefusedError
        if self._in_head:  # uvicorn would add a trailer to the headers, credentials too (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The parser has read the head."""
        self._header_bytes = 0
        tunnel = self.parser.get_method() == b"CONNECT"
        # No offered protocol is supported, such as the `h2c` of Java's HttpClient.
        self._declined = self.parser.should_upgrade() and not tunnel
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # HTTP/1.0 clients do not understand it (RFC 9110, 10.1.1)
        elif not one_host(self.headers):
            self._refusal = Problem(
                400, "An HTTP/1.1 request must have exactly one Host header.", reason="host"
            )
            raise _RefusedError
        if not self._declined:
            super().on_headers_complete()
            if tunnel:
                self.cycle.keep_alive = False  # the bytes that follow cannot be parsed
            self._in_head = False  # from here on the request has a cycle

    def on_body(self, body: bytes) -> None:
        """The parser has read a part of a body; a refused request may have only so much more of it."""
        if self.cycle.response_complete:
            self._unread += len(body)
            if self._unread > MAX_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser has read the whole request."""
        if not self._declined:
            self._in_message = False
            super().on_message_complete()

    # ---- out

    def _start_asgi_task(self, cycle: httptools_impl.RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        cycle.transport = Outlet(self.transport, self.leave)  # type: ignore[assignment]
        self._presence = cycle.scope[PRESENCE] = Presence()  # type: ignore[literal-required]
        self._presence.may_have_left = self._half_closed
        if self._certificate is not None:
            cycle.scope[CERTIFICATE] = self._certificate  # type: ignore[literal-required]
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """The gateway's reply is written."""
        super().on_response_complete()
        if self._in_message:
            self._unset_keepalive_if_required()  # the next request has begun
        if self.ended and not self._answering():
            self._close()

    def _whole(self, reply: Reply, request_id: bytes | None, *, close: bool) -> bytes:
        """Any reply, with its headers in the gateway's order."""
        headers = [*self.server_state.default_headers, (b"content-type", reply.content_type)]
        headers.append((b"content-length", b"%d" % len(reply.body)))
        if request_id is not None:
            headers.append((b"x-request-id", request_id))
        headers += (*reply.headers, *lane.always)
        if close:
            headers.append((b"connection", b"close"))
        lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        return httptools_impl.STATUS_LINE[reply.status] + lines + b"\r\n" + reply.body

    # ---- the last request

    def send_400_response(self, msg: str) -> None:
        """Answer a request that llhttp or one of its callbacks refuses, as a problem, and close."""
        self._end_with(self._refusal or Problem(400, msg, reason="bad_http"))

    def _refuse_late(self, turn: Turn) -> None:
        waited = f"{lane.settings.receive_s:g} s (OKAMOCHI_RECEIVE_S)"
        self._end_with(Problem(408, f"The rest of the {turn} did not arrive within {waited}."))

    def _end_with(self, problem: Problem | None) -> None:
        """Stop reading; close once the requests before this one, and this one, have their replies.

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
            own.disconnected = True  # the gateway's reply to it is discarded
            own.message_event.set()
            self._active = None
        if self._in_message:
            self._last_head = Head(request_id=request_id_of(self.headers))
            if self.scope.get("method") == "POST" and "path" in self.scope:  # its head was whole
                self._last_endpoint = lane.live.routes.endpoints.get(self.scope["path"])
        self.ended = self._in_message = True
        self._last = problem
        if self._answering():
            self.flow.resume_reading()  # to notice a client that leaves; else closing sends a reset
        else:
            self._close()

    def _answering(self) -> bool:
        """Whether a request that the gateway has is still to be answered."""
        return bool(self.pipeline) or (self._active is not None and not self._active.response_complete)

    def _close(self) -> None:
        """Close after the last reply of `_end_with`."""
        problem, self._last = self._last, None
        if problem is not None and not self.transport.is_closing():
            problem.request_id = name_request(self._last_head)
            reply = problem_reply(problem)
            if lane.cors is not None:
                headers = (*reply.headers, *lane.cors.headers(self.headers or ()))
                reply = msgspec.structs.replace(reply, headers=headers)
            self.transport.write(self._whole(reply, problem.request_id.encode(), close=True))
            endpoint, self._last_endpoint = self._last_endpoint, None
            name = endpoint.name if endpoint is not None else "other"
            model = endpoint.model.name if endpoint is not None else ""
            version = endpoint.model.version if endpoint is not None else ""
            lane.observe_refused(model, version, name, reply.status, 0.0, reason=reply.reason)
            lane.log_refused(
                name,
                reply,
                perf_counter(),
                endpoint=endpoint,
                request_id=problem.request_id,
                problem=problem,
            )
        if (
            problem is not None and problem.status != HTTPStatus.REQUEST_TIMEOUT
        ):  # its client has had its time
            self.leave()
        elif self._linger is None:
            self.transport.close()

    def leave(self) -> None:
        """Close; where the client has not sent all of its request, only once it may have read the reply."""
        if not self._in_message or self._shutting_down or self.transport.is_closing():
            self.transport.close()
        elif self._linger is None:
            self.ended = True
            self.flow.resume_reading()
            self._linger = Linger(self.transport, self.loop)

    # ---- the client

    def turn(self) -> Turn:
        """See `Patience`: the client's turn to send a head begins when the previous reply is written."""
        if self.ended or self.pipeline or self.flow.read_paused:
            return ""
        cycle = self.cycle
        if cycle is None:
            return "head" if self._in_head else "silent"
        if self._in_head:
            return "head" if cycle.response_complete else ""
        if not self._in_message:
            return ""
        return "silent" if cycle.response_started else "body"

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more; it still gets the replies that are due."""
        if is_ssl(self.transport) or self._linger is not None:
            return False  # asyncio's TLS has no half-closed connections
        self._half_closed = self._presence.may_have_left = True
        if not self.ended:
            self._end_with(None)
        if self._abandoned():
            self.transport.close()
        return not self.transport.is_closing()

    def _abandoned(self) -> bool:
        """Whether the server, which ends, need not wait for the request that the gateway has."""
        presence = self._presence
        return self._shutting_down and presence.dispensable and presence.may_have_left and self._answering()

    def shutdown(self) -> None:
        """Close when idle, else once the replies are written; at once where nobody may read them."""
        self._shutting_down = True
        if self._abandoned() or self._linger is not None:
            self.transport.close()
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        self._patience.end()
        if self._linger is not None:
            self._linger.end()
        active = self._active
        if active is not None and not active.response_complete:
            # uvicorn notifies the last pipelined request only; the request being answered would write
            # to a transport that is gone, which raises.
            active.disconnected = True
            active.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The write buffer is full: the client does not read, so nothing more is read from it."""
        super().pause_writing()
        if self.cycle is None or self.cycle.response_complete:
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        """The write buffer has drained."""
        super().resume_writing()
        self.flow.resume_reading()


class _RefusedError(Exception):
    """Stops the parser; the reason is the connection's `_refusal`."""


def _head_too_large() -> Problem:
    limit = f"{lane.settings.max_head_bytes} bytes (OKAMOCHI_MAX_HEAD_BYTES)"
    return Problem(431, f"The head is larger than {limit}.")
