"""Starting, failing to start, and what the processes of a server hold and count."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.bento import WORKERS_EVERY_S, due
from tests.bento_server import bento_server, environment, prepare
from tests.servers import CHECKOUT, PATIENCE_S, free_port
from tests.serving.conftest import VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server
    from tests.serving.artifacts import Made

pytestmark = pytest.mark.deep


def workers(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


@pytest.fixture(scope="module")
def two_workers(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers, ONNX models only; the second of the lock is the default."""
    folder = tmp_path_factory.mktemp("two") / "work"
    prepare(folder, {name: (made[name].path, VERSIONS[name]) for name in ("linear", "iris", "forest")})
    settings = {"OKAMOCHI_WORKERS": "2", "OKAMOCHI_MODELS": "iris,linear"}
    with bento_server(folder, settings=settings) as server:
        yield server


def samples(server: Server, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric by their label values, in the order of the labels' names."""
    text = httpx.get(server.url + "/metrics").text
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_the_models_of_the_setting_are_served_in_its_order(two_workers: Server) -> None:
    found = httpx.get(two_workers.url + "/models").json()
    assert [model["name"] for model in found["models"]] == ["iris", "linear"]
    assert found["default"] == "iris"


def loaded_maps(worker: psutil.Process) -> list[str]:
    """The files that a worker maps, once it has opened its models: after a kill it may just be starting."""
    for _ in range(2_000):
        maps = [entry.path for entry in worker.memory_maps()]
        if any("onnxruntime" in path for path in maps):
            return maps
        time.sleep(0.1)
    raise AssertionError("the worker maps no onnxruntime")


def test_a_worker_of_onnx_models_maps_nothing_of_training(two_workers: Server) -> None:
    running = workers(two_workers)
    assert len(running) == 2
    for worker in running:
        maps = loaded_maps(worker)
        for heavy in ("sklearn", "pandas", "scipy", "mlflow", "pyarrow"):
            assert not [path for path in maps if f"/{heavy}/" in path]


def test_a_worker_of_onnx_models_is_within_160_mb(two_workers: Server) -> None:
    for worker in workers(two_workers):
        assert worker.memory_full_info().pss < 160e6


def test_the_parent_process_maps_no_runtime(two_workers: Server) -> None:
    maps = [entry.path for entry in psutil.Process(two_workers.process.pid).memory_maps()]
    assert not [path for path in maps if "onnxruntime" in path or "/sklearn/" in path]


def test_the_metrics_of_two_workers_add_up_to_what_was_sent(two_workers: Server) -> None:
    def count(name: str) -> dict[tuple[str, ...], float]:
        return samples(two_workers, name)

    requests, rows, seconds = (
        count("okamochi_requests_total"),
        count("okamochi_batch_rows_sum"),
        count("okamochi_request_seconds_count"),
    )

    def one(i: int) -> int:
        # A connection each, so that both workers get some.
        body: dict[str, Any] = {"features": [[5.1, 3.5, 1.4, 0.2]] * 3} if i % 3 else {"features": []}
        return client.post("/predict", json=body, headers={"Connection": "close"}).status_code

    with httpx.Client(base_url=two_workers.url) as client, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(one, range(300)))
    assert (statuses.count(200), statuses.count(422)) == (200, 100)
    after = count("okamochi_requests_total")

    def grown(before: dict[tuple[str, ...], float], now: dict[tuple[str, ...], float], *key: str) -> float:
        return now[key] - before.get(key, 0)

    assert grown(requests, after, "predict", "iris", "200") == 200
    assert grown(requests, after, "predict", "iris", "422") == 100
    assert grown(rows, count("okamochi_batch_rows_sum"), "iris", VERSIONS["iris"]) == 600
    assert grown(seconds, count("okamochi_request_seconds_count"), "predict", "iris") == 300


def test_model_info_has_version_and_runtime(two_workers: Server) -> None:
    found = httpx.get(two_workers.url + "/metrics").text
    assert 'okamochi_model_info{model="iris",runtime="onnx",version="12"} 1.0' in found


def test_labels_stay_bounded_whatever_the_client_sends(two_workers: Server) -> None:
    with httpx.Client(base_url=two_workers.url) as client:
        for i in range(100):
            client.get(f"/random/{i}")
            client.post(f"/models/{i}/predict")
            client.get(f"/static_content/{i}.js")
            client.request(f"METHOD{i}", "/predict")
        text = client.get("/metrics").text
    assert "random" not in text
    assert "METHOD" not in text
    assert len(text) < 60_000


def test_a_killed_worker_comes_back_and_its_gauges_go(two_workers: Server) -> None:
    before = {worker.pid for worker in workers(two_workers)}
    victim = workers(two_workers)[0]
    folder = Path(victim.environ()["PROMETHEUS_MULTIPROC_DIR"])
    victim.kill()
    victim.wait(PATIENCE_S)
    while len(running := {worker.pid for worker in workers(two_workers)}) < 2:
        time.sleep(0.05)
    assert running != before
    new = (running - before).pop()
    end = time.monotonic() + PATIENCE_S
    while list(folder.glob(f"gauge_live*_{victim.pid}.db")):  # the new worker drops them when it starts
        assert psutil.pid_exists(new)
        assert time.monotonic() < end, "its gauges stay"
        time.sleep(0.05)
    assert httpx.post(two_workers.url + "/predict", json={"features": [[5, 3, 1, 0]]}).status_code == 200


def test_the_metrics_still_add_up_after_a_worker_was_killed_while_idle(two_workers: Server) -> None:
    """What it had counted is not lost with it, nor counted twice by the worker that takes its place."""

    def send(count: int) -> None:
        body = {"features": [[5.1, 3.5, 1.4, 0.2]]}
        with (
            httpx.Client(base_url=two_workers.url, timeout=PATIENCE_S) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            ask = lambda _: client.post("/predict", json=body, headers={"Connection": "close"}).status_code  # noqa: E731
            assert set(pool.map(ask, range(count))) == {200}

    def counts() -> list[float]:
        return [
            samples(two_workers, "okamochi_requests_total").get(("predict", "iris", "200"), 0.0),
            samples(two_workers, "okamochi_request_seconds_count").get(("predict", "iris"), 0.0),
            samples(two_workers, "okamochi_batch_rows_sum").get(("iris", VERSIONS["iris"]), 0.0),
        ]

    before = counts()
    send(200)
    sent = [count + 200 for count in before]
    assert counts() == sent
    victim = workers(two_workers)[0]
    victim.kill()
    victim.wait(PATIENCE_S)
    for _ in range(2_000):
        running = workers(two_workers)
        if len(running) == 2 and all(loaded_maps(worker) for worker in running):
            break
        time.sleep(0.1)
    assert counts() == sent
    send(100)
    assert counts() == [count + 100 for count in sent]
    assert samples(two_workers, "okamochi_queue_rows")["iris", VERSIONS["iris"]] == 0


# ---- starts that fail


def serve(folder: Path, **settings: str) -> tuple[int, str]:
    """Exit code and output of a `bentoml serve` that should end by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "--port", str(free_port())],
        cwd=folder,
        env={**os.environ, **environment(folder), **settings},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_without_a_model_the_server_does_not_start_and_says_what_to_do(tmp_path: Path) -> None:
    prepare(tmp_path / "work", {})
    code, output = serve(tmp_path / "work")
    assert code != 0
    assert "make bundle" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OKAMOCHI_MODELS", "wine", "only iris"),
        ("OKAMOCHI_WORKERS", "many", "OKAMOCHI_WORKERS='many'"),
        ("OKAMOCHI_HASH_KEY", "key \udcff", "OKAMOCHI_HASH_KEY holds bytes that are not UTF-8"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=\udcff",
            "OTEL_EXPORTER_OTLP_HEADERS holds bytes that are not UTF-8",
        ),
    ],
)
def test_a_wrong_setting_stops_the_start_with_a_sentence(
    made: dict[str, Made], tmp_path: Path, variable: str, value: str, says: str
) -> None:
    prepare(tmp_path / "work", {"iris": (made["iris"].path, "1")})
    code, output = serve(tmp_path / "work", **{variable: value})
    assert code != 0
    assert says in output
    assert "Traceback" not in output


def test_a_damaged_model_in_the_store_keeps_the_server_from_ready(
    made: dict[str, Made], tmp_path: Path
) -> None:
    """Liveness stays, so that an operator can ask; readiness and the log have the reason."""
    folder = tmp_path / "work"
    prepare(folder, {name: (made[name].path, "1") for name in ("iris", "linear")})
    stored = next((folder / "bentoml" / "models" / "okamochi-iris").rglob("model.onnx"))
    stored.write_bytes(stored.read_bytes()[:-100])
    with bento_server(folder, ready="/livez") as server:
        ready = httpx.get(server.url + "/readyz")
        assert ready.status_code == 503
        assert "model.onnx" in ready.json()["detail"]
        assert httpx.post(server.url + "/predict", json={"features": [[1, 2, 3, 4]]}).status_code == 503
        assert httpx.post(server.url + "/models/linear/predict", json={"x": 1}).status_code == 200
        assert "model iris" in server.log.read_text()
        told = httpx.get(server.url + "/metrics").text
        assert 'okamochi_model_refused{model="iris"} 1.0' in told
        assert 'okamochi_model_refused{model="linear"} 0.0' in told


def test_the_service_fits_on_a_screen() -> None:
    assert len((CHECKOUT / "service.py").read_text().splitlines()) <= 40


@pytest.mark.parametrize(
    ("died", "since_s", "expected"),
    [
        pytest.param([], 0.5, False, id="all live"),
        pytest.param([3600.0], 0.5, True, id="one that had served: at once"),
        pytest.param([4.0], 0.5, False, id="one that cannot start: not yet"),
        pytest.param([4.0, 3600.0], 0.5, True, id="both"),
        pytest.param([4.0], 10.0, True, id="one that cannot start: after ten seconds"),
    ],
)
def test_a_dead_worker_is_replaced_at_once_unless_it_had_just_begun(
    died: list[float], since_s: float, expected: bool
) -> None:
    """Or one that cannot start would be started over and over."""
    assert due(died, since_s) is expected


def test_bentoml_takes_the_parent_that_looks_often(two_workers: Server) -> None:
    """What it makes when it starts the workers of a service that was loaded, as it is installed here."""
    process = psutil.Process(two_workers.process.pid)
    code = (
        "import service\n"
        "from bentoml._internal.utils.circus import create_standalone_arbiter\n"
        "parent = create_standalone_arbiter([])\n"
        "print(type(parent).__module__, parent.check_delay, parent.manage_watchers())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=process.cwd(),
        env=process.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["serving.bento", str(WORKERS_EVERY_S), "None"], done.stderr
