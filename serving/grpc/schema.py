"""The messages of the `.proto` files of this folder, made from their compiled form.

They are in a pool of their own: another library in the process, such as Triton's client, may have its own
messages of the same names in the default pool, which refuses a second one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTOSET = Path(__file__).with_name("open_inference.protoset")
SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(PROTOSET.read_bytes()).file:
    POOL.Add(_file)


def message(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


ModelInferRequest = message("inference.ModelInferRequest")
ModelInferResponse = message("inference.ModelInferResponse")
Status = message("google.rpc.Status")
RetryInfo = message("google.rpc.RetryInfo")
BadRequest = message("google.rpc.BadRequest")
HealthCheckRequest = message("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = message("grpc.health.v1.HealthCheckResponse")
ReflectionRequest = message("grpc.reflection.v1alpha.ServerReflectionRequest")
ReflectionResponse = message("grpc.reflection.v1alpha.ServerReflectionResponse")

METHODS = {
    method.name: (
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
    )
    for method in POOL.FindServiceByName(SERVICE).methods
}
"""The messages of each method: request and response."""
