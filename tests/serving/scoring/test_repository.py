"""An administrator loads and unloads models of a running server, over the routes of `/v2/repository`."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from artifact.models_lock import CANARY, CHAMPION, SHADOW, Entry
from serving.access import keys
from serving.access.check import Check
from serving.http import access
from serving.scoring import catalog, orders, repository
from serving.scoring.orders import Order, Orders, WorkerState
from serving.settings import Settings
from serving.shared import Shared
from tests.serving.conftest import ask
from tests.serving.swapping import Running, Store, kept, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.serving.conftest import Answer

__all__ = ["kept", "run"]  # the fixtures

BOTH = "linear linear:1\niris iris:1\n"
IRIS = b'{"features": [[5, 3, 1, 0]]}'


def test_what_is_wanted_is_the_file_as_orders_change_it() -> None:
    lines = [Entry("a", "a:1"), Entry("b", "b:1"), Entry("c", "c:1"), Entry("a", "a:2", SHADOW)]
    found = orders.wanted(
        lines, Orders(1, {"a": Order(), "b": Order("b:7", "b:1"), "c": Order("c:7", "c:0")})
    )
    assert found.entries == [Entry("b", "b:7"), Entry("c", "c:1")]
    assert (found.names, found.unloaded) == (("a", "b", "c"), ("a",))


@pytest.fixture
def started(run: Callable[..., Running]) -> Callable[..., Running]:
    """A server whose thread looks for orders; the test makes the looks at the file."""

    def start(content: str = BOTH, **options: Any) -> Running:
        running = run(content, **{"watch_s": 1_000, **options})
        running.look()
        running.watch.start()
        return running

    return start


def post(running: Running, path: str, content: object = None, **options: Any) -> Answer:
    body = b"" if content is None else json.dumps(content).encode()
    return asyncio.run(
        ask(running.gateway, "POST", f"/v2/repository/{path}", body, **{"client": "127.0.0.1", **options})
    )


def index(running: Running, content: object = None) -> dict[tuple[str, str], tuple[str, str]]:
    found = post(running, "index", content).json()
    return {(each["name"], each["version"]): (each["state"], each["reason"]) for each in found}


def version(wanted: int) -> dict[str, Any]:
    config = json.dumps({"version_policy": {"specific": {"versions": [wanted]}}})
    return {"parameters": {"config": config}}


def test_a_name_goes_with_its_versions_and_comes_back(started: Callable[..., Running]) -> None:
    running = started("linear linear:1\nlinear linear:2 shadow\niris iris:1\n")
    assert post(running, "models/linear/unload").status == 200
    for path in ("/models/linear/predict", "/models/linear/versions/2/predict", "/models/linear/explain"):
        gone = running.post(path)
        assert gone.status == 404
        assert "'linear' was unloaded" in gone.json()["detail"], path
    assert "was unloaded" in running.post("/v2/models/linear/infer").json()["error"]
    assert running.get("/v2/models/linear/ready").status == 404
    assert running.post("/models/iris/predict", IRIS).status == 200
    assert running.get("/readyz").status == 200
    assert running.not_live == [{"name": "linear", "reason": "an administrator has unloaded it"}]

    assert post(running, "models/linear/load").status == 200
    assert running.says() == (10, "1")
    assert running.post("/models/linear/versions/2/predict").status == 200
    assert running.not_live == []


def test_the_default_model_is_not_another_one_while_it_is_unloaded(started: Callable[..., Running]) -> None:
    running = started()
    post(running, "models/linear/unload")
    for path in ("/predict", "/invocations", "/score"):
        gone = running.post(path, IRIS)
        assert (gone.status, "'linear' was unloaded" in gone.body.decode()) == (404, True), path
    assert running.get("/models").json()["default"] == "linear"
    assert running.get("/ping").status == 503
    post(running, "models/linear/load")
    assert running.says() == (10, "1")


def test_the_last_model_may_be_unloaded_and_the_server_is_not_ready(started: Callable[..., Running]) -> None:
    running = started("linear linear:1\n")
    assert post(running, "models/linear/unload").status == 200
    assert running.get("/readyz").status == 503
    assert running.get("/openapi.json").status == 200
    assert running.get("/docs").status == 200
    assert post(running, "index", {"ready": True}).json() == []
    assert post(running, "models/linear/load").status == 200
    assert running.get("/readyz").status == 200
    assert running.says() == (10, "1")


def test_a_stored_version_is_loaded_until_the_file_names_another(started: Callable[..., Running]) -> None:
    running = started()
    assert post(running, "models/linear/load", version(3)).status == 200
    assert running.says() == (30, "3")
    running.look(BOTH + "# a word\n")
    assert running.says() == (30, "3")
    assert post(running, "models/linear/load").status == 200
    assert running.says() == (10, "1")
    post(running, "models/linear/load", version(3))
    running.look("linear linear:2\niris iris:1\n")
    assert running.says() == (20, "2")


def test_an_unloaded_name_stays_so_whatever_the_file_says(started: Callable[..., Running]) -> None:
    """A nightly retraining does not bring back what a person has taken away."""
    running = started()
    post(running, "models/linear/unload")
    running.look("linear linear:2\niris iris:1\n")
    assert running.post("/models/linear/predict").status == 404
    running.look("iris iris:1\nlinear linear:2\n")
    assert running.post("/predict", IRIS).status == 200
    assert running.store.located == ["linear:1", "iris:1"]
    post(running, "models/linear/load")
    assert running.post("/models/linear/predict").json()["version"] == "2"


@pytest.mark.parametrize("content", ["", "linear\n", None])
def test_orders_are_followed_while_the_file_is_not(
    started: Callable[..., Running], content: str | None
) -> None:
    running = started()
    if content is None:
        running.lock.unlink()
    running.look(content)
    post(running, "models/linear/unload")
    assert running.post("/models/linear/predict").status == 404
    assert running.not_live[-1]["name"] is None
    post(running, "models/linear/load", version(2))
    assert running.post("/models/linear/predict").json()["version"] == "2"
    assert running.not_live[-1]["name"] is None


def test_a_file_takes_the_last_model_that_is_not_unloaded_from_nobody(
    started: Callable[..., Running],
) -> None:
    running = started()
    post(running, "models/linear/unload")
    running.look("linear linear:1\nwine wine:1\n")
    assert running.post("/models/iris/predict", IRIS).status == 200
    assert running.post("/models/linear/predict").status == 404


def test_the_index_has_what_is_loaded_and_what_could_be(started: Callable[..., Running]) -> None:
    running = started("linear linear:1\nlinear linear:2 shadow\niris iris:1\nwine wine:1\n")
    found = index(running)
    assert found["linear", "1"] == found["linear", "2"] == found["iris", "1"] == ("READY", "")
    assert found["linear", "3"] == ("UNAVAILABLE", "in the store, not loaded")
    assert found["wine", "1"][0] == "UNAVAILABLE"
    assert "no wine:1" in found["wine", "1"][1]
    assert set(index(running, {"ready": True})) == {("linear", "1"), ("linear", "2"), ("iris", "1")}
    assert index(running, {"ready": False}) == found
    post(running, "models/linear/unload")
    assert index(running)["linear", "2"] == ("UNAVAILABLE", "unloaded")


def test_a_version_that_is_refused_changes_nothing(started: Callable[..., Running]) -> None:
    running = started()
    (running.store.folders["linear:3"] / "model.onnx").write_bytes(b"x")
    for _ in range(2):
        refused = post(running, "models/linear/load", version(3))
        assert refused.status == 503
        assert "Version 3 of 'linear' is refused" in refused.json()["error"]
        assert "Nothing has changed" in refused.json()["error"]
    running.look(BOTH + "\n")
    assert running.says() == (10, "1")
    assert running.not_live == []


def test_a_model_that_is_damaged_meanwhile_does_not_come_back_until_it_is_mended(
    started: Callable[..., Running],
) -> None:
    running = started()
    folder = running.store.folders["linear:1"]
    whole = shutil.copytree(folder, folder.with_name("whole"))
    post(running, "models/linear/unload")
    (folder / "model.onnx").write_bytes(b"x")
    assert post(running, "models/linear/load").status == 503
    assert index(running)["linear", "1"][0] == "UNAVAILABLE"
    assert running.get("/readyz").status == 200
    shutil.rmtree(folder)
    shutil.copytree(whole, folder)
    running.look()
    assert running.says() == (10, "1")


@pytest.mark.parametrize(
    ("path", "content", "status", "words"),
    [
        ("models/wine/load", None, 404, "models.lock does not name 'wine'"),
        ("models/wine/unload", None, 404, "models.lock does not name 'wine'"),
        ("models/linear/load", version(9), 404, "no version '9' of 'linear', only 1, 2, 3"),
        ("models/linear/load", [], 422, "expected an object"),
        ("models/linear/load", {"parameters": []}, 422, "parameters: expected an object"),
        ("models/linear/load", {"parameters": {"file:1/m.onnx": "eA=="}}, 422, "'file:1/m.onnx' is not supp"),
        ("models/linear/load", {"parameters": {"config": 5}}, 422, "expected JSON in a text"),
        ("models/linear/load", {"parameters": {"config": "{"}}, 400, "not JSON"),
        ("models/linear/load", {"parameters": {"config": '{"backend": "x"}'}}, 422, "version_policy"),
        (
            "models/linear/load",
            {"parameters": {"config": '{"version_policy": {"latest": {"num_versions": 1}}}'}},
            422,
            "version_policy",
        ),
        (
            "models/linear/load",
            {"parameters": {"config": '{"version_policy": {"specific": {"versions": [1.5]}}}'}},
            422,
            "expected a whole number",
        ),
        ("models/linear/load", version(True), 422, "expected a whole number"),
        ("index", {"ready": "yes"}, 422, "ready: expected true or false"),
        ("models//load", None, 404, "Unknown path"),
        ("models/linear/reload", None, 404, "Unknown path"),
        ("models/linear/load/", None, 404, "Unknown path"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_changes_nothing(
    started: Callable[..., Running], path: str, content: object, status: int, words: str
) -> None:
    running = started()
    refused = post(running, path, content)
    assert refused.status == status, refused.body
    assert words in refused.json()["error"]
    assert running.says() == (10, "1")
    assert orders.read(running.watch._shared) == Orders()


def test_other_methods_and_large_bodies_are_refused(started: Callable[..., Running]) -> None:
    running = started()
    for path in ("index", "models/linear/load", "models/linear/unload"):
        wrong = running.get(f"/v2/repository/{path}")
        assert (wrong.status, wrong.headers["allow"]) == (405, "POST, OPTIONS")
        assert post(running, path, "x" * 70_000).status == 413
        assert post(running, path, headers={"Content-Type": "text/csv"}).status == 415


def test_a_full_disk_changes_nothing(
    started: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = started()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Shared, "write", full)
    refused = post(running, "models/linear/unload")
    assert refused.status == 503
    assert "No space left on device. Nothing has changed" in refused.json()["error"]
    assert running.says() == (10, "1")


def test_a_worker_that_does_not_follow_is_told(
    started: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = started()
    monkeypatch.setattr(repository, "WAIT_S", 0.1)
    monkeypatch.setattr(running.watch, "wake", lambda: None)
    monkeypatch.setattr(running.watch, "_follow_orders", lambda *_, **__: None)
    refused = post(running, "models/linear/unload")
    assert refused.status == 503
    assert "0 of 1 workers have followed it" in refused.json()["error"]


def test_a_server_that_does_not_watch_says_so(started: Callable[..., Running]) -> None:
    running = started()
    running.gateway.repository = None
    refused = post(running, "models/linear/unload")
    assert (refused.status, "OKAMOCHI_WATCH_S=0" in refused.json()["error"]) == (403, True)


# ---- a worker that starts while another one serves


def test_a_worker_that_starts_serves_what_others_serve_of_a_version_that_it_refuses(
    kept: dict[str, Path],
) -> None:
    """Champion, shadow and canary; a champion that no other serves is refused."""
    tags = {"linear:1": kept["linear:1"], "linear:2": kept["linear:2"], "linear:3": kept["linear:3"]}
    store = Store(tags)
    served = {
        ("linear", CHAMPION): Entry("linear", "linear:1"),
        ("linear", SHADOW): Entry("linear", "linear:2", SHADOW),
        ("linear", CANARY): Entry("linear", "linear:3", CANARY, 5.0),
    }
    beside = [Entry("linear", "linear:8", SHADOW), Entry("linear", "linear:7", CANARY, 9.0)]
    models = catalog.load(
        [("linear", "linear:9"), ("iris", "iris:9")], store.locate, Settings(), beside, served
    )
    assert {slot: model.version for slot, model in models.loaded.items()} == {
        ("linear", CHAMPION): "1",
        ("linear", SHADOW): "2",
        ("linear", CANARY): "3",
    }
    assert "no linear:9" in models.held["linear"].reason
    assert {slot: held.tag for slot, held in models.not_beside.items()} == {
        ("linear", SHADOW): "linear:8",
        ("linear", CANARY): "linear:7",
    }
    assert list(models.refused) == ["iris"]
    models.close()


def test_what_is_served_is_remembered_by_name_and_role() -> None:
    """A line that is refused keeps what was served before it, and a name that has left is forgotten."""
    shared = Shared()
    one, two = Entry("a", "a:1"), Entry("b", "b:1", SHADOW)
    orders.remember_served(shared, [one, two], {one.slot: one, two.slot: two})
    assert orders.served(shared) == [one, two]
    newer = Entry("a", "a:2")
    orders.remember_served(shared, [newer, Entry("b", "b:9", SHADOW)], {newer.slot: newer})
    assert orders.served(shared) == [newer, two]
    orders.remember_served(shared, [newer], {newer.slot: newer, two.slot: two})
    assert orders.served(shared) == [newer]


def test_values_of_workers_are_whole_or_absent(tmp_path: Path) -> None:
    for shared in (Shared(tmp_path / "new" / "folder"), Shared()):
        assert shared.read("orders", Orders) is None
        assert orders.change(shared, "a", Order()) == (1, None)
        assert orders.change(shared, "a", Order("a:2", "a:1")) == (2, Order())
        assert orders.read(shared) == Orders(2, {"a": Order("a:2", "a:1")})
        orders.tell_followed(shared, WorkerState(2))
        assert orders.workers(shared) == [WorkerState(2)]
        shared.write("worker-999999999", WorkerState(1))
        assert orders.workers(shared) == [WorkerState(2)]
        assert shared.names("worker-999") == []
    folder = tmp_path / "new" / "folder"
    (folder / "orders").write_bytes(b"half")
    assert orders.read(Shared(folder)) == Orders()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


# ---- who may


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"client": "127.0.0.1"}, 200),
        ({"client": "::1"}, 200),
        ({"client": "10.1.2.3"}, 403),
        ({"client": ""}, 403),
        ({"headers": {"X-Forwarded-For": "10.1.2.3"}}, 403),
        ({"headers": {"Forwarded": "for=10.1.2.3"}}, 403),
        ({"headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
        ({"headers": {"Sec-Fetch-Site": "same-site"}}, 403),
        ({"headers": {"Sec-Fetch-Site": "same-origin"}}, 200),
    ],
)
def test_without_keys_the_machine_itself_may(
    started: Callable[..., Running], options: dict[str, Any], status: int
) -> None:
    """Not another machine, not the client of a proxy, not the page of another site in a browser here."""
    running = started()
    for verb in ("unload", "load"):
        found = post(running, f"models/linear/{verb}", **options)
        assert found.status == status
        if status == 403:
            assert "needs the right 'admin'" in found.json()["error"]
    assert post(running, "index", **options).status == 200  # as all that only shows something
    assert running.says() == (10, "1")


def test_with_keys_an_administrator_may(
    started: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load and unload from anywhere; an administrator of some models only these, and without the index."""
    made = {
        "ops": keys.make("ops", ["predict", "explain", "feedback", "observe"]),
        "admin": keys.make("admin", ["admin"]),
        "some": keys.make("some", ["admin"], models=["iris"]),
    }
    monkeypatch.setattr(access._installed, "admit", Check([key for _, key in made.values()]).admit)
    running = started()

    def asked(path: str, who: str) -> Answer:
        headers = {"X-API-Key": made[who][0]} if who else {}
        return post(running, path, client="10.1.2.3" if who else "127.0.0.1", headers=headers)

    for path in ("index", "models/linear/unload", "models/linear/load"):
        assert asked(path, "").status == 401
        lacking = asked(path, "ops")
        assert lacking.status == 403
        assert "lacks the right 'admin'" in lacking.json()["error"]
        assert asked(path, "some").status == 403
        assert asked(path, "admin").status == 200
    assert asked("models/iris/unload", "some").status == 200
    assert asked("models/nobody/unload", "some").status == 403
