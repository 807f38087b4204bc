"""A steady, bounded load on one address, and what came back: every request that was sent is accounted for."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE_S = 15  # after which a client gives a request up, and it is lost


@dataclass
class Outcome:
    """What became of the requests.

    Parameters
    ----------
    lost
        What went wrong instead of a 200, and how often.
    stale
        Kept connections that the server closed in the moment that the next request went out. RFC 9112, 9.3.1:
        a client sends it again on a new connection, once; what then fails is lost.
    answered_by
        Answers by the model's version.
    slow
        Requests that took over a second, answered or not.
    """

    sent: int = 0
    ok: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    stale: int = 0
    answered_by: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slow: int = 0

    @property
    def share(self) -> float:
        """Of the requests sent that were answered with 200."""
        return self.ok / self.sent

    def figures(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "lost": sum(self.lost.values()),
            "lost_by": dict(self.lost),
            "stale_connections": self.stale,
            "over_a_second": self.slow,
            "slowest_ms": round(self.slowest_s * 1000),
        }


class Load:
    """A thread that asks `url`'s /predict `rate` times a second until it is left.

    Half of the clients open a connection for each request, which tries every pod anew; half keep theirs.
    """

    def __init__(self, url: str, body: dict[str, Any], *, rate: int = 300, clients: int = 32) -> None:
        where = urlsplit(url)
        assert where.hostname is not None
        assert where.port is not None
        self._address = (where.hostname, where.port)
        content = json.dumps(body).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: okamochi\r\nContent-Length: {len(content)}\r\n"
        self._kept = head.encode() + b"\r\n" + content
        self._once = head.encode() + b"Connection: close\r\n\r\n" + content
        self._interval = clients / rate
        self._clients = clients
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.outcome = Outcome()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._thread.join()

    def until(self, sent: int) -> None:
        """Wait until so many requests have been sent."""
        while self.outcome.sent < sent:
            assert self._thread.is_alive()
            time.sleep(0.1)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        """One request an interval; one that took longer than that is followed at once."""
        keeps = number % 2 == 0
        connection: Connection | None = None
        due = time.monotonic() + self._interval * number / self._clients
        while not self._leaving.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self._interval, time.monotonic() - 1)
            self.outcome.sent += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    connection = await self._request(connection if keeps else None, keeps=keeps)
            except (OSError, asyncio.IncompleteReadError, TimeoutError, AssertionError) as error:
                self.outcome.lost[f"{type(error).__name__}: {error}"[:100]] += 1
                connection = None
            took = time.monotonic() - began
            self.outcome.slowest_s = max(self.outcome.slowest_s, took)
            self.outcome.slow += took > 1
        if connection is not None:
            connection[1].close()

    async def _request(self, kept: Connection | None, *, keeps: bool) -> Connection | None:
        if kept is not None and kept[0].at_eof():  # closed since, which every client looks for first
            kept[1].close()
            kept = None
        if kept is not None:
            try:
                return self._take(await _ask(kept, self._kept), kept)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                kept[1].close()
                if getattr(error, "partial", b""):
                    raise
                self.outcome.stale += 1
        fresh = await asyncio.open_connection(*self._address)
        try:
            return self._take(await _ask(fresh, self._kept if keeps else self._once), fresh)
        except BaseException:
            fresh[1].close()
            raise

    def _take(self, reply: tuple[bytes, bytes], connection: Connection) -> Connection | None:
        """Count a reply; gives the connection if it may be used again."""
        head, content = reply
        status = head.split(b" ", 2)[1].decode()
        if status == "200":
            self.outcome.ok += 1
            self.outcome.answered_by[json.loads(content)["version"]] += 1
        else:
            self.outcome.lost[f"status {status}"] += 1
        if b"\r\nconnection: close" in head.lower():
            connection[1].close()
            return None
        return connection


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _ask(connection: Connection, request: bytes) -> tuple[bytes, bytes]:
    reader, writer = connection
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    return head, await reader.readexactly(length)
