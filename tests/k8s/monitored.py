"""A real server, and a real Prometheus that scrapes it as the operator's would."""

from __future__ import annotations

import urllib.parse
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from tests.servers import PATIENCE_S, Server, free_port, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.k8s.rendering import Object

NAMESPACE = "okamochi"


@contextmanager
def prometheus_of(
    binary: str, folder: Path, targets: Mapping[str, str], rules: Object, *, every: str = "1s"
) -> Iterator[Server]:
    """A Prometheus of servers, by pod name and URL, with our rules looked at as often as they are scraped."""
    groups = [{**group, "interval": every} for group in rules["groups"]]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    pods = [
        {
            "targets": [urllib.parse.urlsplit(url).netloc],
            "labels": {"namespace": NAMESPACE, "pod": pod},
        }
        for pod, url in targets.items()
    ]
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": "1s", "evaluation_interval": every},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "okamochi", "static_configs": pods}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        *(binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    url = f"http://127.0.0.1:{port}"
    with started(command, url=url, ready="/-/ready", log=folder / "prometheus.log") as found:
        yield found


def answer(url: str, query: str) -> list[Any]:
    """What Prometheus says now, but for NaN."""
    found = httpx.get(f"{url}/api/v1/query", params={"query": query}).json()
    assert found["status"] == "success", f"{query}: {found}"
    result = found["data"]["result"]
    return [each for each in result if each["value"][1] != "NaN"]


def answer_over(url: str, query: str, start: float, end: float, step: float) -> list[Any]:
    """The series of a query from `start` to `end`."""
    asked = {"query": query, "start": str(start), "end": str(end), "step": str(step)}
    found = httpx.get(f"{url}/api/v1/query_range", params=asked, timeout=PATIENCE_S).json()
    assert found["status"] == "success", f"{query}: {found}"
    result: list[Any] = found["data"]["result"]
    return result


def filled_in(query: str, *, rate_interval: str = "5m", models: str = "iris|linear") -> str:
    """A query of the dashboard with what Grafana would put for its variables."""
    for name, value in {
        "$__rate_interval": rate_interval,
        "$namespace": NAMESPACE,
        "$model": models,
    }.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query
