"""Server reflection: tools such as grpcurl learn the methods and messages from the server itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serving.errors import Problem
from serving.grpc import health, schema
from serving.grpc.call import Call
from serving.grpc.service import abort
from serving.protocols.oip import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""Both versions have the same messages; tools ask for the first and fall back to the second."""
METHOD = "ServerReflectionInfo"


class Reflection:
    """See the module; with keys on, any valid key may ask."""

    def __init__(self, ending: asyncio.Event) -> None:
        self._ending = ending
        schema.add(health_pb2.DESCRIPTOR)
        schema.add(reflection_pb2.DESCRIPTOR)
        names = (schema.SERVICE, health.NAME, *NAMES)
        self._servicer = reflection.aio.ReflectionServicer(names, pool=schema.POOL)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """The method, under the names of both versions."""
        method = grpc.stream_stream_rpc_method_handler(
            self._info,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return [grpc.method_handlers_generic_handler(name, {METHOD: method}) for name in NAMES]

    async def _info(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        call = Call()
        try:
            call.read(context)
            call.admit("GET", ROOT)
        except Problem as problem:
            call.named(problem)
            await abort(context, call)
        async for response in self._servicer.ServerReflectionInfo(self._until_the_end(requests), context):
            yield response

    async def _until_the_end(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The requests until the client or the server ends: an open stream does not delay the shutdown."""
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            while True:
                following = asyncio.ensure_future(anext(requests, None))
                await asyncio.wait((following, ending), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    return
                request = following.result()
                if request is None:
                    return
                yield request
        finally:
            ending.cancel()
