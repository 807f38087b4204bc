"""Ten thousand rows in one request, compared with the same model and body in this process."""

from __future__ import annotations

import http.client
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from benchmarks import dialects
from benchmarks.results import Bulk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.models import Prepared
    from benchmarks.servers import Server

ROWS, TIMES = 10_000, 15
HEADER = "Inference-Header-Content-Length"


def measure(server: Server, prepared: Prepared, model: Path) -> Bulk:
    """Time JSON and binary requests, interleaved with their lower bounds; every answer is checked."""
    repeats = -(-ROWS // len(prepared.rows))
    rows = (prepared.rows * repeats)[:ROWS]
    labels = (prepared.labels * repeats)[:ROWS]
    body = dialects.features(rows)
    binary, head = dialects.binary_request(rows, prepared.precision)
    session = in_process(model / "model.onnx")
    matrix = np.array(rows, prepared.precision)
    decoder = msgspec.json.Decoder()
    found = Bulk(model=prepared.name, rows=ROWS, in_process_ms=0.0, decode_ms=0.0)
    times: dict[str, list[float]] = {"in process": [], "decode": [], "json": [], "binary": []}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def ask(
        way: str, path: str, content: bytes, headers: dict[str, str], read: Callable[[Any, bytes], list[int]]
    ) -> None:
        if way in found.absent:
            return
        start = perf_counter()
        connection.request("POST", path, content, headers)
        reply = connection.getresponse()
        answer = reply.read()
        seconds = perf_counter() - start
        if reply.status != 200:
            found.absent[way] = f"{reply.status}: {answer[:200].decode(errors='replace')}"
            return
        times[way].append(seconds)
        if read(reply.headers, answer) != labels:
            found.wrong.append(f"{prepared.name}, {ROWS} rows in {way}")

    binary_headers = {"Content-Type": "application/octet-stream", HEADER: str(head)}
    for _ in range(TIMES):
        times["in process"].append(timed(lambda: session.run(["scores"], {"X": matrix})))
        times["decode"].append(timed(lambda: decoder.decode(body)))
        ask(
            "json",
            "/predict",
            body,
            {"Content-Type": "application/json"},
            lambda _, answer: dialects.key("prediction")(answer),
        )
        ask("binary", f"/v2/models/{prepared.name}/infer", binary, binary_headers, binary_answer)
    connection.close()
    found.in_process_ms = median(times["in process"]) * 1000
    found.decode_ms = median(times["decode"]) * 1000
    found.json_ms = median(times["json"]) * 1000 if times["json"] else None
    found.binary_ms = median(times["binary"]) * 1000 if times["binary"] else None
    return found


def binary_answer(headers: Any, answer: bytes) -> list[int]:
    return dialects.binary_labels(answer, int(headers.get(HEADER, len(answer))))


def timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def in_process(path: Path) -> Any:
    """Open the model with one thread, as the server does."""
    import onnxruntime  # only `make bench` needs it here

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
