"""Spans that a real server sends to an OTLP receiver, and what is read of `traceparent`."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from msgspec import structs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import REGISTRY

from serving.observe.traces import Parent, Traced, Tracer, destination, parse
from serving.settings import SettingsError
from tests.bento_server import bento_server, prepare
from tests.serving.conftest import VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = Traced(bytes(16), bytes(8), b"", b"", "POST predict", b"", 200, (0.0, None, 1.0), None)
BODY = {"features": [[5.1, 3.5, 1.4, 0.2]]}


class Receiver:
    """Decodes what is posted to /v1/traces, as a collector does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200

    def of(self, trace: str, count: int) -> dict[str, Any]:
        """The spans of a trace by name, once there are so many."""
        for _ in range(4_000):
            found = {span.name: span for span in self.spans if span.trace_id.hex() == trace}
            if len(found) >= count:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{trace} has {[span.name for span in self.spans]}")


@contextmanager
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.headers.append(headers | {"path": self.path})
            for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
                attributes = {pair.key: pair.value.string_value for pair in sent.resource.attributes}
                found.resources.append(attributes)
                for scope in sent.scope_spans:
                    found.spans.extend(scope.spans)
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture(scope="module")
def traced(
    made: dict[str, Made], collector: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Traces what a parent has sampled, and nothing else."""
    folder: Path = tmp_path_factory.mktemp("traces") / "work"
    prepare(folder, {"iris": (made["iris"].path, VERSIONS["iris"])})
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_SERVICE_NAME": "boxes",
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
    }
    with bento_server(folder, settings=settings) as started:
        yield started


def ask(server: Server, trace: str, flags: str = "01", *, query: str = "", **more: Any) -> httpx.Response:
    headers = {"traceparent": f"00-{trace}-{SPAN}-{flags}", "tracestate": "a=1,b=2"}
    return httpx.post(f"{server.url}/predict{query}", **({"json": BODY} | more), headers=headers)


@pytest.mark.parametrize(("query", "trace"), [("", TRACE), ("?gateway", TRACE[::-1])])
def test_a_sampled_request_has_a_span_with_its_parts(
    traced: Server, collector: Receiver, query: str, trace: str
) -> None:
    before = time.time_ns()
    assert ask(traced, trace, query=query).status_code == 200
    spans = collector.of(trace, 4)
    assert set(spans) == {"POST predict", "receive", "queue", "infer"}
    whole = spans.pop("POST predict")
    assert whole.parent_span_id.hex() == SPAN
    assert whole.trace_state == "a=1,b=2"
    assert (whole.kind, whole.status.code) == (2, 0)
    attributes = {pair.key: pair.value.string_value or pair.value.int_value for pair in whole.attributes}
    assert attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "okamochi.endpoint": "predict",
        "okamochi.model": "iris",
        "okamochi.version": VERSIONS["iris"],
        "okamochi.lane": "gateway" if query else "express",
    }
    assert {span.parent_span_id for span in spans.values()} == {whole.span_id}
    assert len({span.span_id for span in spans.values()} | {whole.span_id}) == 4
    times = [
        whole.start_time_unix_nano,
        *(
            when
            for name in ("receive", "queue", "infer")
            for when in (spans[name].start_time_unix_nano, spans[name].end_time_unix_nano)
        ),
        whole.end_time_unix_nano,
    ]
    assert times == sorted(times)
    assert before - 10**9 < times[0] < time.time_ns() + 10**9


def test_what_the_resource_and_the_headers_say_is_the_operators(traced: Server, collector: Receiver) -> None:
    trace = "1" * 32
    ask(traced, trace)
    collector.of(trace, 4)
    assert collector.resources[-1]["service.name"] == "boxes"
    assert collector.resources[-1]["deployment.environment.name"] == "test"
    assert collector.headers[-1]["path"] == "/v1/traces"
    assert collector.headers[-1]["api-key"] == "a b"
    assert collector.headers[-1]["content-type"] == "application/x-protobuf"


def test_a_refused_request_has_a_span_without_parts(traced: Server, collector: Receiver) -> None:
    trace = "2" * 32
    assert ask(traced, trace, json={"features": [["x"]]}).status_code == 422
    (span,) = collector.of(trace, 1).values()
    assert (span.name, span.status.code) == ("POST predict", 0)  # the client's slip, not an error of ours


def test_what_is_not_sampled_or_no_trace_is_not_sent(traced: Server, collector: Receiver) -> None:
    assert ask(traced, "3" * 32, "00").status_code == 200
    assert ask(traced, "0" * 32).status_code == 200
    assert httpx.post(f"{traced.url}/predict", json=BODY).status_code == 200
    assert ask(traced, "4" * 32).status_code == 200
    collector.of("4" * 32, 4)
    assert not [span for span in collector.spans if span.trace_id.hex() in ("3" * 32, "0" * 32)]


def test_a_receiver_that_fails_costs_traces_and_no_request(traced: Server, collector: Receiver) -> None:
    collector.status = 500
    try:
        for i in range(20):
            assert ask(traced, f"{i + 1:032x}").status_code == 200
        for _ in range(4_000):
            if "okamochi_traces_dropped_total 20" in httpx.get(traced.url + "/metrics").text:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("no trace was counted as dropped")
    finally:
        collector.status = 200


def test_a_wrong_variable_stops_the_start_with_a_sentence() -> None:
    def settings(**more: str) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318/", **more}

    assert destination({}) is None
    assert destination(settings(OTEL_SDK_DISABLED="true")) is None
    found = destination(settings(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.25"))
    assert found is not None
    assert (found.url, found.sampler) == ("http://h:4318/v1/traces", (0.25, False))
    for name, value in {
        "OTEL_TRACES_SAMPLER": "sometimes",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "long",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "h:4317",
    }.items():
        with pytest.raises(SettingsError, match=f"{name}='{value}'"):
            destination(settings(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:70000"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:port"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h h:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318/\u00e9"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "\u00b2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Bearer hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "=hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2%0D%0Ax: y"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2%FF"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2\u20ac"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team"),
    ],
)
def test_what_no_request_could_be_made_of_is_found_at_the_start(name: str, value: str) -> None:
    """urllib would refuse it, or raise, for each batch of spans."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318", name: value}
    with pytest.raises(SettingsError, match=f"^{name}") as refused:
        destination(environment)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH\r\n", b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz"]
)
def test_a_collector_that_does_not_speak_http_costs_spans_only(said: bytes) -> None:
    """They are counted, and the thread that sends them goes on."""

    def dropped() -> float:
        return REGISTRY.get_sample_value("okamochi_traces_dropped_total") or 0.0

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        to = destination({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{listener.getsockname()[1]}"})
        assert to is not None
        tracer = Tracer(to)
        before = dropped()
        tracer._send([TRACED])
        assert dropped() == before + 1


def test_a_request_whose_spans_cannot_be_made_is_counted_and_the_thread_told() -> None:
    to = destination({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    assert to is not None
    before = REGISTRY.get_sample_value("okamochi_traces_dropped_total") or 0.0
    with pytest.raises(TypeError):
        Tracer(to)._send([structs.replace(TRACED, trace_id=None)])
    assert REGISTRY.get_sample_value("okamochi_traces_dropped_total") == before + 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01-later", True),
        (f"00-{TRACE}-{SPAN}-01-later", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[1:]}-{SPAN}-01", None),
        ("", None),
    ],
)
def test_traceparent_is_read_as_the_specification_says(value: str, expected: bool | None) -> None:
    found = parse(value.encode())
    assert found == (
        None if expected is None else Parent(bytes.fromhex(TRACE), bytes.fromhex(SPAN), expected)
    )
