"""Alerts that fire when they should, and a dashboard whose every query is answered by a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import prometheus_client
import pytest
import yaml

from artifact.encode import Encoder
from serving import metrics
from tests.bento_server import bento_server, prepare
from tests.k8s.rendering import K8S, Object, of_kind, one, rendered
from tests.servers import free_port, started
from tests.serving import artifacts
from training.export import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CASES = Path(__file__).with_name("alerts.yaml")
CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "operations.md").read_text()


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return rendered("monitoring")


@pytest.fixture(scope="module")
def rules(objects: list[Object]) -> Object:
    found: Object = one(objects, "PrometheusRule", "okamochi")["spec"]
    return found


@pytest.fixture(scope="module")
def alerts(rules: Object) -> dict[str, Object]:
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}


@pytest.fixture(scope="module")
def panels() -> list[Object]:
    found: list[Object] = json.loads((K8S / "components" / "monitoring" / "okamochi.json").read_text())[
        "panels"
    ]
    return found


def queries(panels: list[Object]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel["targets"]]


def our_metrics() -> dict[str, tuple[str, ...]]:
    """Each metric by the name that it is declared under, with its labels."""
    return {
        each._name: tuple(each._labelnames)
        for each in vars(metrics).values()
        if isinstance(each, prometheus_client.metrics.MetricWrapperBase)
    }


def test_promtool_finds_every_case_as_it_should_be(
    program: Callable[[str], str], rules: Object, tmp_path: Path
) -> None:
    promtool = program("promtool")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    shutil.copy(CASES, tmp_path)
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / CASES.name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires(alerts: dict[str, Object]) -> None:
    text = CASES.read_text()
    fires = set(re.findall(r'alertname="(\w+)"[^}]*\}\'\n +value: 1', text))
    assert fires == alerts.keys()


def test_every_alert_has_two_windows_or_none(alerts: dict[str, Object]) -> None:
    """The long one says that it matters, the short one that it still goes on."""
    for name, alert in alerts.items():
        windows = re.findall(r"ratio_rate(\w+)", alert["expr"])
        assert len(windows) == (2 if "Burns" in name else 0), name


def test_every_alert_has_a_paragraph_in_the_runbook(alerts: dict[str, Object]) -> None:
    """And a link that leads to it; no paragraph is of an alert that is no more."""
    headings = set(re.findall(r"^### (Okamochi\w+)$", PAGE, flags=re.MULTILINE))
    assert headings == alerts.keys()
    for name, alert in alerts.items():
        assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert alert["labels"]["severity"] in {"page", "ticket"}


def test_the_objective_is_a_bucket_of_the_histogram(rules: Object) -> None:
    """Else the share that is slower could not be counted."""
    said = "".join(rule["expr"] for group in rules["groups"] for rule in group["rules"])
    bounds = set(re.findall(r'le="([\d.]+)"', said))
    assert bounds == {"0.064"}
    assert {float(bound) for bound in bounds} <= set(metrics.SECONDS)


def test_rules_and_panels_name_only_metrics_that_are_there(rules: Object, panels: list[Object]) -> None:
    known = {f"{name}{end}" for name in our_metrics() for end in ("", "_total", "_bucket", "_sum", "_count")}
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    for expression in [*queries(panels), yaml.safe_dump(rules)]:
        for name in re.findall(r"\bokamochi[_:][a-z_:0-9]+", expression):
            assert name in known | recorded, name


def test_the_dashboard_shows_every_metric(panels: list[Object]) -> None:
    text = "\n".join(queries(panels))
    for name in our_metrics():
        assert re.search(rf"\b{name}(_total|_bucket|_sum|_count)?\b", text), name


def test_the_monitor_scrapes_the_servers_pods(objects: list[Object]) -> None:
    (monitor,) = of_kind(objects, "PodMonitor")
    labels = one(objects, "Deployment", "okamochi")["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert labels[monitor["spec"]["jobLabel"]] == "okamochi", "the alerts ask for this job"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")


@pytest.fixture(scope="module")
def prometheus(
    program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory, rules: Object
) -> Iterator[str]:
    """A Prometheus that has scraped a server which answered, refused and failed to open a model; its URL."""
    binary = program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    iris = artifacts.iris(folder / "iris")
    matrix = Encoder(iris.signature).rows(iris.rows)
    held = reference(iris.signature, matrix[::2], iris.scores(iris.rows[1::2]))
    (iris.path / "reference.json").write_bytes(msgspec.json.encode(held))
    artifacts.reseal(iris.path)
    made = {
        "iris": (iris.path, "1"),
        "linear": (artifacts.linear(folder / "linear").path, "2"),
    }
    prepare(folder / "server", made)
    damaged = next((folder / "server" / "bentoml" / "models" / "okamochi-linear").rglob("model.onnx"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    groups = [{**group, "interval": "1s"} for group in rules["groups"]]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    with bento_server(
        folder / "server",
        ready="/livez",
        settings={"OKAMOCHI_MAX_BODY_BYTES": "2000", "OKAMOCHI_DRIFT_EVERY_S": "1"},
    ) as server:
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {
                    "job_name": "okamochi",
                    "static_configs": [
                        {
                            "targets": [urllib.parse.urlsplit(server.url).netloc],
                            "labels": {"namespace": "okamochi", "pod": "okamochi-0"},
                        }
                    ],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = free_port()
        command = [
            *(binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"),
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        url = f"http://127.0.0.1:{port}"
        with started(command, url=url, ready="/-/ready", log=folder / "prometheus.log") as found:
            end = time.monotonic() + 60
            while len(answer(found.url, "count_over_time(okamochi_rejected_total[1m]) >= 5")) < 1:
                assert time.monotonic() < end, found.log.read_text()
                ask(server.url)
                time.sleep(0.3)
            yield found.url


def ask(url: str) -> None:
    rows = {"features": [[5.1, 3.5, 1.4, 0.2]]}
    for path in ("/predict", "/predict", "/livez"):
        if path == "/livez":
            httpx.get(url + path)
        else:
            assert httpx.post(url + path, json=rows).status_code == 200
    assert httpx.post(url + "/predict", json={"features": [[0.0] * 4] * 500}).status_code == 413


def answer(url: str, query: str) -> list[Any]:
    found = httpx.get(f"{url}/api/v1/query", params={"query": query}).json()
    assert found["status"] == "success", f"{query}: {found}"
    result = found["data"]["result"]
    return [each for each in result if each["value"][1] != "NaN"]


def test_every_query_of_the_dashboard_is_answered(prometheus: str, panels: list[Object]) -> None:
    """With data, by a Prometheus that scrapes a server like the operator's would."""
    variables = {"$__rate_interval": "5m", "$namespace": "okamochi", "$model": "iris|linear"}
    for query in queries(panels):
        asked = query
        for name, value in variables.items():
            asked = asked.replace(name, value)
        assert "$" not in asked
        assert answer(prometheus, asked), f"no data: {asked}"


def test_the_rules_work_on_what_a_server_says(prometheus: str) -> None:
    """Of real metrics: every ratio has a value, and the refused model is seen."""
    for metric in ("unavailable", "slow"):
        (found,) = answer(prometheus, f"okamochi:{metric}:ratio_rate5m")
        assert found["metric"]["namespace"] == "okamochi"
    alerts = {
        (each["metric"]["alertname"], each["metric"].get("model")) for each in answer(prometheus, "ALERTS")
    }
    assert ("OkamochiModelRefused", "linear") in alerts
