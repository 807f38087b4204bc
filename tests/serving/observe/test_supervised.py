"""A background thread that raises is logged, counted and back at work; each of a real worker's fails once."""

from __future__ import annotations

import gc
import json
import logging
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from serving.errors import Problem
from serving.observe import supervised
from serving.observe.supervised import Pool, Supervised
from tests.bento_server import bento_server, prepare
from tests.servers import PATIENCE_S
from tests.serving import artifacts
from tests.serving.conftest import VERSIONS
from tests.serving.observe.test_traces import receiver
from training.reference import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made


def failures(thread: str) -> float:
    return REGISTRY.get_sample_value("okamochi_thread_failures_total", {"thread": thread}) or 0.0


def until(found: Callable[[], Any], what: str) -> Any:
    """What `found` gives, once that is true."""
    for _ in range(4_000):
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(what)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "FIRST_PAUSE_S", 0.001)


# ---- one thread


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [ValueError("cell 4711"), MemoryError(), SystemExit(1)])
def test_work_that_raises_is_logged_counted_and_done_again(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    before, done = failures("test"), threading.Event()
    left = [error, error, error]

    def work() -> None:
        if left:
            raise left.pop()
        done.set()

    thread = Supervised("test", work, of="iris")
    thread.start()
    assert done.wait(PATIENCE_S)
    thread.close()
    assert failures("test") == before + 3
    assert f"the thread test of iris failed and is started again in 0.0 s: {type(error).__name__} at" in (
        caplog.text
    )
    assert "4711" not in caplog.text, "the words of an error may quote a cell"


def test_pauses_grow_to_a_bound_and_begin_anew_after_work_that_lasted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    now = [0.0]
    lasts = [0.0] * 12 + [supervised.SETTLED_S, 0.0]
    monkeypatch.setattr(supervised, "monotonic", lambda: now[0])

    def work() -> None:
        now[0] += lasts[len(pauses)]
        raise ValueError

    thread = Supervised("test", work)

    def wait(pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == len(lasts):
            thread.ended.set()

    monkeypatch.setattr(thread.ended, "wait", wait)
    thread.start()
    thread._thread.join(10)
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[9:] == [30.0, 30.0, 30.0, 0.1, 0.2]


def test_a_thread_that_pauses_ends_when_it_is_told_to() -> None:
    def work() -> None:
        raise ValueError

    thread = Supervised("test", work)
    thread.start()
    until(lambda: thread.failed, "it did not fail")
    thread.close()
    assert not thread._thread.is_alive()


@pytest.mark.usefixtures("quick")
def test_a_thread_goes_on_where_neither_log_nor_metric_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk fails both; logging is what one of the threads does."""
    done, left = threading.Event(), [1]

    def work() -> None:
        if left:
            raise ValueError(left.pop())
        done.set()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    thread = Supervised("test", work)
    monkeypatch.setattr(thread._failures, "inc", full)
    monkeypatch.setattr(supervised.logger, "error", full)
    thread.start()
    assert done.wait(PATIENCE_S)


# ---- a pool


@pytest.mark.usefixtures("quick")
def test_a_pool_runs_on_after_a_call_that_raised_and_after_a_thread_that_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, pool = failures("test"), Pool("test")
    assert pool.submit(lambda: 1).result(10) == 1
    with pytest.raises(SystemExit):
        pool.submit(sys.exit).result(10)
    assert failures("test") == before
    with monkeypatch.context() as broken:
        broken.setattr(supervised._Call, "run", lambda _self: 1 / 0)
        lost = pool.submit(lambda: 2)
        with pytest.raises(Problem) as refused:
            lost.result(10)
    assert refused.value.status == 503
    assert pool.submit(lambda: 3).result(10) == 3
    assert failures("test") == before + 1
    pool.shutdown()


def test_a_pool_keeps_nothing_of_a_call_and_ends_with_its_last_reference() -> None:
    class Rows:
        pass

    pool, rows = Pool("test"), Rows()
    gone = weakref.ref(rows)
    pool.submit(lambda rows=rows: None).result(10)
    del rows
    until(lambda: gc.collect() is not None and gone() is None, "the rows of the last call are held")
    thread = pool._callers[0].thread._thread
    del pool
    thread.join(10)
    assert not thread.is_alive()


def test_a_pool_without_a_thread_says_so_and_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = Pool("test", 2)
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(lambda: 1)
    assert pool.submit(lambda: 1).result(10) == 1
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", none_left)
        assert pool.submit(lambda: 2).result(10) == 2
    pool.shutdown()


def test_the_end_of_any_other_thread_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    usual = threading.excepthook
    before = failures("other")
    try:
        supervised.watch_the_rest()
        thread = threading.Thread(target=lambda: 1 / 0, name="of a library")
        thread.start()
        thread.join()
    finally:
        threading.excepthook = usual
    assert failures("other") == before + 1
    assert "the thread of a library has ended: ZeroDivisionError at" in caplog.text
    assert all(record.levelno == logging.ERROR for record in caplog.records)


# ---- a worker's

SABOTAGE = """

import os, threading
from pathlib import Path
from serving.observe import logs, supervised, traces
from serving.prediction_log import capture
from serving.scoring import drift

def sabotage(owner, name):
    whole = getattr(owner, name)
    def sabotaged(*arguments, **options):
        mark = Path(os.environ["SABOTAGE"], "-".join(threading.current_thread().name.split("-")[1:2]))
        if mark.is_file():
            mark.unlink()
            raise ZeroDivisionError("sabotage")
        return whole(*arguments, **options)
    setattr(owner, name, sabotaged)

sabotage(logs.BoundedHandler, "_gather")
sabotage(traces.Tracer, "_send_waiting")
sabotage(capture.PredictionLog, "flush")
sabotage(drift.Drift, "look")
sabotage(supervised._Call, "run")
"""
THREADS = ("log", "traces", "prediction_log", "drift", "scoring", "reading", "feedback")
FOREST = {"features": [[0.5] * 30] * 3000}  # read and scored in threads


@pytest.fixture(scope="module")
def sabotaged(
    made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Any]]:
    """A server in which the work of a thread raises once when a file with its name is made."""
    folder: Path = tmp_path_factory.mktemp("threads") / "work"
    forest = artifacts.breast_cancer(folder.parent / "forest", trees=50)
    held = reference(forest.signature, np.array(forest.rows), forest.scores(forest.rows))
    (forest.path / "reference.json").write_bytes(msgspec.json.encode(held))
    artifacts.reseal(forest.path)
    prepare(folder, {"iris": (made["iris"].path, VERSIONS["iris"]), "forest": (forest.path, "7")})
    service = folder / "service.py"
    service.write_text(service.read_text() + SABOTAGE)
    (folder / "marks").mkdir()
    with receiver() as collector:
        settings = {
            "SABOTAGE": str(folder / "marks"),
            "OKAMOCHI_LOG_SAMPLE": "1",
            "OKAMOCHI_PREDICTION_LOG": str(folder / "log"),
            "OKAMOCHI_PREDICTION_LOG_ROWS_PER_S": "100000",
            "OKAMOCHI_DRIFT_EVERY_S": "0.2",
            "OKAMOCHI_DRIFT_ROWS_PER_S": "10000",
            "OKAMOCHI_DRIFT_WINDOW_ROWS": "1000000",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        }
        with bento_server(folder, settings=settings) as server:
            yield server, collector


def counted(server: Server, thread: str) -> float:
    found = [
        sample.value
        for family in text_string_to_metric_families(
            httpx.get(server.url + "/metrics", timeout=PATIENCE_S).text
        )
        for sample in family.samples
        if sample.name == "okamochi_thread_failures_total" and sample.labels == {"thread": thread}
    ]
    return sum(found)


def post(server: Server, path: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(server.url + path, json=body, headers=headers, timeout=PATIENCE_S)


def one(server: Server, **headers: str) -> httpx.Response:
    reply = post(server, "/models/iris/predict", {"features": [[5.1, 3.5, 1.4, 0.2]]}, **headers)
    assert reply.status_code == 200
    return reply


def log_works(server: Server, _: Any) -> bool:
    name = f"r{time.monotonic_ns()}"
    one(server, **{"X-Request-Id": name})
    return bool(until(lambda: name in server.log.read_text(), "no line of the log"))


def traces_work(server: Server, collector: Any) -> bool:
    trace = f"{time.monotonic_ns():032x}"
    one(server, traceparent=f"00-{trace}-b7ad6b7169203331-01")
    return bool(collector.of(trace, 1))


def prediction_log_works(server: Server, _: Any) -> bool:
    name = one(server).json()["id"]
    folder = server.log.parent / "log"
    files = lambda: folder.glob("predictions-*.jsonl")  # noqa: E731
    return bool(until(lambda: any(name in file.read_text() for file in files()), f"{name} is not logged"))


def drift_works(server: Server, _: Any) -> bool:
    def rows() -> float:
        text = httpx.get(server.url + "/metrics", timeout=PATIENCE_S).text
        found = [line for line in text.splitlines() if line.startswith('okamochi_drift_rows{model="forest"}')]
        return float(found[0].split()[-1]) if found else 0.0

    before = rows()
    values = np.random.default_rng().random((200, 30)).tolist()
    post(server, "/models/forest/predict", {"features": values})
    return bool(until(lambda: rows() > before, "drift looks at nothing"))


def large_bodies_work(server: Server, _: Any) -> bool:
    return len(post(server, "/models/forest/predict", FOREST).json()["prediction"]) == 3000


def feedback_works(server: Server, _: Any) -> bool:
    told = {"id": one(server).json()["id"], "actual": "setosa"}
    return bool(until(lambda: post(server, "/feedback", told).status_code == 200, "no feedback is taken"))


WORKS = {
    "log": log_works,
    "traces": traces_work,
    "prediction_log": prediction_log_works,
    "drift": drift_works,
    "scoring": large_bodies_work,
    "reading": large_bodies_work,
    "feedback": feedback_works,
}


@pytest.mark.parametrize("thread", THREADS)
def test_each_thread_of_a_worker_comes_back_from_a_failure(
    sabotaged: tuple[Server, Any], thread: str
) -> None:
    server, collector = sabotaged
    works = WORKS[thread]
    assert works(server, collector)
    before = counted(server, thread)
    mark = server.log.parent / "marks" / thread
    mark.touch()
    statuses = set()
    body = {"id": one(server).json()["id"], "actual": "setosa"}
    for _ in range(4_000):
        if not mark.exists():
            break
        one(server)
        statuses.add(post(server, "/models/forest/predict", FOREST).status_code)
        statuses.add(post(server, "/feedback", body).status_code)
    assert not mark.exists(), f"the work of {thread} was never done"
    assert statuses <= {200, 404, 503}, "who is in hand is asked to send again, nobody gets a 500"
    until(lambda: counted(server, thread) == before + 1, f"the failure of {thread} is not counted")
    assert works(server, collector)
    line = until(
        lambda: [line for line in server.log.read_text().splitlines() if f"the thread {thread}" in line],
        "the failure is not in the log",
    )[0]
    assert "ZeroDivisionError at" in json.loads(line)["message"]
    assert json.loads(line)["level"] == "error"
    until(lambda: httpx.get(server.url + "/readyz").status_code == 200, "it is not ready again")
