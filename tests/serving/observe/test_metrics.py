"""What is counted is what was answered."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
from prometheus_client import CollectorRegistry, Histogram

from serving.observe import metric_files, metrics
from tests.bento_server import bento_server, environment, prepare
from tests.servers import PATIENCE_S, free_port

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.serving.artifacts import Made


def test_requests_tallied_together_count_as_if_each_were_observed() -> None:
    """The bulk way into the histogram gives what `Histogram.observe` gives, on the bounds of buckets too."""
    seconds = [0.0, 0.0005, 0.00051, 0.003, *metrics.SECONDS, 9.99, 10.0, 99.0]
    registry = CollectorRegistry()
    single = Histogram("one", "by one", buckets=metrics.SECONDS, registry=registry)

    async def tally() -> None:
        observe = metrics.Observer("test")
        for i, value in enumerate(seconds):
            if i % 2:
                observe("tallied", "1", "predict", 200, value)
            else:
                observe("tallied", "1", "predict", 413, value, reason="too_many_rows")
        await asyncio.sleep(5 * metrics.FLUSH_S)

    asyncio.run(tally())
    for value in seconds:
        single.observe(value)
    expected = {
        (s.name.removeprefix("one"), s.labels.get("le")): s.value
        for s in next(iter(registry.collect())).samples
    }
    for histogram in (metrics.LATENCY, metrics.VERSION_LATENCY):
        found = {
            (s.name.removeprefix(histogram._name), s.labels.get("le")): s.value
            for s in next(iter(histogram.collect())).samples
            if s.labels["model"] == "tallied" and s.labels.get("version", "1") == "1"
        }
        for key, value in expected.items():
            if key[0] != "_created":
                assert abs(found[key] - value) < 1e-9, key
    answered = {
        s.labels["status"]: s.value
        for s in next(iter(metrics.REQUESTS.collect())).samples
        if s.labels["model"] == "tallied" and s.name.endswith("_total")
    }
    assert sum(answered.values()) == len(seconds)
    assert answered["413"] == (len(seconds) + 1) // 2
    rejected = {
        (s.labels["version"], s.labels["reason"]): s.value
        for s in next(iter(metrics.REJECTED.collect())).samples
        if s.labels["model"] == "tallied" and s.name.endswith("_total")
    }
    assert rejected == {("1", "too_many_rows"): answered["413"]}


def test_both_lanes_add_up_to_what_was_sent(made: dict[str, Made], tmp_path: Path) -> None:
    prepare(tmp_path / "work", {"iris": (made["iris"].path, "1")})
    row = {"features": [[5.1, 3.5, 1.4, 0.2]]}
    with bento_server(tmp_path / "work") as server, httpx.Client(base_url=server.url) as client:
        for i in range(150):
            client.post("/predict", json=row)
            client.post("/predict", json={"features": [[i]]}, params={"lane": "gateway"})
        text = client.get("/metrics").text
    counts = dict(
        re.findall(r"^(okamochi_(?:requests|lane_requests)_total{[^}]*}) (\S+)$", text, re.MULTILINE)
    )
    assert float(counts['okamochi_requests_total{endpoint="predict",model="iris",status="200"}']) == 150
    assert float(counts['okamochi_requests_total{endpoint="predict",model="iris",status="422"}']) == 150
    assert float(counts['okamochi_lane_requests_total{lane="express"}']) == 150
    assert float(counts['okamochi_lane_requests_total{lane="gateway"}']) >= 150


def test_a_file_of_metrics_is_never_seen_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Prometheus that scrapes while a worker starts would have 500: prometheus_client cannot read one."""
    take, seen = metric_files._take, []

    def looked_at(descriptor: int, size: int) -> None:
        seen.append(list(tmp_path.glob("*.db")))
        take(descriptor, size)

    monkeypatch.setattr(metric_files, "_take", looked_at)
    path = tmp_path / "counter_1.db"
    file = metric_files.AllocatedFile(str(path))
    file.write_value("a", 2.0, 0.0)  # type: ignore[no-untyped-call]
    assert seen == [[]]
    assert path.stat().st_blocks * 512 >= metric_files.FIRST_BYTES
    assert [key for key, *_ in metric_files.AllocatedFile.read_all_values_from_file(str(path))] == ["a"]  # type: ignore[no-untyped-call]
    assert [each.name for each in tmp_path.iterdir()] == ["counter_1.db"]


def test_two_servers_never_share_a_folder_of_metrics(made: dict[str, Made], tmp_path: Path) -> None:
    """BentoML empties it at start: the second is refused before that, and names the first."""
    folder = tmp_path / "work"
    prepare(folder, {"iris": (made["iris"].path, "1")})
    command = [sys.executable, "-m", "bentoml", "serve", "--port", str(free_port())]
    with bento_server(folder) as server, httpx.Client(base_url=server.url) as client:
        client.post("/predict", json={"features": [[5.1, 3.5, 1.4, 0.2]]})
        second = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment(folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert second.returncode != 0
        said = second.stdout + second.stderr
        assert f"process {server.process.pid}, in {folder}" in said
        assert "BENTOML_HOME" in said
        assert (
            'okamochi_requests_total{endpoint="predict",model="iris",status="200"} 1.0'
            in client.get("/metrics").text
        )
    with bento_server(folder) as server:  # the lock ends with its process
        assert httpx.get(server.url + "/readyz").status_code == 200
