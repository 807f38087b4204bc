"""The process of a model that is killed, stopped or frozen under load."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.faults.conftest import FULL
from tests.faults.wire import answers, one, request, workers
from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.servers import Server

    Serve = Callable[..., AbstractContextManager[Server]]

FRAGILE = request("/models/fragile/predict", b'{"features": [[5.1, 3.5, 1.4, 0.2]]}')
MAX_WORKER_MB = 160
LINEAR = request("/models/linear/predict", b'{"x": 4}')


@pytest.mark.parametrize("which", ["scorer", "keeper"])
def test_a_models_process_that_is_killed_under_load_costs_nobody_an_answer(
    serve: Serve, figures: dict[str, Any], which: str
) -> None:
    """Nor does a model in the worker notice. A scorer is back in milliseconds, a keeper in seconds."""
    count, kills = (20_000, 20) if FULL else (1_500, 3)

    async def check(server: Server) -> list[list[int]]:
        killed = asyncio.Event()

        async def load(each: bytes) -> list[int]:
            """Send at least `count` requests, and go on until the last kill."""
            statuses: list[int] = []
            while len(statuses) < count or not killed.is_set():
                replies = await answers(server, [each] * (count // 10), connections=16)
                statuses += [reply.status if reply else 0 for reply in replies]
            return statuses

        loads = [asyncio.create_task(load(each)) for each in (FRAGILE, LINEAR)]
        for _ in range(kills):
            await asyncio.sleep(0.3)
            for keeper in of_models(server):
                for process in keeper.children() if which == "scorer" else [*keeper.children(), keeper]:
                    process.send_signal(signal.SIGKILL)
        killed.set()
        return [await each for each in loads]

    with serve(models=("linear", "fragile")) as server:
        before = {keeper.pid for keeper in of_models(server)}
        assert before
        of_process, of_worker = asyncio.run(check(server))
        lost = sum(status != 200 for status in of_process)
        figures[f"model_{which}_killed"] = {"sent": len(of_process), "kills": kills, "lost": lost}
        assert set(of_worker) == {200}
        # While a keeper is started anew, which takes seconds, requests may pass their deadline.
        assert set(of_process) <= ({200} if which == "scorer" else {200, 429})
        assert not FULL or lost <= len(of_process) // 1_000
        assert one(server, FRAGILE).status == 200
        if which == "scorer":
            assert before == {keeper.pid for keeper in of_models(server)}
            end = time.monotonic() + PATIENCE_S
            while not (took := re.findall(r"was replaced in (\d+) ms", server.log.read_text())):
                assert time.monotonic() < end, "no line of the log tells of a process that was replaced"
                time.sleep(0.05)
            figures["model_scorer_killed"]["most_ms_until_replaced"] = max(map(int, took))
            assert not FULL or max(map(int, took)) < 2_000


def test_the_memory_of_a_model_is_its_processes(serve: Serve, figures: dict[str, Any]) -> None:
    """The worker beside it stays small, as it imports none of its libraries; a metric tells the other's."""
    with serve(models=("linear", "iris", "loans", "fragile")) as server:
        assert one(server, FRAGILE).status == 200
        (worker,) = workers(server)
        own_mb = worker.memory_full_info().pss / (1 << 20)
        told = one(server, request("/metrics", method="GET")).body.decode()
        (of_model,) = re.findall(
            r'^okamochi_model_process_bytes\{model="fragile",version="4"\} (\S+)', told, re.MULTILINE
        )
        figures["memory_with_a_python_model"] = {
            "worker_mb": round(own_mb, 1), "process_mb": round(float(of_model) / (1 << 20), 1)
        }  # fmt: skip
        assert own_mb < MAX_WORKER_MB
        assert float(of_model) > 50 * (1 << 20)


def of_models(server: Server) -> list[psutil.Process]:
    """The processes that hold the models of a server's one worker, and live."""
    (worker,) = workers(server)
    living = [each for each in worker.children() if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in living if "artifact.keeper" in each.cmdline()]


def test_a_models_process_that_hangs_is_replaced(serve: Serve) -> None:
    """Its requests are refused or fail, the other models and `/livez` go on, and then it answers again."""
    with serve(models=("linear", "fragile"), OKAMOCHI_MODEL_CALL_S="1") as server:
        stopped = [scorer for keeper in of_models(server) for scorer in keeper.children()]
        assert stopped
        for scorer in stopped:
            os.kill(scorer.pid, signal.SIGSTOP)
        hung = asyncio.run(answers(server, [FRAGILE] * 4 + [LINEAR] * 40, connections=44))
        statuses = [reply.status if reply else 0 for reply in hung]
        assert statuses[4:] == [200] * 40
        assert set(statuses[:4]) <= {200, 429, 500}
        end = time.monotonic() + PATIENCE_S
        while one(server, FRAGILE).status != 200:
            assert time.monotonic() < end, "the model never answered again"
        assert one(server, request("/livez", method="GET")).status == 200
    left = [each for each in stopped if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert not left, "a process that hangs outlives its server"


def test_no_process_of_a_model_outlives_a_killed_worker(serve: Serve) -> None:
    """It ends with the socket that it reads from."""
    with serve(models=("fragile",)) as server:
        (worker,) = workers(server)
        left = [process for keeper in of_models(server) for process in (keeper, *keeper.children())]
        assert left
        worker.kill()
        gone, alive = psutil.wait_procs(left, timeout=PATIENCE_S)
        assert not alive
        assert len(gone) == len(left)
