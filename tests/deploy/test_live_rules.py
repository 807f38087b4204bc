"""A better shadow goes live and a worse champion goes away: once, whoever looks, and wherever it dies."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from artifact import models_lock, store
from deploy.follow import Follower
from deploy.live_rules import LOG_VARIABLE
from serving.prediction_log.folder import Folder
from tests.deploy.registered import crown, version_of
from tests.kept import empty_registry
from tests.servers import free_port
from tests.serving.artifacts import iris
from tests.training.decide.shadow_log import answered, write_folder
from training.__main__ import main
from training.decide.aliases import make_champion, rollback
from training.decide.timeline import timeline
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION, PREVIOUS, SHADOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("bentoml_home")

CLASSES = ("setosa", "versicolor", "virginica")
TOML = 'target = "species"\n[source]\nkind = "bundled"\nname = "iris"\n[live]\n'


@pytest.fixture(scope="module")
def champions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry in which `iris` has three versions and none is champion."""
    folder = tmp_path_factory.mktemp("champions")
    registry = Registry(empty_registry(folder / "state"))
    for number in range(3):
        crown(registry, iris(folder / str(number)), "iris")
    registry.delete_alias("iris", CHAMPION)
    return folder / "state"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The prediction log that the follower reads."""
    folder = tmp_path / "log"
    folder.mkdir()
    monkeypatch.setenv(LOG_VARIABLE, str(folder))
    return Folder(folder, file_bytes=10_000_000, file_s=1e9)


@pytest.fixture
def registry(state: Path) -> Registry:  # noqa: ARG001 - the registry is the test's own by then
    """Version 1 is champion."""
    found = Registry()
    promote(found, "1")
    return found


@pytest.fixture
def follower(tmp_path: Path, told: list[str]) -> Callable[..., Follower]:
    """A follower of `iris` with rules of `[live]`, as many as a test wants."""

    def made(rules: str = "promote_shadow = true", lock: str = "models.lock") -> Follower:
        path = tmp_path / "iris.toml"
        path.write_text(TOML + rules + "\n")
        return Follower([str(path)], tmp_path / lock, tell=told.append, rules_every_s=0)

    return made


def promote(registry: Registry, number: str) -> None:
    make_champion(registry, version_of(registry, number))


def aliases(registry: Registry) -> dict[str, str]:
    found = {alias: registry.version("iris", alias) for alias in (CHAMPION, PREVIOUS, SHADOW)}
    return {alias: version.number for alias, version in found.items() if version is not None}


def shadow(registry: Registry, number: str) -> None:
    registry.set_alias("iris", SHADOW, version_of(registry, number))


def write(log: Folder, n: int, right: tuple[float, float], versions: tuple[str, str], first: int = 0) -> None:
    """Rows on which champion and shadow are right with these frequencies."""
    write_folder(log, *answered(n, *right, model="iris", classes=CLASSES, versions=versions, first=first))


def changes(registry: Registry) -> list[tuple[str, str, str, bool]]:
    """Each change of the champion: version, kind, the version replaced, and whether a rule made it."""
    return [
        (event.version, event.what, event.replaced, bool(event.reason))
        for event in timeline(registry, "iris")
        if event.what != "registered"
    ]


def test_a_better_shadow_is_promoted_once_and_served(
    registry: Registry,
    log: Folder,
    follower: Callable[..., Follower],
    told: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shadow(registry, "2")
    write(log, 600, (0.7, 0.95), ("1", "2"))
    follows = follower()
    assert follows.look()
    assert aliases(registry) == {CHAMPION: "2", PREVIOUS: "1"}
    path, _ = store.path_of(models_lock.read(log.path.parent / "models.lock")["iris"])
    assert path.exists()
    (announced,) = [line for line in told if "by a rule" in line]
    assert (
        "version 2 is champion by a rule of [live]. The shadow is better than the champion: on 600"
        in announced
    )
    assert follows.look()
    assert changes(registry) == [("1", "promotion", "", False), ("2", "promotion", "1", True)]
    assert main(["timeline", "iris"]) == 0
    out = capsys.readouterr().out
    assert "The rule's last decision, version 2: The shadow is better than the champion" in out


def test_a_champion_that_is_worse_than_the_one_before_is_rolled_back(
    registry: Registry, log: Folder, follower: Callable[..., Follower], told: list[str]
) -> None:
    """The champion before is the shadow by itself; after the way back nothing is compared any more."""
    promote(registry, "2")
    follows = follower("roll_back = true")
    assert follows.look()
    assert aliases(registry) == {CHAMPION: "2", PREVIOUS: "1", SHADOW: "1"}
    assert "version 1, the champion before version 2, is its shadow now" in told[0]
    write(log, 600, (0.7, 0.95), ("2", "1"))
    assert follows.look()
    assert aliases(registry) == {CHAMPION: "1", PREVIOUS: "2"}
    assert changes(registry)[-1] == ("1", "rollback", "2", True)
    assert follows.look()
    assert aliases(registry) == {CHAMPION: "1", PREVIOUS: "2"}


def test_with_both_rules_what_was_promoted_is_watched_and_then_left_alone(
    registry: Registry, log: Folder, follower: Callable[..., Follower], told: list[str]
) -> None:
    """Until it has proven better than the one before."""
    shadow(registry, "2")
    write(log, 600, (0.7, 0.95), ("1", "2"))
    follows = follower("promote_shadow = true\nroll_back = true")
    assert follows.look()
    assert aliases(registry) == {CHAMPION: "2", PREVIOUS: "1", SHADOW: "1"}
    write(log, 600, (0.95, 0.7), ("2", "1"), first=10_000)
    assert follows.look()
    assert aliases(registry) == {CHAMPION: "2", PREVIOUS: "1"}
    assert any("The champion is better than the shadow" in sentence for sentence in told[-2:])
    before = len(told)
    assert follows.look()
    assert aliases(registry) == {CHAMPION: "2", PREVIOUS: "1"}
    assert len(told) == before


def test_what_a_person_takes_back_is_not_done_again_on_the_same_rows(
    registry: Registry, log: Folder, follower: Callable[..., Follower]
) -> None:
    """Neither by the follower that did it, nor by a new one, even if the version is the shadow again."""
    shadow(registry, "2")
    write(log, 600, (0.7, 0.95), ("1", "2"))
    follows = follower()
    assert follows.look()
    rollback(registry, "iris")
    shadow(registry, "2")
    for each in (follows, follower()):
        each.look()
        assert aliases(registry)[CHAMPION] == "1"
    write(log, 20, (0.0, 1.0), ("1", "2"), first=20_000)
    follows.look()
    assert aliases(registry)[CHAMPION] == "1", "20 new rows are too few"
    write(log, 600, (0.7, 0.95), ("1", "2"), first=30_000)
    follows.look()
    assert aliases(registry)[CHAMPION] == "2", "new rows decide anew"


def test_without_a_log_it_says_so_once_and_changes_nothing(
    registry: Registry, follower: Callable[..., Follower], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOG_VARIABLE, raising=False)
    shadow(registry, "2")
    follows = follower()
    for _ in range(3):
        assert follows.look()
    (said,) = [line for line in told if "[live]" in line]
    assert said == (
        "iris: [live] has promote_shadow = true, but OKAMOCHI_PREDICTION_LOG is not set for `deploy follow`, "
        "so no outcome is known and no rule changes anything."
    )
    assert aliases(registry) == {CHAMPION: "1", SHADOW: "2"}


@pytest.mark.parametrize("rules", ["", "promote_shadow = false", "roll_back = true"])
def test_a_rule_that_is_not_switched_on_changes_nothing(
    registry: Registry, log: Folder, follower: Callable[..., Follower], rules: str
) -> None:
    shadow(registry, "2")
    write(log, 600, (0.7, 0.95), ("1", "2"))
    assert follower(rules).look()
    assert aliases(registry) == {CHAMPION: "1", SHADOW: "2"}


@pytest.mark.parametrize(
    "case",
    [
        ("toml", 'unknown key "live.promte"'),
        ("log", "is not a folder"),
        ("artifact", "signature.json"),
    ],
)
def test_what_keeps_a_rule_from_looking_is_told_once_and_the_rest_goes_on(
    registry: Registry,
    log: Folder,
    follower: Callable[..., Follower],
    told: list[str],
    case: tuple[str, str],
) -> None:
    damage, said = case
    shadow(registry, "2")
    write(log, 600, (0.7, 0.95), ("1", "2"))
    follows = follower()
    if damage == "toml":
        (log.path.parent / "iris.toml").write_text(TOML + "promte = 1\n")
    elif damage == "log":
        shutil.rmtree(log.path)
    else:
        files = (log.path.parent / "state" / "mlruns").rglob("okamochi/signature.json")
        sorted(files, key=lambda path: path.stat().st_mtime)[1].write_text("{}")
    for _ in range(2):
        follows.look()
    (line,) = [each for each in told if "the rules of [live] do nothing" in each]
    assert said in line
    assert aliases(registry) == {CHAMPION: "1", SHADOW: "2"}


def test_a_registry_that_is_away_changes_nothing_and_is_asked_again(
    registry: Registry,
    log: Folder,
    follower: Callable[..., Follower],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow(registry, "2")
    write(log, 600, (0.7, 0.95), ("1", "2"))
    follows = follower()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert not follows.look()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert aliases(registry) == {CHAMPION: "1", SHADOW: "2"}
    assert follows.look()
    assert aliases(registry)[CHAMPION] == "2"


class Killed(BaseException):
    """What ends a follower at a step, so that nothing of it catches it."""


def killing(monkeypatch: pytest.MonkeyPatch, at: int, *, done: bool) -> list[str]:
    """Let the n-th write to the registry end the process, before it is done or after; the writes so far."""
    writes: list[str] = []
    for method in ("tag", "set_alias", "delete_alias"):
        whole: Any = getattr(Registry, method)

        def cut(self: Registry, *arguments: Any, whole: Any = whole, method: str = method) -> None:
            writes.append(method)
            if len(writes) == at and not done:
                raise Killed
            whole(self, *arguments)
            if len(writes) == at:
                raise Killed

        monkeypatch.setattr(Registry, method, cut)
    return writes


@pytest.mark.parametrize("kind", ["promote", "roll back", "keep"])
def test_wherever_it_is_killed_the_next_look_completes_it(
    registry: Registry,
    log: Folder,
    follower: Callable[..., Follower],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """At each write, before it and after it: the aliases and the timeline are those of a whole look."""
    rules = "promote_shadow = true\nroll_back = true"
    if kind == "promote":
        shadow(registry, "2")
        write(log, 600, (0.7, 0.95), ("1", "2"))
    else:
        promote(registry, "2")
        shadow(registry, "1")
        write(log, 600, (0.7, 0.95) if kind == "roll back" else (0.95, 0.7), ("2", "1"))
    database = log.path.parent / "state" / "mlflow.db"
    saved = shutil.copyfile(database, log.path.parent / "saved.db")

    def look(at: int, *, done: bool) -> tuple[list[str], dict[str, str], list[tuple[str, str, str, bool]]]:
        shutil.copyfile(saved, database)
        with monkeypatch.context() as patched:
            writes = killing(patched, at, done=done)
            if at:
                with pytest.raises(Killed):
                    follower(rules).look()
            else:
                follower(rules).look()
        again = follower(rules)
        again.look()
        again.look()
        return writes, aliases(Registry()), changes(Registry())

    writes, *whole = look(0, done=True)
    assert len(writes) >= 2
    for at in range(1, len(writes) + 1):
        for done in (False, True):
            _, *found = look(at, done=done)
            assert found == whole, f"killed at write {at} ({writes[at - 1]})"


@pytest.mark.parametrize("locks", [("models.lock", "models.lock"), ("one.lock", "other.lock")])
def test_followers_that_act_at_once_make_one_change(
    registry: Registry, log: Folder, follower: Callable[..., Follower], locks: tuple[str, ...]
) -> None:
    """Of one file, as on a machine, and of two, as in two pods."""
    shadow(registry, "2")
    write(log, 600, (0.7, 0.95), ("1", "2"))
    together = threading.Barrier(2)
    failed: list[BaseException] = []

    def follows(lock: str) -> None:
        one = follower("promote_shadow = true\nroll_back = true", lock)
        together.wait()
        try:
            for _ in range(3):
                one.look()
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=follows, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert aliases(registry) == {CHAMPION: "2", PREVIOUS: "1", SHADOW: "1"}
    assert changes(registry) == [("1", "promotion", "", False), ("2", "promotion", "1", True)]
