"""Several connections are accepted in one turn of the event loop.

libuv, under uvloop, accepts one connection a turn. Under load a turn takes milliseconds, so the last of a
thousand simultaneous clients waited for 2.5 seconds: each turn first answered all accepted clients.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

ACCEPTED_IN_A_TURN = 16

logger = logging.getLogger("bentoml.okamochi")


class Servers:
    """Servers on copies of one listening socket, as the one server that uvicorn takes them for."""

    def __init__(self, servers: list[Any]) -> None:
        self._servers = servers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._servers[0], name)

    def close(self) -> None:
        """Stop accepting connections."""
        for server in self._servers:
            server.close()

    async def wait_closed(self) -> None:
        """Wait until all of them are closed."""
        for server in self._servers:
            await server.wait_closed()


def accept_many() -> None:
    """Make the running loop listen this way on the socket that uvicorn will hand to it."""
    loop: Any = asyncio.get_running_loop()
    if not type(loop).__module__.startswith("uvloop"):
        return  # asyncio's own accepts as many as wait
    create = loop.create_server

    async def create_server(protocol_factory: Any, *arguments: Any, sock: Any = None, **options: Any) -> Any:
        first = await create(protocol_factory, *arguments, sock=sock, **options)
        if sock is None:
            return first
        servers = [first]
        try:
            servers += [
                await create(protocol_factory, *arguments, sock=sock.dup(), **options)
                for _ in range(ACCEPTED_IN_A_TURN - 1)
            ]
        except OSError as error:  # too few descriptors
            logger.warning("connections are accepted %d at a time: %s", len(servers), error)
        return Servers(servers)

    loop.create_server = create_server
