"""The figures that the console shows, by model, from the metrics of all workers.

They are counts since the server started. The page computes rates and quantiles from the difference of two
looks, so the server keeps nothing for it and works only while somebody looks.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from serving.observe.metrics import SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

NOT_PREDICTIONS = frozenset(("explain",))
"""Endpoints whose requests do not count here: an explanation takes many times as long as a prediction."""
MAX_DRIFT_COLUMNS = 50

Figures = dict[str, Any]

_GAUGES = {"okamochi_drift_rows": "drift_rows", "okamochi_drift_alarm": "drift_alarm"}
_OF_VERSIONS = {
    "okamochi_queue_rows": "queue_rows",
    "okamochi_model_process_restarts_total": "restarts",
    "okamochi_model_process_bytes": "process_bytes",
}
"""Metrics that each loaded version has: a canary has a queue and a process of its own."""
_SHADOW = {
    "okamochi_shadow_rows_total": "rows",
    "okamochi_shadow_agreed_rows_total": "agreed",
    "okamochi_shadow_score_difference_sum": "difference_sum",
    "okamochi_shadow_score_difference_count": "difference_rows",
}
_QUALITY = {
    "okamochi_live_promise": "promise",
    "okamochi_live_promise_broken": "broken",
    "okamochi_live_rows": "rows",
    "okamochi_live_judged_timestamp_seconds": "judged",
}


def by_model(collected: Iterable[Metric]) -> dict[str, Figures]:
    """The figures of each model that any metric names."""
    found: dict[str, Figures] = {}
    for metric in collected:
        for sample in metric.samples:
            model = sample.labels.get("model")
            if model and metric.name.startswith("okamochi_"):
                _add(found.setdefault(model, _empty()), sample)
    for figures in found.values():
        figures["buckets"] = _apart(figures["buckets"])
        worst = sorted(figures["drift"].items(), key=lambda each: -each[1])[:MAX_DRIFT_COLUMNS]
        figures["drift"] = dict(worst)
    return found


def _empty() -> Figures:
    return {
        "requests": {},
        "buckets": {},
        "queue_rows": 0,
        "drift": {},
        "drift_rows": None,
        "drift_alarm": 0,
        "versions": {},
        "shadows": {},
        "quality": {},
        "restarts": 0,
        "process_bytes": None,
    }


def _add(figures: Figures, sample: Sample) -> None:
    """Add one sample to the figures of its model."""
    name, labels, value = sample.name, sample.labels, sample.value
    if name in _GAUGES:
        figures[_GAUGES[name]] = value
    elif name in _OF_VERSIONS:
        figures[_OF_VERSIONS[name]] = (figures[_OF_VERSIONS[name]] or 0) + value
    elif name == "okamochi_drift_psi":
        figures["drift"][labels["column"]] = value
    elif name == "okamochi_version_requests_total":
        _count(figures["versions"].setdefault(labels["version"], {}), labels["status"], value)
    elif labels.get("endpoint") not in NOT_PREDICTIONS and name == "okamochi_requests_total":
        _count(figures["requests"], labels["status"], value)
    elif labels.get("endpoint") not in NOT_PREDICTIONS and name == "okamochi_request_seconds_bucket":
        _count(figures["buckets"], float(labels["le"]), value)
    elif name.startswith("okamochi_shadow_"):
        _add_shadow(figures["shadows"].setdefault(labels["version"], {}), name, value)
    elif name.startswith("okamochi_live_"):
        _add_quality(figures["quality"].setdefault(labels["version"], {}), sample)


def _add_shadow(shadow: dict[str, float], name: str, value: float) -> None:
    if name in _SHADOW:
        shadow[_SHADOW[name]] = value
    elif name == "okamochi_shadow_dropped_rows_total":
        _count(shadow, "dropped", value)


def _add_quality(quality: dict[str, Any], sample: Sample) -> None:
    labels, value = sample.labels, sample.value
    if sample.name in _QUALITY:
        quality[_QUALITY[sample.name]] = value
    elif sample.name == "okamochi_live_quality":
        quality["metric"] = labels["metric"]
        quality[labels["bound"]] = value


def _count(counts: dict[Any, float], key: Any, value: float) -> None:
    counts[key] = counts.get(key, 0) + value


def _apart(cumulative: dict[float, float]) -> list[float]:
    """Requests by bucket, the last above all bounds; Prometheus adds up the buckets below each bound."""
    if not cumulative:
        return [0] * (len(SECONDS) + 1)
    counts = [cumulative[bound] for bound in sorted(cumulative)]
    return [counts[0], *(high - low for low, high in pairwise(counts))]
