"""A canary answers a fraction of the callers, always the same ones, until it does worse than the champion."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from artifact import canary_stop
from artifact.canary_bounds import FILE, CanaryBounds
from serving.http import access
from serving.observe import metrics
from serving.roles.canary import Canary, Seen, Side, ks_distance, reason_to_stop
from serving.shared import Shared
from tests.bento_server import bento_server, prepare, store
from tests.serving import artifacts
from tests.serving.conftest import ask
from tests.serving.http.lanes import exchange
from tests.serving.swapping import Running, kept, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Server

__all__ = ["kept", "run"]  # the fixtures

CANARIED = "linear linear:1\nlinear linear:2 canary=30\n"
TENSOR = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [0]}]}'
# For 0, all versions predict 0, so that their scores stop no canary.
ROUTES = {
    "/predict": b'{"x": 0}',
    "/models/linear/predict": b'{"features": [[0]]}',
    "/v2/models/linear/infer": TENSOR,
    "/invocations": b'{"inputs": [[0]]}',
    "/score": b'{"rows": [[0]]}',
}


def version_of(answer: Any) -> str:
    """The version that a reply of any protocol names."""
    assert answer.status == 200
    found = answer.json()
    if isinstance(found, list):
        return str(answer.headers["x-model-version"])
    return str(found.get("version") or found["model_version"])


def asked(running: Running, path: str, body: bytes, keys: list[str]) -> list[str]:
    async def all_of_them() -> list[str]:
        return [
            version_of(await ask(running.gateway, "POST", path, body, {"X-Canary-Key": key} if key else None))
            for key in keys
        ]

    return asyncio.run(all_of_them())


def test_a_key_has_the_same_answerer_on_each_route(run: Callable[..., Running]) -> None:
    """About 30 of 100 keys; those of a lower percentage are among those of a higher one."""
    running = run(CANARIED)
    keys = [f"customer-{number}" for number in range(300)]
    first = asked(running, "/predict", b'{"x": 0}', keys)
    assert 60 < first.count("2") < 120
    for path, body in ROUTES.items():
        assert asked(running, path, body, keys) == first, path
    running.look("linear linear:1\nlinear linear:2 canary=60\n")
    more = asked(running, "/predict", b'{"x": 0}', keys)
    assert all(later == "2" for before, later in zip(first, more, strict=True) if before == "2")
    assert more.count("2") > first.count("2")


def test_without_a_key_each_request_is_drawn(run: Callable[..., Running]) -> None:
    running = run(CANARIED)
    assert 60 < asked(running, "/predict", b'{"x": 0}', [""] * 300).count("2") < 120


def test_a_principal_has_the_same_answerer(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run(CANARIED)
    found = []
    for number in range(60):
        caller = access.Principal(f"caller-{number}")
        monkeypatch.setattr(access, "admit", lambda _request, caller=caller: caller)
        versions = set(asked(running, "/predict", b'{"x": 0}', [""] * 4))
        assert len(versions) == 1
        found += versions
    assert set(found) == {"1", "2"}


def test_the_version_in_the_path_is_the_one_that_answers(run: Callable[..., Running]) -> None:
    running = run("linear linear:1\nlinear linear:2 canary=100\n")
    for version in ("1", "2"):
        path = f"/models/linear/versions/{version}/predict"
        assert set(asked(running, path, b'{"x": 0}', ["a", "b", ""])) == {version}
    assert asked(running, "/predict", b'{"x": 0}', ["a"]) == ["2"]


@pytest.fixture(scope="module", params=["1", "0"], ids=["express", "gateway"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server of version 1 with version 2 as its canary, on one lane."""
    folder = tmp_path_factory.mktemp("canaried")
    work = folder / "work"
    made = [artifacts.linear(folder / version, slope=int(version)).path for version in "12"]
    prepare(work, {"linear": (made[0], "1")})
    one, two = store(work, [("linear", made[0], "1"), ("linear", made[1], "2")])
    (work / "models.lock").write_text(f"{one}\n{two} canary=30\n")
    with bento_server(work, settings={"OKAMOCHI_EXPRESS": request.param}) as started:
        yield started


def head_of(path: str, body: bytes, *lines: bytes) -> bytes:
    first = (b"POST %s HTTP/1.1" % path.encode(), b"Host: h", b"Content-Type: application/json")
    return b"\r\n".join((*first, *lines, b"Content-Length: %d" % len(body))) + b"\r\n\r\n" + body


def test_both_lanes_agree_on_who_is_answered_by_whom(served: Server) -> None:
    """Also where heads are remembered by their form, with other keys, request ids and lengths."""
    from serving.roles.canary import Canary

    expected = Canary.__new__(Canary)
    expected.stopped, expected._salt, expected._below = "", b"linear", int(0.3 * 2**64)
    seen: Counter[str] = Counter()
    for path, body in ROUTES.items():
        requests = [
            head_of(path, body, b"X-Request-Id: r%d" % (number % 3), b"X-Canary-Key: key %d" % (number % 40))
            for number in range(80)
        ]
        replies = exchange(served, requests)[:80]
        for number, reply in enumerate(replies):
            assert reply.status == 200
            answer = _Answer(reply)
            version = version_of(answer)
            sticky = "2" if expected.answers(b"key key %d" % (number % 40)) else "1"
            assert version == sticky, (path, number)
            seen[version] += 1
    assert min(seen.values()) > 40
    drawn = exchange(served, [head_of("/predict", b'{"x": 0}')] * 200)[:200]
    assert 20 < sum(b'"version":"2"' in reply.body for reply in drawn) < 120


class _Answer:
    def __init__(self, reply: Any) -> None:
        self.status = reply.status
        self.headers = {name.decode(): value.decode() for name, value in reply.headers}
        self._body = reply.body

    def json(self) -> Any:
        import json

        return json.loads(self._body)


# ---- when it stops


def seen(requests: int, errors: int = 0, seconds: float = 0.001, shift: float = 0.0) -> Seen:
    random = np.random.default_rng(requests)
    kept = min(requests - errors, 2_000)
    return Seen(requests, errors, [seconds] * kept, random.normal(shift, 1.0, (kept, 1)))


BOUNDS = CanaryBounds()


@pytest.mark.parametrize(
    ("canary", "champion", "words"),
    [
        (seen(10, 10), seen(1_000), "10 of its 10 requests failed, and 0 of 1000"),
        (seen(200, 20), seen(1_000, 10), "20 of its 200 requests failed"),
        (seen(200, seconds=0.01), seen(1_000, seconds=0.002), "over 10.0 ms"),
        (seen(1_000, shift=2.0), seen(1_000), "Kolmogorov-Smirnov distance"),
    ],
)
def test_it_stops_when_it_leaves_a_bound(canary: Seen, champion: Seen, words: str) -> None:
    assert words in reason_to_stop(canary, champion, BOUNDS)


@pytest.mark.parametrize(
    ("canary", "champion"),
    [
        (seen(4, 4), seen(1_000)),  # too few to say
        (seen(2_000, 50), seen(2_000, 40)),
        (seen(200, 20), seen(1_000, 90)),  # the champion fails as often
        (seen(50, seconds=1.0), seen(1_000, seconds=0.001)),
        (seen(1_000, seconds=0.0009), seen(1_000, seconds=0.0001)),  # nine times as slow harms nobody
        (seen(120, shift=0.6), seen(2_000)),
        (seen(0), seen(0)),
    ],
)
def test_it_goes_on_while_chance_explains_it(canary: Seen, champion: Seen) -> None:
    assert reason_to_stop(canary, champion, BOUNDS) == ""


def test_the_same_scores_seldom_stop_it() -> None:
    """2,000 canaries like their champion, each judged after every 32 requests: none is stopped."""
    random = np.random.default_rng(0)
    for _ in range(40):
        scores = random.beta(2, 5, (2, 1_600, 1))
        for n in range(128, 1_601, 32):
            one, other = (Seen(n, 0, [0.001] * n, side[:n]) for side in scores)
            assert reason_to_stop(one, other, CanaryBounds(max_score_shift=0.0)) == ""


def test_the_distance_is_scipys() -> None:
    from scipy.stats import ks_2samp

    random = np.random.default_rng(1)
    for _ in range(20):
        one, other = random.integers(0, 9, 70) / 9, random.integers(1, 12, 40) / 9
        assert ks_distance(one, other) == pytest.approx(ks_2samp(one, other).statistic)


def test_a_canary_that_fails_is_stopped_and_told(
    run: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    """Its callers get the champion again; `/models`, a metric and one log line say why."""
    running = run("linear linear:1\nlinear linear:2 canary=100\n")
    model = running.gateway.catalog.beside["linear", "canary"].model

    def broken(_rows: Any) -> Any:
        raise ValueError("no")

    model.batcher._score = broken

    async def statuses(n: int) -> list[int]:
        return [(await ask(running.gateway, "POST", "/predict", b'{"x": 1}')).status for _ in range(n)]

    assert asyncio.run(statuses(8)) == [500] * 5 + [200] * 3
    (said,) = running.get("/models/linear").json()["beside"]
    assert (said["role"], said["version"], said["percent"]) == ("canary", "2", 100)
    assert "5 of its 5 requests failed" in said["stopped"]
    assert metrics.CANARY_STOPPED.labels("linear", "2")._value.get() == 1
    assert sum("is stopped" in message for message in caplog.messages) == 1

    running.look("linear linear:1\nlinear linear:2 canary=50\n")  # another try, as a person asks for
    assert running.get("/models/linear").json()["beside"][0]["stopped"] is None
    assert metrics.CANARY_STOPPED.labels("linear", "2")._value.get() == 0


def test_scores_that_differ_stop_it(run: Callable[..., Running]) -> None:
    """Version 3 predicts three times as much. The bounds are those of its artifact."""
    running = run()
    folder = running.store.folders["linear:3"]
    (folder / FILE).write_text('{"max_score_shift": 0.9}')
    artifacts.reseal(folder)
    running.look("linear linear:1\nlinear linear:2 canary=50\n")

    async def some(n: int) -> None:
        for number in range(n):
            assert (
                await ask(running.gateway, "POST", "/predict", b'{"x": %d}' % (5 + number % 9))
            ).status == 200

    asyncio.run(some(600))
    assert "its scores differ" in running.get("/models/linear").json()["beside"][0]["stopped"]
    running.look("linear linear:1\nlinear linear:3 canary=50\n")
    asyncio.run(some(600))
    assert running.get("/models/linear").json()["beside"][0]["stopped"] is None


def test_bounds_that_cannot_be_read_refuse_it(run: Callable[..., Running]) -> None:
    running = run()
    folder = running.store.folders["linear:2"]
    (folder / FILE).write_text('{"max_score_shft": 0.9}')
    artifacts.reseal(folder)
    running.look(CANARIED)
    (said,) = running.not_live
    assert "max_score_shft" in said["reason"]


def test_a_new_champion_is_compared_anew(run: Callable[..., Running]) -> None:
    running = run("linear linear:1\nlinear linear:2 canary=50\n")
    (before,) = running.gateway._roles._states.values()
    running.look("linear linear:3\nlinear linear:2 canary=50\n")
    (after,) = running.gateway._roles._states.values()
    assert isinstance(after, Canary)
    assert after is not before
    assert after.model is before.model


# ---- several workers


def of_worker(
    running: Running,
    shared: Shared,
    worker: str,
    *,
    percent: float = 50,
    against: str = "1",
    lock: Path | None = None,
) -> Canary:
    model = running.gateway.catalog.beside["linear", "canary"].model
    return Canary(model, percent, BOUNDS, shared=shared, against=against, lock=lock, worker=worker)


def answered(side: Side, requests: int, *, errors: int = 0, score: float = 0.0) -> None:
    """As if a version had answered so many."""
    random = np.random.default_rng(requests)
    side.requests += requests
    side.errors += errors
    side.seconds.extend([0.001] * (requests - errors))
    side.scores.extend(random.normal(score, 1.0, (requests - errors, 1)))


@pytest.fixture
def of_server(run: Callable[..., Running], tmp_path: Path) -> Callable[..., Canary]:
    """Makes the canary of another worker of the same server."""
    running = run("linear linear:1\nlinear linear:2 canary=50\n")
    shared = Shared(tmp_path / "shared")
    return lambda worker, **options: of_worker(running, shared, worker, **options)


def test_errors_that_no_worker_would_stop_it_for_stop_it_in_all(of_server: Callable[..., Canary]) -> None:
    workers = [of_server(worker) for worker in "abc"]
    for canary in workers:
        answered(canary.own, 2, errors=2)
        answered(canary.champion, 100)
        assert reason_to_stop(Seen(2, 2, [], np.empty((0, 1))), seen(100), BOUNDS) == ""
    for canary in workers:
        canary.share()
    for canary in workers:
        canary.share()
        assert canary.stopped == (
            "6 of its 6 requests failed, and 0 of 300 of the champion; the bound is 0.02 more"
        )


def test_times_and_scores_of_all_workers_count(of_server: Callable[..., Canary]) -> None:
    """Sixty requests are too few, and those of two workers are enough."""
    one, two = of_server("a"), of_server("b")
    for canary in (one, two):
        answered(canary.own, 60, score=3.0)
        answered(canary.champion, 60)
        canary.share()
    one.share()
    assert "its scores differ" in one.stopped
    assert "last 120 and 120 requests" in one.stopped


def test_what_one_worker_stops_is_stopped_in_all_and_in_one_that_is_replaced(
    of_server: Callable[..., Canary],
) -> None:
    one, two = of_server("a"), of_server("b")
    one.stopped = "it was slow"
    one.share()
    assert two.stopped == ""
    two.share()
    assert two.stopped == "it was slow"
    new = of_server("c")
    new.start()
    assert new.stopped == "it was slow"
    new.close(forget=False)
    # Another percentage, another champion, and the same line after it was away: each is another try.
    for again in (of_server("c", percent=40), of_server("c", against="3")):
        again.share()
        assert again.stopped == ""
    for canary in (one, two):
        canary.close(forget=True)
    again = of_server("d")
    again.share()
    assert again.stopped == ""


def test_a_stop_is_noted_beside_the_lock_once_a_worker(
    of_server: Callable[..., Canary], tmp_path: Path
) -> None:
    """With one time for all workers. What a follower has removed stays away, and it goes with the canary."""
    lock = tmp_path / "models.lock"
    one, two = (of_server(worker, lock=lock) for worker in "ab")
    answered(one.own, 10, errors=10)
    answered(one.champion, 100)
    two.share()
    assert canary_stop.read(lock, "linear") is None
    one._judge()
    one.share()
    noted = canary_stop.read(lock, "linear")
    assert noted is not None
    assert (noted.version, noted.percent, noted.reason) == ("2", 50, one.stopped)
    assert noted.run_id == one.model.artifact.manifest.run_id
    canary_stop.remove(lock, "linear")  # as the follower does
    for _ in range(2):
        one.share()
    assert canary_stop.read(lock, "linear") is None
    two.share()
    assert canary_stop.read(lock, "linear") == noted
    two.close(forget=False)
    assert canary_stop.read(lock, "linear") == noted
    two.close(forget=True)
    assert canary_stop.read(lock, "linear") is None


def test_a_stop_that_cannot_be_noted_is_told_once_and_tried_again(
    of_server: Callable[..., Canary], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock = tmp_path / "away" / "models.lock"
    canary = of_server("a", lock=lock)
    canary.stopped = "it was slow"
    for _ in range(3):
        canary.share()
    assert sum("other servers are not told" in message for message in caplog.messages) == 1
    lock.parent.mkdir()
    canary.share()
    noted = canary_stop.read(lock, "linear")
    assert noted is not None
    assert noted.reason == "it was slow"


def test_equal_versions_are_not_stopped_by_what_all_have_seen(of_server: Callable[..., Canary]) -> None:
    workers = [of_server(worker) for worker in "abcd"]
    for n in range(5):
        for canary in workers:
            answered(canary.own, 100 + n)
            answered(canary.champion, 300 + n, errors=1)
            canary.share()
    assert {canary.stopped for canary in workers} == {""}


def test_a_full_disk_leaves_each_worker_to_itself(
    of_server: Callable[..., Canary], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    canary = of_server("a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Shared, "write", full)
    for _ in range(3):
        answered(canary.own, 10)
        canary.share()
    assert sum("No space left" in message for message in caplog.messages) == 1
    assert canary.stopped == ""
