"""A shadow scores what the champion has answered, when there is time, and no reply waits for it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from artifact.contracts import mismatch
from serving.observe import metrics
from serving.roles import shadow
from serving.scoring.translation import translation, untranslatable
from tests.serving import artifacts
from tests.serving.conftest import ask
from tests.serving.swapping import Running, kept, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from artifact.signature import Signature
    from tests.serving.artifacts import Made
    from tests.serving.conftest import Answer

__all__ = ["kept", "run"]  # the fixtures

SHADOWED = "linear linear:1\nlinear linear:2 shadow\n"
PATIENCE_S = 60.0


def of(running: Running) -> shadow.Shadow:
    (state,) = running.gateway._roles._states.values()
    assert isinstance(state, shadow.Shadow)
    return state


def counted(metric: Any, *labels: str) -> float:
    return float(metric.labels("linear", "2", *labels)._value.get())


async def done(running: Running) -> None:
    """Once no row waits for the shadow."""
    end = time.monotonic() + PATIENCE_S
    while of(running)._timer is not None:
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def predict(running: Running, rows: int, body: Callable[[int], bytes]) -> list[Answer]:
    return [await ask(running.gateway, "POST", "/predict", body(row)) for row in range(rows)]


def one(x: int) -> bytes:
    return b'{"x": %d}' % (x + 1)


def hot(x: int) -> bytes:
    return b'{"features": [[%d], [7]]}' % (x + 1)


@pytest.mark.parametrize("body", [one, hot])
def test_answered_rows_are_scored_again_and_compared(run: Callable[..., Running], body: Any) -> None:
    """Version 2 predicts twice as much as version 1, so each relative difference is 1."""
    running = run(SHADOWED)
    before = counted(metrics.SHADOW_ROWS)
    differences = metrics.SHADOW_DIFFERENCE.labels("linear", "2")
    total = differences._sum.get()

    async def asked() -> list[Answer]:
        replies = await predict(running, 5, body)
        await done(running)
        return replies

    replies = asyncio.run(asked())
    assert {reply.json()["version"] for reply in replies} == {"1"}
    rows = 5 if body is one else 10
    assert counted(metrics.SHADOW_ROWS) - before == rows
    assert differences._sum.get() - total == pytest.approx(rows, rel=1e-5)


def test_what_it_predicts_is_logged_beside_the_row(run: Callable[..., Running], tmp_path: Path) -> None:
    """Under the id and row of the reply; the routes of its version are logged with its role."""
    running = run(SHADOWED, prediction_log=str(tmp_path / "log"))

    async def asked() -> list[Answer]:
        replies = await predict(running, 3, hot)
        own = await ask(running.gateway, "POST", "/models/linear/versions/2/predict", one(0))
        await done(running)
        return [*replies, own]

    *replies, own = (reply.json() for reply in asyncio.run(asked()))
    log = running.gateway.predictions
    assert log is not None
    log.flush()
    (path,) = (tmp_path / "log").glob("predictions-*")
    rows = {(line["id"], line["row"]): line for line in map(json.loads, path.read_text().splitlines())}
    (path,) = (tmp_path / "log").glob("shadows-*")
    shadows = {(line["id"], line["row"]): line for line in map(json.loads, path.read_text().splitlines())}
    assert rows.pop((own["id"], 0))["role"] == "shadow"
    assert rows.keys() == shadows.keys() == {(reply["id"], row) for reply in replies for row in (0, 1)}
    for key, line in shadows.items():
        assert (line["role"], line["version"], line["model"]) == ("shadow", "2", "linear")
        assert (rows[key]["role"], rows[key]["version"]) == ("champion", "1")
        assert line["prediction"] == pytest.approx(2 * rows[key]["prediction"])
        assert line["scores"] == [line["prediction"]]
    log.close()


def test_no_reply_waits_for_a_slow_shadow_and_rows_are_dropped(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded, and what was not scored is counted."""
    monkeypatch.setattr(shadow, "MAX_BUFFERED_ROWS", 8)
    running = run(SHADOWED)
    model = running.gateway.catalog.beside["linear", "shadow"].model
    release = threading.Event()
    dropped, scored = counted(metrics.SHADOW_DROPPED, "full"), counted(metrics.SHADOW_ROWS)
    score = model.score

    def slow(rows: Any) -> Any:
        assert release.wait(PATIENCE_S)
        return score(rows)

    object.__setattr__(model, "score", slow)

    async def asked() -> None:
        first = of(running)
        await predict(running, 1, one)
        while not first._running:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)
        replies = await predict(running, 20, one)
        assert [reply.status for reply in replies] == [200] * 20
        assert first._rows == len(first._waiting) == 8
        release.set()
        await done(running)

    asyncio.run(asked())
    assert counted(metrics.SHADOW_DROPPED, "full") - dropped == 12
    assert counted(metrics.SHADOW_ROWS) - scored == 9


def test_a_busy_loop_leaves_the_rows_where_they_are(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "MAX_BUSY", -1.0)
    running = run(SHADOWED)
    scored = counted(metrics.SHADOW_ROWS)

    async def asked() -> None:
        await predict(running, 3, one)
        await asyncio.sleep(5 * shadow.LOOK_S)
        assert of(running)._rows == 3
        assert counted(metrics.SHADOW_ROWS) == scored
        monkeypatch.setattr(shadow, "MAX_BUSY", 1.0)
        await done(running)

    asyncio.run(asked())
    assert counted(metrics.SHADOW_ROWS) - scored == 3


def test_a_shadow_that_raises_is_counted_and_said_once(
    run: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    running = run(SHADOWED)
    model = running.gateway.catalog.beside["linear", "shadow"].model
    failed = counted(metrics.SHADOW_DROPPED, "failed")

    def broken(_rows: Any) -> Any:
        raise ValueError("no")

    object.__setattr__(model, "score", broken)

    async def asked() -> None:
        for _ in range(3):
            replies = await predict(running, 2, one)
            assert [reply.status for reply in replies] == [200, 200]
            await done(running)

    asyncio.run(asked())
    assert counted(metrics.SHADOW_DROPPED, "failed") - failed == 6
    assert sum("the shadow of model linear, version 2" in message for message in caplog.messages) == 1


def test_a_fraction_of_the_requests_is_offered(run: Callable[..., Running]) -> None:
    running = run(SHADOWED, shadow_fraction=0.0)
    asyncio.run(predict(running, 4, one))
    assert of(running)._timer is None
    assert (of(running)._sampled_out, of(running)._full) == (4, 0)


def test_without_a_shadow_no_endpoint_is_wrapped(run: Callable[..., Running]) -> None:
    running = run()
    endpoint = running.gateway.live.routes.endpoints["/predict"]
    assert type(endpoint).__name__ == "PredictEndpoint"
    running.look(SHADOWED)
    assert type(running.gateway.live.routes.endpoints["/predict"]).__name__ == "Watched"
    running.look("linear linear:1\n")
    assert type(running.gateway.live.routes.endpoints["/predict"]).__name__ == "PredictEndpoint"
    assert running.gateway._roles._states == {}


# ---- rows of the champion's matrix as the shadow's encoder makes them


def changed(signature: Signature, name: str, **changes: Any) -> Signature:
    columns = tuple(
        msgspec.structs.replace(column, **changes) if column.name == name else column
        for column in signature.columns
    )
    return msgspec.structs.replace(signature, columns=columns)


def test_rows_are_translated_to_other_categories_and_offsets(made: dict[str, Made]) -> None:
    from artifact.encode import Encoder

    champion = made["loans"].signature
    other = changed(champion, "job", categories=("3", "baker", "cook", "clerk"))
    other = changed(changed(other, "age", offset=20.0), "city", categories=("Ulm", "Basel"))
    assert mismatch(champion, other) == ""
    assert untranslatable(champion, other, kept=False) == ""
    rows = made["loans"].rows
    found = translation(champion, other)(Encoder(champion).rows(rows))
    np.testing.assert_array_equal(found, Encoder(other).rows(rows))
    same = translation(champion, champion)(Encoder(champion).rows(rows))
    np.testing.assert_array_equal(same, Encoder(champion).rows(rows))


def test_another_vocabulary_needs_the_cells_as_they_were_sent(made: dict[str, Made]) -> None:
    from artifact.encode import Encoder
    from serving.prediction_log.remembering import Remembering

    champion = made["loans"].signature
    other = changed(champion, "note", terms=("never", "late", "paid"), idf=(2.0, 1.5, 1.25))
    assert "'note'" in untranslatable(champion, other, kept=False)
    assert "OKAMOCHI_PREDICTION_LOG" in untranslatable(champion, other, kept=False)
    assert untranslatable(champion, other, kept=True) == ""
    rows = made["loans"].rows[:20]
    found = translation(champion, other)(Remembering(champion).rows(rows))
    np.testing.assert_array_equal(found, Encoder(other).rows(rows))


def test_what_differs_is_named(made: dict[str, Made]) -> None:
    champion = made["loans"].signature
    fewer = msgspec.structs.replace(champion, columns=champion.columns[1:])
    assert mismatch(champion, fewer) == "its columns differ from the champion's: it lacks 'age'"
    assert "it has 'age' more" in mismatch(fewer, champion)
    kind = changed(champion, "age", kind="category", categories=("1",))
    assert "'age' is a category instead of a number" in mismatch(champion, kind)
    order = msgspec.structs.replace(champion, columns=champion.columns[::-1])
    assert "in another order" in mismatch(champion, order)
    classes = msgspec.structs.replace(champion, classes=(0, 1), positive=1)
    assert "classes differ from the champion's: 0, 1 instead of False, True" in mismatch(champion, classes)
    assert "a regression of 'default'" in mismatch(
        champion, msgspec.structs.replace(champion, task="regression", classes=(), positive=None)
    )


def test_a_model_of_classes_counts_what_agrees(tmp_path: Path, run: Callable[..., Running]) -> None:
    running = run("iris iris:1\n")
    running.store.folders["iris:2"] = artifacts.iris(tmp_path / "two").path
    running.look("iris iris:1\niris iris:2 shadow\n")
    body = b'{"features": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}'

    async def asked() -> None:
        await ask(running.gateway, "POST", "/predict", body)
        await done(running)

    before = metrics.SHADOW_AGREED.labels("iris", "2")._value.get()
    asyncio.run(asked())
    assert metrics.SHADOW_AGREED.labels("iris", "2")._value.get() - before == 2
