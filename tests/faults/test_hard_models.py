"""Models made elsewhere that take seconds a row, gigabytes, or for ever, beside a model that goes on."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import cloudpickle
import msgspec
import numpy as np
import psutil
import pytest

from artifact import manifest
from artifact.manifest import MODEL, Golden
from artifact.python_model import Input, PythonModel
from artifact.signature import Column, Signature
from tests.bento_server import bento_server, prepare
from tests.faults.test_model_process import LINEAR, of_models
from tests.faults.wire import Reply, answers, one, predictions, request
from tests.servers import PATIENCE_S
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server

HUGE, NEVER = 2.0, 3.0
"""Values for which the hard model takes 4 GB, or does not return."""


def hard() -> Any:
    """A model that returns its column, and misbehaves at some of its values."""

    class Hard:
        def predict(self, rows: Any) -> Any:
            for value in np.asarray(rows)[:, 0].tolist():
                if value == 2.0:
                    np.ones(4 << 30, np.uint8)
                while value == 3.0:
                    time.sleep(1)
            return np.asarray(rows)[:, 0]

    return Hard()


def lazy() -> Any:
    """A model that takes three seconds for each row."""

    class Lazy:
        def predict(self, rows: Any) -> Any:
            time.sleep(3 * len(rows))
            return np.asarray(rows)[:, 0]

    return Lazy()


def seal(folder: Path, name: str, model: Any) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.pkl").write_bytes(cloudpickle.dumps(model))
    spec = PythonModel(
        flavor="pickle", file="model/model.pkl", inputs=(Input("x", "float"),), frame=False, method="predict"
    )
    (folder / MODEL).write_bytes(msgspec.json.encode(spec))
    manifest.write(
        folder,
        signature=Signature(
            task="regression", target="y", columns=(Column(name="x", kind="number", median=1.0),), raw=True
        ),
        golden=Golden(
            records=[{"x": float(x)} for x in range(10, 14)],
            scores=[[float(x)] for x in range(10, 14)],
            tolerance=0.0,
        ),
        name=name,
        run_id="0123456789abcdef",
        created="2026-01-01T00:00:00Z",
        runtime="python",
        algorithm=type(model).__name__,
        metric="r2",
        metrics={},
        libraries={},
    )
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the time limit of a call as it is unless set; the lazy model's four golden rows take 12 s."""
    made = tmp_path_factory.mktemp("hard")
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["hard"]))
    models = {
        "linear": (artifacts.linear(made / "linear").path, "1"),
        "lazy": (seal(made / "lazy", "lazy", lazy()), "1"),
        "hard": (seal(made / "hard", "hard", hard()), "1"),
    }
    prepare(made / "work", models)
    with bento_server(made / "work", settings={"OKAMOCHI_DEFAULT_DEADLINE_MS": "8000"}) as started:
        yield started


def asked(name: str, value: float) -> bytes:
    return request(f"/models/{name}/predict", json.dumps({"features": [[value]]}).encode())


def beside(server: Server, hard_ones: list[bytes]) -> tuple[list[Reply | None], list[Reply | None]]:
    """The replies of a hard model, and those of a quick one that is asked all the while."""

    async def both() -> tuple[list[Reply | None], list[Reply | None]]:
        waiting = asyncio.create_task(answers(server, hard_ones, connections=len(hard_ones)))
        quick: list[Reply | None] = []
        while not waiting.done() or not quick:
            quick += await answers(server, [LINEAR] * 20, connections=4)
        return await waiting, quick

    return asyncio.run(both())


def statuses(replies: list[Reply | None]) -> list[int]:
    return [reply.status if reply else 0 for reply in replies]


def test_a_model_of_three_seconds_a_row_answers_what_it_can_and_refuses_the_rest(server: Server) -> None:
    """Its golden rows are checked one after another; what cannot be answered in time is refused."""
    slow, quick = beside(server, [asked("lazy", value) for value in range(8)])

    assert set(statuses(slow)) == {200, 429}
    for value, reply in enumerate(slow):
        assert reply is not None
        if reply.status == 200:
            assert predictions(reply) == [float(value)]
        else:
            assert int(reply.headers["retry-after"]) >= 1
    assert set(statuses(quick)) == {200}


@pytest.mark.parametrize("value", [HUGE, NEVER], ids=["four gigabytes", "never returns"])
def test_a_call_that_takes_too_much_fails_alone_and_its_process_is_replaced(
    server: Server, value: float
) -> None:
    """Other requests to the model wait or are refused; the quick model answers all the while."""
    before = {scorer.pid for keeper in of_models(server) for scorer in keeper.children()}
    replies, quick = beside(server, [asked("hard", value), *(asked("hard", each) for each in (20, 21, 22))])

    assert set(statuses(quick)) == {200}
    assert statuses(replies)[0] in {429, 500}
    assert set(statuses(replies)[1:]) <= {200, 429}
    end = time.monotonic() + PATIENCE_S
    while (reply := one(server, asked("hard", 30))).status != 200:
        assert reply.status == 429
        assert time.monotonic() < end, "the model never answered again"
    assert predictions(reply) == [30.0]
    after = {scorer.pid for keeper in of_models(server) for scorer in keeper.children()}
    assert len(after) == len(before)
    if value == NEVER:
        assert after != before
    assert all(psutil.Process(each).memory_info().rss < 1 << 31 for each in after)
    assert one(server, request("/livez", method="GET")).status == 200
