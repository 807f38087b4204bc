"""What a server says about itself to Prometheus: names begin with `okamochi_`, labels have bounded values.

`bentoml serve` sets `PROMETHEUS_MULTIPROC_DIR` for its workers: each writes its own files there, and the
worker that answers `/metrics` adds them up. Children are looked up once, since `labels()` costs more than the
increment.
"""

from __future__ import annotations

import asyncio
import os
import re
from bisect import bisect_left
from collections import Counter as Counted
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from artifact.models_lock import ROLES
from serving import guards
from serving.shared import alive

if TYPE_CHECKING:
    from numpy.typing import NDArray

if guards.usable(guards.METRIC_FILES):
    from serving.observe import metric_files

    metric_files.install()
    _shared = metric_files.shared
else:

    def _shared() -> bool:
        return True


_IN_ONE_STEP = guards.usable(guards.HISTOGRAMS)

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()

FLUSH_S = 0.002
"""The longest time from a reply to its count in the files that the workers share, in seconds."""

SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DIFFERENCES = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

REQUESTS = Counter("okamochi_requests", "Requests answered.", ["model", "endpoint", "status"])
VERSION_REQUESTS = Counter(
    "okamochi_version_requests",
    "Requests to prediction routes that a version answered, of the versions that are live.",
    ["model", "version", "status"],
)
LATENCY = Histogram(
    "okamochi_request_seconds",
    "From the first byte of a request to its reply, in the worker.",
    ["model", "endpoint"],
    buckets=SECONDS,
)
VERSION_LATENCY = Histogram(
    "okamochi_version_request_seconds",
    "okamochi_request_seconds by the version that answered, of the versions that are live.",
    ["model", "version"],
    buckets=SECONDS,
)
LANE = Counter("okamochi_lane_requests", "Requests by the lane that answered them.", ["lane"])
REJECTED = Counter(
    "okamochi_rejected",
    "Requests refused, by the reason that their log lines give.",
    ["model", "version", "reason"],
)
BATCH_ROWS = Histogram(
    "okamochi_batch_rows", "Rows of one call of a model.", ["model", "version"], buckets=ROWS
)
QUEUE_ROWS = Gauge(
    "okamochi_queue_rows", "Rows in the queue of a model.", ["model", "version"], multiprocess_mode="livesum"
)
INFERENCE = Histogram(
    "okamochi_inference_seconds", "One call of a model, for one batch.", ["model", "version"], buckets=SECONDS
)
EXPLAINED = Counter(
    "okamochi_explained_rows",
    "Rows explained: exact, or sampled with a stated error.",
    ["model", "version", "method"],
)
WARNINGS = Counter(
    "okamochi_warnings",
    "Warnings about rows, of requests that asked for them.",
    ["model", "version", "kind"],
)
EXPLAIN_ROWS = Counter(
    "okamochi_explain_scored_rows", "Rows that a model scored for explanations.", ["model", "version"]
)
MODEL_INFO = Gauge(
    "okamochi_model_info",
    "1 for each live model.",
    ["model", "version", "runtime"],
    multiprocess_mode="livemax",
)

MODEL_ROLE = Gauge(
    "okamochi_model_role",
    "1 for each version that is loaded, by its role: champion, shadow or canary.",
    ["model", "version", "role"],
    multiprocess_mode="livemax",
)

# Of a shadow; `version` is its own.
SHADOW_ROWS = Counter("okamochi_shadow_rows", "Rows that a shadow has scored.", ["model", "version"])
SHADOW_AGREED = Counter(
    "okamochi_shadow_agreed_rows",
    "Rows for which a shadow predicts the label that the champion answered.",
    ["model", "version"],
)
SHADOW_DROPPED = Counter(
    "okamochi_shadow_dropped_rows",
    "Answered rows that a shadow did not score: its buffer was full or sampled them out, or it failed.",
    ["model", "version", "reason"],
)
SHADOW_DIFFERENCE = Histogram(
    "okamochi_shadow_score_difference",
    "Between a shadow and the champion for one row: the largest difference of a probability, or the relative "
    "difference of a regression's numbers.",
    ["model", "version"],
    buckets=DIFFERENCES,
)
SHADOW_SECONDS = Histogram(
    "okamochi_shadow_seconds", "One call of a shadow, for one batch.", ["model", "version"], buckets=SECONDS
)

# Of a canary; its requests are in VERSION_REQUESTS.
CANARY_PERCENT = Gauge(
    "okamochi_canary_percent",
    "Percentage of the callers that a canary answers while it is not stopped.",
    ["model", "version"],
    multiprocess_mode="livemax",
)
CANARY_STOPPED = Gauge(
    "okamochi_canary_stopped",
    "1 while a canary answers nobody because it left its bounds.",
    ["model", "version"],
    multiprocess_mode="livemax",
)
# Without the version: a canary that all servers drop is loaded no more, and its samples are gone.
CANARY_STOPS = Counter("okamochi_canary_stops", "Workers that have stopped a canary.", ["model"])
MODEL_REFUSED = Gauge(
    "okamochi_model_refused", "1 for each model that is not live.", ["model"], multiprocess_mode="livemax"
)

VERSION_REFUSED = Gauge(
    "okamochi_new_version_refused",
    'Is 1 while models.lock names a version of the model that is refused; model "": the file itself.',
    ["model"],
    multiprocess_mode="livemax",
)

KEYS_REFUSED = Gauge(
    "okamochi_keys_refused",
    "1 while a file of keys cannot be used; the keys from before hold.",
    multiprocess_mode="livemax",
)
_files_refused: set[str] = set()


def keys_refused(what: str, *, refused: bool) -> None:
    """Count one of the files of keys as usable or not; called from the thread that follows it."""
    (_files_refused.add if refused else _files_refused.discard)(what)
    KEYS_REFUSED.set(bool(_files_refused))


AUDIT_LOST = Counter(
    "okamochi_audit_lost", "Requests that are not in the audit log, because it could not be written."
)

MODEL_PROCESS_RESTARTS = Counter(
    "okamochi_model_process_restarts", "Processes of a model that were replaced.", ["model", "version"]
)
MODEL_PROCESS_BYTES = Gauge(
    "okamochi_model_process_bytes",
    "Resident memory of the process that scores with a model.",
    ["model", "version"],
    multiprocess_mode="livesum",
)

# Each worker has its own window; the metric shows the largest value.
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
    "okamochi_drift_rows", "Distinct rows in the drift window.", ["model"], multiprocess_mode="livemax"
)

PREDICTION_LOG_ROWS = Counter(
    "okamochi_prediction_log_rows", "Rows written to the prediction log, those of shadows included."
)
PREDICTION_LOG_DROPPED = Counter(
    "okamochi_prediction_log_dropped", "Answered rows that are not in the prediction log.", ["reason"]
)
FEEDBACK = Counter("okamochi_feedback", "Actual values that were given.", ["model", "outcome"])

# What `python -m training live --publish` left in the prediction log about the version that is live here.
LIVE_QUALITY = Gauge(
    "okamochi_live_quality",
    "Live quality by feedback: its value, and the low and high end of its 95 % interval.",
    ["model", "version", "metric", "bound"],
    multiprocess_mode="livemostrecent",
)
LIVE_PROMISE = Gauge(
    "okamochi_live_promise",
    "The same metric on the test rows at promotion.",
    ["model", "version", "metric"],
    multiprocess_mode="livemostrecent",
)
LIVE_BROKEN = Gauge(
    "okamochi_live_promise_broken",
    "1 while live quality is below the promise by more than noise.",
    ["model", "version"],
    multiprocess_mode="livemostrecent",
)
LIVE_ROWS = Gauge(
    "okamochi_live_rows",
    "Rows with feedback that live quality was judged by.",
    ["model", "version"],
    multiprocess_mode="livemostrecent",
)
LIVE_JUDGED = Gauge(
    "okamochi_live_judged_timestamp_seconds",
    "When live quality was last judged, in seconds since 1970.",
    ["model", "version"],
    multiprocess_mode="livemostrecent",
)

LOG_LEFT_OUT = Counter(
    "okamochi_log_lines_left_out", "Refused requests without a log line, because too many were refused."
)
LOG_DROPPED = Counter(
    "okamochi_log_lines_dropped", "Log lines that were dropped because their reader was too slow."
)
TRACES_DROPPED = Counter("okamochi_traces_dropped", "Traced requests whose spans were not sent.")
THREAD_FAILURES = Counter(
    "okamochi_thread_failures", "Background threads that raised and were started again.", ["thread"]
)

# When the request came, by `time.perf_counter`
Tally = Callable[[float], None]


class _Values:
    """Values that children of histograms with the same buckets have not observed yet."""

    __slots__ = ("bounds", "children", "values")

    def __init__(self, bounds: Sequence[float], *children: Histogram) -> None:
        self.children = children
        self.bounds = bounds
        self.values: list[float] = []

    def flush(self) -> int:
        """Observe all of them as `Histogram.observe` observes one; a test compares the two."""
        values = self.values
        count = len(values)
        if not _IN_ONE_STEP:
            for value in values:
                for child in self.children:
                    child.observe(value)
            values.clear()
            return count
        total = sum(values)
        buckets = Counted(bisect_left(self.bounds, value) for value in values).items()
        for child in self.children:
            child._sum.inc(total)  # noqa: SLF001
            for bucket, found in buckets:
                child._buckets[bucket].inc(found)  # noqa: SLF001
        values.clear()
        return count


class _Answered:
    """Requests of one model, version, endpoint and status that are not in the metrics yet."""

    __slots__ = ("counters", "seconds")

    def __init__(self, model: str, version: str, endpoint: str, status: int) -> None:
        self.counters = [REQUESTS.labels(model, endpoint, str(status))]
        histograms = [LATENCY.labels(model, endpoint)]
        if version:
            self.counters.append(VERSION_REQUESTS.labels(model, version, str(status)))
            histograms.append(VERSION_LATENCY.labels(model, version))
        self.seconds = _Values(SECONDS, *histograms)


class Batches:
    """Counts the calls of one version of a model, as `Observer` does requests."""

    def __init__(self, model: str, version: str) -> None:
        self._rows = _Values(ROWS, BATCH_ROWS.labels(model, version))
        self._seconds = _Values(SECONDS, INFERENCE.labels(model, version))

    def __call__(self, rows: int, seconds: float) -> None:
        """Count one call."""
        if not self._rows.values:
            asyncio.get_running_loop().call_later(FLUSH_S, self._flush)
        self._rows.values.append(rows)
        self._seconds.values.append(seconds)

    def _flush(self) -> None:
        self._rows.flush()
        self._seconds.flush()


class ShadowMetrics:
    """Counts what one shadow does; its functions may be called from any thread."""

    def __init__(self, model: str, version: str) -> None:
        self._labels = model, version
        self._rows = SHADOW_ROWS.labels(model, version)
        self._agreed = SHADOW_AGREED.labels(model, version)
        self._seconds = SHADOW_SECONDS.labels(model, version)
        self._differences = SHADOW_DIFFERENCE.labels(model, version)
        for reason in ("full", "sampled_out", "failed"):
            SHADOW_DROPPED.labels(model, version, reason)

    def dropped(self, reason: str, rows: int) -> None:
        """Count rows that were not scored."""
        SHADOW_DROPPED.labels(*self._labels, reason).inc(rows)

    def scored(self, rows: int, seconds: float) -> None:
        """Count the rows of one call."""
        self._rows.inc(rows)
        self._seconds.observe(seconds)

    def agreed(self, rows: int) -> None:
        """Count rows with the champion's label."""
        self._agreed.inc(rows)

    def differences(self, values: NDArray[np.float64]) -> None:
        """Count the differences of scores, one a row."""
        if not _IN_ONE_STEP:
            for value in values.tolist():
                self._differences.observe(value)
            return
        self._differences._sum.inc(float(values.sum()))  # noqa: SLF001
        counts = np.bincount(np.searchsorted(DIFFERENCES, values))
        for bucket in np.flatnonzero(counts).tolist():
            self._differences._buckets[bucket].inc(int(counts[bucket]))  # noqa: SLF001


class Observer:
    """Counts the answered requests of one lane.

    All requests answered within `FLUSH_S` are added in one increment of each counter: an increment in a file
    that processes share costs 1 to 2 us, and a request needs four. It does not happen at the end of each turn
    of the event loop, because an extra turn costs a lone request more than everything else.
    """

    def __init__(self, lane: str) -> None:
        self._in_lane = LANE.labels(lane)
        self._kinds: dict[tuple[str, str, str, int], _Answered] = {}
        self._waiting: list[_Answered] = []
        self._rejected: Counted[tuple[str, str, str]] = Counted()

    def __call__(
        self, model: str, version: str, endpoint: str, status: int, seconds: float, *, reason: str = ""
    ) -> None:
        """Count one request, and the reason of its refusal if it was refused.

        Parameters
        ----------
        model, version
            Of the prediction route; "" for other routes.
        """
        kind = self._kind(model, version, endpoint, status)
        if not kind.seconds.values:
            self._wait(kind)
        kind.seconds.values.append(seconds)
        if reason:
            self._rejected[model, version, reason] += 1

    def tally(self, model: str, version: str, endpoint: str) -> Tally:
        """A function that counts a reply of 200, sent now, by its start."""
        kind = self._kind(model, version, endpoint, 200)
        values = kind.seconds.values

        def count(start: float) -> None:
            if not values:
                self._wait(kind)
            values.append(perf_counter() - start)

        return count

    def forget_all_but(self, live: Collection[tuple[str, str]]) -> None:
        """Drop what is kept for other models and versions than these; called from any thread."""
        for key in list(self._kinds):
            if key[1] and key[:2] not in live:
                self._kinds.pop(key, None)

    def _kind(self, *key: Any) -> _Answered:
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Answered(*key)
        return kind

    def _wait(self, kind: _Answered) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_later(FLUSH_S, self._flush)
        self._waiting.append(kind)

    def _flush(self) -> None:
        total = 0
        for kind in self._waiting:
            count = kind.seconds.flush()
            for counter in kind.counters:
                counter.inc(count)
            total += count
        self._in_lane.inc(total)
        self._waiting.clear()
        for labels, count in self._rejected.items():
            REJECTED.labels(*labels).inc(count)
        self._rejected.clear()


def no_longer_live(model: str, version: str, runtime: str) -> None:
    """Say that a version is live no more: `exposition` then leaves out its samples."""
    MODEL_INFO.labels(model, version, runtime).set(0)
    has_role(model, version, "")


def has_role(model: str, version: str, role: str) -> None:
    """Say which role a version has; "" for none."""
    for each in ROLES:
        MODEL_ROLE.labels(model, version, each).set(each == role)


def exposition() -> bytes:
    """The text of `/metrics`: of all workers of this server, or of this worker alone if the disk is full."""
    return generate_latest(_OfLive(_registry()))


def collected() -> list[Metric]:
    """The samples of `exposition` as objects."""
    return _OfLive(_registry()).collect()


def _registry() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ or not _shared():
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


class _OfLive:
    """The samples of a registry without those of versions that no worker serves any more.

    The files that workers share cannot forget a label, so the label `version` would grow with each swap.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> list[Metric]:
        found = list(self._registry.collect())
        live = {
            (sample.labels["model"], sample.labels["version"])
            for metric in found
            if metric.name in ("okamochi_model_info", "okamochi_model_role")
            for sample in metric.samples
            if sample.value
        }
        for metric in found:
            if (
                metric.samples
                and "version" in metric.samples[0].labels
                and "model" in metric.samples[0].labels
            ):
                metric.samples = [
                    sample
                    for sample in metric.samples
                    if (sample.labels["model"], sample.labels["version"]) in live
                    or not sample.labels["version"]
                ]
        return found


def forget_dead_workers() -> set[int]:
    """Drop the gauges of workers that have ended, since a killed worker cannot; return their pids."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    dead: set[int] = set()
    if not folder:
        return dead
    for path in Path(folder).glob("gauge_live*_*.db"):
        found = re.fullmatch(r"gauge_live\w+_(\d+)\.db", path.name)
        if found and not alive(int(found[1])):
            path.unlink(missing_ok=True)
            dead.add(int(found[1]))
    return dead
