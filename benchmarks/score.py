"""`deploy score` on a long Parquet file, against onnxruntime on arrays that are in memory already.

    .venv/bin/python -m benchmarks.score MODEL

MODEL is the folder of an artifact whose columns are numbers, or the tag of a line in models.lock. The table
is written to a temporary folder (80 bytes a row of ten columns) and removed. Besides the time, the processor
time is compared, which other load on the machine hardly changes. Results: reports/score.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from artifact import load
from artifact.program import artifact_of
from benchmarks.environments import CHECKOUT
from benchmarks.json_report import publish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature

OUT = CHECKOUT / "reports" / "score.json"
CHUNK = 50_000
LOADS = 7
LOAD = """
import sys, time
began, cpu = time.perf_counter(), time.process_time()
from artifact import load
load(sys.argv[1])
print(time.perf_counter() - began, time.process_time() - cpu)
"""


SCORE = """
import sys
from deploy.__main__ import main
code = main(["score", *sys.argv[1:]])
with open("/proc/self/status") as status:
    print("peak_kb", next(line.split()[1] for line in status if line.startswith("VmHWM")))
sys.exit(code)
"""
"""The kernel's own figure of the process: that of `wait4` counts the memory of the parent that forked it."""


def rows_of(signature: Signature, rows: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Rows around the model's example, shape (rows, columns)."""
    centre = np.array([float(signature.example[name]) for name in signature.names])
    found: NDArray[np.float64] = centre * random.uniform(0.5, 1.5, (rows, len(centre)))
    return found


def write_table(path: Path, model: str, rows: int) -> None:
    """Write such rows, with the columns that the model takes."""
    signature = load(model).signature
    random = np.random.default_rng(0)
    writer: Any = None
    for start in range(0, rows, 1_000_000):
        cells = rows_of(signature, min(1_000_000, rows - start), random)
        table = pa.table({name: cells[:, i] for i, name in enumerate(signature.names)})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=200_000)
    writer.close()


def measured(command: Sequence[str], rows: int) -> dict[str, Any]:
    """Run a command: its time and its processor time."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stdout is not None  # noqa: S101 - a pipe
    said = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "rows": rows,
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "said": said,
    }


def in_process(model: str, rows: int) -> int:
    """The other side, in a process of its own: the graph alone, on arrays that are there before it begins."""
    import onnxruntime as ort

    artifact = artifact_of(model)[0]
    signature = artifact.signature
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(artifact.path / "model.onnx", options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    chunk = rows_of(signature, CHUNK, np.random.default_rng(0))
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(-(-rows // CHUNK)):
        session.run(None, {given.name: chunk})
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write both sides and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--in-process", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.in_process:
        return in_process(options.model, options.in_process)
    python = sys.executable
    sides = []
    with tempfile.TemporaryDirectory(prefix="okamochi-score-") as folder:
        for rows in options.rows:
            table, output = Path(folder) / "in.parquet", Path(folder) / "out.parquet"
            write_table(table, options.model, rows)
            alone = measured(
                [python, "-m", "benchmarks.score", options.model, "--in-process", str(rows)], rows
            )
            command = [python, "-c", SCORE, options.model, str(table), str(output), "--jobs", "1"]
            scored = measured(command, rows)
            scored["said"], _, peak = scored["said"].partition("peak_kb ")
            scored["peak_mb"] = int(peak) // 1024
            if pq.ParquetFile(output).metadata.num_rows != rows:
                raise SystemExit(f"{output} has not all {rows} rows")
            output.unlink()
            sides.append({"score": scored, "in_process": json.loads(alone["said"])})
            sides[-1]["rows_per_s"] = round(rows / scored["seconds"])
            for key in ("seconds", "cpu_seconds"):
                sides[-1][f"ratio_of_{key}"] = round(sides[-1]["in_process"][key] / scored[key], 2)
    loads = [measured([python, "-c", LOAD, options.model], 0)["said"].split() for _ in range(LOADS)]
    load_ms, load_cpu_ms = (round(1000 * median(map(float, each))) for each in zip(*loads, strict=True))
    figures = {"load_ms": load_ms, "load_cpu_ms": load_cpu_ms, "sides": sides}
    publish(OUT, ("onnxruntime", "pyarrow"), figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
