"""An encrypted log answers every question that a plain one does, and shows nothing without its keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from bentoml.exceptions import BentoMLException

from artifact.sealing import Sealing, add_key
from serving import bento
from serving.prediction_log.folder import Folder
from serving.prediction_log.postgres import Postgres
from serving.prediction_log.record import NEW, StoreError
from tests.serving.prediction_log.rows import find, id_of, line, tell
from training.__main__ import main
from training.decide.live_log import NothingToJudgeError, read_log

if TYPE_CHECKING:
    from pathlib import Path

    from serving.prediction_log.record import Line


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A keys file, which the environment names."""
    path = tmp_path / "keys"
    add_key(path, "one")
    monkeypatch.setenv("OKAMOCHI_LOG_KEYS", str(path))
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path / "state"))
    return path


@pytest.fixture(params=["folder", "postgres"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any]:
    """Where a log is, and how a server with a keys file or without one opens it."""
    if request.param == "folder":
        path = tmp_path / "log"
        path.mkdir()
        return str(path), lambda keys: Folder(
            path, file_bytes=10**9, file_s=1e9, sealing=keys and Sealing(keys)
        )
    url = request.getfixturevalue("postgres_url").replace("postgresql+psycopg://", "postgresql://")
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS okamochi_shadows, okamochi_feedback, okamochi_predictions")
    return url, lambda keys: Postgres(url, keys and Sealing(keys))


def of(one: int, name: str) -> Line:
    return msgspec.structs.replace(
        line(id_of(one), model="credit"), columns={"name": name}, prediction="granted", scores=[0.125, 0.875]
    )


def content(target: str) -> str:
    """Everything that a thief of the store can read."""
    if "://" in target:
        import psycopg

        with psycopg.connect(target) as connection:
            rows = connection.execute("SELECT p::text FROM okamochi_predictions p").fetchall()
            return str(rows + connection.execute("SELECT f::text FROM okamochi_feedback f").fetchall())
    from pathlib import Path

    return "".join(path.read_text("latin-1") for path in Path(target).iterdir())


def live(target: str) -> list[tuple[str, Any, list[float], str]]:
    return [(row.columns["name"], row.actual, row.scores, row.at[:10]) for row in read_log(target, "credit")]


def test_rows_and_feedback_are_sealed_and_every_reader_reads_them(log: Any, keys: Path) -> None:
    """Plain rows from before, rows by the first key, rows by the second."""
    target, opens = log
    names = ["plain", "first\0", "second"]
    rows: list[Line] = []
    for number, name in enumerate(names):
        store = opens(keys if number else None)
        if number == 2:
            add_key(keys, "two")
            store = opens(keys)
        lines = [of(100 * number + i, f"{name}{i}") for i in range(5)]
        store.write(lines)
        assert tell(store, *((each, f"value-{each.columns['name']}") for each in lines)) == [NEW] * 5
        rows += lines
    told = content(target)
    assert "plain3" in told
    assert "value-plain3" in told
    for hidden in ("first", "second"):
        assert hidden not in told
    assert told.count("granted") == 5
    assert re.findall(r"key\W+(\w+)", told).count("two") >= 5
    store = opens(keys)
    for each in rows:
        assert find(store, each.id) == (each.id, 0, 1)
        assert tell(store, (each, "another")) == [f"value-{each.columns['name']}"]
    assert live(target) == [
        (each.columns["name"], f"value-{each.columns['name']}", [0.125, 0.875], "2026-01-01") for each in rows
    ]


def test_without_the_key_the_log_says_which_one_is_missing(
    log: Any, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target, opens = log
    store = opens(keys)
    store.write([of(1, "Ann"), of(2, "Bob")])
    tell(store, (of(1, "Ann"), "yes"), (of(2, "Bob"), "no"))
    before = content(target)
    forget = ["forget", "--log", target, "--column", "name", "--value", "Ann"]

    add_key(tmp_path / "other", "two")
    for given, said in (("", "encrypted with the key 'one'"), (str(tmp_path / "other"), "'one', which")):
        monkeypatch.setenv("OKAMOCHI_LOG_KEYS", given)
        with pytest.raises(NothingToJudgeError, match=said):
            live(target)
        assert main(forget) == 2
        assert said in capsys.readouterr().err
        store = opens(tmp_path / "other" if given else None)
        assert find(store, of(1, "").id) is not None, "the head of a row needs no key"
        with pytest.raises(StoreError, match=said):
            tell(store, (of(1, "Ann"), "yes"))

    # A key of the same id that is another one.
    add_key(tmp_path / "wrong", "one")
    monkeypatch.setenv("OKAMOCHI_LOG_KEYS", str(tmp_path / "wrong"))
    with pytest.raises(NothingToJudgeError, match="does not open with the key 'one'"):
        live(target)
    assert main(forget) == 1
    assert "2 rows could not be read" in capsys.readouterr().out
    assert content(target) == before


def test_a_person_is_removed_from_an_encrypted_log(log: Any, keys: Path) -> None:
    target, opens = log
    store = opens(keys)
    rows = [of(i, f"P{i % 3}") for i in range(9)]
    store.write(rows)
    tell(store, *((each, each.id) for each in rows))

    assert main(["forget", "credit", "--log", target, "--column", "name", "--value", "P1"]) == 0

    assert [find(opens(keys), each.id) is None for each in rows] == [i % 3 == 1 for i in range(9)]
    assert {name for name, *_ in live(target)} == {"P0", "P2"}


def test_one_damaged_line_hides_no_other(tmp_path: Path, keys: Path) -> None:
    """As a line that was cut short does not."""
    path = tmp_path / "log"
    store = Folder(path, file_bytes=10**9, file_s=1e9, sealing=Sealing(keys))
    rows = [of(i, f"P{i}") for i in range(4)]
    store.write(rows)
    tell(store, *((each, "yes") for each in rows))
    (file,) = path.glob("predictions-*")
    lines = file.read_bytes().splitlines(keepends=True)
    said = msgspec.json.decode(lines[1])
    said["sealed"] = ("A" if said["sealed"][0] != "A" else "B") + said["sealed"][1:]
    lines[1] = msgspec.json.encode(said) + b"\n"
    first, second = (msgspec.json.decode(one) for one in lines[2:])
    first["sealed"], second["sealed"] = second["sealed"], first["sealed"]  # moved to another row
    lines[2:] = [msgspec.json.encode(one) + b"\n" for one in (first, second)]
    file.write_bytes(b"".join(lines) + lines[0][:-30])

    assert [name for name, *_ in live(str(path))] == ["P0"]


@pytest.mark.parametrize("content", ["one nonsense", None])
def test_a_server_with_a_broken_keys_file_does_not_start(keys: Path, content: str | None) -> None:
    bento.settings()
    keys.unlink()
    if content:
        keys.write_text(content)
    with pytest.raises(BentoMLException, match="OKAMOCHI_LOG_KEYS: "):
        bento.settings()
