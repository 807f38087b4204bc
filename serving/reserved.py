"""The port that the workers share: the parent process holds it, so that no other server shares it as well.

A shared port (SO_REUSEPORT) spreads its connections over all processes of the same user that listen there:
the workers of this server, and those of another server that was started with the same port by mistake.
"""

from __future__ import annotations

import socket
import time


def reserve(host: str, port: int, wait_s: float) -> socket.socket:
    """A socket that is bound and never listens; while it is open, no other process can reserve the port.

    Parameters
    ----------
    host
        An address, or a name that leads to one, such as `localhost`.
    wait_s
        For a server that is stopping.

    Raises
    ------
    OSError
        Another process has the port, or the host has no address.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    end = time.monotonic() + wait_s
    while True:
        try:
            with socket.socket(family) as alone:
                # With SO_REUSEADDR, closing connections of an earlier server do not count; a listener does.
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
            shared = socket.socket(family)
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(address)
        except OSError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.1)
        else:
            return shared
