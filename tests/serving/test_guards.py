"""What is used of libraries' private names is there; where it is not, a sentence says what stops working."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client import CollectorRegistry, Histogram

from serving import guards
from serving.guards import GUARDS, Guard, missing, sentence
from serving.observe import metrics
from tests.bento_server import bento_server, environment, prepare
from tests.servers import PATIENCE_S, free_port
from tests.serving.conftest import VERSIONS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.artifacts import Made

USES = [(guard, use) for guard in GUARDS for use in guard.uses]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.library}: {guard.without}")
def test_the_installed_libraries_have_all_of_it(guard: Guard) -> None:
    assert missing(guard) == ""


@pytest.mark.parametrize(("guard", "use"), USES, ids=[use for _, use in USES])
def test_each_name_is_missed_where_a_release_has_another(guard: Guard, use: str) -> None:
    renamed = re.sub(r"(\w)(\W*)$", r"\1_as_renamed\2", use)
    assert renamed != use
    assert missing(guard._replace(uses=(*guard.uses[:1], renamed))) == renamed


def test_a_module_that_is_gone_and_a_library_that_is_not_installed_are_named() -> None:
    guard = Guard("no-such-library", ("no_such_library.inner:thing",), "nothing works")
    assert missing(guard) == "no_such_library.inner:thing"
    assert sentence(guard, missing(guard)) == (
        "no-such-library (not installed) has no no_such_library.inner:thing: nothing works"
    )


def test_a_method_that_is_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol.send_400_response"
    monkeypatch.delattr(name)
    assert missing(guards.UVICORN).endswith("HttpToolsProtocol.send_400_response")


def test_histograms_count_the_same_one_value_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for in_one_step in (True, False):
        monkeypatch.setattr(metrics, "_IN_ONE_STEP", in_one_step)
        registry = CollectorRegistry()
        histogram = Histogram("h", "", ["model"], buckets=metrics.ROWS, registry=registry)
        values = metrics._Values(metrics.ROWS, histogram.labels("iris"), histogram.labels("wine"))
        values.values += [1, 3, 3, 20_000]
        assert values.flush() == 4
        assert values.values == []
        (family,) = registry.collect()
        found.append([(s.name, s.labels, s.value) for s in family.samples if not s.name.endswith("_created")])
    assert found[0] == found[1]


LACKING = """
from serving import guards

guards.missing = lambda guard: "" if guard is guards.BENTOML else "such thing"
"""


def test_a_server_serves_without_each_of_them_and_says_what_does_not_work(
    made: dict[str, Made], tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    prepare(folder, {"iris": (made["iris"].path, VERSIONS["iris"])})
    service = folder / "service.py"
    service.write_text(LACKING + service.read_text())
    settings = {"OKAMOCHI_GRPC_PORT": str(free_port())}
    with bento_server(folder, settings=settings) as server, httpx.Client(base_url=server.url) as client:
        for _ in range(20):
            reply = client.post("/predict", json={"features": [[5.1, 3.5, 1.4, 0.2]]})
            assert (reply.status_code, reply.json()["prediction"]) == (200, ["setosa"])
        counts = client.get("/metrics").text
        assert 'okamochi_requests_total{endpoint="predict",model="iris",status="200"} 20.0' in counts
        assert 'okamochi_request_seconds_count{endpoint="predict",model="iris"} 20.0' in counts
        assert 'okamochi_lane_requests_total{lane="gateway"}' in counts
        assert 'okamochi_lane_requests_total{lane="express"} 0.0' in counts
        log = server.log.read_text()
    for guard in GUARDS[1:]:
        assert sentence(guard, "such thing") in log
    told = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert not [line for line in told if line["level"] == "error"]


def test_a_bentoml_that_no_server_can_be_made_of_stops_the_start_with_a_sentence(
    made: dict[str, Made], tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    prepare(folder, {"iris": (made["iris"].path, VERSIONS["iris"])})
    service = folder / "service.py"
    lacking = 'import serving.guards as guards\nguards.missing = lambda guard: "Service.to_asgi"\n'
    service.write_text(lacking + service.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "--port", str(free_port())],
        cwd=folder,
        env=environment(folder) | {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode != 0
    assert "has no Service.to_asgi: no server can start" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
