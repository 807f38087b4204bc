"""`python -m loadtests.soak`: whether a server's memory grows with the requests it answers.

A leak of a byte per request shows only after millions of requests, and Locust sends some thousand per second.
So wrk sends them, all three protocols in turn; the worker's memory is read after each run of wrk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

from benchmarks.contestants import Setting, ours
from benchmarks.environments import CHECKOUT
from benchmarks.load import closed_loop
from benchmarks.models import KINDS, read
from benchmarks.run import prepared_models
from benchmarks.servers import BenchError, cpu_seconds, free_port, pss_mb, running, wait_ready
from loadtests import payloads, target
from loadtests.errors import UsageError
from loadtests.protocols import INFER, INVOCATIONS, PREDICT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loadtests.protocols import Model

CONNECTIONS = 64
RUN_S = 15.0
MAX_MB = 2.0
"""The growth per million requests that is allowed."""
LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Sample:
    """The worker's memory after a number of requests."""

    seconds: float
    requests: int
    pss_mb: float


def main(arguments: list[str] | None = None) -> int:
    """Run the soak: 0 if memory grows less than allowed, 1 if more or if requests fail, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description=__doc__)
    parser.add_argument(
        "--host", default="", help="a server on this machine (default: one that this command starts)"
    )
    parser.add_argument("--seconds", type=float, default=900.0, help="the whole duration (default: 900)")
    parser.add_argument(
        "--warm-up", type=float, default=180.0, help="how many of the seconds are not judged (default: 180)"
    )
    parser.add_argument("--out", type=Path, default=CHECKOUT / "reports" / "soak.json")
    options = parser.parse_args(arguments)
    try:
        check(options.seconds, options.warm_up)
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="okamochi-soak-")))
            host = options.host or stack.enter_context(own_server(scratch))
            samples = soak(host, scratch, options.seconds)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; nothing was judged.", file=sys.stderr)
        return 130
    return conclude(samples, options.warm_up, options.out)


def check(seconds: float, warm_up_s: float) -> None:
    """Refuse what cannot be measured.

    Raises
    ------
    UsageError
    """
    if not 0 < warm_up_s < seconds:
        raise UsageError(
            f"--warm-up is {warm_up_s:g}; expected more than 0 and less than --seconds {seconds:g}."
        )
    if not Path("/proc/self/smaps_rollup").exists():
        raise UsageError("A soak needs Linux: only there can a worker's memory (PSS) be read.")


def conclude(samples: Sequence[Sample], warm_up_s: float, out: Path) -> int:
    """Judge the samples, print and write the result; returns the exit code."""
    growth = mb_per_million(samples, warm_up_s)
    out.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "mb_per_million_requests": growth,
        "allowed": MAX_MB,
        "samples": [asdict(one) for one in samples],
    }
    out.write_text(json.dumps(found, indent=1) + "\n")
    if growth is None:
        print("FAILED: the soak was too short; it needs four runs after the warm-up.")
        return 1
    met = growth < MAX_MB
    verdict = "PASSED" if met else "FAILED"
    print(
        f"{verdict}: {growth:+.3f} MB per million requests, allowed {MAX_MB:g}; {samples[-1].requests:,} sent"
    )
    return 0 if met else 1


def mb_per_million(samples: Sequence[Sample], warm_up_s: float) -> float | None:
    """Growth between the first and the last quarter of the samples after the warm-up.

    Medians are compared, since requests in progress change a single sample; None for too few samples.
    """
    warm = [sample for sample in samples if sample.seconds >= warm_up_s]
    quarter = len(warm) // 4
    if not quarter:
        return None
    first, last = warm[:quarter], warm[-quarter:]
    grown = median(one.pss_mb for one in last) - median(one.pss_mb for one in first)
    sent = median(one.requests for one in last) - median(one.requests for one in first)
    return grown / sent * 1e6 if sent else None


def soak(host: str, scratch: Path, seconds: float) -> list[Sample]:
    """Load a server on this machine, and sample its worker's memory.

    Raises
    ------
    UsageError, BenchError
    """
    parts = urlsplit(host)
    if parts.hostname not in LOOPBACK:
        raise UsageError(
            f"HOST is {host!r}; a soak reads the worker's memory, so the server must be on this machine."
        )
    model = target.live_model(host, "")
    port = parts.port or 80
    family = processes_at(port)
    requests = write(scratch / "requests", model, port)
    used = {pid: cpu_seconds(pid) for pid in family}
    run_s = max(1.0, min(RUN_S, seconds / 12))
    samples: list[Sample] = []
    started, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - started) < seconds:
        load = closed_loop(
            port, requests, connections=CONNECTIONS, seconds=max(1.0, min(run_s, seconds - elapsed))
        )
        if load.errors:
            raise BenchError(f"{load.errors} of {load.requests} requests were not answered with status 200")
        sent += load.requests
        worker = max(family, key=lambda pid: cpu_seconds(pid) - used[pid])
        if not psutil.pid_exists(worker):
            raise BenchError(f"the worker {worker} has ended")
        samples.append(Sample(time.monotonic() - started, sent, pss_mb(worker)))
        last = samples[-1]
        print(
            f"[{last.seconds:6.1f} s] {sent:>12,} requests  {load.rate:>8,.0f}/s  p99 {load.p99_ms:6.2f} ms  "
            f"worker {last.pss_mb:7.2f} MB",
            flush=True,
        )
    return samples


def write(path: Path, model: Model, port: int) -> Path:
    """Write requests of all protocols in the format that `benchmarks/load.lua` reads."""
    random = Random(0)  # noqa: S311 - the same rows in each run
    with path.open("wb") as file:
        for turn in zip(
            *(payloads.made(one, model, random) for one in (PREDICT, INFER, INVOCATIONS)), strict=True
        ):
            for protocol, made in zip((PREDICT, INFER, INVOCATIONS), turn, strict=True):
                head = (
                    f"POST {protocol.path(model)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(made.body)}\r\n\r\n"
                )
                request = head.encode() + made.body
                file.write(b"%d\n%s\n" % (len(request), request))
    return path


def processes_at(port: int) -> list[int]:
    """The processes that listen on a port, and their descendants.

    Raises
    ------
    UsageError
    """
    listening = {
        connection.pid
        for connection in psutil.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid
    }
    if not listening:
        raise UsageError(f"No process of this user listens on port {port}, so its memory cannot be read.")
    found = set(listening)
    for pid in listening:
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return sorted(found)


@contextlib.contextmanager
def own_server(scratch: Path) -> Iterator[str]:
    """Serve the benchmark's logistic regression from a copy of the checkout."""
    models, name, port = prepared_models(), KINDS[0].name, free_port()
    setting = Setting(read(models, name), models / name, port, scratch)
    started = time.monotonic()
    with running("okamochi", ours(setting), port, scratch / "server.log") as server:
        row = setting.prepared.rows[0]
        wait_ready(server, "/predict", json.dumps({"features": [row]}).encode(), started)
        yield f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    sys.exit(main())
