"""Swaps of a large model, during another swap, while the server ends, on a full and on a read-only disk."""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.conftest import FULL
from tests.faults.swaps import Swapping, swapping
from tests.faults.test_surroundings import mounts, small_disk
from tests.faults.wire import connect, one, open_to, read_reply, request, rest_of, workers
from tests.servers import PATIENCE_S
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psutil

__all__ = ["mounts"]  # the fixture

IRIS = request("/models/iris/predict", b'{"features": [[5.1, 3.5, 1.4, 0.2]]}')
LINEAR = request("/models/linear/predict", b'{"x": 10}')
COPIES = 19 if FULL else 2
"""Of the forest: a file of 200 MB for `make faults`, of 20 MB for `make test-deep`."""

LOOK_S = 0.5
"""Between two looks whether a version is live: they hold up the clients, which share this process."""


async def asked_while(swap: Swapping, work: Callable[[], None], clients: int = 16) -> list[float]:
    """The seconds that each answer of the small model took, until `work` has ended."""
    seconds: list[float] = []
    ended = False

    async def client() -> None:
        reader, writer = await open_to(swap.server)
        while not ended:
            began = time.perf_counter()
            writer.write(IRIS)
            reply = await read_reply(reader)
            seconds.append(time.perf_counter() - began)
            assert (reply.status, b"setosa" in reply.body) == (200, True), reply
        writer.close()

    running = [asyncio.create_task(client()) for _ in range(clients)]
    try:
        await asyncio.to_thread(work)
    finally:
        ended = True
        await asyncio.gather(*running)
    return seconds


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * len(seconds))]


def nice_of_threads(process: psutil.Process) -> list[int]:
    found = []
    for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
        try:
            found.append(int(stat.read_text().rpartition(")")[2].split()[16]))
        except OSError:  # the thread has ended
            continue
    return found


@contextmanager
def seen_nice(process: psutil.Process) -> Iterator[set[int]]:
    """The nice values that the threads of a process have meanwhile."""
    seen: set[int] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.005):
            seen.update(nice_of_threads(process))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere priorities are those of processes")
@pytest.mark.parametrize("runtime", ["onnx", "python"])
def test_a_version_is_opened_below_the_priority_of_requests(tmp_path: Path, runtime: str) -> None:
    """Nothing else gets that priority: neither the threads of the worker nor the process of a model."""
    of_onnx = runtime == "onnx"
    with swapping(tmp_path, runtime=runtime, copies=2 * of_onnx) as swap:
        (worker,) = workers(swap.server)
        own = worker.nice()
        with seen_nice(worker) as seen:
            swap.declare("2")
            swap.wait(linear="2")
        assert (max(seen) > own) == of_onnx, seen
        for process in (worker, *worker.children(recursive=True)):
            assert set(nice_of_threads(process)) == {own}


def test_a_large_model_is_swapped_beside_a_small_one(tmp_path: Path, figures: dict[str, Any]) -> None:
    """The small one loses no request. A version that comes while another is being opened stays in the end."""
    iris = artifacts.iris(tmp_path / "iris").path
    swaps = 6 if FULL else 2
    with swapping(tmp_path / "server", others={"iris": iris}, copies=COPIES) as swap:

        def swap_to(version: str) -> None:
            swap.declare(version, "iris")
            swap.wait(every_s=LOOK_S, linear=version, iris="1")

        def pause(seconds: float) -> None:
            """Look as often as somebody who waits for a version."""
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                swap.live()
                time.sleep(LOOK_S)

        def swap_over_a_swap() -> None:
            for version in "123":
                swap.declare(version, "iris")
                time.sleep(0.7)  # it is being opened
            swap.wait(linear="3", iris="1")

        swap.declare("1", "iris")
        swap.wait(linear="1", iris="1")
        calm, loaded, answered = [], [], 0
        for i in range(swaps):  # each with a pause of the same length, since other work of the machine varies
            began = time.monotonic()
            seconds = asyncio.run(asked_while(swap, lambda version=str(1 + (i + 1) % 3): swap_to(version)))
            took_s = time.monotonic() - began
            loaded.append(p99(seconds))
            answered += len(seconds)
            calm.append(p99(asyncio.run(asked_while(swap, lambda took_s=took_s: pause(took_s)))))
        ratio = statistics.median(loaded) / statistics.median(calm)
        size = sum(path.stat().st_size for path in (tmp_path / "server" / "v1").glob("model.onnx"))
        figures["large_model_swapped"] = {
            "mb": round(size / 1e6),
            "swaps": swaps,
            "answered": answered,
            "lost": 0,
            "p99_ratio": round(ratio, 2),
        }
        asyncio.run(asked_while(swap, swap_over_a_swap))
        said = json.loads(one(swap.server, LINEAR).body)
        assert (round(said["prediction"]), said["version"]) == (30, "3")

        swap.declare("1", "iris")
        time.sleep(0.7)
        swap.server.process.send_signal(signal.SIGTERM)  # while it is being opened
        assert swap.server.process.wait(timeout=PATIENCE_S) in (0, -signal.SIGTERM)
        assert "Traceback" not in swap.server.log.read_text()
    if FULL:
        assert ratio <= 2


def test_a_name_that_is_removed_answers_what_it_was_asked_and_then_404(tmp_path: Path) -> None:
    iris = artifacts.iris(tmp_path / "iris").path
    with swapping(tmp_path / "server", others={"iris": iris}) as swap:
        swap.declare("1", "iris")
        swap.wait(linear="1", iris="1")
        with connect(swap.server) as slow:
            whole = IRIS.replace(b"Host: h", b"Host: h\r\nConnection: close")
            slow.sendall(whole[:-3])
            swap.declare("1")
            swap.until(lambda: one(swap.server, IRIS).status == 404, "the removed name is served")
            slow.sendall(whole[-3:])
            received = rest_of(slow)
            assert b" 200 " in received.split(b"\r\n")[0]
            assert b"setosa" in received
        assert b"'iris'" in one(swap.server, IRIS).body
        assert one(swap.server, LINEAR).status == 200


def test_versions_are_swapped_on_a_full_disk(
    mounts: Callable[[str], list[str]],
    tmp_path: Path,
) -> None:
    """A swap writes nothing. An order of an administrator is written: it is refused and changes nothing."""
    home = tmp_path / "work" / "bentoml"
    with swapping(tmp_path, within=mounts(small_disk(home))) as swap:
        root = Path(f"/proc/{swap.server.process.pid}/root") / str(home).lstrip("/")
        fill = ["dd", "if=/dev/zero", f"of={root}/fill", "bs=4k"]
        subprocess.run(fill, stderr=subprocess.DEVNULL, check=False)
        with pytest.raises(OSError, match="No space left"):
            (root / "more").write_bytes(b"x" * 8_192)
        (worker,) = workers(swap.server)
        for version in ("2", "3"):
            swap.declare(version)
            swap.wait(linear=version)
        refused = one(swap.server, request("/v2/repository/models/linear/unload"))
        assert refused.status == 503
        assert b"No space left on device. Nothing has changed" in refused.body
        assert json.loads(one(swap.server, LINEAR).body)["version"] == "3"
        assert workers(swap.server) == [worker]


def test_versions_are_swapped_from_a_store_that_is_read_only(
    mounts: Callable[[str], list[str]],
    tmp_path: Path,
) -> None:
    """A version that the store lacks is refused."""
    store = tmp_path / "work" / "bentoml" / "models"
    only = f"mount --bind {store} {store}\nmount -o remount,bind,ro {store}"
    with swapping(tmp_path, within=mounts(only)) as swap:
        root = Path(f"/proc/{swap.server.process.pid}/root") / str(store).lstrip("/")
        with pytest.raises(OSError, match="Read-only"):
            (root / "more").write_bytes(b"x")
        for version in ("2", "3"):
            swap.declare(version)
            swap.wait(linear=version)
        swap.lines["9"] = "linear okamochi-linear:9-000000000000"
        swap.declare("9")
        swap.until(
            lambda: "no okamochi-linear:9" in swap.reason("linear"), "an absent version is not refused"
        )
        assert json.loads(one(swap.server, LINEAR).body)["version"] == "3"
        assert one(swap.server, request("/v2/repository/models/linear/unload")).status == 200
        assert one(swap.server, LINEAR).status == 404
