"""The gRPC server of one worker: its port, methods and end. The workers share the port (SO_REUSEPORT)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from serving.grpc.connection import Connection, Shared
from serving.grpc.heading import Headings
from serving.grpc.health import Health
from serving.grpc.reflection import Reflection
from serving.grpc.service import InferenceService

if TYPE_CHECKING:
    import socket
    import ssl

    from serving.grpc.place import Place
    from serving.http.bodies import Bodies
    from serving.http.routes import Live
    from serving.observe.traces import Tracer
    from serving.scoring.repository import Repository
    from serving.settings import Settings

logger = logging.getLogger("bentoml.okamochi")

LOOK_EVERY_S = 0.02


class Server:
    """See the module.

    Parameters
    ----------
    live, bodies
        The same as the gateway's.
    """

    def __init__(
        self,
        live: Live,
        settings: Settings,
        place: Place,
        tracer: Tracer | None,
        bodies: Bodies,
        *,
        store: Repository | None = None,
    ) -> None:
        self._settings = settings
        self._place = place
        self._ending = asyncio.Event()
        service = InferenceService(live, settings, tracer, store)
        self._shared = Shared(
            settings,
            {
                **service.methods(),
                **Health(live, self._ending, service.tell).methods(),
                **Reflection(self._ending, service.tell).methods(),
            },
            Headings(),
            service.readers,
            set(),
            bodies,
            service.tell_refused,
            tls=place.tls is not None,
        )
        self._socket: socket.socket | None = None
        self._server: Any = None
        self._tls: ssl.SSLContext | None = None

    async def start(self) -> None:
        """Listen, in the running loop."""
        self._tls = tls = self._place.tls.context() if self._place.tls is not None else None
        listening = self._place.listen()
        self._socket = listening.dup()  # the last to close, see `_stop_listening`
        wait = self._settings.receive_s if tls is not None else None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._shared), sock=listening, ssl=tls, ssl_handshake_timeout=wait
        )
        logger.info("gRPC listens on %s%s", self._place, "" if tls is None else ", with TLS")

    async def end(self) -> None:
        """Take no new calls; return once those in progress are answered."""
        if self._server is None:
            return
        await self._stop_listening()
        self._ending.set()
        connections = self._shared.connections
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.max_deadline_ms / 1000
        while connections and loop.time() < until:
            for each in tuple(connections):  # also those that libuv had accepted already
                each.leave()
            await asyncio.sleep(LOOK_EVERY_S)
        for each in tuple(connections):
            each.abort()

    async def _stop_listening(self) -> None:
        """Close the port; connections that the kernel has accepted by then get their goodbye, not a reset."""
        listening, loop = self._socket, asyncio.get_running_loop()
        assert listening is not None  # noqa: S101 - it has started
        self._server.close()
        accepted = []
        with suppress(BlockingIOError, OSError):
            while True:
                accepted.append(listening.accept()[0])
        listening.close()
        for each in accepted:
            each.setblocking(False)
            with suppress(OSError, TimeoutError):
                await loop.connect_accepted_socket(lambda: Connection(self._shared), each, ssl=self._tls)
