"""A machine's state goes into one archive and comes back whole, here or elsewhere, or nothing changes."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from artifact import manifest, store
from deploy import backup as backups
from deploy import bundle as bundles
from deploy.__main__ import main
from deploy.backup import BackupError, DamagedError
from tests.deploy.registered import crown
from tests.serving.artifacts import iris
from training.registry.mlflow_registry import Registry, read_alias
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("bentoml_home")


@pytest.fixture
def here(champions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's state with both models bundled and a prediction log; commands mean it by default."""
    folder = tmp_path / "here"
    shutil.copytree(champions, folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mean(folder, monkeypatch)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "predictions-1.jsonl").write_text('{"id":"a"}\n{"id":"b"}\n{"id":"c')
    monkeypatch.setenv("OKAMOCHI_PREDICTION_LOG", str(tmp_path / "log"))
    Registry()  # so that the database names this folder
    bundles.bundle(["iris", "linear"], folder / "models.lock")
    return folder


def mean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is done from now on be done to the state in a folder."""
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(folder))
    monkeypatch.setattr(backups, "MODELS_LOCK", folder / "models.lock")


def everything(folder: Path) -> dict[str, bytes]:
    """Every file of a state but the database and the locks, whose bytes say nothing."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and not path.name.startswith(("mlflow.db", "models.lock."))
        and "backups" not in path.relative_to(folder).parts
    }


def test_what_was_lost_comes_back(here: Path, tmp_path: Path) -> None:
    """Registry, files, stored models, lock and log; the champion is bundled under the tag that it had."""
    before, lock = everything(here), (here / "models.lock").read_text()
    path = backups.backup()
    assert path.parent == here / "backups"

    shutil.rmtree(here / "mlruns")
    shutil.rmtree(tmp_path / "log")
    for file in ("mlflow.db", "models.lock"):
        (here / file).unlink()
    for tag, _, _ in list(store.all_models()):
        store.remove(tag)
    done = backups.restore(path)

    assert everything(here) == before
    assert (tmp_path / "log" / "predictions-1.jsonl").read_text() == '{"id":"a"}\n{"id":"b"}\n'
    assert (done.replaced, done.left_out) == (None, [])
    again = bundles.bundle(["iris", "linear"], here / "models.lock")
    assert (here / "models.lock").read_text() == lock
    assert again.unusable == {}


def test_another_checkout_finds_the_files(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's tables hold absolute paths; after a restore elsewhere they lead to the files there."""
    path = backups.backup(tmp_path / "it.tar.gz")
    there = tmp_path / "another place"
    mean(there, monkeypatch)
    monkeypatch.setenv("OKAMOCHI_PREDICTION_LOG", "")

    done = backups.restore(path)

    assert any("OKAMOCHI_PREDICTION_LOG" in reason for reason in done.left_out)
    shutil.rmtree(here)
    champion = read_alias("iris", CHAMPION)
    assert champion is not None
    assert manifest.load(Registry().download(champion, tmp_path / "got")).manifest.name == "iris"
    with closing(sqlite3.connect(there / "mlflow.db")) as database:
        for (location,) in database.execute(
            "SELECT artifact_location FROM experiments WHERE name LIKE 'okamochi/%'"
        ):
            assert location.startswith(there.as_uri())


def test_nothing_is_overwritten_unasked(here: Path, tmp_path: Path) -> None:
    """What would be replaced is named; with the option it is moved aside, whole."""
    path = backups.backup()
    crown(Registry(), iris(tmp_path / "b", runtime="sklearn"), "iris")
    (here / "models.lock").write_text("# later\n")
    later = everything(here)

    with pytest.raises(BackupError, match=r"would replace .*mlflow\.db, .*mlruns, .*--overwrite"):
        backups.restore(path)
    assert everything(here) == later
    champion = read_alias("iris", CHAMPION)
    assert champion is not None
    assert champion.number == "2"

    done = backups.restore(path, overwrite=True)

    champion = read_alias("iris", CHAMPION)
    assert champion is not None
    assert champion.number == "1"
    assert done.replaced is not None
    assert (done.replaced / "models.lock").read_text() == "# later\n"
    aside = everything(done.replaced)
    assert {name: aside[name] for name in later} == later
    assert (done.replaced / "mlflow.db").is_file()


def test_a_program_that_uses_the_database_is_named(here: Path) -> None:
    """It would go on writing to what was moved aside; the backup itself needs nothing stopped."""
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE'); c.execute(\
        \"INSERT INTO experiments (name) VALUES ('half done')\"); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(here / "mlflow.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        path = backups.backup()
        with pytest.raises(BackupError, match=rf"process {other.pid} uses .*mlflow\.db .*Stop it"):
            backups.restore(path, overwrite=True)
        other.communicate("")
    backups.restore(path, overwrite=True)
    with closing(sqlite3.connect(here / "mlflow.db")) as database:
        assert database.execute("SELECT * FROM experiments WHERE name = 'half done'").fetchall() == []


def test_an_archive_that_is_not_whole_changes_nothing(here: Path, tmp_path: Path) -> None:
    """Cut short, damaged, with a file too many or too few, or of another program: one sentence."""
    path = backups.backup()
    before = everything(here)
    content = path.read_bytes()
    bad = tmp_path / "bad.tar.gz"

    for harm in (content[: len(content) // 2], content[:-20_000], b"", b"text", content[:10] + b"\0" * 50):
        bad.write_bytes(harm)
        with pytest.raises(DamagedError):
            backups.restore(bad, overwrite=True)
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    extra = tmp_path / "out" / "mlruns" / "more.txt"
    lock = tmp_path / "out" / "models.lock"
    for change, said in (
        (lambda: extra.write_text("x"), "mlruns/more.txt is not in the manifest"),
        (extra.unlink, ""),
        (lambda: lock.write_text("wine okamochi-wine:1-a\n"), "models.lock is damaged"),
        (lock.unlink, "models.lock is absent"),
        ((tmp_path / "out" / "manifest.json").unlink, "The manifest of .* cannot be read"),
    ):
        change()
        if said:
            with tarfile.open(bad, "w:gz") as archive:
                for child in (tmp_path / "out").iterdir():
                    archive.add(child, child.name)
            with pytest.raises(DamagedError, match=said):
                backups.restore(bad, overwrite=True)
    with pytest.raises(BackupError, match="does not exist"):
        backups.restore(tmp_path / "none.tar.gz")
    assert everything(here) == before
    assert not list(here.glob(".okamochi-restore-*"))


def test_a_damaged_database_is_not_backed_up(here: Path) -> None:
    """A backup of it would be taken for a good one."""
    with (here / "mlflow.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    with pytest.raises(DamagedError, match=r"mlflow\.db"):
        backups.backup()
    assert not list((here / "backups").iterdir())


def test_what_cannot_be_backed_up_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is a server's, an empty checkout, a file that is there."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:1")
    with pytest.raises(BackupError, match=r"user:\*\*\*@127\.0\.0\.1:1, whose database"):
        backups.backup()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("OKAMOCHI_PREDICTION_LOG", raising=False)
    mean(tmp_path / "empty", monkeypatch)
    with pytest.raises(BackupError, match="nothing to back up"):
        backups.backup()
    assert not list((tmp_path / "empty" / "backups").iterdir())
    (tmp_path / "there").write_text("")
    with pytest.raises(BackupError, match="exists already"):
        backups.backup(tmp_path / "there")


def test_a_backup_says_what_it_does_not_have(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cron job may lack the server's variables: the log is named, and an absent model is an error."""
    monkeypatch.setattr("deploy.backup.MODELS_LOCK", here / "models.lock")
    assert main(["backup", "--to", str(tmp_path / "whole.tar.gz")]) == 0
    assert "without" not in capsys.readouterr().out
    for tag, *_ in list(store.all_models()):
        if "iris" in tag:
            store.remove(tag)
            lost = tag
    monkeypatch.delenv("OKAMOCHI_PREDICTION_LOG")

    assert main(["backup", "--to", str(tmp_path / "half.tar.gz")]) == 1

    said = capsys.readouterr()
    assert "without the prediction log: OKAMOCHI_PREDICTION_LOG is not set here" in said.out
    assert f"models.lock names {lost}, but no intact copy is in" in said.err
    assert "BENTOML_HOME" in said.err
    assert (tmp_path / "half.tar.gz").is_file()


@pytest.mark.usefixtures("here")
def test_a_restore_says_how_to_serve_all_that_it_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make serve` alone would train and serve its default use case."""
    path = backups.backup(tmp_path / "it.tar.gz")
    assert main(["restore", str(path), "--overwrite"]) == 0
    assert 'To serve iris linear: .venv/bin/bentoml serve, or make serve USECASES="iris linear"' in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("here")
def test_a_restore_without_an_archive_names_the_newest(capsys: pytest.CaptureFixture[str]) -> None:
    """`make restore` alone, which means the archive ""."""
    assert main(["restore", ""]) == 2
    assert "There are no archives in " in capsys.readouterr().err
    newest = backups.backup()
    assert main(["restore", ""]) == 2
    assert f"make restore BACKUP=FILE. The newest is {newest}." in capsys.readouterr().err
