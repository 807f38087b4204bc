"""Requests as bytes, many of them on few connections, and what came back."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from tests.servers import Server

SECONDS = 60  # after which a reply that does not come is a failure


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


def request(
    path: str, body: bytes = b"", *headers: str, method: str = "POST", length: int | None = None
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: h", *headers]
    if body or length is not None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def address(server: Server) -> tuple[str, int]:
    where = urlsplit(server.url)
    assert where.hostname is not None
    assert where.port is not None
    return where.hostname, where.port


def connect(server: Server) -> socket.socket:
    connection = socket.create_connection(address(server), timeout=SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


async def open_to(
    server: Server, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*address(server), ssl=tls, limit=1 << 26)


def unread(server: Server) -> list[int]:
    """Bytes that have come to the server and that it has not read yet, for each connection that is open."""
    port = f":{address(server)[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[4].partition(":")[2], 16) for row in rows if row[1].endswith(port) and row[3] == "01"]


async def all_read(server: Server, writers: Iterable[asyncio.StreamWriter]) -> None:
    """Wait until the server has read, and so begun, all that was written to these connections."""
    written = list(writers)
    end = time.monotonic() + SECONDS
    while True:
        waiting = unread(server)
        sent = not any(writer.transport.get_write_buffer_size() for writer in written)
        if sent and len(waiting) >= len(written) and not any(waiting):
            return
        assert time.monotonic() < end, f"the server has not read {waiting} bytes"
        await asyncio.sleep(0.01)


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """One well-formed reply; ConnectionError where the server closed instead."""
    try:
        async with asyncio.timeout(SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].split(b"\r\n")
            version, code, *_ = first.split(b" ", 2)
            assert version == b"HTTP/1.1", head
            headers = {}
            for line in lines:
                name, colon, value = line.decode("latin-1").partition(": ")
                assert colon, head
                assert name.lower() not in headers, head
                headers[name.lower()] = value
            if headers.get("transfer-encoding") == "chunked":
                body = await _chunks(reader)
            else:
                body = await reader.readexactly(int(headers.get("content-length", 0)))
    except asyncio.IncompleteReadError as error:
        assert not error.partial, error.partial
        raise ConnectionResetError from None
    return Reply(int(code), headers, body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(parts)


async def answers(
    server: Server, requests: Iterable[bytes], *, connections: int = 16, tls: ssl.SSLContext | None = None
) -> list[Reply | None]:
    """The reply to each of the requests; None where the server closed the connection without one."""
    sent = list(requests)
    replies: list[Reply | None] = [None] * len(sent)
    waiting = iter(range(len(sent)))

    async def one_client() -> None:
        reader, writer = None, None
        for i in waiting:
            if writer is None or reader is None:
                reader, writer = await open_to(server, tls)
            reply = None
            try:
                writer.write(sent[i])
                reply = await read_reply(reader)
            except ConnectionError:
                pass
            replies[i] = reply
            # A request that is cut short or has two ends leaves the connection in no state to go on.
            if reply is None or reply.headers.get("connection") == "close":
                writer.close()
                reader = writer = None
        if writer is not None:
            writer.close()

    await asyncio.gather(*(one_client() for _ in range(connections)))
    return replies


def ask(server: Server, *requests: bytes, connections: int = 16) -> list[Reply | None]:
    return asyncio.run(answers(server, requests, connections=connections))


def one(server: Server, whole: bytes) -> Reply:
    reply = ask(server, whole, connections=1)[0]
    assert reply is not None
    return reply


def predictions(reply: Reply | None) -> list[object]:
    assert reply is not None
    assert reply.status == 200, reply
    return json.loads(reply.body)["prediction"]  # type: ignore[no-any-return]


def workers(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()
