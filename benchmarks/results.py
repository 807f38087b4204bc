"""The results of a run of the benchmark, as in its JSON file."""

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
        Processor time per request of all the server's processes, which other load on the machine does not
        change; the median of `cpu_rounds_us`.
    worker_mb, all_mb
        PSS of the busiest process, and of all processes, after the load.
    ready_s
        From the start of the process to the first correct answer.
    wrong
        Answers that differ from scikit-learn's.
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
    """Many rows in one request, in milliseconds, beside its lower bounds measured in this process.

    Parameters
    ----------
    in_process_ms
        onnxruntime on the same matrix.
    decode_ms
        msgspec alone on the same JSON body.
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
    """The cost of a part of the optional work, counted under callgrind.

    Parameters
    ----------
    rarely, often
        Instructions per request where it is on with almost nothing to do, and where it is at work.
    slower
        The factor between its work per request here and at full speed.
    fraction
        Its cost at full speed, as a fraction of the instructions of a request.
    """

    title: str
    model: str
    rarely: float
    often: float
    slower: float
    fraction: float


class Explained(msgspec.Struct, kw_only=True):
    """Explanations of one row each, and the rate of predictions beside them.

    Parameters
    ----------
    score
        What is explained: probability or log-odds.
    cpu_ms
        Processor time of all the server's processes for one explanation.
    alone, beside
        Predictions per second of each round, without and with explanations.
    beside_explained
        Explanations per second of each round with them.
    """

    model: str
    score: str
    p50_ms: float
    p90_ms: float
    cpu_ms: float | None
    alone: list[float] = []
    beside: list[float] = []
    beside_explained: list[float] = []
    wrong: list[str] = []


class Overload(msgspec.Struct, kw_only=True):
    """A server beyond its knee.

    Parameters
    ----------
    peak
        The rate of a closed loop: the median of those before, between and after.
    open_loops
        At multiples of the peak.
    peaks
        For each open loop, the mean of the peaks before and after it, since the machine's speed changes.
    crowd
        A closed loop with 16 times the connections on the fast model: of several runs the median one.
    """

    model: str
    peak: float
    open_loops: dict[str, Offered] = {}
    peaks: dict[str, float] = {}
    crowd: Load | None = None


class Figure(msgspec.Struct, kw_only=True):
    """One figure that the benchmark asserts.

    Parameters
    ----------
    value
        None where a part of it was not measured.
    rows
        The rows to measure again where it is missed.
    first
        The first value, where it was measured again.
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
        """Whether the bound is met; None where it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


class Results(msgspec.Struct, kw_only=True):
    """All results of a run."""

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
    keys: list[Row] = []
    explained: list[Explained] = []
    overload: list[Overload] = []
    absent: dict[str, str] = {}
    figures: list[Figure] = []
    retried: list[Row] = []
    wrong: list[str] = []
    missed: list[str] = []

    def row(self, name: str, model: str) -> Row | None:
        """The row of this name and model; None where it was not measured."""
        return next((row for row in self.rows if (row.name, row.model) == (name, model)), None)


def summary(row: Row) -> Row:
    """Fill in the medians of the rounds."""
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
    """A short description of the machine, without its name."""
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
