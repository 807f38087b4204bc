"""MLflow, its database or its files are away before, during or after a look, aliases move fast, clocks step.

The file always names what a server can open, and once all is back it names the champion.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from artifact import manifest, models_lock, runtime, store
from deploy import follow as following
from deploy.bundle import put_champion
from deploy.follow import Follower
from tests.deploy.registered import crown, promote, version_of
from tests.kept import empty_registry
from tests.servers import CHECKOUT, PATIENCE_S, Cut, mlflow_server
from tests.serving.artifacts import iris
from training.decide.aliases import make_champion, rollback
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.bundle import Bundled

pytestmark = pytest.mark.usefixtures("bentoml_home")


@pytest.fixture(scope="module")
def champions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry in which `iris` has two versions; version 2 is champion."""
    folder = tmp_path_factory.mktemp("champions")
    registry = Registry(empty_registry(folder / "state"))
    for number in range(2):
        crown(registry, iris(folder / str(number)), "iris")
    return folder / "state"


@pytest.fixture
def lock(state: Path, tmp_path: Path) -> Path:  # noqa: ARG001 - the registry is the test's own by then
    """It names version 1, and version 2 is champion now."""
    path = tmp_path / "models.lock"
    registry = Registry()
    promote(registry, "1")
    assert Follower(["iris"], path, tell=lambda _: None).look()
    promote(registry, "2")
    return path


def live(lock: Path) -> str:
    """The version that the file names; fails unless a server could open it."""
    path, metadata = store.path_of(models_lock.read(lock)["iris"])
    runtime.load(manifest.load(path, name="iris"))
    return str(metadata["version"])


def hide(path: Path) -> Callable[[], object]:
    """Move a file or folder away; what brings it back."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    return lambda: aside.rename(path)


def damage(path: Path) -> Callable[[], object]:
    """Overwrite a file as a failing disk does; what mends it."""
    content = path.read_bytes()
    path.write_bytes(b"\0" * 4096)
    return lambda: path.write_bytes(content)


AWAY = {
    "the database is gone": lambda state: hide(state / "mlflow.db"),
    "the database is damaged": lambda state: damage(state / "mlflow.db"),
    "the files are gone": lambda state: hide(state / "mlruns"),
}


@pytest.fixture(
    params=[(when, name) for when in ("before", "during", "after") for name in AWAY], ids=" ".join
)
def case(request: pytest.FixtureRequest) -> tuple[str, Callable[[Path], Callable[[], object]]]:
    when, name = request.param
    return when, AWAY[name]


def test_what_is_away_changes_nothing_and_the_champion_is_brought_once_it_is_back(
    state: Path,
    lock: Path,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, Callable[[Path], Callable[[], object]]],
) -> None:
    when, away = case
    monkeypatch.setattr(following, "FIRST_RETRY_S", 0.0)
    follower = Follower(["iris"], lock, tell=told.append)
    back: list[Callable[[], object]] = []

    def interrupted(name: str, asked_as: str) -> Bundled:
        if not back:
            back.append(away(state))
        return put_champion(name, asked_as)

    if when == "before":
        back.append(away(state))
    elif when == "during":
        monkeypatch.setattr(following, "put_champion", interrupted)
    else:
        assert follower.look()
        back.append(away(state))
    expected = "2" if when == "after" else "1"
    for _ in range(2):
        follower.look()
        assert live(lock) == expected
    assert "Traceback" not in "".join(told)
    (bring_back,) = back
    bring_back()
    assert follower.look()
    assert live(lock) == "2"


def test_a_database_that_is_restored_beside_a_running_follower_is_read(state: Path, lock: Path) -> None:
    """A restored file has another inode; the process must not keep the one that it has opened."""
    database = state / "mlflow.db"
    good = Path(shutil.copyfile(database, state / "good.db"))
    database.write_bytes(b"\0" * 4096)
    with subprocess.Popen(
        [sys.executable, "-m", "deploy", "follow", "--every", "0.1", "--lock", str(lock), "iris"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert "could not be opened" in process.stdout.readline()
            good.replace(database)
            end = time.monotonic() + PATIENCE_S
            while live(lock) != "2":
                assert time.monotonic() < end
                time.sleep(0.1)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server that has two versions of `iris`."""
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder / "mlflow") as started:
        registry = Registry(started.url)
        for number in range(2):
            crown(registry, iris(folder / str(number)), "iris")
        yield started.url


@pytest.mark.deep
def test_a_server_may_be_lost_at_each_request(
    server: str, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each one that a look sends: the file names the old version, and with the server back the new one."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(following, "FIRST_RETRY_S", 0.0)
    cut = Cut(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", cut.url)
    lock = tmp_path / "models.lock"
    direct = Registry(server)
    promote(direct, "1")
    assert Follower(["iris"], lock, tell=told.append).look()
    first = lock.read_text()
    promote(direct, "2")

    def look(at: int | None) -> Follower:
        lock.write_text(first)
        if (stored := store.find("iris", version="2", run_id=run)) is not None:
            store.remove(stored)
        follower = Follower(["iris"], lock, tell=told.append)
        cut.cut_at, cut.skip = (None, 0) if at is None else ("", at)
        follower.look()
        return follower

    champion = direct.version("iris", CHAMPION)
    assert champion is not None
    run = champion.run_id
    cut.seen.clear()
    look(None)
    assert live(lock) == "2"
    requests = len(cut.seen)
    assert requests > 3
    lost = 0
    for at in range(requests):
        follower = look(at)
        lost += live(lock) == "1"
        cut.heal()
        assert follower.look(), told[-1]
        assert live(lock) == "2"
    assert lost > requests / 2, "the last requests only look whether an alias has moved"
    cut.close()


def test_aliases_that_move_faster_than_it_looks_end_at_the_last_one(lock: Path, told: list[str]) -> None:
    """Twice within a second, again and again, beside a follower that never stops looking."""
    registry, ended = Registry(), threading.Event()
    follower = Follower(["iris"], lock, tell=told.append)
    seen: list[str] = []

    def follow() -> None:
        while not ended.is_set():
            follower.look()
            seen.append(live(lock))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        for _ in range(10):
            promote(registry, "1")
            promote(registry, "2")
    finally:
        ended.set()
        thread.join()
    assert follower.look()
    assert live(lock) == "2"
    assert set(seen) <= {"1", "2"}


@pytest.mark.parametrize("step_s", [-400 * 86_400.0, 400 * 86_400.0], ids=["back", "ahead"])
def test_a_clock_that_steps_hides_no_champion(
    lock: Path, told: list[str], monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """Promotions and the way back are as without it, and so is when a refused version is tried again."""
    registry = Registry()
    follower = Follower(["iris"], lock, keep=1, tell=told.append)
    assert follower.look()
    now = time.time
    first, second = (version_of(registry, number) for number in ("1", "2"))
    make_champion(registry, first)
    monkeypatch.setattr(time, "time", lambda: now() + step_s)
    make_champion(registry, second)
    assert follower.look()
    assert live(lock) == "2"
    rollback(registry, "iris")
    assert follower.look()
    assert live(lock) == "1"
