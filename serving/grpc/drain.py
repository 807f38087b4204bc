"""The end of a gRPC server without a lost call.

gRPC's own stop cancels the calls that arrive a moment later, and no client sends these again. So the server
first stops accepting connections, and answers calls until gRPC has closed every connection for its age. That
loses no call: those that the client has sent are answered, and it sends others on a new connection.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from time import monotonic

from serving import guards

CONNECTION_AGE_S = 10
"""The age at which gRPC closes a connection, so that new workers and pods get their part as well. It is
shorter than the time between a pod's removal from its Service and its SIGTERM (k8s/base: `preStop`)."""
LEFT_S = 1.15 * CONNECTION_AGE_S + 1
"""Longer than any connection lives: gRPC varies the age by a tenth, and its goodbye waits for a ping."""
LOOK_EVERY_S = 0.05
PAGE = 500


async def drain(port: int) -> None:
    """Stop accepting connections; return once all are closed, or after `LEFT_S`."""
    stop_listening(port)
    until = monotonic() + LEFT_S
    while monotonic() < until and connections() != 0:  # noqa: ASYNC110 - gRPC does not report a closed one
        await asyncio.sleep(LOOK_EVERY_S)


def stop_listening(port: int) -> None:
    """Stop accepting connections at a port, in this process; gRPC itself does so only with its own stop."""
    for descriptor in Path("/dev/fd").iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as found:
            listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if listens and found.getsockname()[1] == port:
                found.shutdown(socket.SHUT_RDWR)


def connections() -> int | None:
    """The connections of the gRPC servers of this process, up to `PAGE`; None where gRPC does not say."""
    if not guards.usable(guards.CONNECTIONS):
        return None
    from grpc._cython import cygrpc

    count = 0
    for server in json.loads(cygrpc.channelz_get_servers(0)).get("server", ()):
        sockets = cygrpc.channelz_get_server_sockets(int(server["ref"]["serverId"]), 0, PAGE)
        count += len(json.loads(sockets).get("socketRef", ()))
    return count
