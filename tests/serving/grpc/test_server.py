"""The gRPC port of a real server: Triton's client, health, reflection, limits, keys, TLS, and its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serving.access import keys
from serving.grpc import schema
from tests import servers
from tests.bento_server import bento_server, prepare
from tests.certificates import answers_to, context, issued
from tests.servers import PATIENCE_S, free_port
from tests.serving.grpc.calls import REFUSED, channel_to, message, method, send_malformed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server
    from tests.serving.artifacts import Made

Status = health_pb2.HealthCheckResponse.ServingStatus
MALFORMED = 600
ANSWERED = 200
MAX_BYTES = 300_000


class Served(NamedTuple):
    server: Server
    address: str

    def channel(self) -> grpc.Channel:
        """A connection of its own."""
        return channel_to(self.address)


@pytest.fixture(scope="module")
def served(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two ONNX models and one in a process of its own, with a prediction log."""
    folder = tmp_path_factory.mktemp("grpc") / "work"
    prepare(folder, {name: (made[name].path, "7") for name in ("iris", "breast_cancer", "loans")})
    settings = {
        "OKAMOCHI_GRPC_PORT": str(port := free_port()),
        "OKAMOCHI_MAX_BODY_BYTES": str(MAX_BYTES),
        "OKAMOCHI_PREDICTION_LOG": str(folder / "log"),
        "OKAMOCHI_AUDIT_LOG": str(folder / "audit.jsonl"),
        "OKAMOCHI_LOG_SAMPLE": "1",
    }
    with bento_server(folder, settings=settings) as server:
        yield Served(server, f"127.0.0.1:{port}")


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with triton.InferenceServerClient(served.address) as found:
        yield found


def refused(call: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as found:
        call()
    return found.value


def tensor(rows: Any, datatype: str = "FP64", name: str = "features") -> Any:
    array = np.asarray(rows, object if datatype == "BYTES" else None)
    return triton.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)


# ---- Triton's client


def test_the_server_and_its_models_describe_themselves(client: Any) -> None:
    """Live, ready, metadata; a missing model is not ready, without an error."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "7")
    assert not client.is_model_ready("iris", "8")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata().name == "okamochi"
    about = client.get_model_metadata("loans", as_json=True)
    assert about["versions"] == ["7"]
    assert {"name": "job", "datatype": "BYTES", "shape": ["-1"]} in about["inputs"]


def test_the_index_of_the_repository_is_that_of_http(client: Any, served: Served) -> None:
    """Each version with its state; `ready` leaves out those that are not."""
    index = client.get_model_repository_index().models
    over_http = httpx.post(f"{served.server.url}/v2/repository/index").json()

    found = [{name: getattr(each, name) for name in ("name", "version", "state", "reason")} for each in index]
    assert found == over_http
    assert {each["name"] for each in found} == {"iris", "breast_cancer", "loans"}


def test_metadata_has_the_parameters_of_http(served: Served) -> None:
    """The classes, in their order."""
    with served.channel() as channel:
        about = method(channel, "ModelMetadata")(schema.METHODS["ModelMetadata"][0](name="iris"))

    (outputs,) = [each for each in about.outputs if each.name == "probabilities"]
    assert json.loads(outputs.parameters["classes"].string_param) == ["setosa", "versicolor", "virginica"]


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
def test_tensors_are_scored_as_over_http(
    client: Any, served: Served, made: dict[str, Made], datatype: str
) -> None:
    """The same labels and probabilities, batch and id and version."""
    rows = np.array(made["iris"].rows[::10], datatype.replace("FP", "float"))
    found = client.infer("iris", [tensor(rows, datatype)], request_id="mine", model_version="7")
    over_http = httpx.post(
        f"{served.server.url}/models/iris/predict",
        json={"features": made["iris"].rows[::10], "probabilities": True},
    ).json()

    assert found.as_numpy("prediction").astype(str).tolist() == over_http["prediction"]
    assert np.allclose(found.as_numpy("probabilities"), over_http["probabilities"], atol=1e-6)
    response = found.get_response()
    assert (response.id, response.model_version) == ("mine", "7")


def test_one_tensor_a_column_with_texts_and_missing_values(client: Any, served: Served) -> None:
    """BYTES, bools in the answer, NaN for a missing number; a model in a process of its own."""
    columns = [
        tensor([30.0, 40.0], name="age"),
        tensor([2e4, np.nan], name="income"),
        tensor([b"cook", b"cook"], "BYTES", "job"),
        tensor([b"2020-05-17", b"2020-05-17"], "BYTES", "since"),
    ]
    found = client.infer("loans", columns).as_numpy("prediction")
    rest = {"job": "cook", "since": "2020-05-17"}
    records = [{"age": 30, "income": 2e4, **rest}, {"age": 40, "income": None, **rest}]
    over_http = httpx.post(f"{served.server.url}/models/loans/predict", json={"records": records}).json()

    assert found.tolist() == over_http["prediction"]


def test_options_are_those_of_http(client: Any) -> None:
    """A threshold as a number or a text, outputs by name, an explanation that adds up."""
    zeros = tensor(np.zeros((1, 30)))
    wanted = [triton.InferRequestedOutput(name) for name in ("prediction", "score", "base", "contributions")]
    found = client.infer("breast_cancer", [zeros], outputs=wanted, parameters={"class": "malignant"})
    parts = {name: found.as_numpy(name) for name in ("score", "base", "contributions")}
    assert np.isclose(parts["base"] + parts["contributions"].sum(), parts["score"], atol=1e-6)
    assert found.as_numpy("probabilities") is None

    labels = {
        client.infer("breast_cancer", [zeros], parameters={"threshold": threshold})
        .as_numpy("prediction")[0]
        .decode()
        for threshold in (0.0, "0.0", 1.0, "1")
    }
    assert len(labels) == 2


def test_typed_contents_are_answered_in_typed_contents(served: Served) -> None:
    """As tools such as grpcurl send and show them."""
    with served.channel() as channel:
        found = method(channel)(message())

    assert not found.raw_output_contents
    by_name = {each.name: each.contents for each in found.outputs}
    assert by_name["prediction"].bytes_contents == [b"setosa"]
    assert len(by_name["probabilities"].fp64_contents) == 3


# ---- refusals


@pytest.mark.parametrize(("sent", "code", "words"), REFUSED)
def test_a_refusal_has_a_code_and_the_words_of_http(served: Served, sent: Any, code: str, words: str) -> None:
    """And the id of its log line."""
    with served.channel() as channel:
        error: Any = refused(lambda: method(channel)(sent))

    assert error.code().name == code
    assert words in error.details()
    assert "x-request-id" in dict(error.trailing_metadata())


def test_malformed_messages_lose_no_worker(served: Served) -> None:
    """Each is answered or refused for what it is; `make faults` sends 10,000."""
    before = workers(served.server)
    with served.channel() as channel:
        codes = Counter(code for code in send_malformed(channel, MALFORMED))
        assert method(channel)(message()).model_name == "iris"

    assert sum(codes.values()) == MALFORMED
    assert codes["INVALID_ARGUMENT"] > MALFORMED / 2
    assert codes.keys() <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}, codes
    assert workers(served.server) == before


def workers(server: Server) -> set[int]:
    return {child.pid for child in psutil.Process(server.process.pid).children()}


def test_bytes_that_are_no_http2_close_their_connection_only(served: Served) -> None:
    """Garbage, HTTP/1.1, a TLS greeting, frames that are too long."""
    host, port = served.address.split(":")
    before = workers(served.server)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for data in (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        os.urandom(1000),
        b"\x16\x03\x01\x02\x00" + os.urandom(500),
        preface + b"\xff\xff\xff\x04\x00\x00\x00\x00\x00" + os.urandom(200),
        preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + os.urandom(500),
    ):
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
    with served.channel() as channel:
        assert method(channel)(message()).model_name == "iris"
    assert workers(served.server) == before


def test_a_message_over_the_limit_of_a_body_is_refused(served: Served) -> None:
    """By gRPC itself, before it is whole; one within the limit is answered."""
    with served.channel() as channel:
        infer = method(channel)
        error: Any = refused(lambda: infer(message(id="x" * MAX_BYTES)))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(MAX_BYTES) in error.details()
        assert infer(message(id="x" * (MAX_BYTES - 1_000))).model_name == "iris"


def test_a_compressed_message_may_not_expand_beyond_the_limit(served: Served) -> None:
    """200 MB of one letter are less than the limit when compressed; gRPC stops before they are whole."""
    before = most_resident(served.server)
    gzip, patience = grpc.Compression.Gzip, PATIENCE_S
    with served.channel() as channel:
        infer = method(channel)
        small = message(id="x" * 1_000)
        assert infer(small, compression=gzip, timeout=patience).model_name == "iris"
        bomb = message(id="x" * 200_000_000)
        error: Any = refused(lambda: infer(bomb, compression=gzip, timeout=patience))

    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert most_resident(served.server) - before < 50_000


def most_resident(server: Server) -> int:
    """The most memory that the worker ever had, in KiB."""
    (worker,) = workers(server)
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text())
    return int(line)


def test_a_deadline_that_has_passed_frees_its_place(served: Served) -> None:
    """Many large calls whose client does not wait, then one that is answered; a cancelled call likewise."""
    rows = np.zeros((900, 30))
    large = schema.ModelInferRequest(model_name="breast_cancer", raw_input_contents=[rows.tobytes()])
    large.inputs.add(name="features", datatype="FP64", shape=[900, 30])
    for name in ("score", "contributions"):
        large.outputs.add(name=name)
    with served.channel() as channel:
        infer = method(channel)
        few = schema.ModelInferRequest(model_name="breast_cancer", raw_input_contents=[rows[:64].tobytes()])
        few.inputs.add(name="features", datatype="FP64", shape=[64, 30])
        few.outputs.add(name="contributions")
        waiting = [infer.future(few, timeout=0.001) for _ in range(20)]
        cancelled = [infer.future(few) for _ in range(20)]
        for each in cancelled:
            each.cancel()
        # A refusal may come before the clock of a busy client does.
        assert {each.code().name for each in waiting} <= {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
        assert infer(message(), timeout=PATIENCE_S).model_name == "iris"
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:  # the explanations that were begun are done or dropped
            try:
                infer(few, timeout=PATIENCE_S)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                time.sleep(0.1)
            else:
                break
        else:
            raise AssertionError("the queue of explanations did not become empty")
        error: Any = refused(lambda: infer(large))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


# ---- what else there is of a call


def test_a_call_is_counted_logged_audited_and_kept(served: Served) -> None:
    """As a request of HTTP is: metrics, log line, audit log, prediction log."""
    metadata = (("x-request-id", "order-77"), ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"))
    with served.channel() as channel:
        response, call = method(channel).with_call(message(id="own"), metadata=metadata)
    trailers = dict(call.trailing_metadata())

    assert response.id == "own"
    assert trailers["x-request-id"] == "order-77"
    assert trailers["x-prediction-id"]
    assert "inference-header-content-length" not in trailers
    until = time.monotonic() + PATIENCE_S
    work = served.server.log.parent
    while time.monotonic() < until:
        text = httpx.get(f"{served.server.url}/metrics").text
        lines = [line for line in served.server.log.read_text().splitlines() if '"order-77"' in line]
        audit = work / "audit.jsonl"
        if 'okamochi_lane_requests_total{lane="grpc"}' in text and lines and audit.exists():
            break
        time.sleep(0.1)
    line = json.loads(lines[0])
    assert (line["lane"], line["endpoint"], line["model"], line["status"]) == ("grpc", "infer", "iris", 200)
    assert line["trace_id"] == "a" * 32
    assert '"infer"' in audit.read_text()


def test_what_a_connection_refuses_has_a_log_line_and_is_counted(served: Served) -> None:
    """Refusals before a method sees the call, and those of health, have the id that the client gave."""
    big = b"\0" * (MAX_BYTES + 1)
    asked = health_pb2.HealthCheckRequest(service="nothing").SerializeToString()
    infer, check = f"/{schema.SERVICE}/ModelInfer", "/grpc.health.v1.Health/Check"
    bad_deadline = [("x-deadline-ms", "soon")]
    sent: list[tuple[str, bytes, Any, list[tuple[str, str]], int, str, str]] = [
        (infer, big, None, [], 413, "body_too_large", "infer"),
        (infer, big, grpc.Compression.Gzip, [], 413, "body_too_large", "infer"),
        (f"/{schema.SERVICE}/Nothing", b"", None, [], 404, "not_found", "other"),
        (infer, message().SerializeToString(), None, bad_deadline, 400, "bad_deadline", "infer"),
        (check, asked, None, [], 404, "not_found", "health"),
        (check, b"\xff", None, [], 400, "bad_input", "health"),
    ]
    for i, (path, data, compression, metadata, status, reason, endpoint) in enumerate(sent):
        before = counted(served.server, endpoint, status)
        with served.channel() as channel:
            call = channel.unary_unary(path)
            named = [("x-request-id", f"told-{i}"), *metadata]
            error = refused(lambda: call(data, metadata=named, compression=compression, timeout=PATIENCE_S))  # noqa: B023
        assert dict(error.trailing_metadata())["x-request-id"] == f"told-{i}"
        (line,) = lines_about(served.server, f"told-{i}")
        found = line["lane"], line["endpoint"], line["status"], line["reason"]
        assert found == ("grpc", endpoint, status, reason)
        assert counted(served.server, endpoint, status) == before + 1


def lines_about(server: Server, request_id: str) -> list[dict[str, Any]]:
    """The log lines of a request; waits for the first."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if request_id in line]
        if lines:
            return lines
        time.sleep(0.05)
    raise AssertionError(f"no line about {request_id}")


def counted(server: Server, endpoint: str, status: int) -> int:
    """Requests in `/metrics` that were about no model."""
    sample = f'okamochi_requests_total{{endpoint="{endpoint}",model="",status="{status}"}} '
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return sum(int(float(line.removeprefix(sample))) for line in lines if line.startswith(sample))


def test_health_follows_readiness_of_the_server_and_of_each_model(served: Served) -> None:
    """The protocol of grpc_health_probe and of Kubernetes' own probes."""
    with served.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", schema.SERVICE, "iris", "loans"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == Status.SERVING
        error: Any = refused(lambda: stub.Check(health_pb2.HealthCheckRequest(service="nothing")))
        assert error.code() == grpc.StatusCode.NOT_FOUND
        watched = stub.Watch(health_pb2.HealthCheckRequest(service="nothing"))
        assert next(watched).status == Status.SERVICE_UNKNOWN
        watched.cancel()


def test_reflection_tells_the_methods_to_a_tool(served: Served) -> None:
    """Of all services, with the messages; under the name of the first version as well."""
    with served.channel() as channel:
        known = ProtoReflectionDescriptorDatabase(channel)
        assert {schema.SERVICE, "grpc.health.v1.Health"} <= set(known.get_services())
        found = known.FindFileContainingSymbol(schema.SERVICE)
        assert found.package == "inference"
        newer = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        assert schema.SERVICE.encode() in next(newer(iter([b"\x3a\x00"])))


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_read_by_every_service(served: Served, compression: grpc.Compression) -> None:
    """Those of one message, of a stream of replies, and of streams both ways."""
    asked = health_pb2.HealthCheckRequest(service="iris").SerializeToString()
    options = [
        ("grpc.default_compression_algorithm", compression.value),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.insecure_channel(served.address, options) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert health_pb2.HealthCheckResponse.FromString(check(asked)).status == Status.SERVING
        watched = channel.unary_stream("/grpc.health.v1.Health/Watch")(asked)
        assert health_pb2.HealthCheckResponse.FromString(next(watched)).status == Status.SERVING
        watched.cancel()
        assert method(channel)(message(id="x" * 1_000)).model_name == "iris"
        ready = method(channel, "ModelReady")
        assert ready(schema.METHODS["ModelReady"][0](name="iris", version="7")).ready
        known = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        long = b"\x0a\xe8\x07" + b"h" * 1_000  # the field `host`, so that grpcio compresses the message
        assert [schema.SERVICE.encode() in each for each in known(iter([long + b"\x3a\x00"] * 3))] == [
            True
        ] * 3


# ---- keys


def test_keys_are_needed_as_over_http(made: dict[str, Made], tmp_path: Path) -> None:
    """In metadata, in both forms; without a key only the server's health is told."""
    right, entry = keys.make("shop", ["predict"], models=["iris"])
    other, other_entry = keys.make("ops", ["observe"])
    slow, slow_entry = keys.make("slow", ["predict"], rate="1/h")
    keys.write(tmp_path / "keys.json", [entry, other_entry, slow_entry])
    prepare(tmp_path / "work", {name: (made[name].path, "7") for name in ("iris", "breast_cancer")})
    settings = {
        "OKAMOCHI_GRPC_PORT": str(port := free_port()),
        "OKAMOCHI_KEYS": str(tmp_path / "keys.json"),
    }
    with bento_server(tmp_path / "work", settings=settings) as server:
        served = Served(server, f"127.0.0.1:{port}")
        with served.channel() as channel:
            infer = method(channel)

            def code(sent: Any, *metadata: tuple[str, str], name: str = "ModelInfer") -> Any:
                try:
                    method(channel, name)(sent, metadata=metadata)
                except grpc.RpcError as error:
                    return error.code().name
                return "OK"

            assert code(message()) == "UNAUTHENTICATED"
            assert code(b"\xff\xff") == "UNAUTHENTICATED"
            assert code(message(), ("x-api-key", "wrong")) == "UNAUTHENTICATED"
            assert (
                code(message(), ("x-api-key", right), ("authorization", f"Bearer {right}"))
                == "UNAUTHENTICATED"
            )
            assert code(message(), ("authorization", f"Basic {right}")) == "UNAUTHENTICATED"
            assert code(message(), ("x-api-key", other)) == "PERMISSION_DENIED"
            assert code(message("breast_cancer"), ("x-api-key", right)) == "PERMISSION_DENIED"
            assert code(message("iris/../breast_cancer"), ("x-api-key", right)) == "PERMISSION_DENIED"
            assert code(message(), ("x-api-key", right)) == "OK"
            assert code(message(), ("authorization", f"bearer {right}")) == "OK"
            assert code(message(), ("x-api-key", slow)) == "OK"
            limited: Any = refused(lambda: infer(message(), metadata=(("x-api-key", slow),)))
            assert limited.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert int(dict(limited.trailing_metadata())["retry-after"]) > 1
            explained = message()
            explained.outputs.add(name="score")
            assert code(explained, ("x-api-key", right)) == "PERMISSION_DENIED"
            for name, kinds in schema.METHODS.items():
                expected = "OK" if name in ("ServerLive", "ServerReady") else "UNAUTHENTICATED"
                assert code(kinds[0](), name=name) == expected, name
            about = schema.METHODS["ModelMetadata"][0](name="breast_cancer")
            assert code(about, ("x-api-key", right), name="ModelMetadata") == "PERMISSION_DENIED"
            stub = health_pb2_grpc.HealthStub(channel)
            assert stub.Check(health_pb2.HealthCheckRequest()).status == Status.SERVING
            closed: Any = refused(lambda: stub.Check(health_pb2.HealthCheckRequest(service="iris")))
            assert closed.code() == grpc.StatusCode.UNAUTHENTICATED
            unseen: Any = refused(lambda: ProtoReflectionDescriptorDatabase(channel).get_services())
            assert unseen.code() == grpc.StatusCode.UNAUTHENTICATED


# ---- TLS


def test_tls_by_the_files_of_http_with_client_certificates(
    made: dict[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without TLS, another authority or no certificate: no answer. A certificate names its caller."""
    authority, certificate, key = issued(tmp_path, "127.0.0.1")
    own = issued(tmp_path, "shop.example.com")[1:]
    stranger = issued(tmp_path, "stranger.example.com")[1:]
    foreign_authority, *_ = issued(tmp_path, "other.example.com", authority="other")
    keys.write(
        tmp_path / "keys.json", [keys.make("shop", ["predict"], certificate="DNS:shop.example.com")[1]]
    )
    monkeypatch.setattr(servers, "_await", answers_to(context(authority, *own)))
    prepare(tmp_path / "work", {"iris": (made["iris"].path, "7")})
    options = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    options += ["--ssl-ca-certs", str(authority), "--ssl-cert-reqs", str(int(ssl.CERT_REQUIRED))]
    settings = {
        "OKAMOCHI_GRPC_PORT": str(port := free_port()),
        "OKAMOCHI_KEYS": str(tmp_path / "keys.json"),
    }

    def code(credentials: grpc.ChannelCredentials | None) -> str:
        address, options = f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]
        opened = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        with opened as channel:
            try:
                method(channel)(message(), timeout=PATIENCE_S)
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

    def with_certificate(certificate: Path, key: Path) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            authority.read_bytes(), key.read_bytes(), certificate.read_bytes()
        )

    with bento_server(tmp_path / "work", *options, settings=settings, ready="/livez"):
        assert code(with_certificate(*own)) == "OK"
        assert code(with_certificate(*stranger)) == "UNAUTHENTICATED"  # its name has no entry
        assert code(grpc.ssl_channel_credentials(authority.read_bytes())) == "UNAVAILABLE"
        assert code(grpc.ssl_channel_credentials(foreign_authority.read_bytes())) == "UNAVAILABLE"
        assert code(None) == "UNAVAILABLE"
        assert code(with_certificate(*own)) == "OK"


# ---- several workers, and the end


async def under_load(address: str, until: Any, found: Counter[str], callers: int = 8) -> None:
    """Calls on connections of their own until `until` is done; what came of them goes into `found`."""
    data = message().SerializeToString()

    async def call() -> None:
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            infer = channel.unary_unary(f"/{schema.SERVICE}/ModelInfer")
            while not until.done():
                try:
                    await infer(data, timeout=PATIENCE_S)
                except grpc.aio.AioRpcError as error:
                    found[f"{error.code().name}: {error.details()}"] += 1
                    await asyncio.sleep(0.05)
                else:
                    found["OK"] += 1

    await asyncio.gather(*(call() for _ in range(callers)))


@pytest.mark.deep
def test_two_workers_share_the_port_and_end_without_losing_a_call(
    made: dict[str, Made], tmp_path: Path
) -> None:
    """Another server cannot take the port; at the end each call is answered or never reaches the server."""
    prepare(tmp_path / "work", {"iris": (made["iris"].path, "7")})
    settings = {"OKAMOCHI_GRPC_PORT": str(port := free_port()), "OKAMOCHI_WORKERS": "2"}
    with bento_server(tmp_path / "work", settings=settings) as server:
        prepare(tmp_path / "other", {"iris": (made["iris"].path, "7")})
        with (
            pytest.raises(AssertionError, match=f"OKAMOCHI_GRPC_PORT={port}: cannot listen"),
            bento_server(tmp_path / "other", settings=settings),
        ):
            pass

        found: Counter[str] = Counter()

        async def stop() -> None:
            pids = set()
            while len(pids) < 2 or found["OK"] <= ANSWERED:  # until both are seen to answer
                await asyncio.sleep(0.1)
                pids = {
                    process.pid
                    for process in psutil.Process(server.process.pid).children()
                    if any(
                        each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED
                        for each in process.net_connections()
                    )
                }
            os.kill(server.process.pid, signal.SIGTERM)
            await asyncio.to_thread(server.process.wait, PATIENCE_S)

        async def run() -> None:
            await under_load(f"127.0.0.1:{port}", asyncio.ensure_future(stop()), found, callers=16)

        asyncio.run(run())
    lost = {words: count for words, count in found.items() if words != "OK" and "refused" not in words}
    assert lost == {}
    assert found["OK"] > ANSWERED
