"""What the console's JSON says: figures of the metrics, changes of what is live."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.console.events import changes
from serving.console.figures import by_model
from serving.observe.metrics import SECONDS
from serving.scoring.catalog import Beside, Held
from tests.serving.conftest import ask

if TYPE_CHECKING:
    from serving.http.gateway import Gateway
    from serving.scoring.catalog import Catalog


def test_the_figures_of_a_model_are_those_of_its_metrics() -> None:
    registry = CollectorRegistry()
    requests = Counter("okamochi_requests", "", ["model", "endpoint", "status"], registry=registry)
    requests.labels("iris", "predict", "200").inc(3)
    requests.labels("iris", "infer", "200").inc(2)
    requests.labels("iris", "predict", "422").inc()
    requests.labels("iris", "explain", "200").inc(9)
    requests.labels("", "models", "200").inc(5)
    seconds = Histogram(
        "okamochi_request_seconds", "", ["model", "endpoint"], buckets=SECONDS, registry=registry
    )
    for value in (0.0001, 0.0015, 99):
        seconds.labels("iris", "predict").observe(value)
    seconds.labels("iris", "infer").observe(0.0001)
    seconds.labels("iris", "explain").observe(1)
    queue = Gauge("okamochi_queue_rows", "", ["model", "version"], registry=registry)
    queue.labels("iris", "3").set(5)
    queue.labels("iris", "4").set(2)
    psi = Gauge("okamochi_drift_psi", "", ["model", "column"], registry=registry)
    psi.labels("iris", "a").set(0.1)
    psi.labels("iris", "").set(0.4)
    quality = Gauge("okamochi_live_quality", "", ["model", "version", "metric", "bound"], registry=registry)
    quality.labels("iris", "3", "accuracy", "low").set(0.8)
    found = by_model(registry.collect())
    assert found.keys() == {"iris"}
    iris = found["iris"]
    assert iris["requests"] == {"200": 5, "422": 1}
    assert iris["buckets"] == [2, 0, 1, *[0] * (len(SECONDS) - 3), 1]
    assert iris["queue_rows"] == 7
    assert list(iris["drift"]) == ["", "a"]
    assert iris["quality"] == {"3": {"metric": "accuracy", "low": 0.8}}


def test_changes_name_versions_roles_and_reasons(models: Catalog) -> None:
    iris = models.live["iris"]
    only = replace(models, live={"iris": iris}, default="iris")
    newer = replace(only, live={"iris": replace(iris, version="13")})
    assert [change.text for change in changes(only, newer)] == [
        "Version 12 is champion no more",
        "Version 13 is champion",
    ]
    held = replace(only, held={"iris": Held("iris:14", "its graph is damaged")})
    assert [(each.name, each.kind, each.text) for each in changes(only, held)] == [
        ("iris", "refused", "iris:14 is refused: its graph is damaged")
    ]
    assert changes(held, held) == []
    canary = Beside(replace(iris, version="15"), "canary", 2.5, None)  # type: ignore[arg-type]
    beside = replace(only, beside={canary.slot: canary})
    assert [each.text for each in changes(only, beside)] == ["Version 15 is canary for 2.5 % of the callers"]
    assert [each.text for each in changes(beside, only)] == [
        "Version 15 is canary for 2.5 % of the callers no more"
    ]
    lock = replace(only, lock="line 3 has four words")
    assert [each.text for each in changes(only, lock)] == [
        "models.lock is not followed: line 3 has four words"
    ]


def test_a_model_that_takes_any_row_is_described_for_the_form(gateway: Gateway) -> None:
    about = asyncio.run(ask(gateway, "GET", "/console/models/loans")).json()
    columns = {column["name"]: column for column in about["columns"]}
    assert columns["age"]["integer"]
    assert (columns["age"]["minimum"], columns["age"]["maximum"]) == (18, 90)
    assert columns["city"]["categories"] == ["Basel", "Ulm"]
    assert columns["since"]["time"] is False
    assert about["interval"] == 0.9
    assert about["explains"]


def test_nothing_is_computed_before_somebody_asks(gateway: Gateway) -> None:
    assert gateway._console is not None
    fresh = type(gateway._console)(lambda _catalog, _name: [], lambda _catalog: [])
    assert fresh._figures._next is None
    assert fresh._figures._not_before == 0.0
