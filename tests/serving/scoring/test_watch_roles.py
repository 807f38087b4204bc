"""Shadows and canaries of models.lock come, change and go while the server runs, or are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from artifact.manifest import BACKGROUND
from artifact.signature import Signature
from serving.observe import metrics
from tests.serving import artifacts
from tests.serving.swapping import Running, kept, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["kept", "run"]  # the fixtures


@pytest.fixture(autouse=True)
def no_roles_of_other_tests() -> None:
    """The metrics of a process have the versions of every catalog that tests in it have opened."""
    metrics.MODEL_ROLE.clear()
    metrics.MODEL_INFO.clear()


TENSOR = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [10]}]}'


def beside(running: Running) -> list[tuple[str, str]]:
    return [(each["role"], each["version"]) for each in running.get("/models/linear").json()["beside"]]


def roles() -> set[tuple[str, str]]:
    lines = metrics.exposition().decode().splitlines()
    found = [
        line for line in lines if line.startswith('okamochi_model_role{model="linear"') and " 1.0" in line
    ]
    return {
        (line.split('role="')[1].split('"')[0], line.split('version="')[1].split('"')[0]) for line in found
    }


def test_each_version_has_routes_of_its_own_and_the_champion_the_name(run: Callable[..., Running]) -> None:
    running = run("linear linear:1\nlinear linear:2 shadow\n")
    running.look("linear linear:1\nlinear linear:2 shadow\nlinear linear:3 canary=0.000001\n")
    assert running.not_live == []
    assert running.says() == (10, "1")
    assert beside(running) == [("shadow", "2"), ("canary", "3")]
    for version in "123":
        found = running.post(f"/models/linear/versions/{version}/predict").json()
        assert (round(found["prediction"], 6), found["version"]) == (10 * int(version), version)
        found = running.post(f"/v2/models/linear/versions/{version}/infer", TENSOR).json()
        assert found["model_version"] == version
        assert running.get(f"/v2/models/linear/versions/{version}/ready").status == 200
    assert "'1', '2', '3'" in running.post("/models/linear/versions/4/predict").json()["detail"]
    assert roles() == {("champion", "1"), ("shadow", "2"), ("canary", "3")}
    assert running.store.located == ["linear:1", "linear:2", "linear:3"]


def test_a_role_comes_changes_and_goes(run: Callable[..., Running]) -> None:
    """A version that changes its role is not opened again, and the champion is the same all the time."""
    running = run()
    before = running.gateway.catalog.live["linear"]
    running.look("linear linear:1\nlinear linear:2 shadow\n")
    running.look("linear linear:1\nlinear linear:2 canary=100\n")
    assert (beside(running), running.says()) == ([("canary", "2")], (20, "2"))
    running.look("linear linear:1\nlinear linear:2 canary=0.000001\n")
    assert running.says() == (10, "1")
    running.look("linear linear:1\nlinear linear:3 shadow\n")
    assert beside(running) == [("shadow", "3")]
    assert running.gateway.catalog.live["linear"] is before
    running.look("linear linear:1\n")
    assert (beside(running), roles()) == ([], {("champion", "1")})
    assert running.post("/models/linear/versions/3/predict").status == 404
    assert running.store.located == ["linear:1", "linear:2", "linear:3"]
    running.look()
    assert running.watch._unused == []


def test_a_shadow_becomes_the_champion_and_back(run: Callable[..., Running]) -> None:
    running = run("linear linear:1\nlinear linear:2 shadow\n")
    running.look("linear linear:2\nlinear linear:1 shadow\n")
    assert (running.says(), beside(running)) == ((20, "2"), [("shadow", "1")])
    assert roles() == {("champion", "2"), ("shadow", "1")}
    running.look("linear linear:1\n")
    assert (running.says(), beside(running), roles()) == ((10, "1"), [], {("champion", "1")})
    running.look()
    assert running.watch._unused == []


def other_signature(folder: Path, **changes: Any) -> None:
    """Another contract around the same model."""
    found = msgspec.json.decode((folder / "signature.json").read_bytes(), type=Signature)
    (folder / "signature.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(found, **changes)))
    if "columns" in changes:
        names = [column.name for column in changes["columns"]]
        golden = json.loads((folder / "golden.json").read_text())
        golden["records"] = [dict(zip(names, record.values(), strict=True)) for record in golden["records"]]
        (folder / "golden.json").write_text(json.dumps(golden))
        (folder / BACKGROUND).unlink(missing_ok=True)
    artifacts.reseal(folder)


@pytest.mark.parametrize("role", ["shadow", "canary=5"])
def test_one_whose_columns_differ_is_refused_with_the_columns(run: Callable[..., Running], role: str) -> None:
    """Nothing changes, the server is ready, and the reason is in `/models` and in the metric."""
    running = run("linear linear:1\nlinear linear:3 shadow\n")
    folder = running.store.folders["linear:2"]
    (column,) = msgspec.json.decode((folder / "signature.json").read_bytes(), type=Signature).columns
    other_signature(folder, columns=(msgspec.structs.replace(column, name="z"),))
    running.look(f"linear linear:1\nlinear linear:2 {role}\n")
    (said,) = running.not_live
    assert (said["name"], said["role"], said["tag"]) == ("linear", role.partition("=")[0], "linear:2")
    assert "it lacks 'x' and it has 'z' more" in said["reason"]
    assert metrics.VERSION_REFUSED.labels("linear")._value.get() == 1
    assert running.get("/readyz").status == 200
    assert running.says() == (10, "1")
    assert beside(running) == ([("shadow", "3")] if role == "shadow" else [])
    running.look("linear linear:1\n")
    assert running.not_live == []
    assert metrics.VERSION_REFUSED.labels("linear")._value.get() == 0


def test_another_task_is_refused(run: Callable[..., Running]) -> None:
    running = run()
    other_signature(running.store.folders["linear:2"], target="z")
    running.look("linear linear:1\nlinear linear:2 shadow\n")
    assert "a regression of 'z'" in running.not_live[0]["reason"]


def test_a_champion_of_other_columns_takes_its_shadow_away(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    running = run("linear linear:1\nlinear linear:3 shadow\n")
    running.store.folders["linear:9"] = made = tmp_path / "nine"
    artifacts.iris(made)
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["manifest"]["name"] = "linear"
    (made / "manifest.json").write_text(json.dumps(manifest))
    artifacts.reseal(made)
    running.look("linear linear:9\nlinear linear:3 shadow\n")
    (said,) = running.not_live
    assert said["role"] == "shadow"
    assert "it lacks 'sepal" in said["reason"]
    assert beside(running) == []
    assert running.gateway.catalog.live["linear"].version == "9"
    running.look("linear linear:1\nlinear linear:3 shadow\n")
    assert (running.not_live, beside(running)) == ([], [("shadow", "3")])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("linear linear:1\nlinear linear:2 king\n", "found the role 'king'"),
        ("linear linear:1\nlinear linear:2\n", "found the name 'linear' again"),
        ("linear linear:1\nlinear linear:2 canary=101\n", "found the role 'canary=101'"),
        ("linear linear:1\niris iris:1 canary=5\n", "found a canary of 'iris', which has no champion"),
    ],
)
def test_a_line_that_cannot_be_followed_changes_nothing(
    run: Callable[..., Running], content: str, words: str
) -> None:
    running = run("linear linear:1\nlinear linear:2 shadow\n")
    before = running.gateway.catalog
    running.look(content)
    (said,) = running.not_live
    assert words in said["reason"]
    assert running.gateway.catalog.loaded == before.loaded


def test_an_absent_shadow_at_start_leaves_the_server_ready(run: Callable[..., Running]) -> None:
    """It comes once its files are there."""
    running = run("linear linear:1\nlinear linear:8 shadow\n", watch_s=1_000)
    running.watch.start()
    assert running.get("/readyz").status == 200
    (said,) = running.not_live
    assert (said["role"], said["tag"]) == ("shadow", "linear:8")
    assert metrics.VERSION_REFUSED.labels("linear")._value.get() == 1
    running.store.folders["linear:8"] = running.store.folders["linear:2"]
    running.look()
    assert (running.not_live, beside(running)) == ([], [("shadow", "8")])


def test_a_shadow_waits_for_a_champion_that_is_refused(run: Callable[..., Running]) -> None:
    running = run("iris iris:1\nlinear linear:8\nlinear linear:2 shadow\n")
    assert [said.get("role") for said in running.not_live] == [None, "shadow"]
    running.store.folders["linear:8"] = running.store.folders["linear:3"]
    running.look()
    assert (running.not_live, beside(running)) == ([], [("shadow", "2")])


def test_calls_and_queues_are_counted_by_version(run: Callable[..., Running]) -> None:
    """A canary's queue is not the champion's; what is no longer loaded is not shown."""
    running = run("linear linear:1\nlinear linear:2 canary=100\n")

    def shown(metric: str) -> set[str]:
        lines = metrics.exposition().decode().splitlines()
        return {
            line.split('version="')[1].split('"')[0]
            for line in lines
            if line.startswith(metric) and 'model="linear"' in line and "bucket" not in line
        }

    assert running.says() == (20, "2")
    running.post("/models/linear/versions/1/predict")
    for metric in ("okamochi_queue_rows", "okamochi_batch_rows_sum", "okamochi_inference_seconds_sum"):
        assert shown(metric) == {"1", "2"}, metric
    running.look("linear linear:1\n")
    for metric in ("okamochi_queue_rows", "okamochi_batch_rows_sum", "okamochi_inference_seconds_sum"):
        assert shown(metric) == {"1"}, metric
