"""`grpc.health.v1.Health`: the status of the server, and of each model by its name."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.errors import Problem
from serving.grpc.call import Call
from serving.grpc.schema import SERVICE
from serving.grpc.service import abort, model_path
from serving.protocols.oip import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from serving.http.routes import Live

Status = health_pb2.HealthCheckResponse.ServingStatus
NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
WHOLE = ("", SERVICE, NAME)
"""The services whose status is that of the whole server."""
LOOK_EVERY_S = 0.5


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # untyped
    """See the module.

    Parameters
    ----------
    ending
        Set when the server begins to end: it is not ready from then on.
    """

    def __init__(self, live: Live, ending: asyncio.Event) -> None:
        self._live = live
        self._ending = ending

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

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - of the protocol
        """The status now; NOT_FOUND for an unknown service."""
        call = await self._admitted(request.service, context)
        status = self.status(request.service)
        if status == Status.SERVICE_UNKNOWN:
            call.named(
                Problem(404, f'Unknown service {request.service[:100]!r}; expected "" or a model\'s name.')
            )
            await abort(context, call)
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - as above
        """The status now, then each change, until the client leaves or the server ends."""
        await self._admitted(request.service, context)
        last = None
        while True:
            ended = self._ending.is_set()
            status = self.status(request.service)
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
            last = status
            if ended:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), LOOK_EVERY_S)

    async def _admitted(self, service: str, context: Any) -> Call:
        """The call of a client that may ask: a model's status needs a valid key, the server's does not."""
        call = Call()
        try:
            call.read(context)
            path = f"{ROOT}/health/ready" if service in WHOLE else f"{model_path(service)}/ready"
            call.admit("GET", path)
        except Problem as problem:
            call.named(problem)
            await abort(context, call)
        return call
