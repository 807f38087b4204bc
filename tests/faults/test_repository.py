"""A real server of two workers: models are loaded and unloaded by order.

A worker that is killed is replaced by one that serves what the other serves, whatever models.lock says
by then.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests import bento_server
from tests.faults.swaps import Swapping, swapping, under_load
from tests.faults.wire import one, request, workers
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.wire import Reply

LINEAR = request("/models/linear/predict", b'{"x": 10}')
IRIS = request("/models/iris/predict", b'{"features": [[5, 3, 1, 0]]}')
ENOUGH = 24
"""Connections: with so many, some reach each of the workers."""


@pytest.fixture(scope="module")
def swap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swapping]:
    folder = tmp_path_factory.mktemp("repository")
    iris = artifacts.iris(folder / "iris").path
    settings = {"OKAMOCHI_WORKERS": "2", "OKAMOCHI_WATCH_S": "1"}
    with swapping(folder, settings=settings, others={"iris": iris}) as found:
        yield found


@pytest.fixture(autouse=True)
def _as_at_first(swap: Swapping) -> None:
    """Version 1 of both models is served."""
    swap.declare("1", "iris")
    with triton.InferenceServerClient(swap.server.url.partition("//")[2]) as own:
        for name in ("linear", "iris"):
            own.load_model(name)
    settled(swap, {"linear": "1", "iris": "1"})


@pytest.fixture
def client(swap: Swapping) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(swap.server.url.partition("//")[2]) as found:
        yield found


def replies(swap: Swapping, asked: bytes) -> list[Reply]:
    """Replies of both workers."""
    return [one(swap.server, asked) for _ in range(ENOUGH)]


def statuses(swap: Swapping, asked: bytes) -> set[int]:
    return {reply.status for reply in replies(swap, asked)}


def versions(swap: Swapping) -> set[str]:
    found = replies(swap, LINEAR)
    assert {reply.status for reply in found} == {200}, found
    return {json.loads(reply.body)["version"] for reply in found}


def settled(swap: Swapping, live: dict[str, str]) -> None:
    """Until each worker serves exactly this."""
    swap.until(lambda: all(swap.live() == live for _ in range(ENOUGH)), f"not all serve {live}")


def replace_a_worker(swap: Swapping) -> None:
    """Kill one, and wait until another one serves."""
    told = swap.folder / "bentoml" / "prometheus_multiproc_dir" / "okamochi"
    old, other = workers(swap.server)
    old.kill()

    def replaced() -> bool:
        now = [worker.pid for worker in workers(swap.server)]
        return old.pid not in now and len(now) == 2 and all((told / f"worker-{pid}").exists() for pid in now)

    swap.until(replaced, "the killed worker is not replaced")
    assert other.is_running()


def test_tritons_client_loads_and_unloads_in_all_workers(
    swap: Swapping, client: triton.InferenceServerClient
) -> None:
    """When its call returns, each worker has done it; a worker that is replaced does the same."""
    assert "model_repository" in client.get_server_metadata()["extensions"]
    found = {(each["name"], each["version"]): each["state"] for each in client.get_model_repository_index()}
    assert found == {
        ("linear", "1"): "READY",
        ("linear", "2"): "UNAVAILABLE",
        ("linear", "3"): "UNAVAILABLE",
        ("iris", "1"): "READY",
    }
    client.unload_model("linear")
    assert statuses(swap, LINEAR) == {404}
    assert statuses(swap, IRIS) == {200}
    assert not client.is_model_ready("linear")
    replace_a_worker(swap)
    assert statuses(swap, LINEAR) == {404}
    assert statuses(swap, IRIS) == {200}
    client.load_model("linear")
    assert versions(swap) == {"1"}

    client.load_model("linear", config='{"version_policy": {"specific": {"versions": ["3"]}}}')
    assert versions(swap) == {"3"}
    replace_a_worker(swap)
    assert versions(swap) == {"3"}
    swap.declare("2", "iris")
    settled(swap, {"linear": "2", "iris": "1"})
    with pytest.raises(InferenceServerException, match=r"models.lock does not name 'nobody'"):
        client.load_model("nobody")
    with pytest.raises(InferenceServerException, match="no version '9'"):
        client.load_model("linear", config='{"version_policy": {"specific": {"versions": [9]}}}')
    lock = swap.lock.read_text()
    assert lock == f"{swap.lines['2']}\n{swap.lines['iris']}\n"


def test_the_other_model_loses_nothing_while_one_is_unloaded_and_loaded(
    swap: Swapping,
) -> None:
    def work() -> None:
        with triton.InferenceServerClient(swap.server.url.partition("//")[2]) as own:
            for _ in range(5):
                own.unload_model("iris")
                assert statuses(swap, IRIS) == {404}
                own.load_model("iris")
                assert statuses(swap, IRIS) == {200}

    load = asyncio.run(under_load(swap.server, work))
    assert not load.wrong, load.wrong[:5]
    assert len(load.seconds) > 100


@pytest.mark.parametrize("fault", ["half-written", "deleted"])
def test_a_worker_that_starts_while_the_file_is_broken_serves_what_the_other_serves(
    swap: Swapping, fault: str
) -> None:
    """And follows the file as soon as it is whole."""
    swap.declare("2", "iris")
    settled(swap, {"linear": "2", "iris": "1"})
    if fault == "deleted":
        swap.lock.unlink()
    else:
        swap.lock.write_text(swap.lines["1"][:12])
    swap.until(lambda: swap.reason(None), "the file is followed")
    replace_a_worker(swap)
    assert versions(swap) == {"2"}
    assert statuses(swap, IRIS) == {200}
    assert statuses(swap, request("/readyz", method="GET")) == {200}
    swap.until(lambda: all(swap.reason(None) for _ in range(ENOUGH)), "a worker does not say why")
    swap.declare("3", "iris")
    settled(swap, {"linear": "3", "iris": "1"})


def test_a_worker_that_starts_while_a_version_is_refused_serves_the_one_that_the_other_serves(
    swap: Swapping,
) -> None:
    """And is ready, says why, and follows the file when it names a version that can be served."""
    swap.declare("2", "iris")
    settled(swap, {"linear": "2", "iris": "1"})
    swap.lines["9"] = "linear okamochi-linear:9-000000000000"
    swap.declare("9", "iris")
    swap.until(lambda: all(swap.reason("linear") for _ in range(ENOUGH)), "not refused by both")
    replace_a_worker(swap)
    assert versions(swap) == {"2"}
    assert statuses(swap, request("/readyz", method="GET")) == {200}
    assert all("no okamochi-linear:9" in swap.reason("linear") for _ in range(ENOUGH))
    swap.declare("3", "iris")
    settled(swap, {"linear": "3", "iris": "1"})


def test_a_canary_is_stopped_in_all_workers_by_what_all_have_seen(swap: Swapping) -> None:
    """And stays stopped in a worker that is replaced, with the same reason."""
    swap.lines["canary"] = f"{swap.lines['3']} canary=50"
    swap.declare("1", "canary", "iris")
    swap.until(
        lambda: all(len(swap.models()["models"][0]["beside"]) == 1 for _ in range(ENOUGH)), "no canary"
    )

    def reasons() -> set[str | None]:
        return {swap.models()["models"][0]["beside"][0]["stopped"] for _ in range(ENOUGH)}

    def stopped() -> bool:
        if any("its scores differ" in str(reason) for reason in reasons()):
            return True
        for x in range(20):
            assert one(swap.server, request("/predict", b'{"x": %d}' % (5 + x % 9))).status == 200
        return False

    swap.until(stopped, "the canary is not stopped")
    swap.until(lambda: len(reasons()) == 1 and None not in reasons(), "only one worker has stopped it")
    before = reasons()
    replace_a_worker(swap)
    assert reasons() == before
    assert versions(swap) == {"1"}


def test_a_server_that_starts_serves_what_the_file_names(tmp_path: Path) -> None:
    """Orders end with the server."""
    with swapping(tmp_path, versions=(1, 2)) as first:
        with triton.InferenceServerClient(first.server.url.partition("//")[2]) as own:
            own.unload_model("linear")
        assert one(first.server, LINEAR).status == 404
        assert one(first.server, request("/readyz", method="GET")).status == 503
    with bento_server.bento_server(first.folder) as again:
        assert json.loads(one(again, LINEAR).body)["version"] == "1"
