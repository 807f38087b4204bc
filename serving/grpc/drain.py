"""The end of a gRPC server without a lost call.

gRPC's own way to stop cancels the calls that reach it a moment later, and no client sends these again. So a
server that ends first takes no new connections, and answers on until every connection has reached its age.
Then gRPC has the client leave in order: calls that it has sent are answered, others take another connection.
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
"""The age at which a connection is replaced; so new workers and pods get their part as well. It is shorter
than the time between a pod's removal from its Service and its SIGTERM (k8s/base: `preStop`)."""
LEFT_S = 1.15 * CONNECTION_AGE_S + 1
"""The time by which each has been: gRPC varies the age by a tenth, and says goodbye by a ping."""
LOOK_EVERY_S = 0.05
PAGE = 500


async def drain(port: int) -> None:
    """Take no new connections, and return when there are none, or none that is younger than its age."""
    stop_listening(port)
    until = monotonic() + LEFT_S
    while monotonic() < until and connections() != 0:  # noqa: ASYNC110 - gRPC tells nobody of a closed one
        await asyncio.sleep(LOOK_EVERY_S)


def stop_listening(port: int) -> None:
    """Take no new connections at a port, in this process: gRPC itself can only do that and stop at once."""
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
