"""Calls of the gRPC port, right and wrong ones."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import grpc

from serving.grpc import schema
from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

IRIS = [5.1, 3.5, 1.4, 0.2]


def channel_to(address: str) -> grpc.Channel:
    """A connection of its own."""
    return grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


def message(model: str = "iris", cells: list[float] | None = None, **fields: Any) -> Any:
    """A `ModelInferRequest` of one row, with typed contents."""
    row = IRIS if cells is None else cells
    found = schema.ModelInferRequest(model_name=model, **fields)
    tensor = found.inputs.add(name="features", datatype="FP64", shape=[1, len(row)])
    tensor.contents.fp64_contents.extend(row)
    return found


def method(channel: Any, name: str = "ModelInfer") -> Any:
    kinds = schema.METHODS[name]
    return channel.unary_unary(
        f"/{schema.SERVICE}/{name}",
        request_serializer=lambda sent: sent if isinstance(sent, bytes) else sent.SerializeToString(),
        response_deserializer=kinds[1].FromString,
    )


REFUSED = [
    (message("nothing"), "NOT_FOUND", "Unknown model 'nothing'"),
    (message("iris/versions/7"), "NOT_FOUND", "Unknown model"),
    (message("iris", model_version="8"), "NOT_FOUND", "Unknown version '8' of 'iris'"),
    (message("iris", model_version="7/infer/.."), "NOT_FOUND", "Unknown version"),
    (message(""), "INVALID_ARGUMENT", "Expected the name of a model"),
    (message("iris", [1.0]), "INVALID_ARGUMENT", "expected [rows, 4]"),
    (message("iris", [1.0, 2, 3, float("nan")]), "INVALID_ARGUMENT", "row 0, column 'petal_width': missing"),
    (message("iris", [1.0, 2, 3, float("inf")]), "INVALID_ARGUMENT", "petal_width"),
    (schema.ModelInferRequest(model_name="iris"), "INVALID_ARGUMENT", '"inputs" is empty'),
    (b"\xff\xff\xff", "INVALID_ARGUMENT", "not a valid inference.ModelInferRequest"),
]
"""Messages that are refused, with the code and the words."""


def send_malformed(channel: Any, count: int) -> Iterator[str]:
    """Send valid messages with bytes changed, cut or added, and some absurd ones; their codes."""
    draw = random.Random(7)  # noqa: S311 - the same messages each time
    seeds = [sent if isinstance(sent, bytes) else sent.SerializeToString() for sent, *_ in REFUSED]
    wide = message()
    wide.inputs[0].shape[:] = [2**62, 2**62]
    raw = schema.ModelInferRequest(model_name="iris", raw_input_contents=[b"x" * 31])
    raw.inputs.add(name="f", datatype="BYTES", shape=[1, 4])
    seeds += [message().SerializeToString(), wide.SerializeToString(), raw.SerializeToString(), b""]
    infer = method(channel)
    for _ in range(count):
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.randrange(4)):
            place = draw.randrange(len(data) + 1)
            data[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(4))
        try:
            infer(bytes(data), timeout=PATIENCE_S)
        except grpc.RpcError as error:
            yield error.code().name
        else:
            yield "OK"
