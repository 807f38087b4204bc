"""The gRPC server of one worker: its port, TLS, limits and end. The workers share the port (SO_REUSEPORT)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2_grpc

from serving import guards
from serving.grpc.drain import CONNECTION_AGE_S, drain
from serving.grpc.health import Health
from serving.grpc.reflection import Reflection
from serving.grpc.service import InferenceService

if TYPE_CHECKING:
    from serving.grpc.place import Place
    from serving.http.routes import Live
    from serving.observe.traces import Tracer
    from serving.scoring.repository import Repository
    from serving.settings import Settings

logger = logging.getLogger("bentoml.okamochi")

MAX_STREAMS = 1_024
"""Calls in progress on one connection; further ones wait in the client."""


class Server:
    """See the module.

    Parameters
    ----------
    live
        The same as the gateway's.
    """

    def __init__(
        self,
        live: Live,
        settings: Settings,
        place: Place,
        tracer: Tracer | None,
        store: Repository | None = None,
    ) -> None:
        self._store = store
        self._live = live
        self._settings = settings
        self._place = place
        self._tracer = tracer
        self._server: grpc.aio.Server | None = None
        self._ending = asyncio.Event()

    async def start(self) -> None:
        """Listen, in the running loop."""
        guards.usable(guards.CONNECTIONS)  # says so at start if it is not
        self._server = server = grpc.aio.server(options=self._options())
        reflection = Reflection(self._ending)
        inference = InferenceService(self._live, self._settings, self._tracer, self._store)
        server.add_generic_rpc_handlers((inference.handlers(), *reflection.handlers()))
        health_pb2_grpc.add_HealthServicer_to_server(Health(self._live, self._ending), server)
        address = self._place.address
        credentials = self._place.tls.credentials() if self._place.tls is not None else None
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
        await server.start()
        logger.info("gRPC listens on %s%s", address, "" if credentials is None else ", with TLS")

    async def end(self) -> None:
        """Take no new calls; return once those in progress are answered."""
        if self._server is None:
            return
        self._ending.set()
        await drain(self._settings.grpc_port)
        await self._server.stop(self._settings.max_deadline_ms / 1000)

    def _options(self) -> list[tuple[str, int]]:
        settings = self._settings
        return [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", settings.max_head_bytes),
            ("grpc.absolute_max_metadata_size", settings.max_head_bytes),
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            ("grpc.server_handshake_timeout_ms", int(1000 * settings.receive_s)),
            ("grpc.keepalive_time_ms", int(1000 * settings.receive_s)),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.max_connection_age_ms", 1000 * CONNECTION_AGE_S),
            ("grpc.max_connection_age_grace_ms", settings.max_deadline_ms),
        ]
