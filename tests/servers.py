"""Real servers for tests: each on a free port, with its own state, gone when the test ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.kept import empty_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CHECKOUT = Path(__file__).resolve().parent.parent
PATIENCE_S = 180
"""A test waits so long for a reply or a process before it fails. A busy machine may stop one for a minute."""


@dataclass
class Server:
    """A process that answers at `url`; its output is in `log`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def freeze(self) -> None:
        """Stop answering, as a machine that hangs does: connections open, nothing comes back."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on answering."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Die at once, children included."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses and that no other process of tests is given.

    It is below the ports that the system gives to clients, from 32768 on Linux: a client's connection could
    take such a port before the server listens on it.
    """
    for _ in range(PORTS_OF_A_PROCESS):
        port = next(_ports())
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"all {PORTS_OF_A_PROCESS} ports of this process are in use")


FIRST_PORT, PORTS_OF_A_PROCESS, PROCESSES = 18_000, 200, 60


@cache
def _ports() -> Iterator[int]:
    """This process's block of ports, in turn and without end. A lock keeps it while the process lives."""
    folder = Path("/tmp") / f"okamochi-test-ports-{os.getuid()}"  # noqa: S108 - one for all values of TMPDIR
    folder.mkdir(exist_ok=True)
    for block in range(PROCESSES):
        lock = (folder / str(block)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        _held.append(lock)
        first = FIRST_PORT + block * PORTS_OF_A_PROCESS
        return cycle(range(first, first + PORTS_OF_A_PROCESS))
    raise AssertionError(f"{PROCESSES} processes hold the locks in {folder}, one for each block of ports")


_held: list[IO[str]] = []


@contextmanager
def started(
    command: Sequence[str],
    *,
    url: str,
    ready: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path = CHECKOUT,
    seconds: float = PATIENCE_S,
) -> Iterator[Server]:
    """Run `command` in its own process group until `url` + `ready` answers 200; end the group afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(url, process, log)
    try:
        _await(server, ready, seconds)
        yield server
    finally:
        for ending in (signal.SIGCONT, signal.SIGTERM):
            _signal_group(process, ending)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _await(server: Server, ready: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise AssertionError(f"{server.process.args} ended: {server.log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(server.url + ready, timeout=5) as reply:
                if reply.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{server.url}{ready} did not answer: {server.log.read_text()[-2000:]}")


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """An MLflow tracking server with its database and files in `folder`."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", empty_registry(folder), "--workers", "1"),
        *("--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"),
    ]
    url = f"http://127.0.0.1:{port}"
    with started(
        command,
        url=url,
        ready="/health",
        log=folder / "server.log",
        environment={"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    ) as server:
        yield server
        server.kill()  # its orderly end takes a second of processor time


@contextmanager
def mlflow_models_serve(model_uri: str, registry_uri: str, folder: Path) -> Iterator[Server]:
    """`mlflow models serve` of a registered model, as its users start it."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "-m", model_uri),
        *("--host", "127.0.0.1", "--port", str(port), "--env-manager", "local"),
    ]
    with started(
        command,
        url=f"http://127.0.0.1:{port}",
        ready="/ping",
        log=folder / "serve.log",
        environment={
            "MLFLOW_TRACKING_URI": registry_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # It runs `uvicorn` by name, as in a venv that is activated.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        cwd=folder,
    ) as server:
        yield server


class Cut:
    """A TCP proxy that lets a number of requests through to a server, then cuts every connection."""

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.seen: list[str] = []
        self.cut_at: str | None = None
        """The beginning of the request line (`POST /api/...`) from which on everything is cut."""
        self.skip = 0
        """How many such requests still pass."""
        self.cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        """Let everything through again."""
        self.cut, self.cut_at = False, None

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket() as server:
            if self.cut:
                return
            server.connect(self._target)
            threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
            while data := self._receive(client):
                line = data.split(b"\r\n", 1)[0].decode("latin-1")
                if line.endswith("HTTP/1.1"):
                    self.seen.append(line)
                    if self.cut_at is not None and line.startswith(self.cut_at):
                        self.skip -= 1
                        self.cut = self.cut or self.skip < 0
                if self.cut:
                    break
                try:
                    server.sendall(data)
                except OSError:
                    break
            for side in (client, server):
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        while data := self._receive(source):
            try:
                sink.sendall(data)
            except OSError:
                return
        with suppress(
            OSError
        ):  # the server closes a connection that rests; a client must see that, or it waits
            sink.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _receive(side: socket.socket) -> bytes:
        try:
            return side.recv(65536)
        except OSError:
            return b""


@contextmanager
def postgres(bin_folder: Path) -> Iterator[str]:
    """A PostgreSQL server with its data in a folder of its own; give the SQLAlchemy URL of an empty database.

    It refuses to run as root, so then it runs as the user that its package made, who must get to the folder:
    pytest's own are closed to others.
    """
    import psycopg

    folder = Path(tempfile.mkdtemp(prefix="okamochi-postgres-"))
    data, port, log = folder / "data", free_port(), folder / "log"
    address = f"postgresql://okamochi@127.0.0.1:{port}/postgres"
    data.mkdir()
    as_user: list[str] = []
    if os.geteuid() == 0:
        as_user = ["runuser", "-u", "postgres", "--"]
        folder.chmod(0o711)
        shutil.chown(data, "postgres")
    initdb = [*as_user, str(bin_folder / "initdb"), "--auth=trust", "--username=okamochi", "--no-sync"]
    subprocess.run([*initdb, "-D", str(data)], check=True, capture_output=True, cwd="/")
    command = [*as_user, str(bin_folder / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "-k", ""], stdout=output, stderr=subprocess.STDOUT, cwd="/")
    try:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and process.poll() is None:
            # Its port is open well before it takes a query: "the database system is starting up".
            with suppress(psycopg.OperationalError), psycopg.connect(address, connect_timeout=2):
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
        yield address.replace("postgresql:", "postgresql+psycopg:")
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
        shutil.rmtree(folder)
