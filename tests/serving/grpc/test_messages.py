"""Messages of gRPC: their published numbers, their translation to `/v2`, and the form of a refusal."""

from __future__ import annotations

import itertools
import re
import socket
import subprocess
import sys
from binascii import a2b_base64
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import msgspec
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from artifact.encode import CellError
from serving import reserved
from serving.errors import Problem, overloaded
from serving.grpc import messages, schema
from serving.grpc.place import Place
from serving.grpc.plain import plain_query
from serving.grpc.refusals import DETAILS, MAX_TEXT, refusal_of
from serving.protocols import Head
from serving.protocols.oip.endpoint import ENCODED, InferEndpoint
from serving.protocols.oip.request import HEADER_LENGTH
from serving.scoring.batcher import matrix_of
from serving.scoring.scores import Scores
from tests.servers import free_port

if TYPE_CHECKING:
    from serving.scoring.catalog import Catalog
    from tests.serving.artifacts import Made

FOLDER = Path(schema.__file__).parent
IRIS = [5.1, 3.5, 1.4, 0.2]


def request(model: str = "iris", **fields: Any) -> Any:
    return schema.ModelInferRequest(model_name=model, **fields)


def described(message: Any, found: dict[str, Any] | None = None) -> dict[str, Any]:
    """The fields of a message and of those in it: number, type and whether repeated, by full name."""
    found = {} if found is None else found
    for field in message.fields:
        found[field.full_name] = (field.number, field.type, field.is_repeated)
    for nested in message.nested_types:
        described(nested, found)
    return found


def test_fields_have_the_numbers_that_clients_use() -> None:
    """Ours beside those of Triton's client; it has no parameters of tensors in metadata."""
    ours = described_all(schema.POOL.FindFileByName("open_inference.proto"))
    theirs = described_all(service_pb2.DESCRIPTOR)

    own = {name for name in ours if name not in theirs}
    assert {name: theirs.get(name) for name in ours if name not in own} == {
        name: number for name, number in ours.items() if name not in own
    }
    assert own == {
        "inference.ModelMetadataResponse.TensorMetadata.parameters",
        "inference.ModelMetadataResponse.TensorMetadata.ParametersEntry.key",
        "inference.ModelMetadataResponse.TensorMetadata.ParametersEntry.value",
    }


def described_all(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for message in file.message_types_by_name.values():
        described(message, found)
    return found


@pytest.mark.parametrize("name", ["open_inference.proto", "status.proto", "health.proto", "reflection.proto"])
def test_the_compiled_form_is_of_the_text(name: str) -> None:
    """A changed .proto must be compiled again; every field of each message is in both."""
    text = re.sub(r"//.*|enum \w+ \{[^}]*\}", "", (FOLDER / name).read_text())
    written = re.findall(r"(\w+) = (\d+);", text)

    compiled = []
    for message in messages_of(schema.POOL.FindFileByName(name)):
        if not message.GetOptions().map_entry:
            compiled += [(field.name, str(field.number)) for field in message.fields]
    assert sorted(written) == sorted(compiled)
    methods = re.findall(r"rpc (\w+)\((\w+)\) returns \((\w+)\)", text)
    if name == "open_inference.proto":
        assert methods == [
            (each.name, each.input_type.name, each.output_type.name)
            for each in schema.POOL.FindServiceByName(schema.SERVICE).methods
        ]


def messages_of(holder: Any) -> list[Any]:
    each = getattr(holder, "message_types_by_name", None) or holder.nested_types_by_name
    return [found for message in each.values() for found in (message, *messages_of(message))]


def test_grpc_is_not_imported_where_it_is_off() -> None:
    """Neither by the parent's module nor by what a worker opens."""
    code = (
        "import sys, serving.bento, serving.http.gateway, serving.http.express; print('grpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---- in


def json_of(message: Any) -> dict[str, Any]:
    body = messages.body_of(message)
    found: dict[str, Any] = msgspec.json.decode(body.data[: body.header])
    return found


def test_contents_become_binary_tensors_and_lists() -> None:
    """Floats and texts in binary; datatypes with bounds as numbers that `/v2` checks."""
    message = request(id="a")
    message.inputs.add(name="f", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    message.inputs.add(name="i", datatype="INT8", shape=[1]).contents.int_contents.append(300)
    message.inputs.add(name="t", datatype="BYTES", shape=[1]).contents.bytes_contents.append("ü".encode())
    message.inputs.add(name="b", datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    message.parameters["threshold"].string_param = "0.25"
    message.parameters["timeout"].int64_param = 7
    message.outputs.add(name="prediction").parameters["binary_data"].bool_param = False

    body = messages.body_of(message)

    assert msgspec.json.decode(body.data[: body.header]) == {
        "id": "a",
        "inputs": [
            {"name": "f", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
            {"name": "i", "datatype": "INT8", "shape": [1], "data": [300]},
            {"name": "t", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
            {"name": "b", "datatype": "BOOL", "shape": [1], "data": [True]},
        ],
        "parameters": {"threshold": 0.25, "timeout": 7, "binary_data_output": True},
        "outputs": [{"name": "prediction"}],
    }
    assert body.data[body.header :] == np.array([1, 2], "<f4").tobytes() + b"\x02\0\0\0" + "ü".encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.raw_input_contents.extend([b"", b""]), "expected 1 elements"),
        (
            lambda m: m.inputs[0].contents.fp64_contents.append(1),
            "contents.fp64_contents has 5 values, but its shape is [1, 4]",
        ),
        (
            lambda m: m.inputs[0].contents.fp32_contents.append(1),
            "FP64 belongs into contents.fp64_contents, found contents.fp32_contents",
        ),
        (
            lambda m: m.raw_input_contents.append(b"x" * 32),
            "has both contents and raw_input_contents",
        ),
        (
            lambda m: (m.inputs[0].ClearField("contents"), m.raw_input_contents.append(b"x" * 31)),
            "raw_input_contents has 31 bytes, but shape [1, 4] of FP64 is 32 bytes",
        ),
        (lambda m: setattr(m.inputs[0], "datatype", "FP16"), "FP16 has no contents"),
    ],
)
def test_tensors_and_contents_that_do_not_belong_together_are_refused(change: Any, words: str) -> None:
    """In the words of this protocol."""
    message = request()
    message.inputs.add(name="f", datatype="FP64", shape=[1, 4]).contents.fp64_contents.extend(IRIS)
    change(message)

    with pytest.raises(Problem) as refused:
        messages.body_of(message)
    assert refused.value.status == 422
    assert words in refused.value.detail


@pytest.mark.parametrize("shape", [[-1, 4], [2**62, 2**62, 2**62], [], [0]])
@pytest.mark.parametrize("raw", [True, False])
def test_a_shape_that_cannot_be_is_left_to_the_reader(
    models: Catalog, shape: list[int], *, raw: bool
) -> None:
    """It has the words, and no memory is taken for what a shape claims."""
    message = request()
    tensor = message.inputs.add(name="f", datatype="FP64", shape=shape)
    if raw:
        message.raw_input_contents.append(b"")
    else:
        tensor.contents.SetInParent()

    with pytest.raises(Problem) as refused:
        read(message, models)
    assert refused.value.status in (400, 422)


def read(message: Any, models: Catalog) -> Any:
    body = messages.body_of(message)
    head = Head(headers=((HEADER_LENGTH, b"%d" % body.header),))
    return InferEndpoint(models.live[message.model_name]).read(body.data, head)


def test_a_message_says_what_its_json_says(models: Catalog) -> None:
    """The rows of raw and typed contents are those of a body of JSON."""
    data = {"inputs": [{"name": "f", "datatype": "FP64", "shape": [2, 4], "data": IRIS * 2}]}
    endpoint = InferEndpoint(models.live["iris"])
    expected = np.frombuffer(endpoint.read(msgspec.json.encode(data), Head()).rows)
    typed, raw = request(), request()
    typed.inputs.add(name="f", datatype="FP64", shape=[2, 4]).contents.fp64_contents.extend(IRIS * 2)
    raw.inputs.add(name="f", datatype="FP64", shape=[2, 4])
    raw.raw_input_contents.append(np.array(IRIS * 2).tobytes())

    for message in (typed, raw):
        assert np.array_equal(np.asarray(read(message, models).rows).ravel(), expected.astype(np.float32))


@pytest.mark.parametrize("code", ["FP32", "FP64"])
@pytest.mark.parametrize("rows", [1, 3])
def test_the_usual_message_is_read_at_once_and_says_the_same(models: Catalog, code: str, rows: int) -> None:
    """The rows, the id and the outputs are those of the same message as a body."""
    message = raw_request(np.array([IRIS] * rows, messages.DTYPES[code]), code)
    model = models.live["iris"]

    query, other = plain_query(message, model), read(message, models)

    typed = request(id="mine")
    filled = typed.inputs.add(name="f", datatype=code, shape=[rows, 4]).contents
    getattr(filled, messages.FIELDS[code]).extend(IRIS * rows)
    same = plain_query(typed, model)
    assert query is not None
    assert same is not None
    assert (same.rows, same.n) == (query.rows, query.n)
    assert np.array_equal(matrix_of(query.rows, model.signature), matrix_of(other.rows, model.signature))
    assert (query.n, query.id) == (other.n, other.id)
    assert (query.encode is not None) == (rows == 1)
    assert query.encode is not None or query.outputs == other.outputs


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "forest"])
@pytest.mark.parametrize("raw", [True, False])
def test_the_response_to_one_row_is_that_of_the_general_way(
    models: Catalog, made: dict[str, Made], name: str, *, raw: bool
) -> None:
    """Every field, for every class, typed and raw, with ids of every length."""
    model = models.live[name]
    endpoint = InferEndpoint(model)
    rows = np.array(made[name].rows[::7], np.float64)
    scores = Scores(made[name].scores(made[name].rows[::7]), model.signature)
    ids = ("mine", "", "ü" * 31, "x" * 31, "x" * 32, "ü" * 100)
    for i, (row, own_id) in enumerate(zip(rows, itertools.cycle(ids))):
        message = raw_request(row[None, :]) if raw else request(name)
        if not raw:
            tensor = message.inputs.add(name="f", datatype="FP64", shape=[1, len(row)])
            tensor.contents.fp64_contents.extend(row)
        message.id, message.model_name = own_id, name
        quick, general = plain_query(message, model), read(message, models)
        assert quick is not None
        assert (quick.encode is not None) == (len(own_id) <= 31)
        found = [
            schema.ModelInferResponse.FromString(
                reply.body if reply.content_type == ENCODED else messages.response_of(reply, raw=raw)
            )
            for reply in (endpoint.answer(quick, scores, i), endpoint.answer(general, scores, i))
        ]
        assert found[0].id
        if not own_id:
            found[0].id = found[1].id
        assert found[0] == found[1]
    assert len(set(scores.chosen)) > 1


def raw_request(cells: Any, datatype: str = "FP64") -> Any:
    message = request(id="mine", raw_input_contents=[cells.tobytes()])
    message.inputs.add(name="f", datatype=datatype, shape=cells.shape)
    return message


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.parameters["timeout"].MergeFrom(
            schema.message("inference.InferParameter")(int64_param=9)
        ),
        lambda m: m.outputs.add(name="prediction"),
        lambda m: m.inputs[0].shape.append(1),
        lambda m: m.inputs[0].shape.__setitem__(1, 5),
        lambda m: m.inputs[0].shape.__setitem__(0, -1),
        lambda m: setattr(m.inputs[0], "datatype", "INT64"),
        lambda m: m.inputs[0].contents.fp64_contents.append(1),
        lambda m: m.raw_input_contents.append(b""),
        lambda m: m.ClearField("raw_input_contents"),
        lambda m: (m.ClearField("raw_input_contents"), m.inputs[0].contents.fp32_contents.extend(IRIS)),
        lambda m: (m.ClearField("raw_input_contents"), m.inputs[0].contents.fp64_contents.extend(IRIS[1:])),
        lambda m: m.raw_input_contents.__setitem__(0, m.raw_input_contents[0] + b"x"),
        lambda m: m.raw_input_contents.__setitem__(0, np.array([1, 2, 3, np.nan]).tobytes()),
        lambda m: m.raw_input_contents.__setitem__(0, np.array([1, 2, -np.inf, 3]).tobytes()),
        lambda m: m.raw_input_contents.__setitem__(0, np.array([1, 2, 1e300, 3]).tobytes()),
    ],
)
def test_any_other_message_takes_the_way_over_a_body(models: Catalog, change: Any) -> None:
    """It has the words for what is wrong, and the options."""
    message = raw_request(np.array([IRIS]))
    change(message)

    assert plain_query(message, models.live["iris"]) is None


def test_models_of_texts_and_too_many_rows(models: Catalog) -> None:
    """A model with categories is not asked by position at once; the limit of rows holds."""
    loans, iris = models.live["loans"], models.live["iris"]
    assert plain_query(raw_request(np.ones((1, len(loans.signature.columns)))), loans) is None
    few = replace(iris, max_rows=2)
    with pytest.raises(Problem) as refused:
        plain_query(raw_request(np.ones((3, 4))), few)
    assert refused.value.status == 413


# ---- refusals


@pytest.mark.parametrize(
    ("problem", "deadline", "code"),
    [
        (Problem(400, "x"), False, "INVALID_ARGUMENT"),
        (Problem(401, "x"), False, "UNAUTHENTICATED"),
        (Problem(403, "x"), False, "PERMISSION_DENIED"),
        (Problem(404, "x"), False, "NOT_FOUND"),
        (Problem(413, "x"), False, "INVALID_ARGUMENT"),
        (Problem(422, "x"), False, "INVALID_ARGUMENT"),
        (overloaded("x", "queue_full", 2), True, "RESOURCE_EXHAUSTED"),
        (overloaded("x", "deadline", 2), False, "RESOURCE_EXHAUSTED"),
        (overloaded("x", "deadline", 2), True, "DEADLINE_EXCEEDED"),
        (Problem(500, "x"), False, "INTERNAL"),
        (Problem(503, "x"), False, "UNAVAILABLE"),
    ],
)
def test_a_status_is_a_code(problem: Problem, code: str, *, deadline: bool) -> None:
    """A missed deadline is DEADLINE_EXCEEDED only for a client that has set one."""
    found = refusal_of(problem, has_deadline=deadline).code
    assert (found.name, found) == (code, getattr(grpc.StatusCode, code).value[0])


def test_details_say_when_to_come_again_and_which_cells_are_wrong() -> None:
    """As `google.rpc` has them, and as gRPC's own retries read them."""
    busy = dict(refusal_of(overloaded("busy", "queue_full", 3)).trailers)
    status = schema.Status.FromString(a2b_base64(busy[DETAILS] + b"=="))
    wait = schema.RetryInfo.FromString(status.details[0].value)
    assert (status.code, status.message, wait.retry_delay.seconds) == (8, "busy", 3)
    assert (busy[b"retry-after"], busy[b"grpc-retry-pushback-ms"]) == (b"3", b"3000")

    errors = [CellError(i, f"c{i}", "missing" * 100, "missing") for i in range(20)]
    refused = refusal_of(Problem(422, "x" * 5000, errors=errors))
    status = schema.Status.FromString(a2b_base64(dict(refused.trailers)[DETAILS] + b"=="))
    found = schema.BadRequest.FromString(status.details[0].value).field_violations
    assert status.details[0].type_url == "type.googleapis.com/google.rpc.BadRequest"
    assert [each.field for each in found] == [f"row {i}, c{i}" for i in range(5)]
    assert len(refused.text) <= MAX_TEXT
    assert sum(len(name) + len(value) for name, value in refused.trailers) < 4_000


# ---- where


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1:1"), ("10.0.0.7", "10.0.0.7:1"), ("::1", "[::1]:1")]
)
def test_an_address_is_written_as_grpc_reads_it(host: str, address: str) -> None:
    """IPv6 in brackets."""
    assert str(Place(host, 1, None)) == address


def test_a_port_is_shared_by_one_server_only() -> None:
    """Its workers listen beside the reservation; another server gets neither."""
    port = free_port()
    with reserved.reserve("127.0.0.1", port, 0):
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", port))
            worker.listen()
            with pytest.raises(OSError, match="in use"):
                reserved.reserve("127.0.0.1", port, 0)
        with pytest.raises(OSError, match="in use"):
            reserved.reserve("127.0.0.1", port, 0.2)
    reserved.reserve("127.0.0.1", port, 0).close()


def test_the_host_may_be_a_name() -> None:
    """As `--host` may be; a name without an address is told at once."""
    port = free_port()
    with (
        reserved.reserve("localhost", port, 0) as held,
        pytest.raises(OSError, match="in use"),
    ):
        reserved.reserve(held.getsockname()[0], port, 0)
    with pytest.raises(OSError, match=r"[Nn]ame"):
        reserved.reserve("no-such-host.invalid", port, 60)
