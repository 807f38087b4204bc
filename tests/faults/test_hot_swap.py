"""models.lock changes under a server that runs: a new version goes live, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.conftest import FULL
from tests.faults.swaps import Swapping, swapping, under_load
from tests.faults.wire import connect, one, open_to, read_reply, request, rest_of, workers
from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

    import psutil


@pytest.mark.parametrize("workers", [1, 2])
def test_versions_are_swapped_under_load_and_no_answer_is_lost_or_of_another_version(
    tmp_path: Path, figures: dict[str, Any], workers: int
) -> None:
    """On both lanes and in every protocol, in each worker."""
    swaps = 20 if FULL else 6
    with swapping(tmp_path, settings={"OKAMOCHI_WORKERS": str(workers)}) as swap:

        def work() -> None:
            for i in range(swaps):
                version = str(1 + (i + 1) % 3)
                swap.declare(version)
                for _ in range(5 * workers):  # each from a connection of its own, so from any worker
                    swap.wait(linear=version)

        load = asyncio.run(under_load(swap.server, work))
        assert not load.wrong, load.wrong[:5]
        assert set(load.answered) == {"1", "2", "3"}
        figures[f"swapped_under_load_{workers}"] = {"swaps": swaps, "answered": len(load.seconds), "lost": 0}


def test_20_swaps_under_full_load_keep_the_latency(tmp_path: Path, figures: dict[str, Any]) -> None:
    """64 clients; `make faults` compares their 99th percentile with that of clients without swaps."""
    count, seconds = (20, 20) if FULL else (2, 1)
    with swapping(tmp_path, settings={"OKAMOCHI_WATCH_S": "1"}) as swap:
        (worker,) = workers(swap.server)

        def swaps() -> None:
            for i in range(count):
                version = str(1 + (i + 1) % 3)
                swap.declare(version)
                swap.wait(linear=version)
                time.sleep(seconds / 10)

        asyncio.run(under_load(swap.server, lambda: time.sleep(seconds / 4), connections=64))
        memory = worker.memory_full_info().uss
        calm = asyncio.run(under_load(swap.server, lambda: time.sleep(seconds), connections=64))
        load = asyncio.run(under_load(swap.server, swaps, connections=64))
        ratio = load.p99() / calm.p99()
        grown = worker.memory_full_info().uss - memory
        figures["swaps_under_full_load"] = {
            "answered": len(load.seconds),
            "lost": len(load.wrong),
            "p99_ratio": round(ratio, 2),
            "grown_mb": round(grown / 1e6, 2),
        }
        assert not load.wrong, load.wrong[:5]
        assert grown < 10e6
        if FULL:
            assert len(load.seconds) >= 100_000
            assert ratio <= 2


def held(worker: psutil.Process) -> tuple[int, int, int]:
    """Threads, descriptors and child processes of a worker."""
    return worker.num_threads(), worker.num_fds(), len(worker.children(recursive=True))


def no_more(now: tuple[int, ...], before: tuple[int, ...]) -> bool:
    return all(found <= was for found, was in zip(now, before, strict=True))


@pytest.mark.parametrize("runtime", ["onnx", "python"])
def test_swaps_in_a_row_leave_nothing_open(tmp_path: Path, figures: dict[str, Any], runtime: str) -> None:
    """No thread, descriptor or process; the allocator's memory stops growing."""
    first, swaps = {"onnx": (10, 200 if FULL else 20), "python": (2, 20 if FULL else 3)}[runtime]
    with swapping(tmp_path, runtime=runtime) as swap:
        (worker,) = workers(swap.server)

        def work(count: int) -> None:
            for i in range(count):
                version = str(1 + (i + 1) % 3)
                swap.declare(version)
                swap.wait(linear=version)
            swap.declare("1")
            swap.wait(linear="1")

        processes = {"onnx": 0, "python": 2}[runtime]  # the one that holds the model, and the one that scores
        work(first)
        swap.until(lambda: held(worker)[2] == processes, "the process of an old version stays")
        before, memory = held(worker), worker.memory_full_info().uss
        work(swaps)
        swap.until(lambda: no_more(held(worker), before), f"more is open than {before}")
        grown = worker.memory_full_info().uss - memory
        assert grown < 10e6
        figures[f"swaps_in_a_row_{runtime}"] = {"swaps": swaps, "grown_mb": round(grown / 1e6, 2)}


def test_requests_under_way_end_on_the_version_that_they_began_with(tmp_path: Path) -> None:
    """One whose body is still to come when another version goes live, on a connection of its own."""
    with swapping(tmp_path) as swap, connect(swap.server) as slow:
        whole = request("/models/linear/predict?gateway", b'{"x": 7}', "Connection: close")
        slow.sendall(whole[:-3])
        swap.until(lambda: swap.live() == {"linear": "1"}, "the server does not answer")
        swap.declare("2")
        swap.wait(linear="2")
        time.sleep(1.0)  # some looks, each of which might close the old version
        slow.sendall(whole[-3:])
        found = json.loads(rest_of(slow).partition(b"\r\n\r\n")[2])
        assert (round(found["prediction"]), found["version"]) == (7, "1")


def test_a_server_that_is_ended_during_swaps_loses_no_request(tmp_path: Path) -> None:
    """SIGTERM while versions change: what was begun is answered, and the server ends."""
    with swapping(tmp_path) as swap:
        seen = asyncio.run(_asked_until_ended(swap))
        assert seen[:3] == ["2", "3", "1"]
        assert swap.server.process.wait(timeout=PATIENCE_S) in (0, -signal.SIGTERM)
        assert "Traceback" not in swap.server.log.read_text()


async def _asked_until_ended(swap: Swapping) -> list[str]:
    """Ask until the server, which gets SIGTERM, closes each connection between two replies.

    Each version is declared once the one before it has answered, and the signal comes right behind the
    fourth, which the server then opens.
    """
    seen: list[str] = []
    swapped = asyncio.Event()
    swap.declare("2")

    async def client(x: int) -> None:
        reader, writer = await open_to(swap.server)
        while True:
            writer.write(request("/predict", b'{"x": %d}' % x))
            try:
                reply = await read_reply(reader)
            except ConnectionError:
                return
            said = json.loads(reply.body)
            assert reply.status == 200, reply
            assert abs(said["prediction"] - x * int(said["version"])) < 0.01, said
            if said["version"] == str(1 + (len(seen) + 1) % 3):  # the one that was declared last
                seen.append(said["version"])
                swap.declare(str(1 + (len(seen) + 1) % 3))
                if len(seen) == 3:
                    swapped.set()

    clients = asyncio.gather(*(client(x) for x in range(16)))
    await asyncio.wait_for(swapped.wait(), PATIENCE_S)
    swap.server.process.send_signal(signal.SIGTERM)
    await clients
    return seen


def test_a_version_that_the_store_lacks_or_has_damaged_is_refused_by_every_worker(tmp_path: Path) -> None:
    """The old one serves; a mended copy goes live without a change of the file."""
    with swapping(tmp_path, settings={"OKAMOCHI_WORKERS": "2"}) as swap:
        stored = swap.folder / "bentoml" / "models" / swap.lines["2"].split()[1].replace(":", "/")
        model = stored / "artifact" / "model.onnx"
        whole = model.read_bytes()
        model.write_bytes(whole[:-1])
        swap.declare("2")
        swap.until(lambda: swap.said("is refused") == 2, "not refused by both workers")
        assert swap.live() == {"linear": "1"}
        assert "model.onnx is damaged" in swap.reason("linear")
        assert one(swap.server, request("/readyz", method="GET")).status == 200
        text = one(swap.server, request("/metrics", method="GET")).body.decode()
        assert 'okamochi_new_version_refused{model="linear"} 1.0' in text
        time.sleep(1.0)  # five looks
        assert swap.said("is refused") == 2
        model.write_bytes(whole)
        for _ in range(10):
            swap.wait(linear="2")
        swap.lines["9"] = "linear okamochi-linear:9-000000000000"
        swap.declare("9")
        swap.until(
            lambda: "no okamochi-linear:9" in swap.reason("linear"), "an absent version is not refused"
        )
        swap.lock.write_text("")
        swap.until(lambda: "names no model" in swap.reason(None), "an empty file is not refused")
        assert swap.live() == {"linear": "2"}


def test_feedback_of_an_old_version_is_joined_to_it(tmp_path: Path) -> None:
    """Its rows are in the prediction log under its own version."""
    log = tmp_path / "log"
    with swapping(tmp_path / "server", settings={"OKAMOCHI_PREDICTION_LOG": str(log)}) as swap:
        old = json.loads(one(swap.server, request("/predict", b'{"x": 3}')).body)
        swap.declare("2")
        swap.wait(linear="2")
        new = json.loads(one(swap.server, request("/predict", b'{"x": 3}')).body)
        assert (old["version"], new["version"]) == ("1", "2")
        for said in (old, new):
            body = json.dumps({"id": said["id"], "actual": 3.5}).encode()
            assert one(swap.server, request("/feedback", body)).status == 200
    text = "".join(file.read_text() for file in log.rglob("*.jsonl*"))
    for said in (old, new):
        (line,) = [
            json.loads(each) for each in text.splitlines() if said["id"] in each and "prediction" in each
        ]
        assert line["version"] == said["version"]
