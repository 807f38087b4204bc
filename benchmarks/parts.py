"""What a server can be told to do beside answering, and what each of it costs in instructions.

Processor time cannot tell 3 %: two servers that are the same differ by up to 9 % (by where the kernel put
their memory), and the machine's own speed moves from second to second. Counts of instructions (valgrind's
callgrind) of two such servers agree within 0.1 %, given the same batches. So the requests come in steps, each
written as a whole while the worker is stopped.

Under callgrind a worker is some thirty times slower. What it does so many times a second, it does so many
times a second there too, among fewer requests; what it does for a share of the requests, it is told to do for
a share as many times larger. Either way it does as much of it in a second as at full speed, so what that adds
to a request is divided by as many times.

What the kernel does is not counted: a write of the log's thread ten times a second, a POST of the tracer's.
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
SHARE = 0.01
STEP = 32
"""Requests that are written at once, each on a connection of its own."""
STEPS, WARM_UP_STEPS = 256, 64
ATTEMPTS = 3
LAUNCH = """
import runpy
import serving.scoring.batcher
serving.scoring.batcher.INLINE_S = 1.0
runpy.run_module("_bentoml_impl.worker.service", run_name="__main__", alter_sys=True)
"""
"""A call that is quick at full speed is one under callgrind too, so that the batches are the same."""
READY_S, REPLY_S, SIGN_S = 300.0, 60.0, 30.0


@dataclass(frozen=True)
class Part:
    """Something that a server does beside answering.

    Parameters
    ----------
    variables
        With which it is done.
    rarely
        On top of those: it is on, and as good as never has something to do.
    share
        The variable that is a share of the requests; "" where the part is bounded by the second.
    sign
        What is found in the metrics or the log of a server once it has been done.
    """

    title: str
    variables: dict[str, str] = field(default_factory=dict)
    rarely: dict[str, str] = field(default_factory=dict)
    share: str = ""
    sign: str = ""

    def within(self, folder: Path) -> dict[str, str]:
        """The variables, with a folder for what it writes."""
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
        {"OKAMOCHI_LOG_SAMPLE": str(SHARE)},
        {"OKAMOCHI_LOG_SAMPLE": "1e-9"},
        share="OKAMOCHI_LOG_SAMPLE",
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
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",  # nobody there: what finding that out costs
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(SHARE),
        },
        {"OTEL_TRACES_SAMPLER_ARG": "1e-9"},
        share="OTEL_TRACES_SAMPLER_ARG",
        sign=r"^okamochi_traces_dropped_total [1-9]",
    ),
)


@dataclass(frozen=True)
class Counted:
    """One run under callgrind: instructions a request, and requests a second meanwhile."""

    instructions: float
    rate: float


def measure(setting: Callable[[], Setting], dialect: Dialect, peak: float) -> list[Instructions]:
    """Count every part, at work and as good as idle, against a server that does none of it.

    Parameters
    ----------
    setting
        Gives a port and a folder for each server.
    peak
        Requests a second of a server at full speed that does none of it.

    Raises
    ------
    Absent
        There is no valgrind.
    """
    first = setting()
    model = first.prepared.name
    off = count(first, dialect, OFF, {})
    slower, none = peak / off.rate, off.instructions
    found = [Instructions(title=OFF.title, model=model, rarely=none, often=none, slower=slower, share=0)]
    for part in PARTS:
        more = {part.share: str(min(1.0, SHARE * slower))} if part.share else {}
        idle, busy = (count(setting(), dialect, part, one) for one in (part.rarely, more))
        times = float(more[part.share]) / SHARE if part.share else peak / busy.rate
        rarely, often = idle.instructions, busy.instructions
        share = (rarely - none + (often - rarely) / times) / none
        found.append(
            Instructions(title=part.title, model=model, rarely=rarely, often=often, slower=times, share=share)
        )
    return found


def count(setting: Setting, dialect: Dialect, part: Part, more: dict[str, str]) -> Counted:
    """Start a worker of its own under callgrind, warm it up, count, end it.

    Raises
    ------
    BenchError
        It did not start, answered wrongly, or batches were never those of the steps.
    """
    if which("valgrind") is None:
        raise Absent("no valgrind here to count instructions with")
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
                    f"{part.title}: {STEPS} steps were no {STEPS} batches ({before:.0f} to {after:.0f})"
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
    """One worker under valgrind, started as BentoML starts it, counting nothing yet."""
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
    """So many times write a request on every connection while the worker is stopped, and read the replies."""
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
    """Until the process sleeps ("S") or is stopped ("T"), and for a moment more, since it may only pause."""
    end = time.monotonic() + REPLY_S
    for _ in range(2):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
            if time.monotonic() > end:
                raise BenchError(f"the worker under valgrind is not in state {state}")
            time.sleep(0.0002)
        if state == "S":
            time.sleep(0.002)


def wait_for_sign(server: Server, part: Part) -> None:
    """A part that did nothing would be found to cost nothing."""
    end = time.monotonic() + SIGN_S
    while not re.search(
        part.sign, get(server, "/metrics") + server.log.read_text("utf-8", "replace"), re.MULTILINE
    ):
        if time.monotonic() > end:
            raise BenchError(f"{part.title}: nothing of it was done")
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
