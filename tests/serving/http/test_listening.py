"""A worker's event loop and real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import pytest
import uvloop

from serving.http.listening import ACCEPTED_IN_A_TURN, accept_many
from tests.servers import PATIENCE_S

CROWD = 200


def listening() -> socket.socket:
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    found.listen(CROWD)
    return found


async def turns(server_socket: socket.socket) -> tuple[list[int], Any]:
    """In which turn of the loop each of a crowd was accepted, and the server."""
    loop = asyncio.get_running_loop()
    made: list[int] = []
    turn = 0

    class Client(asyncio.Protocol):
        def connection_made(self, _transport: asyncio.BaseTransport) -> None:
            made.append(turn)

    def count() -> None:
        nonlocal turn
        turn += 1
        if len(made) < CROWD:
            loop.call_soon(count)

    server = await loop.create_server(Client, sock=server_socket, backlog=CROWD)
    clients = [socket.create_connection(server_socket.getsockname()) for _ in range(CROWD)]
    count()
    while len(made) < CROWD:  # noqa: ASYNC110 - it is no event
        await asyncio.sleep(0.001)
    for client in clients:
        client.close()
    return made, server


def test_a_crowd_is_accepted_many_in_a_turn() -> None:
    async def main() -> None:
        accept_many()
        made, server = await turns(listening())
        assert max(Counter(made).values()) == ACCEPTED_IN_A_TURN
        server.close()
        await server.wait_closed()

    uvloop.run(main())


def test_nobody_is_accepted_once_the_server_is_closed() -> None:
    """All its sockets are: what is left of one would take connections that nobody answers."""

    async def main() -> None:
        accept_many()
        server_socket = listening()
        address = server_socket.getsockname()
        _, server = await turns(server_socket)
        assert server.sockets[0].getsockname() == address
        server.close()
        await server.wait_closed()
        server_socket.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=PATIENCE_S)

    uvloop.run(main())


def test_a_loop_that_accepts_all_that_wait_is_left_as_it_is() -> None:
    async def main() -> None:
        before = asyncio.get_running_loop().create_server
        accept_many()
        assert asyncio.get_running_loop().create_server == before

    asyncio.run(main())
