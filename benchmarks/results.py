"""What a run of the benchmark leaves, as its JSON file has it."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from os import cpu_count, sysconf
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.load import Load, Offered  # noqa: TC001 - msgspec reads the annotations

VERSIONS = (
    "bentoml",
    "httptools",
    "mlflow",
    "msgspec",
    "numpy",
    "onnxruntime",
    "scikit-learn",
    "uvicorn",
    "uvloop",
)


class Row(msgspec.Struct, kw_only=True):
    """One route of one contestant with one model, at the same number of connections in every round.

    Parameters
    ----------
    rate, p50_ms, p99_ms
        Medians of the rounds.
    cpu_us
        Processor time of all the server's processes by the request: what it costs, whoever else is busy. The
        median of `cpu_rounds_us`.
    worker_mb, all_mb
        PSS of the process that worked hardest, and of all its processes, after the load.
    ready_s
        From the start of the process to the first right answer.
    wrong
        Answers that are not scikit-learn's own.
    """

    name: str
    title: str
    model: str
    connections: int
    rounds: list[Load]
    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    asked_under_load: int = 0
    cpu_us: float | None = None
    cpu_rounds_us: list[float] = []
    worker_mb: float | None = None
    all_mb: float | None = None
    ready_s: float | None = None
    wrong: list[str] = []


class FixedLoad(msgspec.Struct, kw_only=True):
    """One route at one offered rate."""

    name: str
    title: str
    model: str
    result: Offered


class Bulk(msgspec.Struct, kw_only=True):
    """Many rows in one request, in milliseconds, beside what bounds them in this process.

    Parameters
    ----------
    in_process_ms
        onnxruntime on the same matrix.
    decode_ms
        msgspec on the same JSON body, and nothing else.
    """

    model: str
    rows: int
    in_process_ms: float
    decode_ms: float
    json_ms: float | None = None
    binary_ms: float | None = None
    absent: dict[str, str] = {}
    wrong: list[str] = []


class Instructions(msgspec.Struct, kw_only=True):
    """What something that the server does beside answering costs, counted under callgrind.

    Parameters
    ----------
    rarely, often
        Instructions a request where it is on but has as good as nothing to do, and where it is at work.
    slower
        How many times less often than that it is at work at full speed, by the request.
    share
        Of the instructions of a request at full speed.
    """

    title: str
    model: str
    rarely: float
    often: float
    slower: float
    share: float


class Overload(msgspec.Struct, kw_only=True):
    """A server beyond its knee.

    Parameters
    ----------
    peak
        The rate that a closed loop reaches, the median of those before, between and after.
    open_loops
        At multiples of the peak.
    peaks
        By open loop, the mean of the peaks right before and after it: the machine's own speed moves.
    crowd
        A closed loop with 16 times the connections, on the fast model; of several the one of the median rate.
    """

    model: str
    peak: float
    open_loops: dict[str, Offered] = {}
    peaks: dict[str, float] = {}
    crowd: Load | None = None


class Figure(msgspec.Struct, kw_only=True):
    """One figure of the design, asserted.

    Parameters
    ----------
    value
        None where one of its sides was not measured.
    rows
        What to measure again when it is missed.
    first
        The value that was missed, where it was measured again.
    """

    title: str
    bound: float
    at_least: bool
    value: float | None
    model: str
    rows: list[str]
    first: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it holds; None where it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


class Results(msgspec.Struct, kw_only=True):
    """All of a run."""

    started: str
    quick: bool
    machine: dict[str, str]
    versions: dict[str, str]
    rounds: int
    seconds: float
    rows: list[Row] = []
    connections: list[Row] = []
    fixed: list[FixedLoad] = []
    bulk: list[Bulk] = []
    workers: list[Row] = []
    parts: list[Row] = []
    instructions: list[Instructions] = []
    overload: list[Overload] = []
    absent: dict[str, str] = {}
    figures: list[Figure] = []
    retried: list[Row] = []
    wrong: list[str] = []
    missed: list[str] = []

    def row(self, name: str, model: str) -> Row | None:
        """The row of this name and model, where it was measured."""
        return next((row for row in self.rows if (row.name, row.model) == (name, model)), None)


def summary(row: Row) -> Row:
    """The row with the medians of its rounds."""
    row.rate = median(load.rate for load in row.rounds)
    row.p50_ms = median(load.p50_ms for load in row.rounds)
    row.p99_ms = median(load.p99_ms for load in row.rounds)
    row.errors = sum(load.errors for load in row.rounds)
    return row


def blank(*, quick: bool, rounds: int, seconds: float) -> Results:
    """The results before anything is measured: the machine and the versions."""
    return Results(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        quick=quick,
        machine=machine(),
        versions={"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
        rounds=rounds,
        seconds=seconds,
    )


def machine() -> dict[str, str]:
    """The machine in a few words, without its name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    wrk = (
        subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
        .stdout.split("[")[0]
        .strip()
    )
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": str(cpu_count()),
        "memory_gb": f"{sysconf('SC_PAGE_SIZE') * sysconf('SC_PHYS_PAGES') / 2**30:.0f}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "generator": wrk,
    }
