"""A canary that one server has stopped is recorded in MLflow, and every server drops it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from artifact import canary_stop, models_lock
from artifact.canary_stop import CanaryStop
from artifact.models_lock import CANARY
from deploy.follow import Follower
from tests.bento_server import bento_server, environment, prepare
from tests.deploy.registered import crown, promote, version_of
from tests.kept import empty_registry
from tests.servers import CHECKOUT, PATIENCE_S, Cut, mlflow_server
from tests.serving.artifacts import iris, linear
from training.__main__ import main as training_main
from training.decide.aliases import stops_of
from training.decide.timeline import STOPPED, timeline
from training.registry.mlflow_registry import Registry
from training.registry.records import CANARY_PERCENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("bentoml_home")

REASON = "10 of its 10 requests failed"


@pytest.fixture(scope="module")
def champions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry in which `iris` has two versions; the first is champion."""
    folder = tmp_path_factory.mktemp("champions")
    registry = Registry(empty_registry(folder / "state"))
    for number in range(2):
        crown(registry, iris(folder / str(number)), "iris")
    promote(registry, "1")
    return folder / "state"


@pytest.fixture
def lock(state: Path, tmp_path: Path) -> Path:  # noqa: ARG001 - the registry is the test's own by then
    """Version 2 is the canary for 5 % of the callers."""
    path = tmp_path / "models.lock"
    Registry().set_alias("iris", CANARY, version_of(Registry(), "2"))
    assert Follower(["iris"], path, tell=lambda _: None).look()
    assert roles(path) == ["champion", "canary=5"]
    return path


def roles(lock: Path) -> list[str]:
    return [each.word for each in models_lock.entries(lock)]


def stop(lock: Path, *, at: str = "2020-01-01T00:00:00.000Z", percent: float = 5.0) -> CanaryStop:
    """As the server of this file does."""
    found = CanaryStop(
        at=at, version="2", run_id=version_of(Registry(), "2").run_id, percent=percent, reason=REASON
    )
    canary_stop.write(lock, "iris", found)
    return found


def is_canary() -> bool:
    return Registry().version("iris", CANARY) is not None


def stops() -> list[tuple[str, str, float]]:
    return [(each.at, each.reason, each.percent) for each in stops_of(version_of(Registry(), "2"))]


def test_a_stopped_canary_loses_its_alias_and_the_timeline_says_why(
    lock: Path, tmp_path: Path, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.lock"  # of another server
    second = Follower(["iris"], other, tell=lambda _: None)
    assert second.look()
    assert roles(other) == ["champion", "canary=5"]
    stop(lock)
    follower = Follower(["iris"], lock, tell=told.append)
    assert follower.look()
    assert roles(lock) == ["champion"]
    assert not is_canary()
    assert not canary_stop.path_of(lock, "iris").exists()
    assert told[0] == (
        f"the canary of iris, version 2, was stopped by its server: {REASON}. MLflow has the reason now, "
        "and its alias is removed, so that every server drops it"
    )
    assert second.look()
    assert roles(other) == ["champion"]
    (event,) = [each for each in timeline(Registry(), "iris") if each.what == STOPPED]
    assert (event.at, event.version, event.reason) == ("2020-01-01T00:00:00.000Z", "2", REASON)
    capsys.readouterr()
    assert training_main(["timeline", "iris"]) == 0
    printed = capsys.readouterr().out
    assert "canary stopped" in printed
    assert f"The canary that was stopped last, version 2: {REASON}" in printed


def test_a_person_may_try_the_same_version_again(lock: Path, told: list[str]) -> None:
    """With the same percentage, and is told how it ended; what had been recorded removes nothing again."""
    earlier = stop(lock)
    follower = Follower(["iris"], lock, tell=told.append)
    assert follower.look()
    assert training_main(["role", "iris", "canary", "--version", "2"]) == 0
    canary_stop.write(lock, "iris", earlier)  # as if it had been killed before it removed the file
    assert follower.look()
    assert roles(lock) == ["champion", "canary=5"]
    assert len(stops()) == 1
    stop(lock, at="2020-01-02T00:00:00.000Z")
    assert follower.look()
    assert roles(lock) == ["champion"]
    assert len(stops()) == 2


def test_whoever_gives_a_stopped_version_the_role_again_reads_why_it_was_stopped(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop(lock)
    assert Follower(["iris"], lock, tell=lambda _: None).look()
    capsys.readouterr()
    assert training_main(["role", "iris", "canary", "--version", "2"]) == 0
    assert f"It was stopped as a canary at 2020-01-01T00:00:00.000Z: {REASON}" in capsys.readouterr().out


def test_another_percentage_is_another_try(lock: Path) -> None:
    """A stop from before it is recorded, and the canary goes on."""
    stop(lock)
    Registry().tag(version_of(Registry(), "2"), {CANARY_PERCENT: "20"})
    assert Follower(["iris"], lock, tell=lambda _: None).look()
    assert roles(lock) == ["champion", "canary=20"]
    assert len(stops()) == 1


def test_the_stop_of_a_version_without_the_alias_is_recorded_once(lock: Path, told: list[str]) -> None:
    """Another server was quicker, or a person has named another canary: that one stays."""
    Registry().set_alias("iris", CANARY, version_of(Registry(), "1"))
    stop(lock)
    follower = Follower(["iris"], lock, tell=told.append)
    assert follower.look()
    stop(lock, at="2020-01-01T00:00:00.500Z")
    assert follower.look()
    assert is_canary()
    assert len(stops()) == 1
    assert "its alias had gone before" in told[0]


def test_a_version_that_is_deleted_or_of_another_registry_is_not_tagged(lock: Path) -> None:
    made = stop(lock)
    canary_stop.write(lock, "iris", CanaryStop(**{**as_dict(made), "run_id": "0" * 32}))
    follower = Follower(["iris"], lock, tell=lambda _: None)
    assert follower.look()
    assert stops() == []
    assert is_canary()
    canary_stop.write(lock, "iris", CanaryStop(**{**as_dict(made), "version": "99"}))
    assert follower.look()
    assert not canary_stop.path_of(lock, "iris").exists()


def as_dict(found: CanaryStop) -> dict[str, Any]:
    return {key: getattr(found, key) for key in found.__struct_fields__}


DAMAGED: dict[str, Callable[[Path], object]] = {
    "half": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(b"\xff" * 99),
    "a list": lambda path: path.write_bytes(b"[1]"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nothing")),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_told_once_and_changes_nothing(lock: Path, told: list[str], damage: str) -> None:
    stop(lock)
    DAMAGED[damage](canary_stop.path_of(lock, "iris"))
    follower = Follower(["iris"], lock, tell=told.append)
    for _ in range(2):
        assert follower.look()
    assert roles(lock) == ["champion", "canary=5"]
    assert len(told) == (0 if damage == "a link to nothing" else 1)
    assert all("models.lock.stopped-iris cannot be read" in each for each in told)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An MLflow server with two versions of `linear`, and the artifact of the first, which is champion."""
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder / "mlflow") as started:
        registry = Registry(started.url)
        made = [linear(folder / str(slope), slope=slope) for slope in (1, 3)]
        for each in made:
            crown(registry, each, "linear")
        promote(registry, "1", "linear")
        yield started.url, made[0].path


@pytest.mark.deep
def test_a_registry_that_is_lost_at_each_request_has_the_stop_once_it_is_back(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, however often it was lost."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    url, _ = server
    direct, cut = Registry(url), Cut(url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", cut.url)
    lock = tmp_path / "models.lock"
    canary = version_of(direct, "2", "linear")

    def look(at: int | None) -> None:
        """A canary is stopped, and the registry is lost at one of the requests that then follow."""
        direct.set_alias("linear", CANARY, canary)
        follower = Follower(["linear"], lock, tell=lambda _: None)
        assert follower.look()
        noted = CanaryStop(
            at=f"2020-01-01T00:00:00.{at or 0:03}Z",
            version="2",
            run_id=canary.run_id,
            percent=5.0,
            reason=REASON,
        )
        canary_stop.write(lock, "linear", noted)
        cut.seen.clear()
        cut.cut_at, cut.skip = (None, 0) if at is None else ("", at)
        Follower(["linear"], lock, tell=lambda _: None).look()
        seen = len(cut.seen)
        cut.heal()
        assert Follower(["linear"], lock, tell=lambda _: None).look()
        assert direct.version("linear", CANARY) is None
        assert roles(lock) == ["champion"]
        assert not canary_stop.path_of(lock, "linear").exists()
        found = [each.at for each in stops_of(version_of(direct, "2", "linear"))]
        assert found.count(noted.at) == 1
        requests.append(seen)

    requests: list[int] = []
    look(None)
    assert requests[0] > 4
    for at in range(1, requests[0]):
        look(at)
    cut.close()


# ---- with all real parts


@contextmanager
def following(lock: Path, work: Path, mlflow: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m deploy follow`, which looks every half second."""
    with (work / "follow.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy", "follow", "--every", "0.5", "--lock", str(lock), "linear"],
            cwd=CHECKOUT,
            env={**os.environ, **environment(work), "PYTHONPATH": str(CHECKOUT)}
            | {"MLFLOW_TRACKING_URI": mlflow, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(found: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < end, what
        time.sleep(0.2)


@pytest.mark.deep
def test_a_canary_that_one_server_stops_is_dropped_by_the_other(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    """MLflow is away when it happens, and is told once it is back."""
    url, champion = server
    registry, cut = Registry(url), Cut(url)
    canary = version_of(registry, "2", "linear")
    registry.tag(canary, {CANARY_PERCENT: "50"})
    registry.set_alias("linear", CANARY, canary)
    with ExitStack() as stack:
        clients, works = [], []
        for name in "ab":
            work = tmp_path / name
            prepare(work, {"linear": (champion, "1")})
            started = stack.enter_context(bento_server(work, settings={"OKAMOCHI_WATCH_S": "0.5"}))
            clients.append(stack.enter_context(httpx.Client(base_url=started.url, timeout=PATIENCE_S)))
            stack.enter_context(following(work / "models.lock", work, cut.url))
            works.append(work)
        stops_it, other = clients

        def beside(client: httpx.Client) -> list[dict[str, object]]:
            return list(client.get("/models/linear").json()["beside"])

        until(lambda: all(len(beside(client)) == 1 for client in clients), "the canary does not come")
        cut.cut = True
        sent = 0
        while beside(stops_it)[0]["stopped"] is None:
            for _ in range(50):
                sent += 1
                assert stops_it.post("/predict", json={"x": 5 + sent % 9}).status_code == 200
            assert sent < 5_000, "the canary is not stopped"
        until(lambda: canary_stop.read(works[0] / "models.lock", "linear"), "the stop is not noted")
        until(lambda: "What is served stays" in (works[0] / "follow.log").read_text(), "MLflow is not away")
        assert beside(other)[0]["stopped"] is None
        assert registry.version("linear", CANARY) is not None

        cut.heal()
        until(lambda: all(beside(client) == [] for client in clients), "a server keeps the canary")
        assert registry.version("linear", CANARY) is None
        last = timeline(registry, "linear")[-1]
        assert (last.what, last.version) == (STOPPED, "2")
        assert "its scores differ" in last.reason
        for client in clients:
            assert {client.post("/predict", json={"x": 1}).json()["version"] for _ in range(9)} == {"1"}
            text = client.get("/metrics").text
            assert "okamochi_canary_stopped{" not in text
            times = 1.0 if client is stops_it else 0.0
            assert f'okamochi_canary_stops_total{{model="linear"}} {times}' in text
        assert "was stopped by its server: its scores differ" in (works[0] / "follow.log").read_text()
    cut.close()
