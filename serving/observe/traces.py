"""Traces: W3C `traceparent` in, OpenTelemetry spans out where OTEL_EXPORTER_OTLP_ENDPOINT is set.

A traced request has four spans: itself, its reading, its wait in the queue and the model's call. They are
written as OTLP in protobuf by hand, since OpenTelemetry's SDK costs about 0.1 ms for them, which is more than
a request.
A thread sends them; what waits is bounded, and dropped and counted beyond that.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import struct
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from queue import Empty, SimpleQueue
from random import getrandbits
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from artifact.raised import raised_at
from serving.observe import metrics
from serving.observe.supervised import Supervised
from serving.settings import MAX_SHOWN, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serving.protocols import Endpoint, Head
    from serving.scoring.scores import Scores

logger = logging.getLogger("bentoml.okamochi")

MAX_WAITING = 4_096  # traced requests
MAX_PER_POST = 512
MAX_STATE_BYTES = 512
PROTOCOL = "http/protobuf"
EVERY_S = 1.0
COMPLAIN_EVERY_S = 60.0

# https://www.w3.org/TR/trace-context/: a later version may add parts behind a dash; zeros are invalid.
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Parent(NamedTuple):
    """What a `traceparent` says."""

    trace_id: bytes
    span_id: bytes
    sampled: bool


def parse(value: bytes) -> Parent | None:
    """Read a `traceparent`; None for one that the specification has us ignore."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more) or not trace.strip(b"0") or not span.strip(b"0"):
        return None
    return Parent(bytes.fromhex(trace.decode()), bytes.fromhex(span.decode()), bool(int(flags, 16) & 1))


# ---- which requests


class TraceSampler(NamedTuple):
    """Whether a request is traced.

    Parameters
    ----------
    fraction
        Fraction of the requests without a parent that are traced, from 0 to 1.
    parents
        Whether a request with a parent is traced exactly when its parent is.
    """

    fraction: float
    parents: bool

    def takes(self, parent: Parent | None, draw: float) -> bool:
        """Decide by the trace's id if there is one, so that all services of a trace decide alike."""
        if parent is None:
            return draw < self.fraction
        if self.parents:
            return parent.sampled
        return int.from_bytes(parent.trace_id[8:]) < self.fraction * 2**64


_SAMPLERS = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}


def sampler(environment: Mapping[str, str]) -> TraceSampler:
    """The sampler that OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG name, as OpenTelemetry defines them.

    Raises
    ------
    SettingsError
        Names the variable.
    """
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip() or "parentbased_always_on"
    root = name.removeprefix("parentbased_")
    if root not in _SAMPLERS:
        expected = ", ".join([*_SAMPLERS, *(f"parentbased_{known}" for known in _SAMPLERS)])
        raise SettingsError(f"OTEL_TRACES_SAMPLER={name!r}: expected one of {expected}")
    fraction = _SAMPLERS[root]
    if fraction is None:
        text = environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
        try:
            fraction = float(text)
        except ValueError:
            fraction = -1.0
        if not 0 <= fraction <= 1:
            raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG={text!r}: expected a number from 0 to 1")
    return TraceSampler(fraction, parents=name != root)


# ---- spans


class Traced(msgspec.Struct, frozen=True, gc=False):
    """A request whose spans are to be sent; times by `time.perf_counter`."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    state: bytes  # the client's `tracestate`
    name: str
    attributes: bytes  # encoded
    status: int
    times: tuple[float, float | None, float]  # it came, its rows were read, it was answered
    call: tuple[float, float] | None  # of the model


@dataclass(frozen=True)
class Destination:
    """Where spans go.

    Parameters
    ----------
    resource
        Attributes of this process, such as `service.name`.
    """

    url: str
    sampler: TraceSampler
    headers: dict[str, str]
    resource: dict[str, str]
    timeout_s: float


class Tracer:
    """Decides which requests are traced, and sends their spans."""

    def __init__(self, to: Destination) -> None:
        self._to = to
        self.fraction = to.sampler.fraction
        self.parents = to.sampler.parents
        self._headers = {**to.headers, "Content-Type": "application/x-protobuf"}
        resource = to.resource | {"process.pid": str(os.getpid())}
        self._resource = _field(1, b"".join(_field(1, _attribute(*pair)) for pair in resource.items()))
        self._attributes: dict[tuple[str, str, str, int], bytes] = {}
        self._waiting: SimpleQueue[Traced] = SimpleQueue()
        self._complained = -COMPLAIN_EVERY_S
        self._thread = Supervised("traces", self._run)
        self._thread.start()
        atexit.register(self._send_waiting)

    def __call__(  # noqa: PLR0917 - called for each traced request
        self,
        endpoint: Endpoint,
        head: Head,
        status: int,
        lane: str,
        draw: float,
        times: tuple[float, float | None, float],
        scores: Scores | None,
    ) -> Traced | None:
        """Queue the spans of a request that has just been answered; None if it is not traced."""
        parent = parse(head.trace) if head.trace is not None else None
        if not self._to.sampler.takes(parent, draw):
            return None
        if self._waiting.qsize() >= MAX_WAITING:
            metrics.TRACES_DROPPED.inc()
            return None
        key = (lane, endpoint.name, endpoint.model.name, status)
        attributes = self._attributes.get(key)
        if attributes is None:
            attributes = self._attributes[key] = _attributes(endpoint, lane, status)
        if parent is None:
            trace_id, parent_id, state = getrandbits(128).to_bytes(16), b"", b""
        else:
            trace_id, parent_id = parent.trace_id, parent.span_id
            state = dict(head.headers).get(b"tracestate", b"")
        found = Traced(
            trace_id,
            getrandbits(64).to_bytes(8),
            parent_id,
            state[:MAX_STATE_BYTES],
            f"POST {endpoint.name}",
            attributes,
            status,
            times,
            (scores.began, scores.ended) if scores is not None else None,
        )
        self._waiting.put(found)
        return found

    # ---- the thread

    def _run(self) -> None:
        while not self._thread.ended.wait(EVERY_S):
            self._send_waiting()

    def _send_waiting(self) -> None:
        while not self._waiting.empty():
            found: list[Traced] = []
            with suppress(Empty):
                while len(found) < MAX_PER_POST:
                    found.append(self._waiting.get_nowait())
            if found:
                self._send(found)

    def _send(self, found: Sequence[Traced]) -> None:
        # The wall clock may be adjusted; a span's times are converted by what it shows now.
        offset = time.time() - perf_counter()
        scope = _field(1, _field(1, b"okamochi"))
        try:
            spans = b"".join([_spans(traced, offset) for traced in found])
            body = _field(1, self._resource + _field(2, scope + spans))
            request = urllib.request.Request(self._to.url, body, self._headers)  # noqa: S310 - the operator's
            with urllib.request.urlopen(request, timeout=self._to.timeout_s) as reply:  # noqa: S310 - the same
                reply.read(65_536)
        # HTTPException: the collector's reply is not HTTP.
        except (OSError, ValueError, HTTPException) as error:
            metrics.TRACES_DROPPED.inc(len(found))
            now = time.monotonic()
            if now - self._complained >= COMPLAIN_EVERY_S:
                self._complained = now
                reason = str(error) or raised_at(error)
                logger.warning("%d traces could not be sent to %s: %s", len(found), self._to.url, reason)
        except BaseException:
            metrics.TRACES_DROPPED.inc(len(found))
            raise


def destination(environment: Mapping[str, str]) -> Destination | None:
    """Where spans go by the variables of OpenTelemetry; None unless an OTLP endpoint is set.

    Raises
    ------
    SettingsError
        A variable has a value that is not supported.
    """

    def value(*names: str, default: str = "") -> tuple[str, str]:
        """The first of these that is set, and what it holds."""
        return next(
            ((name, text) for name in names if (text := environment.get(name, "").strip())),
            (names[-1], default),
        )

    name, url = value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    off = value("OTEL_SDK_DISABLED")[1].lower() == "true" or value("OTEL_TRACES_EXPORTER")[1] == "none"
    if not url or off:
        return None
    _check_url(name, url)
    if name == "OTEL_EXPORTER_OTLP_ENDPOINT":
        url = url.rstrip("/") + "/v1/traces"
    name, protocol = value("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in ("", PROTOCOL):
        raise SettingsError(
            f"{name}={protocol!r}: the only supported protocol is {PROTOCOL} (collectors: port 4318)"
        )
    name, ms = value("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT", default="10000")
    if not (ms.isascii() and ms.isdigit() and len(ms) <= 8 and int(ms)):
        raise SettingsError(f"{name}={ms[:MAX_SHOWN]!r}: expected a whole number of milliseconds from 1")
    resource = {"service.name": "okamochi"} | _pairs(*value("OTEL_RESOURCE_ATTRIBUTES"))
    if own := value("OTEL_SERVICE_NAME")[1]:
        resource["service.name"] = own
    name, text = value("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
    headers = _pairs(name, text)
    for key, content in headers.items():
        if not _HEADER_NAME.fullmatch(key) or not _HEADER_VALUE.fullmatch(content):
            raise SettingsError(f"{name}: {key[:MAX_SHOWN]!r} and its value are not a valid HTTP header")
    return Destination(url, sampler(environment), headers, resource, int(ms) / 1000)


def _check_url(name: str, url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:  # a port that is not a number, or brackets without an IPv6 address
        usable = False
    if not usable or not re.fullmatch("[!-~]+", url):
        raise SettingsError(f"{name}={url[:MAX_SHOWN]!r}: expected an http or https address")


_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")


def _pairs(name: str, text: str) -> dict[str, str]:
    """`key=value,key=value`, values percent-encoded."""
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, equals, value = part.partition("=")
        try:
            found[key.strip()] = urllib.parse.unquote(value.strip(), errors="strict")
        except UnicodeDecodeError:
            equals = ""
        if not equals or not key.strip():
            # The value is not shown: a header is often a secret.
            raise SettingsError(f"{name}: expected key=value,key=value with values percent-encoded")
    return found


# ---- OTLP: messages of opentelemetry/proto/trace/v1/trace.proto

SERVER, INTERNAL = 2, 1  # kinds of spans
ERROR = b"\x7a\x02\x18\x02"  # status { code: STATUS_CODE_ERROR }


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _field(number: int, data: bytes) -> bytes:
    """A field of bytes, a text or a message."""
    if number < 16 and len(data) < 128:
        return bytes((number << 3 | 2, len(data))) + data
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _attribute(key: str, value: str | int) -> bytes:
    held = b"\x18" + _varint(value) if isinstance(value, int) else _field(1, value.encode())
    return _field(1, key.encode()) + _field(2, held)


def _attributes(endpoint: Endpoint, lane: str, status: int) -> bytes:
    """The attributes of a request's span; there are few for each endpoint, so each is encoded once."""
    model = endpoint.model
    found: dict[str, str | int] = {
        "http.request.method": "POST",
        "http.response.status_code": status,
        "okamochi.endpoint": endpoint.name,
        "okamochi.model": model.name,
        "okamochi.version": model.version,
        "okamochi.lane": lane,
    }
    return b"".join(_field(9, _attribute(*pair)) for pair in found.items())


def _span(name: str, kind: int) -> bytes:
    """The part that all spans of one name have in common."""
    return _field(5, name.encode()) + b"\x30" + _varint(kind)


_requests = lru_cache(64)(_span)  # by the name of an endpoint
_PARTS = [_span(name, INTERNAL) for name in ("receive", "queue", "infer")]
_TIMES = struct.Struct("<BQBQ")  # start and end, each behind its tag
# The parts of two requests differ in ids and times only, so one call packs them all.
_LAYOUTS = [f"4s16s2s8s2s8s{len(part)}sBQBQ" for part in _PARTS]
_HEADS = [b"\x12%c\x0a\x10" % (struct.calcsize(f"<{layout}") - 2) for layout in _LAYOUTS]
_pack_parts = struct.Struct("<" + "".join(_LAYOUTS)).pack


def _spans(traced: Traced, offset: float) -> bytes:
    """The spans of one request: the request itself and, if it was scored, its parts."""
    trace_id, span_id = traced.trace_id, traced.span_id
    started, queued, ended = traced.times
    first = int(1e9 * (started + offset))
    whole = b"\x0a\x10%b\x12\x08%b%b%b%b%b" % (  # ids of 16 and 8 bytes
        trace_id,
        span_id,
        b"\x22\x08" + traced.parent_id if traced.parent_id else b"",
        _requests(traced.name, SERVER),
        _TIMES.pack(0x39, first, 0x41, int(1e9 * (ended + offset))),
        traced.attributes,
    )
    if traced.state:
        whole += _field(3, traced.state)
    if traced.status >= 500:
        whole += ERROR
    spans = _field(2, whole)
    if queued is None or traced.call is None:
        return spans
    values: list[Any] = []
    start = first
    for head, part, when in zip(_HEADS, _PARTS, (queued, *traced.call), strict=True):
        stop = int(1e9 * (when + offset))
        values += (head, trace_id, b"\x12\x08", getrandbits(64).to_bytes(8), b"\x22\x08", span_id, part)
        values += (0x39, start, 0x41, stop)
        start = stop
    return spans + _pack_parts(*values)
