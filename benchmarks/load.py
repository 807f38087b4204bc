"""The load generators: wrk for closed loops, `openloop` for a fixed offered rate."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from benchmarks.servers import BenchError

if TYPE_CHECKING:
    from types import TracebackType

    from benchmarks.dialects import Dialect
    from benchmarks.models import Prepared
    from benchmarks.servers import Server

HERE = Path(__file__).resolve().parent
SAMPLE_EVERY_S = 0.05


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one run of wrk.

    Parameters
    ----------
    rate
        Answered requests per second.
    errors
        Failed connections, and answers other than 2xx.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    requests: int

    @property
    def goodput(self) -> float:
        """Answers of 2xx per second."""
        return self.rate * (1 - self.errors / self.requests) if self.requests else 0.0


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one run at a fixed offered rate; times are measured from when a request was due.

    Parameters
    ----------
    goodput
        Answers of 200 per second.
    statuses
        Answers by status; `unanswered` for requests without an answer.
    livez_ms
        The slowest answer of /livez meanwhile, if it was requested.
    """

    offered: float
    sent: float
    goodput: float
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float
    livez_ms: float | None = None


def write_requests(path: Path, dialect: Dialect, prepared: Prepared) -> Path:
    """Write a request for each row of the data set, in the format of both generators."""
    with path.open("wb") as file:
        for row in prepared.rows:
            request = dialect.request([row], prepared.name)
            file.write(b"%d\n%s\n" % (len(request), request))
    return path


def closed_loop(port: int, requests: Path, *, connections: int, seconds: float) -> Load:
    """Run wrk with one thread; each connection has one request in progress."""
    argv = [
        "wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s",
        "-s", str(HERE / "load.lua"), f"http://127.0.0.1:{port}", "--", str(requests),
    ]  # fmt: skip
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=seconds + 60)
    except FileNotFoundError as error:
        raise BenchError("wrk is not installed; on Debian or Ubuntu: apt install wrk") from error
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise BenchError(f"wrk printed no result: {done.stdout[-500:]}{done.stderr[-500:]}")
    found = msgspec.json.decode(line.removeprefix("RESULT "))
    return Load(
        rate=found["requests"] / found["microseconds"] * 1e6,
        p50_ms=found["p50_us"] / 1000,
        p99_ms=found["p99_us"] / 1000,
        errors=found["errors"],
        requests=found["requests"],
    )


def open_loop(
    port: int, requests: Path, *, rate: float, seconds: float, connections: int = 512, livez: bool = False
) -> Offered:
    """Offer a fixed rate of requests, whether or not the server keeps up."""
    argv = [sys.executable, "-m", "benchmarks.openloop", str(port), str(requests)]
    argv += [f"--rate={rate:.3f}", f"--seconds={seconds}", f"--connections={connections}"]
    argv += ["--livez"] if livez else []
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=seconds + 60, cwd=HERE.parent
    )
    if done.returncode:
        raise BenchError(f"the open-loop generator failed: {done.stderr[-800:]}")
    return msgspec.json.decode(done.stdout, type=Offered)


class Sampler:
    """While a load runs, ask for known rows and compare; `wrong` has the differences."""

    def __init__(self, server: Server, dialect: Dialect, prepared: Prepared) -> None:
        self.server, self.dialect, self.prepared = server, dialect, prepared
        self.asked = 0
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        connection: Any = None
        while not self._stop.wait(SAMPLE_EVERY_S):
            index = self.asked % len(self.prepared.rows)
            path = self.dialect.path.format(model=self.prepared.name)
            body = self.dialect.body([self.prepared.rows[index]])
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
                connection.request(
                    "POST", path, body, {"Content-Type": "application/json", **self.dialect.headers}
                )
                reply = connection.getresponse()
                status, answer = reply.status, reply.read()
            except (OSError, http.client.HTTPException):
                connection = None  # wrk counts failures; this thread judges answers
                continue
            self.asked += 1
            if status == 200:
                problem = difference(self.dialect, answer, [self.prepared.labels[index]])
                if problem:
                    self.wrong.append(f"row {index} under load: {problem}")


def difference(dialect: Dialect, answer: bytes, labels: list[int]) -> str | None:
    """How an answer differs from the expected one; None if it does not."""
    if dialect.labels is None:
        return None if answer == b"1" else f"answered {answer[:80]!r}"
    try:
        found = dialect.labels(answer)
    except Exception as error:  # noqa: BLE001 - whatever a reply lacks, it is wrong
        return f"unreadable ({error!r}): {answer[:200]!r}"
    return None if found == labels else f"answered {found[:5]}, scikit-learn says {labels[:5]}"
