"""Requests as bytes to a server of either lane, and the replies."""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import httpx

from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.servers import Server

NAMES = {"iris": "12", "linear": "1", "loans": "2"}
KEEP_ALIVE_S = 7  # longer than uvicorn's own 5
ROW = [5.1, 3.5, 1.4, 0.2]
BODY = b'{"features": [[5.1, 3.5, 1.4, 0.2]]}'
INFER = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}
PREDICTIONS = {
    "/predict": BODY,
    "/v2/models/iris/infer": json.dumps(INFER).encode(),
    "/invocations": b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}',
    "/score": b'{"rows": [[5.1, 3.5, 1.4, 0.2]]}',
}
"""A request of each protocol about the same row, by path."""
END = b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Lanes(NamedTuple):
    express: Server
    gateway: Server


class Reply(NamedTuple):
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def connect(server: Server) -> socket.socket:
    where = urlsplit(server.url)
    connection = socket.create_connection((where.hostname, where.port), timeout=PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def split(stream: bytes) -> list[Reply]:
    """The replies in a stream, without what differs from one second or request to the next."""
    replies = []
    while stream:
        head, _, rest = stream.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = [tuple(line.split(b": ", 1)) for line in lines]
        length = int(dict(headers).get(b"content-length", b"0"))
        status = int(first.split()[1])
        if rest.startswith(b"HTTP/1.1 "):  # of a HEAD request, or 100
            length = 0
        body = re.sub(rb'id":"[0-9a-f]+(?:-[0-9a-f]+)+"', b'id":"*"', rest[:length])
        # A refusal is called by a name of ours where the client gave none.
        named = [
            (name, re.sub(rb"[0-9a-f]{12}-[0-9a-f]+", b"*", value) if name == b"x-request-id" else value)
            for name, value in headers
        ]
        stable = tuple(pair for pair in named if pair[0] not in (b"date", b"content-length"))
        replies.append(Reply(status, stable, body))
        stream = rest[length:]
    return replies


def exchange(server: Server, chunks: Sequence[bytes], *, pause: float = 0.0, end: bytes = END) -> list[Reply]:
    """The replies to chunks that are sent one packet each, on one connection."""
    with connect(server) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            for chunk in chunks:
                connection.sendall(chunk)
                time.sleep(pause)
            if end:
                connection.sendall(end)
            else:
                connection.shutdown(socket.SHUT_WR)
        return split(received(connection))


def one_by_one(server: Server, requests: Sequence[bytes]) -> list[int]:
    """Statuses of requests of which each waits for the reply to the one before: no two share a packet."""
    statuses = []
    with connect(server) as connection:
        for each in requests:
            connection.sendall(each)
            reply = b""
            while not reply.endswith(b"}"):  # of the one object in its body
                part = connection.recv(1 << 16)
                assert part, f"the server closed after {reply!r}"
                reply += part
            statuses.append(split(reply)[0].status)
    return statuses


def request(
    body: bytes = BODY,
    *,
    path: str = "/predict",
    line: str = "",
    headers: Sequence[str] = ("Host: h", "Content-Type: application/json"),
    length: bool = True,
) -> bytes:
    lines = [line or f"POST {path} HTTP/1.1", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def taken(server: Server, lane: str) -> int:
    """How many requests a lane has answered."""
    text = httpx.get(server.url + "/metrics").text
    found = re.search(rf'okamochi_lane_requests_total{{lane="{lane}"}} (\S+)', text)
    return int(float(found[1])) if found else 0


CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
COLD = b"GET /models/iris HTTP/1.1\r\nHost: h\r\n\r\n"
HOST = "Host: h"
