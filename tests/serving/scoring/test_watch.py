"""A change of models.lock goes live, or changes nothing and says why; nothing is left open."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from artifact import manifest
from artifact.models_lock import CANARY, CHAMPION, SHADOW, Entry
from serving.observe import metrics
from serving.scoring import catalog, watch
from serving.scoring.orders import Wanted
from serving.scoring.watch import plan
from tests.serving import artifacts
from tests.serving.conftest import ask
from tests.serving.swapping import Running, kept, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


__all__ = ["kept", "run"]  # the fixtures


def gauge(model: str) -> float:
    return metrics.VERSION_REFUSED.labels(model)._value.get()


def test_what_to_do_follows_from_what_is_wanted_and_what_is_live() -> None:
    wanted = [
        Entry("a", "a:2"),
        Entry("b", "b:1"),
        Entry("c", "c:1"),
        Entry("a", "a:3", SHADOW),
        Entry("b", "b:2", CANARY, 10),
        Entry("c", "c:2", SHADOW),
    ]
    loaded = {
        ("a", CHAMPION): ("a:1", 0.0),
        ("b", CHAMPION): ("b:1", 0.0),
        ("d", CHAMPION): ("d:1", 0.0),
        ("a", SHADOW): ("a:3", 0.0),
        ("b", CANARY): ("b:2", 5.0),
    }
    found = plan(Wanted(wanted, ("a", "b", "c", "e"), ("e",)), loaded)
    assert (found.default, found.unloaded) == ("a", ("e",))
    assert found.open == [wanted[0], wanted[2], wanted[4], wanted[5]]
    assert found.keep == ("a", "b", "c")
    assert found.keep_beside == {("a", SHADOW), ("b", CANARY), ("c", SHADOW)}


def test_another_version_goes_live_and_back(run: Callable[..., Running]) -> None:
    running = run()
    assert running.says() == (10, "1")
    for version in (2, 3, 1):
        running.look(f"linear linear:{version}\n")
        assert running.says() == (10 * version, str(version))
    assert running.not_live == []


def test_a_version_has_routes_of_its_own_while_it_is_loaded(run: Callable[..., Running]) -> None:
    running = run()
    tensor = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [10]}]}'
    for version, other in (("1", "2"), ("2", "1")):
        running.look(f"linear linear:{version}\n")
        assert running.post(f"/models/linear/versions/{version}/predict").json()["version"] == version
        assert (
            running.post(f"/v2/models/linear/versions/{version}/infer", tensor).json()["model_version"]
            == version
        )
        assert running.get(f"/v2/models/linear/versions/{version}/ready").status == 200
        for gone in (
            running.post(f"/models/linear/versions/{other}/predict"),
            running.post(f"/v2/models/linear/versions/{other}/infer", tensor),
            running.get(f"/v2/models/linear/versions/{other}/ready"),
            running.get(f"/v2/models/linear/versions/{other}"),
        ):
            assert gone.status == 404
            assert f"'{version}'" in gone.body.decode()
            assert f"'{other}'" in gone.body.decode()


def test_requests_are_counted_by_version_and_only_of_what_is_live(run: Callable[..., Running]) -> None:
    """The files that workers share would keep the label of each version for good."""
    running = run()

    def counted() -> str:
        async def ask_and_flush() -> None:
            await ask(running.gateway, "POST", "/predict", b'{"x": 1}')
            await asyncio.sleep(0.01)

        asyncio.run(ask_and_flush())
        lines = metrics.exposition().decode().splitlines()
        return "\n".join(line for line in lines if "version=" in line and 'model="linear"' in line)

    assert 'okamochi_version_requests_total{model="linear",status="200",version="1"}' in counted()
    running.look("linear linear:2\n")
    text = counted()
    assert 'okamochi_version_requests_total{model="linear",status="200",version="2"}' in text
    assert 'okamochi_model_info{model="linear",runtime="onnx",version="2"} 1.0' in text
    assert 'version="1"' not in text
    assert not [key for key in running.gateway._observe._kinds if key[1] == "1"]


def test_the_files_of_a_new_version_are_hashed_with_pauses(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are answered meanwhile; a start, which answers nothing yet, does not wait."""
    pauses: list[float] = []
    monkeypatch.setattr(manifest, "sleep", pauses.append)
    running = run()
    assert pauses == []
    running.look("linear linear:2\n")
    assert running.says() == (20, "2")
    files = [path for path in running.store.folders["linear:2"].iterdir() if path.name != manifest.MANIFEST]
    assert pauses == [manifest.PAUSE_S] * len(files)


def test_a_file_that_stays_the_same_opens_nothing(run: Callable[..., Running]) -> None:
    running = run()
    for _ in range(3):
        running.look()
    assert running.store.located == ["linear:1"]


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Python collects no garbage by itself."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_an_old_version_is_closed_once_its_requests_are_done(run: Callable[..., Running]) -> None:
    """Also where a refused request left a cycle of references to it."""
    others = set(threading.enumerate())
    running = run()
    began = set(threading.enumerate()) - others
    old = running.gateway.catalog.live["linear"]
    asked = running.gateway.live.routes.endpoints[
        "/predict"
    ]  # as a request holds it whose body is on its way
    closed: list[bool] = []
    old.batcher.close = lambda: closed.append(True)  # type: ignore[method-assign]
    gone = weakref.ref(old)
    del old
    cycle: list[Any] = [running.gateway.live.routes.endpoints["/score"]]
    cycle.append(cycle)  # as a problem and the frames that raised it
    del cycle
    running.look("linear linear:2\n")
    running.look()
    assert closed == []
    assert asked.model.version == "1"
    del asked
    running.look()
    assert closed == [True]
    assert gone() is None
    ended = [thread for thread in began if not thread.is_alive()]
    assert len(set(threading.enumerate()) - others - began) == len(ended), "one for each that has ended"


def other_golden(folder: Path) -> None:
    golden = json.loads((folder / "golden.json").read_text())
    golden["scores"][0][0] += 0.5
    (folder / "golden.json").write_text(json.dumps(golden))
    artifacts.reseal(folder)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "digest": lambda folder: (folder / "model.onnx").write_bytes(b"x"),
    "golden rows": other_golden,
    "absent": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_version_that_is_refused_changes_nothing(
    run: Callable[..., Running], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, tried once, and tried again when the stored files change."""
    running = run()
    folder = running.store.folders["linear:2"]
    whole = shutil.copytree(folder, folder.with_name("whole"))
    DAMAGES[damage](folder)
    before = running.gateway.catalog.live["linear"]
    running.look("linear linear:2\n")
    for _ in range(5):
        running.look()

    assert running.gateway.catalog.live["linear"] is before
    assert running.says() == (10, "1")
    assert running.get("/readyz").status == 200
    (said,) = running.not_live
    assert (said["name"], said["tag"]) == ("linear", "linear:2")
    assert said["reason"]
    assert str(folder.parent) not in said["reason"]
    assert running.store.located == ["linear:1", "linear:2"]
    assert sum("is refused" in message for message in caplog.messages) == 1
    assert gauge("linear") == 1

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    running.look()
    assert running.says() == (20, "2")
    assert running.not_live == []
    assert gauge("linear") == 0


def test_of_two_that_are_refused_the_mended_one_alone_is_tried_again(
    run: Callable[..., Running], kept: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """And neither while the file itself cannot be followed, which is said once."""
    running = run()
    running.look("linear linear:8\niris iris:9\n")
    running.store.folders["iris:9"] = kept["iris:1"]
    running.look()
    running.look()
    assert running.store.located == ["linear:1", "linear:8", "iris:9", "iris:9"]
    assert set(running.gateway.catalog.live) == {"linear", "iris"}
    running.look("linear\n")
    running.store.folders["linear:8"] = kept["linear:2"]
    running.look()
    running.look()
    assert sum("is not followed" in message for message in caplog.messages) == 1
    assert running.says() == (10, "1")


def test_a_refused_version_that_the_file_no_longer_names_is_forgotten(run: Callable[..., Running]) -> None:
    running = run()
    running.look("linear linear:9\n")
    assert gauge("linear") == 1
    running.look("linear linear:1\n")
    assert running.not_live == []
    assert gauge("linear") == 0
    running.look("linear linear:9\n")  # written again, so it is tried again
    assert running.store.located == ["linear:1", "linear:9", "linear:9"]


def test_a_version_that_no_request_would_wait_for_is_refused(run: Callable[..., Running]) -> None:
    running = run(default_deadline_ms=1)
    opened = watch.open_or_reason

    def slow(*arguments: Any, **named: Any) -> Any:
        model, reason = opened(*arguments, **named)
        assert model is not None
        model.batcher._costs._seen = {1: [1, 0.5, 0.5]}
        return model, reason

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "open_or_reason", slow)
        running.look("linear linear:2\n")
    assert "one row takes 500 ms" in running.not_live[0]["reason"]
    assert running.gateway.catalog.live["linear"].version == "1"


def test_routes_that_cannot_be_made_change_nothing(run: Callable[..., Running]) -> None:
    running = run()
    routes_of = running.gateway.routes_of

    def broken(models: catalog.Catalog) -> Any:
        if models.live["linear"].version == "2":
            raise ValueError("a bug")
        return routes_of(models)

    running.gateway.routes_of = broken  # type: ignore[method-assign]
    running.look("linear linear:2\n")
    assert running.says() == (10, "1")
    assert "routes" in running.not_live[0]["reason"]


def _pipe(path: Path) -> None:
    os.mkfifo(path)  # opening one waits for a writer


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)  # a hole: no memory holds it


@pytest.mark.parametrize(
    "content",
    [None, "", "# nothing\n", "linear\n", "linear linear:2 shadow\n", "\xff", _pipe, Path.mkdir, _huge],
)
def test_a_file_that_cannot_be_followed_changes_nothing(
    run: Callable[..., Running],
    content: str | Callable[[Path], None] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = run("linear linear:1\niris iris:1\n")
    if not isinstance(content, str):
        running.lock.unlink()
        if content is not None:
            content(running.lock)
    else:
        running.lock.write_bytes(content.encode("latin-1"))
    for _ in range(3):
        running.look()
    assert running.says() == (10, "1")
    assert set(running.gateway.catalog.live) == {"linear", "iris"}
    assert running.get("/readyz").status == 200
    (said,) = running.not_live
    assert said["name"] is None
    assert "models.lock" in said["reason"]
    assert str(running.lock.parent) not in said["reason"]
    assert sum("is not followed" in message for message in caplog.messages) == 1
    assert gauge("") == 1

    if running.lock.is_dir():
        running.lock.rmdir()
    else:
        running.lock.unlink(missing_ok=True)
    running.look("linear linear:2\niris iris:1\n")
    assert running.says() == (20, "2")
    assert running.not_live == []
    assert gauge("") == 0


def test_a_file_that_is_being_written_is_left_alone(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor that writes in steps has lost a name for a moment."""
    running = run("linear linear:1\niris iris:1\n")
    running.look()
    monkeypatch.setattr(watch, "SETTLE_S", 0.3)
    running.lock.write_text("linear linear:2\n")
    rest = threading.Timer(0.1, running.lock.write_text, ["linear linear:2\niris iris:1\n"])
    rest.start()
    running.look()
    rest.join()
    assert running.post("/models/iris/predict", b'{"features": [[5, 3, 1, 0]]}').status == 200
    assert running.says() == (10, "1")
    running.look()
    assert running.says() == (20, "2")
    assert set(running.gateway.catalog.live) == {"linear", "iris"}


def test_a_file_that_never_rests_is_followed_in_the_end(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes during each rest of the usual length, and not during a short one."""
    running = run()
    running.look()
    monkeypatch.setattr(watch, "SETTLE_S", 0.3)
    monkeypatch.setattr(watch, "RESTLESS_S", 60.0)
    thread = running.watch._thread
    looks = []

    def wait(seconds: float) -> bool:
        looks.append(seconds)
        if seconds == watch.SETTLE_S:
            running.lock.write_text(f"linear linear:2 # {len(looks)}\n")
        return False

    monkeypatch.setattr(thread.ended, "wait", wait)
    running.lock.write_text("linear linear:2\n")
    for _ in range(3):
        running.look()
    assert running.says() == (10, "1")
    monkeypatch.setattr(watch, "RESTLESS_S", 0.0)
    running.look()
    assert running.says() == (20, "2")
    assert looks == [watch.SETTLE_S] * 3 + [watch.SHORT_REST_S]
    # What comes then has to rest as long as ever.
    monkeypatch.setattr(watch, "RESTLESS_S", 60.0)
    running.lock.write_text("linear linear:1\n")
    running.look()
    assert running.says() == (20, "2")


def test_names_come_and_go_and_the_first_is_the_default(run: Callable[..., Running]) -> None:
    running = run()
    running.look("iris iris:1\nlinear linear:1\n")
    assert running.get("/models").json()["default"] == "iris"
    assert running.post("/models/linear/predict").status == 200
    running.look("linear linear:1\n")
    gone = running.post("/models/iris/predict", b'{"features": [[5, 3, 1, 0]]}')
    assert gone.status == 404
    assert "'linear'" in gone.json()["detail"]
    assert running.says() == (10, "1")


def test_a_new_name_that_is_refused_says_why_and_leaves_the_server_ready(run: Callable[..., Running]) -> None:
    running = run()
    running.look("wine wine:1\nlinear linear:1\n")
    refused = running.post("/models/wine/predict")
    assert refused.status == 503
    assert "no wine:1" in refused.json()["detail"]
    assert running.get("/v2/models/wine").status == 503
    assert running.get("/readyz").status == 200
    assert running.says() == (10, "1")  # it is no default either
    running.look("linear linear:1\n")
    assert running.post("/models/wine/predict").status == 404


def test_the_last_model_is_not_taken_away_by_a_name_that_is_refused(run: Callable[..., Running]) -> None:
    running = run()
    running.look("wine wine:1\n")
    assert running.says() == (10, "1")
    assert running.not_live[0]["name"] == "wine"


def test_the_setting_picks_from_a_file_that_changes(run: Callable[..., Running]) -> None:
    running = run("linear linear:1\niris iris:1\n", models=("linear",))
    running.look("iris iris:1\nlinear linear:2\n")
    assert running.says() == (20, "2")
    assert list(running.gateway.catalog.live) == ["linear"]
    running.look("iris iris:1\n")
    assert running.says() == (20, "2")
    assert "OKAMOCHI_MODELS names 'linear'" in running.not_live[0]["reason"]


def test_a_model_that_was_refused_at_start_is_tried_again_when_it_was_mended(
    run: Callable[..., Running], kept: dict[str, Path]
) -> None:
    running = run("linear linear:1\niris iris:9\n")
    assert running.get("/readyz").status == 503
    for _ in range(3):
        running.look()
    assert running.store.located.count("iris:9") == 1
    running.store.folders["iris:9"] = kept["iris:1"]
    running.look()
    assert running.get("/readyz").status == 200
    assert running.post("/models/iris/predict", b'{"features": [[5, 3, 1, 0]]}').status == 200


def test_a_model_that_was_refused_at_start_may_leave(run: Callable[..., Running]) -> None:
    running = run("linear linear:1\niris iris:9\n")
    running.look("linear linear:1\n")
    assert running.get("/readyz").status == 200
    assert running.post("/models/iris/predict").status == 404


def test_the_process_of_an_old_version_ends(tmp_path: Path, run: Callable[..., Running]) -> None:
    """And that of a version whose warm-up fails."""
    others = keepers()  # of tests before this one, in the same process
    running = run()
    for version in (5, 6):
        made = artifacts.linear(tmp_path / f"raw{version}", slope=version, runtime="python")
        running.store.folders[f"linear:{version}"] = made.path
    running.look("linear linear:5\n")
    assert running.says() == (50, "5")
    old = keepers() - others
    assert len(old) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog.Batcher, "warm_up", _fail)
        running.look("linear linear:6\n")
    assert running.says() == (50, "5")
    assert keepers() - others == old
    running.look("linear linear:6 \n")
    assert running.says() == (60, "6")
    gc.collect()
    running.look()
    new = keepers() - others
    assert len(new) == 1
    assert not new & old


def keepers() -> set[int]:
    """The processes that hold a model of this process open."""
    own = psutil.Process(os.getpid()).children()
    return {each.pid for each in own if "artifact.keeper" in each.cmdline()}


def _fail(*_arguments: Any, **_options: Any) -> None:
    raise ValueError("the model raises on its example")
