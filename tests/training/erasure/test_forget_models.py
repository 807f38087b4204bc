"""A person leaves the rows that models carry: for explanations, and to check their answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from artifact import background, manifest, runtime, signing
from serving.prediction_log.folder import Folder
from tests.deploy.registered import crown
from tests.kept import empty_registry
from tests.serving import artifacts
from tests.serving.prediction_log.rows import line
from training.__main__ import main
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION, SHADOW, SIGNATURE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.artifacts import Made


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The champion and shadow of a registry of its own, and a log in which C3 asked with a background row."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("OKAMOCHI_HASH_KEY", raising=False)
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OKAMOCHI_PREDICTION_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    empty_registry(tmp_path / "state")
    found = artifacts.loans(tmp_path / "loans")
    registry = Registry()
    crown(registry, found, "loans")
    champion = registry.version("loans", CHAMPION)
    assert champion is not None
    registry.set_alias("loans", SHADOW, champion)
    registry.tag(champion, {"note": "of a person"})
    store = Folder(tmp_path / "log", file_bytes=10**9, file_s=1e9)
    for i, (customer, row) in enumerate((("C3", 3), ("C4", 4))):
        cells = {"customer_id": customer, **background.read(manifest.load(found.path))[row]}
        store.write([msgspec.structs.replace(line(i, model="loans"), columns=cells)])
    return found


def forget(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    code = main(["forget", "--column", "customer_id", "--value", "C3", "--json", *arguments])
    said = capsys.readouterr()
    return code, json.loads(said.out or "{}"), said.err


def artifact_of(version: Any, folder: Path) -> manifest.Artifact:
    return manifest.load(Registry().download(version, folder))


def test_the_rows_leave_models_with_those_of_the_log(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not silently: a run that names no choice changes nothing. The model, its tags and aliases stay."""
    (tmp_path / "trusted").write_text(signing.make_key(tmp_path / "private", "release"))
    monkeypatch.setenv("OKAMOCHI_SIGNING_KEY", str(tmp_path / "private"))
    before = manifest.load(made.path)
    row = background.read(before)[3]
    twins = background.read(before).count(row) + before.golden().records.count(row)

    code, said, _ = forget(capsys, "--dry-run")
    assert (code, said["rows"], said["models"]) == (0, 1, [{"name": "loans version 1", "rows": twins}])
    code, _, told = forget(capsys)
    assert (code, "loans version 1: " in told, "--keep-models" in told) == (2, True, True)
    assert forget(capsys, "--dry-run")[1]["rows"] == 1

    code, said, _ = forget(capsys, "--models")
    assert (code, said["rows"]) == (0, 1)
    assert said["replaced"] == [f"loans version 1 is version 2 now, without {twins} of its rows, signed anew"]
    registry = Registry()
    assert registry.numbered("loans", "1") is None
    fresh = registry.version("loans", CHAMPION)
    assert fresh is not None
    assert fresh == registry.version("loans", SHADOW)
    assert (fresh.number, fresh.tags["note"]) == ("2", "of a person")
    after = artifact_of(fresh, tmp_path / "after")
    assert row not in background.read(after)
    assert len(background.read(after)) >= len(background.read(before)) - twins
    assert row not in after.golden().records
    changed = {manifest.BACKGROUND, manifest.GOLDEN}
    kept = {file: digest for file, digest in after.manifest.files.items() if file not in changed}
    assert kept == {file: digest for file, digest in before.manifest.files.items() if file not in changed}
    runtime.load(after)  # its golden rows are answered as before
    signing.check_text(
        fresh.tags[SIGNATURE],
        after.path,
        name="loans",
        version="2",
        trusted=tmp_path / "trusted",
        now=signing.datetime.now(signing.UTC),
    )
    code, said, _ = forget(capsys, "--models")
    assert (said["rows"], said["models"]) == (0, [])


def test_copies_in_the_store_are_named_and_left(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "bentoml" / "models" / "okamochi-loans" / "1-abc" / "artifact"
    copy.parent.mkdir(parents=True)
    made.path.rename(copy)
    assert main(["forget", "--column", "customer_id", "--value", "C3", "--models"]) == 0
    told = capsys.readouterr().out
    assert "okamochi-loans:1-abc: " in told
    assert "bentoml models delete TAG" in told
    assert "mlflow gc" in told


@pytest.mark.usefixtures("made")
def test_models_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = forget(capsys, "--keep-models")
    assert (code, said["rows"], said["models"]) == (0, 1, [])
    assert Registry().numbered("loans", "1") is not None


def test_a_column_that_the_model_reads_decides_alone(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """Also for rows that were never logged."""
    found = manifest.load(made.path)
    city = next(name for name in found.signature.names if name == "city")
    records = [*background.read(found), *found.golden().records]
    code = main(["forget", "--column", city, "--value", str(records[0][city]), "--dry-run", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (code, said["models"][0]["rows"]) == (0, sum(each[city] == records[0][city] for each in records))
