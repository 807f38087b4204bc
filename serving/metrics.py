"""What a server says about itself to Prometheus: names begin with `okamochi_`, labels have bounded values.

`bentoml serve` sets `PROMETHEUS_MULTIPROC_DIR` for its workers: each writes its own files there and the one
that is asked adds them up. Children are looked up once, since `labels()` costs more than the increment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()

SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

REQUESTS = Counter("okamochi_requests", "Requests answered.", ["model", "endpoint", "status"])
LATENCY = Histogram(
    "okamochi_request_seconds",
    "From the first byte of a request to its reply, in the worker.",
    ["model", "endpoint"],
    buckets=SECONDS,
)
LANE = Counter("okamochi_lane_requests", "Requests by the lane that answered them.", ["lane"])
REJECTED = Counter("okamochi_rejected", "Requests refused by a limit or for overload.", ["model", "reason"])
BATCH_ROWS = Histogram("okamochi_batch_rows", "Rows of one call of a model.", ["model"], buckets=ROWS)
QUEUE_ROWS = Gauge(
    "okamochi_queue_rows", "Rows that wait for a model.", ["model"], multiprocess_mode="livesum"
)
INFERENCE = Histogram(
    "okamochi_inference_seconds", "One call of a model, for one batch.", ["model"], buckets=SECONDS
)
MODEL_INFO = Gauge(
    "okamochi_model_info",
    "1 for each live model.",
    ["model", "version", "runtime"],
    multiprocess_mode="livemax",
)

# (model, endpoint, status) and the seconds that the request took
Observe = Callable[[str, str, int, float], None]


def observer(lane: str) -> Observe:
    """A function that counts one answered request of this lane."""
    in_lane = LANE.labels(lane)
    counters: dict[tuple[str, str, int], Counter] = {}
    histograms: dict[tuple[str, str], Histogram] = {}

    def observe(model: str, endpoint: str, status: int, seconds: float) -> None:
        key = (model, endpoint, status)
        counter = counters.get(key)
        if counter is None:
            counter = counters[key] = REQUESTS.labels(model, endpoint, str(status))
            histograms[key[:2]] = LATENCY.labels(model, endpoint)
        counter.inc()
        in_lane.inc()
        histograms[key[:2]].observe(seconds)

    return observe


def exposition() -> bytes:
    """The text of `/metrics`: of every worker of this server."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget_dead_workers() -> None:
    """Drop the gauges of workers that are gone: a killed one cannot take its own away."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return
    for path in Path(folder).glob("gauge_live*_*.db"):
        found = re.fullmatch(r"gauge_live\w+_(\d+)\.db", path.name)
        if found and not _alive(int(found[1])):
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
