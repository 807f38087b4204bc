"""The log of a worker: one JSON object a line, written by a thread, so that no request waits for the reader.

A failed request has a line; of the others, the fraction `OKAMOCHI_LOG_SAMPLE` is drawn. A line never holds a
value of a cell: it has neither the client's data nor the message of an exception, which may quote them.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import re
import sys
import threading
import time
from functools import lru_cache
from queue import Empty, SimpleQueue
from random import random
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from artifact.raised import raised_at
from serving.errors import usual_reason
from serving.observe import metrics, traces
from serving.observe.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.errors import Problem
    from serving.observe.traces import Traced, Tracer
    from serving.protocols import Endpoint, Head, Reply
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores

REQUESTS = "bentoml.okamochi.request"
MAX_LINES = 2_000  # in the thread's queue; further lines are dropped and counted
MAX_LINE_BYTES = 8_192
MAX_WRITE_BYTES = 65_536
GATHER_S = 0.1  # each time that the thread wakes costs the event loop some 50 us
FLUSH_S = 1.0  # a worker that ends waits this long for the queued lines to be written
FAILURES_PER_S = 10.0  # lines about refused requests; a status 500 always has its line
FAILURES_AT_ONCE = 50.0
COUNT_S = 0.1  # omitted lines are counted in one step, as `metrics.Observer` counts requests


_encode = msgspec.json.Encoder(enc_hook=str).encode


# ---- lines


def _line(record: logging.LogRecord) -> bytes:
    """A record as JSON."""
    found: dict[str, Any] = {
        "time": _shown(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
        "pid": record.process,
    }
    if record.exc_info and record.exc_info[1] is not None:
        found["error"] = raised_at(record.exc_info[1])
    line: bytes = _encode(found)
    if len(line) > MAX_LINE_BYTES:
        for key in ("message", "error"):
            found[key] = str(found.get(key, ""))[-MAX_LINE_BYTES // 4 :]
        line = _encode(found)
    return line


@lru_cache(2)
def second(when: int) -> str:
    """A whole second since 1970 in ISO 8601, in UTC and without the time zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))


def _shown(when: float) -> str:
    return f"{second(int(when))}.{int(when % 1 * 1000):03d}Z"


# ---- the way out


class BoundedHandler(logging.Handler):
    """Hands lines to a thread that writes them; drops and counts lines when the reader is too slow.

    A pipe that nobody reads holds 64 KB, and then a write to it never returns: on the event loop that would
    stop the worker.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._dropped = 0  # since the last line that was written
        self._idle = threading.Event()
        self._idle.set()
        Supervised("log", self._write_all).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, never wait."""
        try:
            line = _line(record)
        except Exception:  # noqa: BLE001 - a request does not fail because its log line cannot be made
            line = _encode(
                {"level": "error", "message": "a log line could not be made", "logger": record.name}
            )
        self.put(line)

    def put(self, line: bytes) -> None:
        """Queue a line, never wait."""
        if self._lines.qsize() >= MAX_LINES:
            self._dropped += 1
            metrics.LOG_DROPPED.inc()
            return
        self._idle.clear()
        self._lines.put(line)

    def flush(self) -> None:
        """Wait up to `FLUSH_S` until the thread has written all lines; called when the process ends."""
        self._idle.wait(FLUSH_S)

    def _write_all(self) -> None:
        while True:
            lines: list[bytes] = []
            try:
                self._gather(lines)
                self._write(b"\n".join(lines) + b"\n", len(lines))
            except BaseException:
                metrics.LOG_DROPPED.inc(len(lines))
                raise

    def _gather(self, lines: list[bytes]) -> None:
        """Wait for a line, then `GATHER_S` for further ones."""
        try:
            lines.append(self._lines.get_nowait())
        except Empty:
            self._idle.set()
            lines.append(self._lines.get())
        size = len(lines[0])
        time.sleep(GATHER_S)
        while size < MAX_WRITE_BYTES and not self._lines.empty():
            lines.append(self._lines.get())
            size += len(lines[-1])
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(_encode({"level": "warning", "message": f"{dropped} log lines were dropped"}))

    def _write(self, data: bytes, lines: int) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:  # the reader is gone, or the disk is full
                metrics.LOG_DROPPED.inc(lines)
                return


def install() -> None:
    """Have everything that this process logs written by a thread, as JSON, to standard output."""
    root = logging.getLogger()
    if any(isinstance(handler, BoundedHandler) for handler in root.handlers):
        return
    # A server may have been started with its output closed.
    handler = BoundedHandler(sys.stdout.fileno() if sys.stdout else os.open(os.devnull, os.O_WRONLY))
    _handlers.append(handler)
    root.handlers[:] = [handler]
    for name in list(logging.Logger.manager.loggerDict):
        found = logging.getLogger(name)
        if found.handlers:
            found.handlers[:] = []
            found.propagate = True
    bentoml = logging.getLogger("bentoml")
    bentoml.setLevel(min(bentoml.level, logging.INFO))
    logging.captureWarnings(capture=True)
    atexit.register(handler.flush)


_handlers: list[BoundedHandler] = []


def write(level: str, message: str, fields: dict[str, Any]) -> None:
    """Write a line past the machinery of `logging`, which takes 30 us."""
    for handler in _handlers:
        told: dict[str, Any] = {"time": _shown(time.time()), "level": level, "logger": REQUESTS}
        told |= {"message": message, "pid": os.getpid()}
        handler.put(_encode(told | fields))


# ---- requests


class Allowance:
    """A rate limit for log lines (a token bucket), so that a flood of bad requests does not fill the disk."""

    def __init__(self, per_s: float, at_once: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._max = at_once
        self._left = at_once
        self._clock = clock
        self._then = clock()
        self.refused = 0

    def take(self) -> bool:
        """Whether one more may pass."""
        now = self._clock()
        self._left = min(self._max, self._left + (now - self._then) * self._per_s)
        self._then = now
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        return True


class RequestLog:
    """Logs single requests, and traces them if there is a tracer.

    Parameters
    ----------
    lane
        The lane that answers the requests.
    fraction
        Fraction of the requests answered with a status below 400 that have a line, from 0 to 1.
    """

    allowance = Allowance(FAILURES_PER_S, FAILURES_AT_ONCE)  # one for both lanes

    def __init__(self, lane: str, fraction: float, tracer: Tracer | None = None) -> None:
        self.lane = lane
        self.fraction = fraction
        self.tracer = tracer
        self._left_out = 0  # omitted lines that the metrics do not count yet
        # Fraction of the successful requests for which the log is called; None: it is never called.
        self.sample_rate = max(fraction, tracer.fraction if tracer is not None else 0.0) or None
        if tracer is not None and self.sample_rate is None:
            self.sample_rate = 0.0  # a request with a sampled parent may be traced

    def follows(self, trace: bytes) -> bool:
        """Whether a request with this `traceparent` may be traced whatever number is drawn."""
        tracer = self.tracer
        return tracer is not None and (not tracer.parents or trace[54:55] in _ODD)

    def __call__(
        self,
        name: str,
        reply: Reply,
        started: float,
        *,
        draw: float | None = None,
        endpoint: Endpoint | None = None,
        model: LiveModel | None = None,
        head: Head | None = None,
        queued: float | None = None,
        scores: Scores | None = None,
        request_id: str = "",
        problem: Problem | None = None,
        principal: str = "",
    ) -> None:
        """Log and trace a request that has just been answered, if it is drawn or failed.

        Parameters
        ----------
        name
            Name of the endpoint, as in the metrics.
        model
            The model of the route, where the route is not a prediction route.
        started, queued
            When the request came and when its rows were read, by `time.perf_counter`.
        draw
            A random number from 0 to 1, if the caller drew one: with equal fractions, the same requests are
            logged and traced.
        scores
            The scores that the reply was made from.
        request_id
            The id of the request in the reply, where the request was refused.
        problem
            The reason of a refusal.
        principal
            The authenticated caller, if known.
        """
        now = perf_counter()
        draw = random() if draw is None else draw  # noqa: S311 - no secret
        span = None
        if self.tracer is not None and endpoint is not None and head is not None:
            span = self.tracer(endpoint, head, reply.status, self.lane, draw, (started, queued, now), scores)
        status = reply.status
        if status < 400:
            if draw >= self.fraction:
                return
        elif status != 500 and not self.allowance.take():
            if not self._left_out:
                asyncio.get_running_loop().call_later(COUNT_S, self._count_left_out)
            self._left_out += 1
            return
        live = endpoint.model if endpoint is not None else model
        fields: dict[str, Any] = {
            "lane": self.lane,
            "endpoint": name,
            "model": live.name if live is not None else problem.model or None if problem else None,
            "version": live.version if live is not None else None,
            "status": status,
            "ms": round(1000 * (now - started), 3),
        }
        if principal:
            fields["principal"] = principal
        if status >= 400:
            fields |= _why(reply, problem)
        elif endpoint is not None:
            fields["id"] = id_of(reply.body)
        fields |= _ids(head, request_id, span)
        if status >= 400 and self.allowance.refused:
            fields["lines_left_out"], self.allowance.refused = self.allowance.refused, 0
        level = "info" if status < 400 else "error" if status >= 500 else "warning"
        write(level, "request", fields)

    def _count_left_out(self) -> None:
        metrics.LOG_LEFT_OUT.inc(self._left_out)
        self._left_out = 0


def _ids(head: Head | None, request_id: str, span: Traced | None) -> dict[str, str]:
    """The ids by which the request is found elsewhere: in the client's log, and in traces."""
    found: dict[str, str] = {}
    if head is not None and head.request_id is not None:
        found["request_id"] = head.request_id.decode("latin-1")
    elif request_id:
        found["request_id"] = request_id
    if span is not None:
        found |= {"trace_id": span.trace_id.hex(), "span_id": span.span_id.hex()}
    elif head is not None and head.trace is not None and (parent := traces.parse(head.trace)) is not None:
        found |= {"trace_id": parent.trace_id.hex(), "span_id": parent.span_id.hex()}
    return found


def _why(reply: Reply, problem: Problem | None) -> dict[str, Any]:
    """The reason of a refusal and the first wrong place, without the value of the cell.

    A column is named only if the model has it. An unknown column's name comes from the client: it may be a
    value, for example where the header of a CSV file is missing.
    """
    found: dict[str, Any] = {"reason": reply.reason or usual_reason(reply.status)}
    if problem is None:
        return found
    if problem.errors:
        first = problem.errors[0]
        if first.row is not None:
            found["row"] = first.row
        if first.column is not None and first.fault not in (None, "unknown_column"):
            found["column"] = first.column
        if len(problem.errors) > 1:
            found["errors"] = len(problem.errors)
    if problem.error:
        found["error"] = problem.error
    return found


_ODD = frozenset(
    b"%x" % digit for digit in range(1, 16, 2)
)  # last hexadecimal digits of the flags of a sampled parent
_ID = re.compile(rb'"id":"([^"\\]{1,128})"')


def id_of(body: bytes) -> str | None:
    """The id in the first or last bytes of a reply; None where the protocol has no id."""
    found = _ID.search(body[:512]) or _ID.search(body[-160:])
    return found[1].decode("utf-8", "replace") if found else None
