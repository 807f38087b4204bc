"""The optional work of a server, such as traces, and its cost in instructions per request.

Processor time is too inexact to measure 3 %: two equal servers differ by up to 9 %, depending on where the
kernel puts their memory, and the speed of the machine changes from second to second. The instructions that
valgrind's callgrind counts agree within 0.1 % between two equal servers, if their batches are the same. So
the requests come in steps, each written completely while the worker is stopped.

Under callgrind a worker is about thirty times slower. Work that is done per second is then spread over fewer
requests. Work that is done for a fraction of the requests gets a fraction that is larger by the same factor.
In both cases the work per second is that of full speed, so its cost per request is divided by the factor.

Work of the kernel is not counted: ten writes per second of the log's thread, the POST requests of the tracer.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from benchmarks import figures
from benchmarks.contestants import ours
from benchmarks.environments import Absent
from benchmarks.load import write_requests
from benchmarks.openloop import read_requests
from benchmarks.results import Instructions
from benchmarks.servers import BenchError, Command, running, wait_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.contestants import Setting
    from benchmarks.dialects import Dialect
    from benchmarks.servers import Server

ALL_OFF = {"OKAMOCHI_DRIFT_ROWS_PER_S": "0", "OKAMOCHI_LOG_SAMPLE": "0"}
FRACTION = 0.01
STEP = 32
"""The number of requests that are written at once, each on its own connection."""
STEPS, WARM_UP_STEPS = 256, 64
ATTEMPTS = 3
LAUNCH = """
import runpy
from serving.scoring import batcher, costs
batcher.INLINE_S = costs.INLINE_S = 1.0
runpy.run_module("_bentoml_impl.worker.service", run_name="__main__", alter_sys=True)
"""
"""The code that starts a worker; a higher INLINE_S makes the batches those of full speed."""
READY_S, REPLY_S, SIGN_S = 300.0, 60.0, 30.0


@dataclass(frozen=True)
class Part:
    """Optional work of a server.

    Parameters
    ----------
    variables
        The variables that turn it on.
    rarely
        Further variables with which it is on, but has almost nothing to do.
    fraction
        The variable that sets a fraction of the requests; "" where the work is limited per second.
    sign
        A pattern that the server's metrics or log have once the work was done.
    """

    title: str
    variables: dict[str, str] = field(default_factory=dict)
    rarely: dict[str, str] = field(default_factory=dict)
    fraction: str = ""
    sign: str = ""

    def within(self, folder: Path) -> dict[str, str]:
        """The variables, with a folder for the files that it writes."""
        found = ALL_OFF | self.variables
        if "OKAMOCHI_PREDICTION_LOG" in found:
            found["OKAMOCHI_PREDICTION_LOG"] = str(folder / "predictions")
        return found


OFF = Part(figures.OFF)
PARTS = (
    Part(
        "drift",
        {"OKAMOCHI_DRIFT_ROWS_PER_S": "20", "OKAMOCHI_DRIFT_EVERY_S": "5"},
        {"OKAMOCHI_DRIFT_ROWS_PER_S": "0.001", "OKAMOCHI_DRIFT_EVERY_S": "300"},
        sign=r"^okamochi_drift_rows\{.*\} [1-9]",
    ),
    Part(
        "a log line for one in a hundred",
        {"OKAMOCHI_LOG_SAMPLE": str(FRACTION)},
        {"OKAMOCHI_LOG_SAMPLE": "1e-9"},
        fraction="OKAMOCHI_LOG_SAMPLE",
        sign='"message":"request"',
    ),
    Part(
        "prediction log, 200 rows/s",
        {"OKAMOCHI_PREDICTION_LOG": "predictions", "OKAMOCHI_PREDICTION_LOG_ROWS_PER_S": "200"},
        {"OKAMOCHI_PREDICTION_LOG_ROWS_PER_S": "1"},
        sign=r"^okamochi_prediction_log_rows_total [1-9]",
    ),
    Part(
        "traces of one in a hundred",
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",  # nothing listens there
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(FRACTION),
        },
        {"OTEL_TRACES_SAMPLER_ARG": "1e-9"},
        fraction="OTEL_TRACES_SAMPLER_ARG",
        sign=r"^okamochi_traces_dropped_total [1-9]",
    ),
)


@dataclass(frozen=True)
class Counted:
    """One run under callgrind: instructions per request, and requests per second."""

    instructions: float
    rate: float


def measure(setting: Callable[[], Setting], dialect: Dialect, peak: float) -> list[Instructions]:
    """Count the instructions of each part, at work and almost idle, beside a server without any.

    Parameters
    ----------
    setting
        Returns a port and a folder for each server.
    peak
        Requests per second of a server without any part, at full speed.

    Raises
    ------
    Absent
        valgrind is not installed.
    """
    first = setting()
    model = first.prepared.name
    off = count(first, dialect, OFF, {})
    slower, none = peak / off.rate, off.instructions
    found = [Instructions(title=OFF.title, model=model, rarely=none, often=none, slower=slower, fraction=0)]
    for part in PARTS:
        more = {part.fraction: str(min(1.0, FRACTION * slower))} if part.fraction else {}
        idle, busy = (count(setting(), dialect, part, one) for one in (part.rarely, more))
        times = float(more[part.fraction]) / FRACTION if part.fraction else peak / busy.rate
        rarely, often = idle.instructions, busy.instructions
        added = (rarely - none + (often - rarely) / times) / none
        found.append(
            Instructions(
                title=part.title, model=model, rarely=rarely, often=often, slower=times, fraction=added
            )
        )
    return found


def count(setting: Setting, dialect: Dialect, part: Part, more: dict[str, str]) -> Counted:
    """Start a worker under callgrind, warm it up, count, end it.

    Raises
    ------
    BenchError
        It did not start, answered wrongly, or its batches were not the steps.
    """
    if which("valgrind") is None:
        raise Absent("valgrind, which counts the instructions, is not installed")
    requests = read_requests(write_requests(setting.scratch / "requests", dialect, setting.prepared))
    with worker(setting, dialect, part.within(setting.scratch) | more) as server:
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", setting.port), REPLY_S))
                for _ in range(STEP)
            ]
            steps(server, clients, requests, WARM_UP_STEPS)
            for _ in range(ATTEMPTS):
                control(server, "--zero")
                before = batches_of(server)
                control(server, "--instr=on")
                began = time.perf_counter()
                steps(server, clients, requests, STEPS)
                seconds = time.perf_counter() - began
                control(server, "--instr=off")
                after = batches_of(server)
                if abs(after - before - STEPS) <= STEPS / 50:
                    break
            else:
                raise BenchError(
                    f"{part.title}: {STEPS} steps made {after - before:.0f} batches, expected {STEPS}"
                )
        if more is not part.rarely:
            wait_for_sign(server, part)
        control(server, "--dump")
        counts = [
            int(found)
            for path in setting.scratch.glob("callgrind.out*")
            for found in re.findall(r"^totals: (\d+)", path.read_text(), re.MULTILINE)
        ]
    return Counted(max(counts) / (STEP * STEPS), STEP * STEPS / seconds)


@contextlib.contextmanager
def worker(setting: Setting, dialect: Dialect, environment: dict[str, str]) -> Iterator[Server]:
    """Start one worker under valgrind as BentoML does; counting is still off."""
    command = ours(setting)
    metrics = setting.scratch / "metrics"
    metrics.mkdir()
    environment = {**command.environment, **environment, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    with socket.create_server(("127.0.0.1", setting.port), backlog=2048) as listening:
        argv = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
        argv += [f"--callgrind-out-file={setting.scratch}/callgrind.out", sys.executable]
        argv += ["-c", LAUNCH, "service:Okamochi", "--fd", str(listening.fileno())]
        argv += ["--service-name", "okamochi", "--worker-id", "1", "--args", "{}"]
        counted = Command(argv, command.folder, environment, descriptors=(listening.fileno(),))
        began = time.monotonic()
        with running("callgrind", counted, setting.port, setting.scratch / "log") as server:
            path, body = (
                dialect.path.format(model=setting.prepared.name),
                dialect.body(setting.prepared.rows[:1]),
            )
            wait_ready(server, path, body, began, within_s=READY_S)
            yield server


def steps(server: Server, clients: list[socket.socket], requests: list[bytes], number: int) -> None:
    """In each step, write one request per connection while the worker is stopped, then read the replies."""
    pid = server.process.pid
    for step in range(number):
        wait_for(pid, "S")
        os.kill(pid, signal.SIGSTOP)
        wait_for(pid, "T")
        for i, client in enumerate(clients):
            client.sendall(requests[(step * STEP + i) % len(requests)])
        os.kill(pid, signal.SIGCONT)
        for client in clients:
            reply = client.recv(65_536)
            if not reply.startswith(b"HTTP/1.1 200 "):
                raise BenchError(f"under valgrind: {reply[:300]!r}")


def wait_for(pid: int, state: str) -> None:
    """Wait until the process sleeps ("S") or is stopped ("T"), twice, since a sleep may be a short pause."""
    end = time.monotonic() + REPLY_S
    for _ in range(2):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
            if time.monotonic() > end:
                raise BenchError(
                    f"the worker under valgrind did not reach the process state {state} in {REPLY_S:.0f} s"
                )
            time.sleep(0.0002)
        if state == "S":
            time.sleep(0.002)


def wait_for_sign(server: Server, part: Part) -> None:
    """Wait until the part has done something; otherwise its cost would be 0."""
    end = time.monotonic() + SIGN_S
    while not re.search(
        part.sign, get(server, "/metrics") + server.log.read_text("utf-8", "replace"), re.MULTILINE
    ):
        if time.monotonic() > end:
            raise BenchError(f"{part.title}: the server did none of it in {SIGN_S:.0f} s")
        time.sleep(0.5)


def batches_of(server: Server) -> float:
    found = re.search(r"^okamochi_batch_rows_count\{[^}]*\} (\S+)$", get(server, "/metrics"), re.MULTILINE)
    return float(found[1]) if found else 0.0


def get(server: Server, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=REPLY_S) as reply:
        return str(reply.read().decode())


def control(server: Server, what: str) -> None:
    done = subprocess.run(
        ["callgrind_control", what, str(server.process.pid)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"callgrind_control {what}: {done.stdout}{done.stderr}")
