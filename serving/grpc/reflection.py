"""Server reflection: tools such as grpcurl learn the methods and messages from the server itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2

from serving.errors import Problem
from serving.grpc.call import Call
from serving.grpc.connection import Method
from serving.grpc.refusals import Code
from serving.grpc.replies import refuse_untold
from serving.grpc.schema import HEALTH, POOL, SERVICE, ReflectionRequest, ReflectionResponse
from serving.grpc.service import parsed
from serving.grpc.stream import OK
from serving.protocols.oip import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.grpc.replies import Tell
    from serving.grpc.stream import Stream

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""Both versions have the same messages; tools ask for the first and fall back to the second."""
METHOD = "ServerReflectionInfo"
LABEL = "reflection"
"""The value of the metric label `endpoint`."""


class Reflection:
    """See the module; with keys on, any valid key may ask."""

    def __init__(self, ending: asyncio.Event, tell: Tell) -> None:
        self._ending = ending
        self._tell = tell

    def methods(self) -> dict[bytes, Method]:
        """The method, under the names of both versions."""
        method = Method(lambda stream, _: stream.start(self._info(stream)), several=True, label=LABEL)
        return {f"/{name}/{METHOD}".encode(): method for name in NAMES}

    async def _info(self, stream: Stream) -> None:
        """Answer until the client or the server ends: an open stream does not delay the end."""
        call = Call(stream)
        try:
            call.check_metadata(stream)
            call.admit("GET", ROOT)
        except Problem as problem:
            await refuse_untold(stream, call, problem, LABEL, self._tell)
            return
        answering = asyncio.ensure_future(self._answer(stream, call))
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait((answering, ending), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
            stream.end(OK)
        except Problem as problem:
            await refuse_untold(stream, call, problem, LABEL, self._tell)
        finally:
            answering.cancel()
            ending.cancel()

    async def _answer(self, stream: Stream, call: Call) -> None:
        async for data in stream.messages():
            stream.send(answer(parsed(ReflectionRequest, data, call)).SerializeToString())
            await stream.drained()


def answer(request: Any) -> Any:
    """The response to one request."""
    response = ReflectionResponse(valid_host=request.host, original_request=request)
    kind = request.WhichOneof("message_request")
    try:
        if kind == "list_services":
            for name in (SERVICE, HEALTH, *NAMES):
                response.list_services_response.service.add(name=name)
        elif kind in _FILES:
            _add_files(response, _FILES[kind](request))
        elif kind == "all_extension_numbers_of_type":
            name = request.all_extension_numbers_of_type
            POOL.FindMessageTypeByName(name)  # proto3: no message has extensions
            response.all_extension_numbers_response.base_type_name = name
        else:
            _fail(response, Code.INVALID_ARGUMENT, "The request asks for nothing.")
    except KeyError:
        _fail(response, Code.NOT_FOUND, f"{kind}: not found.")
    return response


def _add_files(response: Any, file: Any) -> None:
    """A file and those that it imports, each once."""
    waiting, seen = [file], set()
    while waiting:
        each = waiting.pop()
        if each.name in seen:
            continue
        seen.add(each.name)
        found = descriptor_pb2.FileDescriptorProto()
        each.CopyToProto(found)
        response.file_descriptor_response.file_descriptor_proto.append(found.SerializeToString())
        waiting += each.dependencies


def _fail(response: Any, code: Code, text: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = text


def _extension(request: Any) -> Any:
    asked = request.file_containing_extension
    kind = POOL.FindMessageTypeByName(asked.containing_type)
    return POOL.FindExtensionByNumber(kind, asked.extension_number).file


_FILES: dict[str, Callable[[Any], Any]] = {
    "file_by_filename": lambda request: POOL.FindFileByName(request.file_by_filename),
    "file_containing_symbol": lambda request: POOL.FindFileContainingSymbol(request.file_containing_symbol),
    "file_containing_extension": _extension,
}
