"""Offer a fixed rate to a server: each request is due at its time, even if earlier ones are not answered.

It is a separate program, so that it has its own event loop. A request that is due while every connection
waits is queued here, and its time is measured from when it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter, deque
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

TICK_S = 0.001
DRAIN_S = 5.0
PROBE_EVERY_S = 0.05


class Connection(asyncio.Protocol):
    """One connection with at most one request in progress."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.due = 0.0
        self.buffer = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.run.free(self)

    def send(self, due: float) -> None:
        self.due = due
        self.transport.write(next(self.run.requests))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = self.buffer[:head].lower()
        start = headers.find(b"content-length:")
        if start < 0:
            raise ValueError(f"an answer without Content-Length: {headers!r}")
        length = int(headers[start + 15 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < head + 4 + length:
            return
        status = self.buffer[9:12].decode()
        self.buffer = self.buffer[head + 4 + length :]
        self.run.answered(status, perf_counter() - self.due)
        self.due = 0.0
        self.run.free(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.run.lost(self)


class Run:
    """One offered load."""

    def __init__(
        self, port: int, requests: list[bytes], *, rate: float, seconds: float, connections: int
    ) -> None:
        self.port, self.rate, self.seconds, self.max_connections = port, rate, seconds, connections
        self.requests = cycle(requests)
        self.idle: list[Connection] = []
        self.waiting: deque[float] = deque()
        self.opened = 0
        self.sent = 0
        self.statuses: Counter[str] = Counter()
        self.times: list[float] = []
        self.livez: list[float] = []

    def free(self, connection: Connection) -> None:
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            self.idle.append(connection)

    def answered(self, status: str, seconds: float) -> None:
        self.statuses[status] += 1
        if status == "200":
            self.times.append(seconds)

    def lost(self, connection: Connection) -> None:
        self.opened -= 1
        if connection.due:
            self.statuses["lost"] += 1
        elif connection in self.idle:
            self.idle.remove(connection)

    def offer(self, due: float) -> None:
        self.sent += 1
        if self.idle:
            self.idle.pop().send(due)
        else:
            self.waiting.append(due)
            if self.opened < self.max_connections:
                self.opened += 1
                task = asyncio.ensure_future(self.open())
                task.add_done_callback(self.not_opened)

    async def open(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Connection(self), "127.0.0.1", self.port)

    def not_opened(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.opened -= 1
            self.statuses["refused"] += 1

    async def probe(self) -> None:
        """Request /livez at intervals, on a separate connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while True:
            start = perf_counter()
            writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            self.livez.append(perf_counter() - start)
            await asyncio.sleep(PROBE_EVERY_S)

    async def measure(self, *, livez: bool) -> dict[str, Any]:
        for _ in range(min(64, self.max_connections)):
            self.opened += 1
            await self.open()
        probe = asyncio.ensure_future(self.probe()) if livez else None
        start = perf_counter()
        total = int(self.rate * self.seconds)
        while self.sent < total:
            due_by_now = min(total, int((perf_counter() - start) * self.rate) + 1)
            while self.sent < due_by_now:
                self.offer(start + self.sent / self.rate)
            await asyncio.sleep(TICK_S)
        sending_s = perf_counter() - start
        good = self.statuses["200"]
        end = perf_counter() + DRAIN_S
        while sum(self.statuses.values()) < total and perf_counter() < end:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.01)
        if probe is not None:
            if probe.done():
                probe.result()
            probe.cancel()
        unanswered = total - sum(self.statuses.values())
        if unanswered:
            self.statuses["unanswered"] = unanswered
        self.times.sort()
        return {
            "offered": self.rate,
            "sent": total / sending_s,
            "goodput": good / sending_s,
            "statuses": dict(self.statuses),
            "p50_ms": self.percentile(0.5),
            "p99_ms": self.percentile(0.99),
            "livez_ms": max(self.livez) * 1000 if self.livez else None,
        }

    def percentile(self, fraction: float) -> float:
        if not self.times:
            return 0.0
        return self.times[min(len(self.times) - 1, int(len(self.times) * fraction))] * 1000


def read_requests(path: Path) -> list[bytes]:
    """The requests that `load.write_requests` wrote."""
    content, found, at = path.read_bytes(), [], 0
    while at < len(content):
        line = content.index(b"\n", at)
        length = int(content[at:line])
        found.append(content[line + 1 : line + 1 + length])
        at = line + 2 + length
    return found


def main() -> int:
    """Measure once and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("requests", type=Path)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=512)
    parser.add_argument("--livez", action="store_true")
    options = parser.parse_args()
    try:
        import uvloop  # faster, if installed

        run_in = uvloop.run
    except ImportError:
        run_in = asyncio.run
    run = Run(
        options.port,
        read_requests(options.requests),
        rate=options.rate,
        seconds=options.seconds,
        connections=options.connections,
    )
    print(json.dumps(run_in(run.measure(livez=options.livez))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
