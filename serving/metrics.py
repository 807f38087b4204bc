"""What a server says about itself to Prometheus: names begin with `okamochi_`, labels have bounded values.

`bentoml serve` sets `PROMETHEUS_MULTIPROC_DIR` for its workers: each writes its own files there and the one
that is asked adds them up. Children are looked up once, since `labels()` costs more than the increment.
"""

from __future__ import annotations

import asyncio
import os
import re
from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import perf_counter

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

MODEL_REFUSED = Gauge(
    "okamochi_model_refused", "1 for each model that is not live.", ["model"], multiprocess_mode="livemax"
)

# Each worker has its own window; the worst of them is shown.
DRIFT_PSI = Gauge(
    "okamochi_drift_psi",
    'Population stability index of the last rows against training, by column; column "" is the scores.',
    ["model", "column"],
    multiprocess_mode="livemax",
)
DRIFT_ALARM = Gauge(
    "okamochi_drift_alarm",
    "1 while a column or the scores differ from training by more than noise and by enough to matter.",
    ["model"],
    multiprocess_mode="livemax",
)
DRIFT_ROWS = Gauge(
    "okamochi_drift_rows", "Different rows in the window of drift.", ["model"], multiprocess_mode="livemax"
)

PREDICTION_LOG_ROWS = Counter("okamochi_prediction_log_rows", "Rows written to the prediction log.")
PREDICTION_LOG_DROPPED = Counter(
    "okamochi_prediction_log_dropped", "Answered rows that are not in the prediction log.", ["reason"]
)
FEEDBACK = Counter("okamochi_feedback", "Actual values that were given.", ["model", "outcome"])

LOG_DROPPED = Counter("okamochi_log_lines_dropped", "Lines of the log that their reader was too slow for.")
TRACES_DROPPED = Counter("okamochi_traces_dropped", "Traced requests whose spans were not sent.")

# (model, endpoint, status) and the seconds that the request took
Observe = Callable[[str, str, int, float], None]
# When the request came, by `time.perf_counter`
Tally = Callable[[float], None]


class _Tally:
    """Requests of one model, endpoint and status that are not in the metrics yet."""

    __slots__ = ("buckets", "count", "counter", "latency", "seconds")

    def __init__(self, model: str, endpoint: str, status: int) -> None:
        self.counter = REQUESTS.labels(model, endpoint, str(status))
        self.latency = LATENCY.labels(model, endpoint)
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(SECONDS) + 1)

    def flush(self) -> int:
        """Add to the metrics, and say how many requests that were."""
        count = self.count
        self.counter.inc(count)
        # What `Histogram.observe` does for one value, for all of them; a test compares the two.
        self.latency._sum.inc(self.seconds)  # noqa: SLF001
        for bucket, found in zip(self.latency._buckets, self.buckets, strict=True):  # noqa: SLF001
            if found:
                bucket.inc(found)
        self.count, self.seconds, self.buckets = 0, 0.0, [0] * len(self.buckets)
        return count


def observer(lane: str) -> Observe:
    """A function that counts one answered request of this lane.

    What one turn of the event loop answers goes into the metrics at its end, in one step a counter: an
    increment in a file that processes share costs 1 to 2 us, and a request has four.
    """
    in_lane = LANE.labels(lane)
    tallies: dict[tuple[str, str, int], _Tally] = {}
    waiting: list[_Tally] = []

    def flush() -> None:
        in_lane.inc(sum(tally.flush() for tally in waiting))
        waiting.clear()

    def observe(model: str, endpoint: str, status: int, seconds: float) -> None:
        key = (model, endpoint, status)
        tally = tallies.get(key)
        if tally is None:
            tally = tallies[key] = _Tally(model, endpoint, status)
        if not tally.count:
            if not waiting:
                asyncio.get_running_loop().call_soon(flush)
            waiting.append(tally)
        tally.count += 1
        tally.seconds += seconds
        tally.buckets[bisect_left(SECONDS, seconds)] += 1

    return observe


def tallier(observe: Observe) -> Callable[[str, str], Tally]:
    """A function that gives, for a model and an endpoint, one that counts a reply of 200 by its start.

    Seconds run to the end of the turn of the event loop, which is when the replies are on the socket.
    """

    @cache
    def of(model: str, endpoint: str) -> Tally:
        starts: list[float] = []

        def flush() -> None:
            now = perf_counter()
            for start in starts:
                observe(model, endpoint, 200, now - start)
            starts.clear()

        def tally(start: float) -> None:
            if not starts:
                asyncio.get_running_loop().call_soon(flush)
            starts.append(start)

        return tally

    return of


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
