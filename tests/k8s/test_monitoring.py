"""Alerts that fire when they should, and a dashboard whose every query is answered by a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
import numpy as np
import prometheus_client
import pytest
import yaml

from artifact import verdict
from artifact.encode import Encoder
from artifact.verdict import LiveVerdict
from serving.observe import metrics
from tests.bento_server import bento_server, prepare, store
from tests.faults.wire import workers
from tests.k8s.monitored import answer, filled_in, prometheus_of
from tests.k8s.rendering import K8S, Object, of_kind, one, rendered
from tests.servers import PATIENCE_S, free_port
from tests.serving import artifacts
from training.reference import reference

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


@pytest.mark.deep
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


def test_all_is_well_has_every_metric_that_alerts_look_at(rules: Object) -> None:
    """Else that case would be quiet for want of data."""
    healthy = yaml.safe_load(CASES.read_text())["tests"][0]
    there = {series["series"].partition("{")[0] for series in healthy["input_series"]}
    for group in rules["groups"]:
        for rule in group["rules"]:
            for name in re.findall(r"\b(okamochi_[a-z_]+|up)\b(?=\{| >|\))", rule["expr"]):
                assert name in there, rule


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


def test_the_docs_tell_what_each_panel_shows(panels: list[Object]) -> None:
    """A row a panel, in the dashboard's order, with the metrics that its queries read."""
    table = PAGE[PAGE.index("| panel | shows | from |") : PAGE.index("## Alerts")]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (`[^|]+`) \|$", table, flags=re.MULTILINE)
    told = [(title, re.findall(r"`(\w+)`", names)) for title, _, names in rows]

    read = re.compile(r"\b(okamochi_\w+?|up)(?:_bucket|_sum|_count)?\{")
    assert told == [
        (panel["title"], list(dict.fromkeys(read.findall(" ".join(t["expr"] for t in panel["targets"])))))
        for panel in panels
    ]
    for alert in re.findall(r'\("([^"]+)"\)', PAGE[PAGE.index("## Alerts") :]):
        assert alert in dict(told), "a paragraph names a panel that is not there"


def test_the_docs_scrape_a_server_without_kubernetes(
    program: Callable[[str], str], panels: list[Object], tmp_path: Path
) -> None:
    """Prometheus takes the file, and it gives the labels that the panels choose by."""
    block = re.search(r"```yaml\n( +scrape_configs:.*?)```", PAGE, flags=re.DOTALL)
    assert block is not None
    (tmp_path / "prometheus.yml").write_text(textwrap.dedent(block[1]))
    check = [program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    (scrape,) = yaml.safe_load(textwrap.dedent(block[1]))["scrape_configs"]
    (target,) = scrape["static_configs"]
    labels = {"job": scrape["job_name"], **target["labels"]}
    chosen = {name for query in queries(panels) for name in re.findall(r"[{,] ?(\w+)=", query)}
    assert {"job", "namespace"} <= chosen
    assert {f'job="{labels["job"]}"'} == {
        job for query in queries(panels) for job in re.findall(r'job="\w+"', query)
    }


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
        "loans": (artifacts.loans(folder / "loans").path, "3"),  # in a process of its own
    }
    prepare(folder / "server", made)
    lock = folder / "server" / "models.lock"
    beside = store(folder / "server", [("iris", iris.path, "4"), ("iris", iris.path, "5")])
    lock.write_text(f"{lock.read_text()}{beside[0]} shadow\n{beside[1]} canary=50\n")
    damaged = next((folder / "server" / "bentoml" / "models" / "okamochi-linear").rglob("model.onnx"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    log = folder / "log"
    log.mkdir()
    said = LiveVerdict("iris", "1", "accuracy", 0.97, 0.9, 0.88, 0.92, broken=True, rows=500, at=time.time())
    verdict.leave(log, said)
    settings = {
        "OKAMOCHI_MAX_BODY_BYTES": "2000",
        "OKAMOCHI_DRIFT_EVERY_S": "1",
        "OKAMOCHI_PREDICTION_LOG": str(log),
    }
    with (
        bento_server(folder / "server", ready="/livez", settings=settings) as server,
        prometheus_of(binary, folder, {"okamochi-0": server.url}, rules) as found,
    ):
        end = time.monotonic() + PATIENCE_S
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


@pytest.mark.deep
def test_every_query_of_the_dashboard_is_answered(prometheus: str, panels: list[Object]) -> None:
    """With data, by a Prometheus that scrapes a server like the operator's would."""
    for query in queries(panels):
        assert answer(prometheus, filled_in(query)), f"no data: {query}"


@pytest.mark.deep
def test_the_rules_work_on_what_a_server_says(prometheus: str) -> None:
    """Of real metrics: every ratio has a value, and the refused model is seen."""
    for metric in ("unavailable", "slow"):
        (found,) = answer(prometheus, f"okamochi:{metric}:ratio_rate5m")
        assert found["metric"]["namespace"] == "okamochi"
    alerts = {
        (each["metric"]["alertname"], each["metric"].get("model")) for each in answer(prometheus, "ALERTS")
    }
    assert ("OkamochiModelRefused", "linear") in alerts
    assert ("OkamochiLiveQualityBelowPromise", "iris") in alerts


@pytest.mark.deep
def test_every_panel_is_drawn_where_it_stands(prometheus: str, tmp_path: Path) -> None:
    """The picture in the docs is drawn by this, from what a Prometheus answers."""
    from tests.k8s.picture import draw

    dashboard = json.loads((K8S / "components" / "monitoring" / "okamochi.json").read_text())
    now = time.time()
    figure = draw(
        prometheus, dashboard, start=now - 60, end=now, step=1, rate_interval="1m", models="iris|linear"
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        panel["title"] for panel in dashboard["panels"]
    ]
    for axes in figure.axes:
        lines = [line for line in axes.lines if not np.isnan(np.asarray(line.get_ydata(), float)).all()]
        assert lines or axes.texts, f"{axes.get_title(loc='left')} is empty"
    figure.savefig(tmp_path / "dashboard.png")


def test_the_picture_in_the_docs_says_what_it_is() -> None:
    picture = CHECKOUT / "docs" / "dashboard.png"
    assert picture.stat().st_size < 300_000
    assert re.search(r"!\[[^]]*not a screenshot of Grafana[^]]*\]\(dashboard.png\)", PAGE)


@pytest.mark.deep
def test_a_prometheus_that_scrapes_during_a_restart_sees_no_error(
    program: Callable[[str], str], rules: Object, tmp_path: Path
) -> None:
    """A worker that is killed resets nothing, a server that starts anew begins at nothing; no alert fires."""
    binary, port = program("prometheus"), free_port()
    prepare(tmp_path / "server", {"iris": (artifacts.iris(tmp_path / "iris").path, "1")})
    url, series = f"http://127.0.0.1:{port}", 'okamochi_requests_total{model="iris",status="200"}'

    def predicted(seconds: float) -> int:
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            try:
                with httpx.Client(base_url=url) as client:
                    body = {"features": [[5.1, 3.5, 1.4, 0.2]]}
                    count += client.post("/predict", json=body, timeout=PATIENCE_S).status_code == 200
            except httpx.TransportError:  # while nobody listens
                pass
            time.sleep(0.02)
        return count

    with prometheus_of(binary, tmp_path, {"okamochi-0": url}, rules) as prometheus:
        with bento_server(tmp_path / "server", port=port) as server:
            before = predicted(4)
            (worker,) = workers(server)
            worker.kill()
            before += predicted(10)
            time.sleep(2.5)
            ((found),) = answer(prometheus.url, series)
            assert before - 1 <= float(found["value"][1]) <= before + 1, "the killed worker's counts are gone"
            assert answer(prometheus.url, f"resets({series}[1m])")[0]["value"][1] == "0"
        time.sleep(2)
        with bento_server(tmp_path / "server", port=port):
            after = predicted(4)
            time.sleep(2.5)
            assert float(answer(prometheus.url, series)[0]["value"][1]) == after
            assert answer(prometheus.url, f"resets({series}[2m])")[0]["value"][1] == "1"
            assert answer(prometheus.url, 'min_over_time(up{job="okamochi"}[2m])')[0]["value"][1] == "0"
            (bad,) = answer(prometheus.url, "okamochi:unavailable:ratio_rate5m")
            assert float(bad["value"][1]) == 0
            fired = answer(prometheus.url, 'count_over_time(ALERTS{alertstate="firing"}[2m])')
            assert not fired
        said = prometheus.log.read_text()
        assert "Append failed" not in said
        assert "level=error" not in said
