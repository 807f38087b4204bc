"""A person leaves the prediction log, and nobody else does."""

from __future__ import annotations

import bz2
import fcntl
import gzip
import io
import json
import lzma
import os
import shutil
import sys
import tarfile
import threading
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from artifact.logged import hash_of
from serving.prediction_log.folder import Folder
from serving.prediction_log.postgres import Postgres
from serving.prediction_log.record import NEW, Actual, StoreError
from serving.waiting import NotYetError
from tests.serving.prediction_log.rows import FOREVER, find, line, shadow_of, tell, whole
from training.__main__ import main
from training.erasure.folder import erase
from training.erasure.person import Person

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.prediction_log.record import Line, Store


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("OKAMOCHI_PREDICTION_LOG", raising=False)
    monkeypatch.delenv("OKAMOCHI_HASH_KEY", raising=False)


def of(one: int, cell: Any, column: str = "customer_id", model: str = "credit") -> Line:
    """A row of a customer."""
    return msgspec.structs.replace(line(one, model=model), columns={column: cell, "income": 1.5})


def folder(path: Path, file_bytes: int = 10**9) -> Folder:
    return Folder(path, file_bytes=file_bytes, file_s=1e9)


def logged(path: Path) -> bytes:
    """All that the files of a folder hold."""
    return b"".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())


def forget(log: object, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The command's exit code and what it printed for programs."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = main(["forget", "--log", str(log), "--json", *arguments])
    return code, json.loads(out.getvalue() or "{}")


def test_a_person_leaves_and_everybody_else_stays(tmp_path: Path) -> None:
    """Several files, feedback of all rows; every other row is found and keeps its value."""
    log = tmp_path / "log"
    store = folder(log, 2_000)
    lines = [of(i, f"C{i % 5}") for i in range(50)]
    for each in lines:
        store.write([each])
    for each in lines:
        tell(store, (each, each.id))
    assert store.write_shadows([shadow_of(each) for each in lines]) == 50
    before = {path: path.stat() for path in log.glob("predictions-*")}
    assert len(before) > 3
    for number, path in enumerate(before):
        os.utime(path, ns=(0, number * 10**9))

    code, said = forget(log, "--column", "customer_id", "--value", "C3")

    assert code == 0
    assert (said["rows"], said["feedback"], said["searched_rows"]) == (10, 10, 50)
    assert sum(place["rows"] for place in said["places"]) == 10
    assert sum(place["shadows"] for place in said["places"]) == 10
    assert b'"C3"' not in logged(log)
    other = folder(log)
    for each in lines:
        if each.columns["customer_id"] == "C3":
            assert find(other, each.id) is None
            assert each.id.encode() not in logged(log)
        else:
            assert find(other, each.id) == (each.id, 0, 1)
            assert tell(other, (each, "another")) == [each.id], "its value was lost"
    for number, path in enumerate(before):
        assert path.stat().st_mtime_ns == number * 10**9, "it would expire at another time"
        assert path.stat().st_mode == before[path].st_mode
    assert not list(log.glob(".*"))
    assert forget(log, "--column", "customer_id", "--value", "C3")[1]["rows"] == 0


def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    store = folder(log)
    lines = [of(i, f"C{i % 5}") for i in range(20)]
    store.write(lines)
    tell(store, (lines[3], 1))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in log.iterdir()}

    code, said = forget(log, "--column", "customer_id", "--value", "C3", "--dry-run")

    assert (code, said["dry_run"], said["rows"], said["feedback"]) == (0, True, 4, 1)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in log.iterdir()} == before


def test_rotated_and_packed_files_are_searched_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number, packs in enumerate((gzip.compress, bz2.compress, lzma.compress, bytes)):
        store = folder(log)
        lines = [of(100 * number + i, f"C{i % 5}") for i in range(10)]
        store.write(lines)
        tell(store, *((each, "yes") for each in lines))
        store.close()
        old = log / "2025" / str(number)
        old.mkdir(parents=True)
        for path in [path for path in log.glob("*.jsonl") if path.is_file()]:
            ending = ("jsonl.gz", "jsonl-20250101.bz2", "jsonl.2.xz", "jsonl.1")[number]
            (old / path.name.replace("jsonl", ending)).write_bytes(packs(path.read_bytes()))
            path.unlink()
    others = forget(log, "--column", "customer_id", "--value", "C1", "--dry-run")[1]

    code, said = forget(log, "--column", "customer_id", "--value", "C3", "--value", "C4")

    assert (code, said["rows"], said["feedback"], len(said["places"])) == (0, 16, 16, 8)
    assert forget(log, "--column", "customer_id", "--value", "C3")[1]["rows"] == 0
    after = forget(log, "--column", "customer_id", "--value", "C1", "--dry-run")[1]
    assert after["places"] == others["places"]
    with gzip.open(next((log / "2025" / "0").glob("predictions-*.gz"))) as file:
        assert file.readline().startswith(b'{"id"')


def test_what_cannot_be_searched_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the rest is done; the exit code says that something is left."""
    log = tmp_path / "log"
    folder(log).write([of(1, "C1"), of(2, "C2")])
    (log / "predictions-old.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd....")
    (log / "predictions-cut.jsonl.gz").write_bytes(gzip.compress(b'{"id":"x"}\n' * 1000)[:-20])
    (log / "everything.tar").write_bytes(b"....")

    code = main(["forget", "--log", str(log), "--column", "customer_id", "--value", "C1"])

    told = capsys.readouterr().out
    assert code == 1
    assert "1 row and 0 reported values removed; 2 rows searched." in told.replace("1002", "2")
    for name in ("predictions-old.jsonl.zst", "predictions-cut.jsonl.gz", "everything.tar"):
        assert name in told


def test_only_rows_of_the_named_model_leave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    folder(log).write([of(1, "C1"), of(2, "C1", model="fraud"), of(3, "C1")])

    code, said = forget(log, "credit", "--column", "customer_id", "--value", "C1")

    assert (code, said["rows"]) == (0, 2)
    assert forget(log, "--column", "customer_id", "--value", "C1", "--dry-run")[1]["rows"] == 1
    assert forget(log, "creditt", "--column", "customer_id", "--value", "C1")[0] == 2
    assert "no row of the model 'creditt'; it has fraud" in capsys.readouterr().err


def test_hashed_values_are_found_by_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it nothing is removed: "0 rows" would be a promise that nobody kept."""
    log = tmp_path / "log"
    cells = ["Ann", 12, 12.0, "Bob", None, "12 "]
    folder(log).write([of(i, hash_of("secret", cell)) for i, cell in enumerate(cells)])

    assert forget(log, "--column", "customer_id", "--value", "Ann")[0] == 2
    assert "5 of the 6 logged values of 'customer_id' are hashed" in capsys.readouterr().err

    monkeypatch.setenv("OKAMOCHI_HASH_KEY", "secret")
    assert forget(log, "--column", "customer_id", "--value", "Ann")[1]["rows"] == 1
    assert forget(log, "--column", "customer_id", "--value", "12")[1]["rows"] == 3
    assert forget(log, "--column", "customer_id", "--value", "Carl")[1]["rows"] == 0


@pytest.mark.parametrize(
    ("cell", "value", "same"),
    [
        ("C1", "C1", True),
        ("C1", "C10", False),
        ("C1", "c1", False),
        (" C1", "C1", True),
        ("007", "007", True),
        ("7", "007", False),
        (7, "7", True),
        (7.0, "7", True),
        (31000.5, "31000.50", True),
        (True, "true", True),
        (1, "true", False),
        (123456792.0, "123456789", True),
        (123456790.0, "123456789", True),
        (9007199254740993, "9007199254740993", True),
        (9007199254740993, "9007199254740995", False),
        ("Zoe\u0308", "Zo\u00eb", True),
        ("x" * 4096, "x" * 5000, True),
        (None, "None", False),
    ],
)
def test_a_cell_is_a_value_by_whatever_type_it_came(
    tmp_path: Path, cell: Any, value: str, *, same: bool
) -> None:
    folder(tmp_path / "log").write([of(1, cell)])

    assert forget(tmp_path / "log", "--column", "customer_id", "--value", value)[1]["rows"] == same


def test_a_column_that_is_not_logged_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "log").write([of(1, "C1")])

    assert forget(tmp_path / "log", "--column", "customer", "--value", "C1")[0] == 2

    told = capsys.readouterr().err
    assert "none of the 1 logged rows has a column 'customer'; they have customer_id, income" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--log", "nowhere"], "nowhere is not a folder"),
        ([], "name the prediction log"),
        (["--log", "postgresql://okamochi:hidden@127.0.0.1:1/log"], "the prediction log cannot be read"),
    ],
)
def test_a_log_that_is_not_there_is_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forget", *arguments, "--column", "c", "--value", "v"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "hidden" not in told


def test_values_are_read_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument is seen by every process of the machine."""
    folder(tmp_path / "log").write([of(i, f"C{i}") for i in range(4)])
    monkeypatch.setattr(sys, "stdin", io.StringIO("C1\nC3\n"))

    assert forget(tmp_path / "log", "--column", "customer_id", "--value", "-")[1]["rows"] == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert forget(tmp_path / "log", "--column", "customer_id", "--value", "-")[0] == 2


def test_half_a_line_of_a_person_leaves_and_another_one_stays(tmp_path: Path) -> None:
    """A writer that died leaves half a line; it may hold the person's value."""
    log = tmp_path / "log"
    for number, name in enumerate(("C1", "C2")):
        store = folder(log)
        store.write([of(10 * number, "C9")])
        store.close()
        with max(log.glob("predictions-*"), key=lambda path: path.stat().st_mtime_ns).open("ab") as file:
            file.write(msgspec.json.encode(of(10 * number + 1, name))[:-40])

    assert forget(log, "--column", "customer_id", "--value", "C1")[1]["rows"] == 1
    assert b'"C1"' not in logged(log)
    assert b'"C2"' in logged(log)


def test_a_server_that_writes_meanwhile_loses_nothing(tmp_path: Path) -> None:
    """It writes to the file that is replaced, and takes feedback on rows of it."""
    log = tmp_path / "log"
    store = folder(log)
    store.write([of(1, "C3")])
    told: list[Line] = []
    ended = threading.Event()
    failed: list[BaseException] = []

    def serve() -> None:
        number = 1000
        try:
            while not ended.is_set() or len(told) < 400:
                lines = [of(number + i, f"C{(number + i) % 7}") for i in range(20)]
                number += 20
                store.write(lines)
                kept = [each for each in lines if each.columns["customer_id"] != "C3"]
                tell(store, *((each, each.id) for each in kept))
                told.extend(kept)
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    server = threading.Thread(target=serve)
    server.start()
    removed = 0
    try:
        for _ in range(12):
            removed += sum(place.rows for place in erase(log, Person("customer_id", ("C3",))).places)
    finally:
        ended.set()
        server.join()
    removed += sum(place.rows for place in erase(log, Person("customer_id", ("C3",))).places)

    assert not failed
    assert removed
    assert b'"C3"' not in logged(log)
    other = folder(log)
    for each in told:
        assert find(other, each.id) == (each.id, 0, 1)
        assert tell(other, (each, each.id)) == [each.id]


def test_a_writer_waits_for_the_file_that_is_being_replaced(tmp_path: Path) -> None:
    """Otherwise its lines would be in the old file only."""
    store = folder(tmp_path)
    store.write([of(1, "C1")])
    (path,) = tmp_path.glob("predictions-*")
    writer = threading.Thread(target=store.write, args=([of(2, "C2")],))
    with path.open("rb") as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        shutil.copy(path, tmp_path / ".new")
        (tmp_path / ".new").replace(path)
    writer.join()

    assert find(folder(tmp_path), of(2, "").id) is not None
    assert b'"C2"' in logged(tmp_path)


def test_rows_that_were_found_before_are_found_again(tmp_path: Path) -> None:
    """Between a look-up and its value the file was replaced: its rows stand elsewhere."""
    log = tmp_path / "log"
    store = folder(log)
    lines = [of(i, f"C{i}") for i in range(10)]
    store.write(lines)
    found = [whole(row) for row in store.find([(each.id, 0) for each in lines], FOREVER)]

    erase(log, Person("customer_id", ("C3",)))

    with pytest.raises(NotYetError):
        store.add_actuals([Actual(found[7], "x")], FOREVER)
    assert tell(store, (lines[7], "x")) == [NEW]
    assert find(store, lines[3].id) is None


def test_a_full_disk_changes_nothing_and_the_next_run_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    store = folder(log)
    lines = [of(i, f"C{i % 3}") for i in range(9)]
    store.write(lines)
    tell(store, *((each, 1) for each in lines))
    usual: Callable[..., Any] = Path.replace

    def full(self: Path, target: Any) -> Any:
        if "predictions" in self.name:
            raise OSError(28, "No space left on device", str(target))
        return usual(self, target)

    monkeypatch.setattr(Path, "replace", full)
    assert forget(log, "--column", "customer_id", "--value", "C1")[0] == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not list(log.glob(".*"))
    monkeypatch.undo()
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path / "state"))
    assert forget(log, "--column", "customer_id", "--value", "C1")[1]["rows"] == 3
    assert [find(store, each.id) is None for each in lines] == [i % 3 == 1 for i in range(9)]
    assert tell(store, (lines[0], 1)) == [1]


def test_backups_that_still_hold_the_person_are_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    store = folder(log)
    lines = [of(i, f"C{i}") for i in range(5)]
    store.write(lines)
    tell(store, (lines[3], 1))
    backups = tmp_path / "state" / "backups"
    backups.mkdir(parents=True)
    with tarfile.open(backups / "okamochi-1.tar.gz", "w:gz") as archive:
        archive.add(log, "prediction-log")
    shutil.copytree(log, backups / "replaced-1" / "prediction-log")

    code, said = forget(log, "--column", "customer_id", "--value", "C3")

    assert (code, said["rows"]) == (0, 1)
    assert [
        (Path(place["name"]).parent.name, place["rows"], place["feedback"]) for place in said["kept"]
    ] == [
        ("backups", 1, 1),
        ("prediction-log", 0, 1),
        ("prediction-log", 1, 0),
    ]


def test_a_person_leaves_postgresql(postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    store: Store = Postgres(postgres_url)
    lines = [of(0x7000 + i, f"P{i % 5}", model="erased") for i in range(30)]
    store.write(lines)
    for each in lines:
        tell(store, (each, each.id))

    dry = forget(postgres_url, "erased", "--column", "customer_id", "--value", "P3", "--dry-run")
    assert (dry[0], dry[1]["rows"], dry[1]["feedback"]) == (0, 6, 6)
    done = forget(postgres_url, "erased", "--column", "customer_id", "--value", "P3")
    assert (done[0], done[1]["rows"], done[1]["feedback"]) == (0, 6, 6)
    assert [place["name"] for place in done[1]["places"]] == ["okamochi_predictions", "okamochi_feedback"]
    for each in lines:
        assert (find(store, each.id) is None) == (each.columns["customer_id"] == "P3")
    assert tell(store, (lines[0], "x")) == [lines[0].id]
    assert forget(postgres_url, "erased", "--column", "name", "--value", "P3")[0] == 2
    assert "has a column 'name'" in capsys.readouterr().err
    store.close()


def test_a_writer_whose_folder_is_away_still_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        folder(tmp_path / "file").write([of(1, "C1")])
