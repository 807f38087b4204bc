"""The express lane: a whole, plain prediction request is answered from the socket, before ASGI.

Bytes that reach an idle connection and hold exactly one plain request to a prediction route (or do with the
next packet) are decoded, queued and answered by one `transport.write`. Anything else, the same bytes, goes
uvicorn's way to the gateway, which has the same endpoints. llhttp decides what is plain, as in uvicorn
(`plain`). Where a release of uvicorn changes what is used of it (`serving.guards`), the gateway serves alone.
"""

from __future__ import annotations

import logging
import math
from random import random
from time import perf_counter
from typing import TYPE_CHECKING, Any

import uvicorn.config
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.utils import is_ssl

from serving.access.check import demand
from serving.errors import Problem, server_failed
from serving.http import access
from serving.http.caller import caller_of, proxies
from serving.http.connection import Connection
from serving.http.cors import cors_of
from serving.http.head import as_sent, name_request
from serving.http.heads import Client
from serving.http.lane import lane
from serving.observe.logs import RequestLog
from serving.observe.metrics import Observer
from serving.protocols import AnswerLater, deadline
from serving.protocols.codings import compressed, negotiated
from serving.protocols.data_plane import digits_of
from serving.protocols.later import make
from serving.protocols.options import check_digits

if TYPE_CHECKING:
    import asyncio

    from serving.http.patience import Turn
    from serving.http.plain import Plain
    from serving.http.routes import Live
    from serving.observe.traces import Tracer
    from serving.protocols import Head, Reply
    from serving.scoring.batcher import Ticket
    from serving.scoring.scores import Scores
    from serving.settings import Settings

logger = logging.getLogger("bentoml.okamochi")

HELD_BYTES = 64 * 1024  # bytes that a client may send ahead while its reply is due, before reading pauses


def install(live: Live, observe: Observer, settings: Settings, tracer: Tracer | None = None) -> None:
    """Have the worker's uvicorn, which is started next, make its connections here.

    Parameters
    ----------
    live
        The same as the gateway's.
    observe
        Counts the requests that this lane answers.
    """
    lane.settings, lane.cors = settings, cors_of(settings)
    lane.gzip_bytes = settings.gzip_bytes or math.inf
    lane.live, lane.proxies = live, proxies()
    lane.observe, lane.observe_refused = observe, Observer("gateway")
    lane.digits = settings.probability_digits
    lane.deadline_s = min(settings.default_deadline_ms, settings.max_deadline_ms) / 1000
    lane.log = RequestLog("express", settings.log_sample, tracer)
    lane.sample_rate, lane.traced = lane.log.sample_rate, tracer is not None
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{ExpressConnection.__name__}"


# Default headers of uvicorn, new ones each second, and a reply of 200 with them up to its media type.
_ok_head: list[Any] = [None, b""]


class ExpressConnection(Connection):
    """One client's connection, on both lanes."""

    __slots__ = (
        "_client",
        "_closing",
        "_due",
        "_held",
        "_idle_since",
        "_partial",
        "_plain",
        "_principal",
        "_query",
        "_queued",
        "_reaper",
        "_started",
        "_ticket",
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._client = Client()
        # Of the request that this lane is answering:
        self._due = False
        self._ticket: Ticket | None = None
        self._plain: Plain | None = None
        self._principal: access.Principal | None = None
        self._query: Any = None
        self._started = 0.0
        self._queued: float | None = None
        self._held = b""  # bytes that came while a reply was due
        self._partial = b""  # a plain head whose body is still to come
        self._closing = False
        # The keep-alive timer of this lane runs on and looks when it is due, instead of being set and
        # cancelled for each request: 1.4 us less.
        self._idle_since = math.inf
        self._reaper: asyncio.TimerHandle | None = None

    # ---- in

    def data_received(self, data: bytes) -> None:
        """Take a whole plain request; hand other bytes to uvicorn."""
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
            heads = lane.live.routes.heads
            seen = heads.seen
            plain = seen[head] if head in seen else heads.unseen(head, self._client)
            if plain is not None:
                left = end + plain.length - len(data)
                if left == 0:
                    self._take(plain, data[end:])
                    return
                if 0 < left <= HELD_BYTES and not partial:
                    self._wait_for_body(data)
                    return
        self._idle_since = math.inf  # uvicorn's own timer from here on
        super().data_received(data)

    def _wait_for_body(self, data: bytes) -> None:
        """Keep a head whose body is in the next packet, as Python's own clients send it.

        Only once a request, so that a body in many small packets is joined by uvicorn, in a buffer.
        """
        self._partial = data
        self._idle_since = math.inf
        self._patience.heard = self.loop.time()
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
            asked, shown = plain.access_request, self._certificate  # of a cached head, and of this connection
            self._principal = access.admit(asked if shown is None else access.with_certificate(asked, shown))
            if plain.split is not None:
                plain = self._split(plain)
                endpoint = plain.endpoint
            self._query = query = endpoint.read(body, head)
            if head.deadline_ms is None and query.within_s is None:
                due, explicit = started + lane.deadline_s, False
            else:
                due, explicit = deadline(head, query, started, lane.settings)
            if lane.traced:
                self._queued = perf_counter()
            model, explain = endpoint.model, query.explain
            if explain is None:
                ticket = model.batcher.submit(query.rows, query.n, self._scored, due, explicit=explicit)
            else:
                demand(self._principal, "explain")
                check_digits(explain, digits_of(self._principal, lane.settings))
                submit, caller = model.explainer.submit, self._caller(head)
                ticket = submit(explain, query.rows, query.n, self._scored, due, caller, explicit=explicit)
            if self._due:
                self._ticket = ticket
        except Problem as problem:
            self._principal = self._principal or access.refused(problem)
            if problem.wait_s:
                self.loop.call_later(problem.wait_s, self._refuse_after_wait, plain, problem)
            else:
                self._refuse(problem)
        except Exception as error:  # noqa: BLE001 - as in the gateway: a bug is a 500 and a line in the log
            self._fail(error)

    def _caller(self, head: Head) -> str:
        client = self.client
        if lane.proxies is not None:
            client = lane.proxies.client_of(client, head.headers)
        return caller_of({"client": client}, self._principal)

    def _refuse_after_wait(self, plain: Plain, problem: Problem) -> None:
        if self._plain is plain and not self.transport.is_closing():
            self._refuse(problem)

    def _split(self, plain: Plain) -> Plain:
        """The request as the champion or the canary answers it."""
        split, principal = plain.split, self._principal
        assert split is not None  # noqa: S101 - the caller has looked
        if split.picks(plain.head.canary_key, principal.name if principal is not None else None):
            assert plain.canary is not None  # noqa: S101 - set with `split`
            self._plain = plain = plain.canary
        return plain

    def _refuse(self, problem: Problem) -> None:
        assert self._plain is not None  # noqa: S101 - set with _due
        problem = as_sent(problem, self._plain.head)
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

    def _scored(  # noqa: C901 - each kind of answer in one function: a call costs 0.1 us
        self, scores: Scores | None, first: int, problem: Problem | None
    ) -> None:
        """The batcher has scored the request, or not."""
        plain = self._plain
        assert plain is not None  # noqa: S101 - set with _due
        if scores is None:
            assert problem is not None  # noqa: S101 - one of the two
            self._refuse(problem)
            return
        try:
            principal = self._principal
            digits = lane.digits if principal is None else principal.digits
            if digits:
                scores = scores.rounded(digits)
            answer = plain.answer  # called as an attribute, Python 3.11 would look it up anew each time
            reply = answer(self._query, scores, first)
        except AnswerLater as later:
            self._answer_later(later, scores, first)
            return
        except Problem as refused:
            self._refuse(refused)
            return
        except Exception as error:  # noqa: BLE001 - the other requests of the batch get their replies
            self._fail(error)
            return
        content_type, body = reply.content_type, reply.body
        size = len(body)
        if reply.headers or self._closing or self._half_closed or size >= lane.gzip_bytes:
            self._reply(reply, scores)
            return
        # The usual reply, in one write; its metrics by the batch: 1.5 us less than `_reply`.
        tally = plain.tally
        tally(self._started)
        if lane.audit is not None:
            self._audit(200)
        request_id = plain.head.request_id
        if request_id is None:
            self.transport.write(
                b"%s%s\r\ncontent-length: %d\r\n\r\n%s" % (self._ok(), content_type, size, body)
            )
        else:
            self.transport.write(
                b"%s%s\r\ncontent-length: %d\r\nx-request-id: %s\r\n\r\n%s"
                % (self._ok(), content_type, size, request_id, body)
            )
        if lane.sample_rate is not None:
            draw = random()  # noqa: S311 - no secret
            trace = plain.head.trace
            if draw < lane.sample_rate or (trace is not None and lane.log.follows(trace)):
                self._tell(reply, scores, draw)
        self._answered()

    def _answer_later(self, later: AnswerLater, scores: Scores, first: int) -> None:
        """Write the reply once a thread has made it."""
        plain = self._plain
        assert plain is not None  # noqa: S101 - set with _due
        self._ticket = None  # it has its scores
        due, _ = deadline(plain.head, self._query, self._started, lane.settings)

        def made(done: asyncio.Future[Any]) -> None:
            if self._plain is not plain or self.transport.is_closing():
                done.exception()  # the client has left
                return
            try:
                self._query = done.result()
            except Problem as refused:
                self._refuse(refused)
            except Exception as error:  # noqa: BLE001 - as in `_scored`
                self._fail(error)
            else:
                self._scored(scores, first, None)

        try:
            make(later, due, lambda: not self.transport.is_closing()).add_done_callback(made)
        except Problem as refused:
            self._refuse(refused)

    def _audit(self, status: int) -> None:
        plain, audit = self._plain, lane.audit
        assert plain is not None and audit is not None  # noqa: S101, PT018 - the caller looked
        caller = self._principal.name if self._principal is not None else ""
        model = plain.endpoint.model
        audit(caller, model.name, model.version, plain.endpoint.name, status)

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
            principal=self._principal.name if self._principal is not None else "",
        )

    def _reply(self, reply: Reply, scores: Scores | None = None, problem: Problem | None = None) -> None:
        """Write any reply; at once, unless it is to be compressed."""
        plain = self._plain
        assert plain is not None  # noqa: S101 - set with _due
        reply, compress = negotiated(reply, plain.head.headers, lane.gzip_bytes)
        if not compress:
            self._write(reply, scores, problem)
            return

        def write(done: asyncio.Future[Reply]) -> None:
            if not self.transport.is_closing():
                self._write(done.result(), scores, problem)

        self.loop.run_in_executor(lane.compressing, compressed, reply).add_done_callback(write)

    def _write(self, reply: Reply, scores: Scores | None, problem: Problem | None) -> None:
        plain = self._plain
        assert plain is not None  # noqa: S101 - set with _due
        seconds = perf_counter() - self._started
        endpoint = plain.endpoint
        model = endpoint.model
        lane.observe(model.name, model.version, endpoint.name, reply.status, seconds, reason=reply.reason)
        if lane.audit is not None:
            self._audit(reply.status)
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
        # An idle connection holds no reference to a model.
        self._ticket = self._query = self._plain = self._principal = None
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
            pairs = (*defaults, *lane.always)
            head = httptools_impl.STATUS_LINE[200] + b"".join(b"%s: %s\r\n" % pair for pair in pairs)
            _ok_head[:] = defaults, head + b"content-type: "
        return _ok_head[1]  # type: ignore[no-any-return]

    def _release(self) -> None:
        """Process the bytes that came while the reply was due."""
        held, self._held = self._held, b""
        if not self.flow.write_paused:
            self.flow.resume_reading()
        self.data_received(held)

    # ---- the end of a connection

    def turn(self) -> Turn:
        """See `Patience`."""
        if self._due:
            return ""
        if self._partial:
            return "body"
        idle = not self._in_message and not math.isinf(self._idle_since)
        return "" if idle else super().turn()

    def _refuse_late(self, turn: Turn) -> None:
        if self._partial:  # its refusal and its line name the request by what its head says
            partial, self._partial = self._partial, b""
            super().data_received(partial)
        super()._refuse_late(turn)

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

    def shutdown(self) -> None:
        """Close when idle, else once the reply that is due has been written."""
        if self._due:
            self._closing = True
            return
        if self._partial:
            partial, self._partial = self._partial, b""
            super().data_received(partial)
        super().shutdown()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more; the reply that is due is written first."""
        if self._due and not is_ssl(self.transport):
            self._half_closed = True
            return True
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left: its request leaves the queue."""
        if self._ticket is not None:
            assert self._plain is not None  # noqa: S101 - set with the ticket
            self._plain.endpoint.model.batcher.cancel(self._ticket)
            self._ticket = None
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        self._held = self._partial = b""
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """The write buffer has drained."""
        self.flow.resume_writing()
        if not self._due:
            self.flow.resume_reading()
