"""Start a contestant, wait until it answers, measure its memory, and end all its processes."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

READY_S, STOP_S = 120.0, 20.0
PROC = Path("/proc")


class BenchError(Exception):
    """The reason why the benchmark stops or its results must not count."""


@dataclass(frozen=True)
class Command:
    """How to start a server.

    Parameters
    ----------
    environment
        Variables in addition to the caller's environment.
    descriptors
        Open file descriptors that it inherits.
    """

    argv: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


@dataclass
class Server:
    """A running server.

    Parameters
    ----------
    ready_s
        Seconds from its start to its first answer of status 200.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    ready_s: float = 0.0
    cpu: dict[int, float] = field(default_factory=dict)

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-1500:]


def free_port() -> int:
    """A free port of 127.0.0.1 whose next port is free too (MLServer needs two).

    It is below the ports that the system gives to clients, so no connection can use it.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe, socket.socket() as second:
            probe.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port
    raise BenchError("No free port was found between 20,000 and 32,000.")


@contextlib.contextmanager
def running(name: str, command: Command, port: int, log: Path) -> Iterator[Server]:
    """Run the server; at the end of the block all its processes are ended."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **command.environment}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command.argv,
            cwd=command.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=command.descriptors,
        )
    server = Server(name, port, process, log)
    try:
        yield server
    finally:
        stop(server)


def stop(server: Server) -> None:
    """End the server's process group with SIGTERM, then SIGKILL."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.process.pid, sign)
        end = time.monotonic() + STOP_S
        while time.monotonic() < end:
            server.process.poll()
            if not group_alive(server.process.pid):
                break
            time.sleep(0.05)
    server.process.wait()


def group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # macOS raises the latter where only zombies are left
        return False
    return True


def post(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Send one request on a new connection; returns status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **(headers or {})})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def wait_ready(
    server: Server,
    path: str,
    body: bytes,
    started: float,
    *,
    within_s: float = READY_S,
    headers: dict[str, str] | None = None,
) -> None:
    """Wait until the server answers this POST with 200.

    Raises
    ------
    BenchError
        It ended or was not ready in time; the message has the end of its log.
    """
    status: Any = None
    while time.monotonic() - started < within_s:
        if server.process.poll() is not None:
            raise BenchError(f"{server.name} ended with {server.process.returncode}: {server.last_words()}")
        try:
            status, _ = post(server.port, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            status = error
        if status == 200:
            server.ready_s = time.monotonic() - started
            return
        time.sleep(0.02)
    raise BenchError(
        f"{server.name} was not ready in {within_s:.0f} s (last: {status}): {server.last_words()}"
    )


def processes(server: Server) -> list[int]:
    """The server's processes, found by session and by parent; empty without /proc."""
    if not PROC.is_dir():
        return []
    parents: dict[int, int] = {}
    found = set()
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parts = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(parts[1])
                if int(parts[3]) == server.process.pid:
                    found.add(int(entry.name))
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found |= children
        grown = bool(children)
    return sorted(found)


def cpu_seconds(pid: int) -> float:
    try:
        parts = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def pss_mb(pid: int) -> float:
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def mark_cpu(server: Server) -> None:
    """Store the processor time of each process, from which `memory` finds the busiest one."""
    server.cpu = {pid: cpu_seconds(pid) for pid in processes(server)}


def cpu_since_mark(server: Server) -> float | None:
    """Seconds of processor time of all its processes since `mark_cpu`; None without /proc."""
    pids = processes(server)
    return sum(cpu_seconds(pid) - server.cpu.get(pid, 0.0) for pid in pids) if pids else None


def memory(server: Server) -> tuple[float, float] | None:
    """PSS in MB of the busiest process since `mark_cpu`, and of all; None without /proc."""
    pids = processes(server)
    if not pids:
        return None
    busiest = max(pids, key=lambda pid: cpu_seconds(pid) - server.cpu.get(pid, 0.0))
    return pss_mb(busiest), sum(map(pss_mb, pids))
