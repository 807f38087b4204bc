"""`grpc.health.v1.Health`: the status of the server, and of each model by its name."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from serving.errors import Problem
from serving.grpc.call import Call
from serving.grpc.connection import Method
from serving.grpc.replies import refuse_untold
from serving.grpc.schema import HEALTH, SERVICE, HealthCheckRequest, HealthCheckResponse
from serving.grpc.service import model_path, parsed
from serving.grpc.stream import OK
from serving.protocols.oip import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from serving.grpc.replies import Tell
    from serving.grpc.stream import Stream
    from serving.http.routes import Live

Status = HealthCheckResponse.ServingStatus
WHOLE = ("", SERVICE, HEALTH)
"""The services whose status is that of the whole server."""
LOOK_EVERY_S = 0.5
LABEL = "health"
"""The value of the metric label `endpoint`, as of `/livez`."""


class Health:
    """See the module.

    Parameters
    ----------
    ending
        Set when the server begins to end: it is not ready from then on.
    tell
        Counts and logs a refused call.
    """

    def __init__(self, live: Live, ending: asyncio.Event, tell: Tell) -> None:
        self._live = live
        self._ending = ending
        self._tell = tell

    def status(self, service: str) -> Any:
        """The status of the server or of a model."""
        catalog = self._live.routes.catalog
        if service in WHOLE:
            ready = catalog.ready and not self._ending.is_set()
            return Status.SERVING if ready else Status.NOT_SERVING
        model = catalog.live.get(service)
        if model is not None:
            ready = not (model.batcher.failed or self._ending.is_set())
            return Status.SERVING if ready else Status.NOT_SERVING
        if catalog.not_served(service) or service in catalog.held:
            return Status.NOT_SERVING
        return Status.SERVICE_UNKNOWN

    def methods(self) -> dict[bytes, Method]:
        """Each method by its path."""
        return {
            f"/{HEALTH}/Check".encode(): Method(self._started(self._check), label=LABEL),
            f"/{HEALTH}/Watch".encode(): Method(self._started(self._watch), label=LABEL),
        }

    def _started(
        self, method: Callable[[Stream, str, Call], Coroutine[Any, Any, None]]
    ) -> Callable[[Stream, bytes], None]:
        """A method for clients that may ask: a model's status needs a valid key, the server's does not."""

        async def answer(stream: Stream, data: bytes) -> None:
            call = Call(stream)
            try:
                call.check_metadata(stream)
                service = parsed(HealthCheckRequest, data, call).service
                path = f"{ROOT}/health/ready" if service in WHOLE else f"{model_path(service)}/ready"
                call.admit("GET", path)
            except Problem as problem:
                await refuse_untold(stream, call, problem, LABEL, self._tell)
            else:
                await method(stream, service, call)

        return lambda stream, data: stream.start(answer(stream, data))

    async def _check(self, stream: Stream, service: str, call: Call) -> None:
        """The status now; NOT_FOUND for an unknown service."""
        status = self.status(service)
        if status == Status.SERVICE_UNKNOWN:
            problem = Problem(404, f'Unknown service {service[:100]!r}; expected "" or a model\'s name.')
            await refuse_untold(stream, call, problem, LABEL, self._tell)
            return
        stream.reply(HealthCheckResponse(status=status).SerializeToString())

    async def _watch(self, stream: Stream, service: str, _: Call) -> None:
        """The status now, then each change, until the client leaves or the server ends."""
        last = None
        while True:
            ended = self._ending.is_set()
            status = self.status(service)
            if status != last:
                stream.send(HealthCheckResponse(status=status).SerializeToString())
            last = status
            if ended:
                stream.end(OK)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), LOOK_EVERY_S)
