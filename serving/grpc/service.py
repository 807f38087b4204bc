"""`inference.GRPCInferenceService`: each method is answered as its route of `/v2`."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from google.protobuf.message import DecodeError

from serving.errors import Problem, server_failed
from serving.grpc.call import Call
from serving.grpc.connection import Method
from serving.grpc.messages import body_of, response_of, set_tensors
from serving.grpc.plain import plain_query
from serving.grpc.quick import QuickCall
from serving.grpc.replies import late, refuse, trailers_of
from serving.grpc.schema import METHODS, SERVICE, ModelInferRequest
from serving.http.lane import lane
from serving.observe import metrics
from serving.observe.logs import RequestLog
from serving.observe.supervised import Pool
from serving.protocols import LARGE_BODY_BYTES, Reply, data_plane
from serving.protocols.oip import ROOT, OpenInference, repository
from serving.protocols.oip.endpoint import ENCODED
from serving.protocols.oip.request import HEADER_LENGTH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from serving.grpc.messages import Body
    from serving.grpc.stream import Stream
    from serving.http.routes import Live, Routes
    from serving.observe.traces import Tracer
    from serving.protocols import Endpoint
    from serving.scoring.repository import Repository
    from serving.settings import Settings

PAGES = OpenInference.name
"""The value of the metric label `endpoint` of the methods that a page of `/v2` answers."""
NOT_READY = Reply(200, b"", b"")

_decode = msgspec.json.decode
Found = TypeVar("Found")


class InferenceService:
    """See the module.

    Parameters
    ----------
    live
        The same as the gateway's.
    store
        The models that could be served; None if the server does not change its models.
    """

    def __init__(
        self, live: Live, settings: Settings, tracer: Tracer | None, store: Repository | None = None
    ) -> None:
        self._live = live
        self._repository = store
        self.settings = settings
        self._observe = metrics.Observer("grpc")
        self._log = RequestLog("grpc", settings.log_sample, tracer)
        self.readers = Pool("reading", 2)
        self._oip = OpenInference()

    def methods(self) -> dict[bytes, Method]:
        """Each method by its path."""
        found = {name: self._method(name, PAGES, partial(self._page, name)) for name in _PAGE_METHODS}
        found["RepositoryIndex"] = self._method("RepositoryIndex", "repository", self._index)
        found["ModelInfer"] = Method(self.infer, label="infer")
        return {f"/{SERVICE}/{name}".encode(): method for name, method in found.items()}

    # ---- predictions

    def infer(self, stream: Stream, data: bytes) -> None:
        """`ModelInfer`: the usual message in callbacks, any other in a task."""
        try:
            quick = len(data) < LARGE_BODY_BYTES and self._quick(stream, data)
        except Exception:  # noqa: BLE001 - the task meets it again, and its log line says what it was
            quick = False
        if not quick:
            stream.start(self._infer(stream, data))

    def _quick(self, stream: Stream, data: bytes) -> bool:
        """Begin a call whose message is the usual one; False for any other, before it was admitted."""
        try:
            request = ModelInferRequest.FromString(data)
        except DecodeError:
            return False
        routes = self._live.routes
        path = f"{model_path(request.model_name, request.model_version)}/infer"
        endpoint = routes.endpoints.get(path)
        if endpoint is None or path in routes.splits or stream.heading.problem is not None:
            return False
        try:
            query = plain_query(request, endpoint.model)
        except Problem:
            return False
        if query is None:
            return False
        QuickCall(self, stream, endpoint, query, raw=bool(request.raw_input_contents)).begin(path)
        return True

    async def _infer(self, stream: Stream, data: bytes) -> None:
        call = Call(stream)
        routes = self._live.routes  # the call ends with the snapshot that it began with
        endpoint: Endpoint | None = None
        try:
            call.check_metadata(stream)
            large = len(data) >= LARGE_BODY_BYTES
            request = await self._run(large, parsed, ModelInferRequest, data, call)
            path = f"{model_path(request.model_name, request.model_version)}/infer"
            call.admit("POST", path)
            endpoint = self._found(routes.endpoints, routes, path, request.model_name)
            split = routes.splits.get(path)
            if split is not None and split.picks(call.head.canary_key, call.caller_name or None):
                endpoint = split.endpoint
            reply = await self._answer(endpoint, request, call, large=large)
            assert reply is not None  # noqa: S101 - the call of a client that leaves is cancelled
            if reply.content_type is ENCODED:
                response: bytes = reply.body
            else:
                answer = partial(response_of, raw=bool(request.raw_input_contents))
                response = await self._run(len(reply.body) >= LARGE_BODY_BYTES, answer, reply)
        except Problem as problem:
            reply = (endpoint or self._oip).refuse(call.named(problem))
        except asyncio.CancelledError:
            if call.is_late:
                reply = (endpoint or self._oip).refuse(call.named(late()))
                self.tell(endpoint.name if endpoint is not None else "infer", reply, call, endpoint)
            raise
        except Exception as error:  # noqa: BLE001 - a bug is a 500 and a line in the log
            reply = (endpoint or self._oip).refuse(call.named(server_failed(error)))
        self.tell(endpoint.name if endpoint is not None else "infer", reply, call, endpoint)
        if call.problem is not None:
            await refuse(stream, call, reply)
        else:
            stream.reply(response, trailers_of(reply, call.head))

    async def _answer(self, endpoint: Endpoint, request: Any, call: Call, *, large: bool) -> Reply | None:
        query = await self._run(large, plain_query, request, endpoint.model)
        if query is not None:
            return await data_plane.answer_query(
                endpoint, query, call.head, call, settings=self.settings, left=None, large=large
            )
        body: Body = await self._run(large, body_of, request)
        length = (HEADER_LENGTH, b"%d" % body.header)
        return await data_plane.answer(
            endpoint,
            body.data,
            msgspec.structs.replace(call.head, headers=(*call.head.headers, length)),
            call,
            settings=self.settings,
            readers=self.readers,
            left=None,
        )

    async def _run(self, large: bool, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, in a thread if it may take long."""
        if large:
            return await asyncio.get_running_loop().run_in_executor(self.readers, work, *arguments)
        return work(*arguments)

    def _found(self, places: Mapping[str, Found], routes: Routes, path: str, name: str) -> Found:
        """What is at the path of a model.

        Raises
        ------
        Problem
            Why there is nothing.
        """
        found = places.get(path)
        if found is not None:
            return found
        if not name:
            raise Problem(422, "Expected the name of a model, got an empty text.")
        problem = self._oip.not_found(path, routes.catalog)
        assert problem is not None  # noqa: S101 - the path is the protocol's
        raise problem

    # ---- all else

    def _method(
        self, name: str, label: str, reply_to: Callable[[Any, Any, Call], Awaitable[Reply]]
    ) -> Method:
        """A method whose request is small.

        Parameters
        ----------
        label
            The value of the metric label `endpoint`.
        reply_to
            Takes the request, the response to fill and the call.
        """
        request_class, response_class = METHODS[name]

        async def answer(stream: Stream, data: bytes) -> None:
            call = Call(stream)
            reply = NOT_READY
            response = response_class()
            try:
                call.check_metadata(stream)
                reply = await reply_to(parsed(request_class, data, call), response, call)
            except Problem as problem:
                # A missing model is not ready; that is not an error.
                if name != "ModelReady" or problem.status not in (404, 503):
                    reply = self._oip.refuse(call.named(problem))
            except asyncio.CancelledError:
                if call.is_late:
                    self.tell(label, self._oip.refuse(call.named(late())), call)
                raise
            except Exception as error:  # noqa: BLE001 - as in `infer`
                reply = self._oip.refuse(call.named(server_failed(error)))
            self.tell(label, reply, call)
            if call.problem is not None:
                await refuse(stream, call, reply)
            else:
                stream.reply(response.SerializeToString())

        return Method(lambda stream, data: stream.start(answer(stream, data)), label=label)

    async def _page(self, name: str, request: Any, response: Any, call: Call) -> Reply:
        """A method that is answered by a page of `/v2`."""
        path_of, fill = _PAGE_METHODS[name]
        routes = self._live.routes
        path = path_of(request)
        call.admit("GET", path, routes.catalog.default)
        page = self._found(routes.pages, routes, path, getattr(request, "name", ""))
        found = page.answer()
        reply = await found if inspect.isawaitable(found) else found
        fill(response, _decode(reply.body))
        return reply

    async def _index(self, request: Any, response: Any, call: Call) -> Reply:
        """`RepositoryIndex`, as `POST /v2/repository/index`."""
        call.admit("POST", repository.INDEX, self._live.routes.catalog.default)
        store = repository.required(self._repository)
        body = b'{"ready":true}' if request.ready else b"{}"
        reply: Reply = await self._run(True, repository.answer, store, repository.INDEX, body)
        for each in _decode(reply.body):
            response.models.add(**each)
        return reply

    def tell_refused(self, stream: Stream, problem: Problem) -> str:
        """Count and log a call that its connection refuses; the id of its line."""
        call = Call(stream)
        label = stream.method.label if stream.method is not None else "other"
        self.tell(label, self._oip.refuse(call.named(problem)), call)
        return call.request_id

    def tell(self, name: str, reply: Reply, call: Call, endpoint: Endpoint | None = None) -> None:
        """Count, audit and log an answered call."""
        model = endpoint.model if endpoint is not None else None
        of = (model.name, model.version) if model is not None else ("", "")
        self._observe(*of, name, reply.status, perf_counter() - call.started, reason=reply.reason)
        if lane.audit is not None:
            lane.audit(call.caller_name, *of, name, reply.status)
        if reply.status < 400 and self._log.sample_rate is None:
            return
        self._log(
            name,
            reply,
            call.started,
            endpoint=endpoint,
            head=call.head,
            queued=call.queued,
            scores=call.scores,
            request_id=call.request_id,
            problem=call.problem,
            principal=call.caller_name,
        )


def parsed(kind: Any, data: bytes, call: Call) -> Any:
    """A message from its bytes.

    Raises
    ------
    Problem
        400; the access check comes first, with 401, 403 or 429.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        call.admit("GET", ROOT)
        raise Problem(400, f"The message is not a valid {kind.DESCRIPTOR.full_name}.") from None


# ---- paths


def model_path(name: str, version: str = "") -> str:
    """The path of a model; a slash in a name is escaped, so a name is always one part of the path."""
    path = f"{ROOT}/models/{name.replace('/', '%2F')}"
    return f"{path}/versions/{version.replace('/', '%2F')}" if version else path


def _ready_path(request: Any) -> str:
    return f"{model_path(request.name, request.version)}/ready"


# ---- replies


def _live_of(response: Any, found: dict[str, Any]) -> None:
    response.live = found["live"]


def _ready_of(response: Any, found: dict[str, Any]) -> None:
    response.ready = found["ready"]


def _server_of(response: Any, found: dict[str, Any]) -> None:
    response.name, response.version = found["name"], found["version"]
    response.extensions.extend(found["extensions"])


def _model_of(response: Any, found: dict[str, Any]) -> None:
    response.name, response.platform = found["name"], found["platform"]
    response.versions.extend(found["versions"])
    set_tensors(response.inputs, found["inputs"])
    set_tensors(response.outputs, found["outputs"])


_PAGE_METHODS: dict[str, tuple[Callable[[Any], str], Callable[[Any, dict[str, Any]], None]]] = {
    "ServerLive": (lambda _: f"{ROOT}/health/live", _live_of),
    "ServerReady": (lambda _: f"{ROOT}/health/ready", _ready_of),
    "ModelReady": (_ready_path, _ready_of),
    "ServerMetadata": (lambda _: ROOT, _server_of),
    "ModelMetadata": (lambda request: model_path(request.name, request.version), _model_of),
}
"""The path of each method, and how the page's JSON becomes its response."""
