"""A folder finds any row by its id with little work, whoever wrote it, and keeps each value once."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from contextlib import contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from artifact.logged import LOCK, feedback_file, index_file
from serving.ids import PREFIX
from serving.prediction_log.answers import SLOT_BYTES
from serving.prediction_log.folder import Folder
from serving.prediction_log.record import NEW, Actual, StoreError
from serving.waiting import GivenUpError, NotYetError, Until
from tests.serving.prediction_log.rows import FOREVER, find, id_of, line, old_id_of, shadow_of, tell, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from serving.prediction_log.record import Line


def folder(path: Path, file_bytes: int = 10**9) -> Folder:
    return Folder(path, file_bytes=file_bytes, file_s=1e9)


def write_file(path: Path, lines: Sequence[Line]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in lines))


# What is opened while `opened` is set; a hook of Python's own auditing cannot be taken back.
opened: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if opened is not None and event in ("open", "os.scandir", "os.listdir"):
        opened.append(f"{event} {arguments[0]}")


sys.addaudithook(_audit)


@contextmanager
def work(path: Path) -> Iterator[dict[str, int]]:
    """Count the files that are opened below a folder, its listings, and the bytes that this process reads."""
    global opened

    def bytes_read() -> int:
        with open("/proc/self/io", "rb") as file:  # noqa: PTH123
            return int(file.readline().split()[1])

    found: dict[str, int] = {}
    opened, before = [], bytes_read()
    try:
        yield found
    finally:
        seen, opened = opened, None
        found["bytes"] = bytes_read() - before
        found["files"] = sum(each.startswith(f"open {path}") for each in seen)
        found["listings"] = sum(each.startswith("os.") for each in seen)


def test_files_end_by_size_and_by_age_and_are_forgotten(tmp_path: Path) -> None:
    store = folder(tmp_path, 2000)
    lines = [line(i) for i in range(40)]
    for each in lines:
        store.write([each])
    files = sorted(tmp_path.glob("predictions-*"))
    assert len(files) > 2
    assert all(path.stat().st_size < 2400 for path in files)
    aged = Folder(tmp_path / "aged", file_bytes=10**9, file_s=0)
    for each in lines[:3]:
        aged.write([each])
    assert len(list((tmp_path / "aged").iterdir())) == 3
    tell(store, (lines[0], 1))
    assert find(store, lines[0].id) == (lines[0].id, 0, 1)
    assert len(list(tmp_path.glob("feedback-*.jsonl"))) == 1
    os.utime(files[0], (1, time.time() - 3 * 86_400))
    store.expire(2)
    assert find(store, lines[0].id) is None
    assert find(store, lines[-1].id) == (lines[-1].id, 0, 1)
    assert list(tmp_path.glob("feedback-*")) == []


@pytest.mark.parametrize("form", [id_of, old_id_of])
def test_a_row_is_found_by_its_id_wherever_it_stands(tmp_path: Path, form: Any) -> None:
    """Numbers with gaps, replies of several rows, long lines, and a last line that a crash cut short."""
    draw = random.Random(4)  # noqa: S311
    store = folder(tmp_path, 20_000)
    lines: list[Line] = []
    number = 0
    for _ in range(300):
        number += draw.randrange(1, 40)
        rows = draw.choice([1, 1, 3, 7])
        text = "x" * draw.choice([0, 10, 3000])
        lines += [line(form(number), row, rows, text) for row in range(0, rows, draw.choice([1, 2]))]
    for start in range(0, len(lines), 7):
        store.write(lines[start : start + 7])
    store.close()
    if form is old_id_of:  # whose files had no time in their names
        for path in tmp_path.iterdir():
            path.rename(path.with_name(path.name.rpartition("-")[0] + ".jsonl"))
    last = max(tmp_path.iterdir())
    with last.open("ab") as file:
        file.write(b'{"id":"%s","row":0,"ro' % form(0xFFFFF).encode())
    known = {(each.id, each.row) for each in lines}
    other = folder(tmp_path)
    for each in lines:
        assert find(other, each.id, each.row) == (each.id, each.row, each.rows)
        assert whole(other.find([(each.id, None)], FOREVER)[0]).id == each.id
    wanted = [(form(number), row) for number in range(0, 5000, 7) for row in (0, 1, 8)]
    for one, found in zip(wanted, other.find(wanted, FOREVER), strict=True):
        assert (found is not None) == (one in known)
    assert find(other, form(0xFFFFF)) is None
    assert find(other, "0123456789ab-1") is None


def test_a_row_needs_the_whole_of_its_id(tmp_path: Path) -> None:
    """Prefix and time may be told by another id; without the secret there is no row."""
    store = folder(tmp_path)
    store.write([line(i) for i in range(50)])
    for wrong in (id_of(7)[:-1] + "f", f"{PREFIX}-7", f"{PREFIX}-7-{token_hex(16)}"):
        assert find(store, wrong) is None
        assert find(store, wrong, None) is None


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """30 days of three pods, a file each hour: the first of an older release. And an id of each file."""
    path = tmp_path_factory.mktemp("month")
    ids: list[str] = []
    for pod, form in enumerate((old_id_of, id_of, id_of)):
        prefix = f"{pod:012x}"
        for hour in range(720):
            numbers = range(1 + 1000 * hour, 1 + 1000 * hour + 900, 30)
            first = "" if form is old_id_of else f"-{numbers[0]:x}"
            name = f"predictions-20261101T000000Z-pod-{pod + 1}-{prefix}-{hour + 1:06d}{first}.jsonl"
            write_file(path / name, [line(form(number, prefix)) for number in numbers])
            ids.append(form(numbers[hour % 30], prefix))
    return path, ids


def test_unknown_ids_open_no_file_of_thousands(month: tuple[Path, list[str]]) -> None:
    path, _ = month
    store = folder(path)
    unknown = [(f"{token_hex(6)}-{token_hex(6)}-{token_hex(16)}", None) for _ in range(500)]
    unknown += [(f"{token_hex(6)}-{token_hex(3)}", 0) for _ in range(500)]
    with work(path) as done:
        assert store.find(unknown, FOREVER) == [None] * 1000
    assert done["files"] == 0
    assert done["listings"] == 1
    assert done["bytes"] < 100_000


@pytest.mark.parametrize("pod", [0, 1, 2])
def test_ids_that_only_begin_like_known_ones_open_a_file_each_at_most(
    month: tuple[Path, list[str]], pod: int
) -> None:
    path, _ = month
    store = folder(path)
    forms = (old_id_of, id_of, id_of)
    unknown = [(forms[pod](720 * i + 2, f"{pod:012x}"), None) for i in range(1000)]
    with work(path) as done:
        assert store.find(unknown, FOREVER) == [None] * 1000
    # Of files whose names do not say where they begin, the first lines are read once.
    assert done["files"] <= (2 if pod else 3) * 720
    assert done["bytes"] < 1000 * 4 * 30 * 250
    with work(path) as done:
        assert store.find(unknown, FOREVER) == [None] * 1000
    assert done["files"] <= 2 * 720


def test_rows_of_every_process_are_found_after_a_restart(month: tuple[Path, list[str]]) -> None:
    path, ids = month
    store = folder(path)
    with work(path) as done:
        found = store.find([(one, 0) for one in ids], FOREVER)
    assert [row.id for row in found if row is not None] == ids
    assert done["files"] <= 3 * 720 + 720  # each once, and the first lines of those of an older release
    assert done["listings"] == 1
    with work(path) as done:
        assert None not in store.find([(one, 0) for one in ids[:10]], FOREVER)
    assert done["listings"] == 0


def test_a_file_that_is_begun_after_the_folder_was_listed_is_found(tmp_path: Path) -> None:
    here, there = folder(tmp_path, 1), folder(tmp_path)
    for number in range(1, 6):
        here.write([line(number)])
        assert find(there, id_of(number)) == (id_of(number), 0, 1)
    next(tmp_path.glob("*-1.jsonl")).unlink()
    assert find(there, id_of(1)) is None
    assert find(there, id_of(2)) is not None


def test_a_folder_that_was_there_and_is_away_is_an_error_and_not_an_empty_log(tmp_path: Path) -> None:
    """Or a client would take 404 for an answer, and never send the value again."""
    path = tmp_path / "log"
    one = folder(path)
    assert find(one, id_of(5)) is None, "nothing was logged yet"
    one.write([line(id_of(5))])
    assert find(one, id_of(5)) is not None
    path.rename(tmp_path / "away")
    with pytest.raises(StoreError, match="No such file"):
        find(one, id_of(6))
    (tmp_path / "away").rename(path)
    assert find(one, id_of(5)) is not None


def test_rows_after_the_folder_was_deleted_or_moved_are_in_a_new_file(tmp_path: Path) -> None:
    """And not in the one that is still open, which nobody can read."""
    path = tmp_path / "log"
    one = folder(path)
    for number, away in enumerate(("deleted", "moved", "replaced"), 1):
        one.write([line(number)])
        if away == "deleted":
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        else:
            path.rename(tmp_path / away)
        if away == "replaced":
            path.mkdir()
        one.write([line(number + 10)])
        assert find(one, id_of(number + 10)) == (id_of(number + 10), 0, 1)
    one.close()


def test_rows_of_a_reply_may_be_parted_by_the_end_of_a_file(tmp_path: Path) -> None:
    store = folder(tmp_path, 1)
    store.write([line(1), line(2, 0, 4)])
    store.write([line(2, 1, 4), line(2, 2, 4)])
    store.write([line(2, 3, 4), line(3)])
    for row in range(1, 4):
        assert find(store, id_of(2), row) == (id_of(2), row, 4)
    assert find(store, id_of(2), 4) is None
    assert find(store, id_of(2), None) is not None


def test_a_search_that_nobody_waits_for_ends(month: tuple[Path, list[str]]) -> None:
    path, ids = month
    until = Until(0)
    with work(path) as done, pytest.raises(GivenUpError):
        folder(path).find([(one, 0) for one in ids], until)
    assert done["files"] == 0
    store = folder(path)
    told = [Actual(whole(row), "a") for row in store.find([(one, 0) for one in ids[720:730]], FOREVER)]
    with pytest.raises(GivenUpError):
        store.add_actuals(told, until)
    assert not list(path.glob("feedback-*.jsonl"))


# ---- what became of them


def test_many_at_once_store_each_value_once(tmp_path: Path) -> None:
    """Workers and pods share the folder: who comes second learns that it is known."""
    store = folder(tmp_path)
    store.write([line(1)])
    found: list[Any] = []

    def told() -> None:
        found.extend(tell(folder(tmp_path), (line(1), "b")))

    threads = [threading.Thread(target=told) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(NEW) == 1
    assert found.count("b") == 19
    (path,) = tmp_path.glob("feedback-*.jsonl")
    assert len(path.read_text().splitlines()) == 1


def test_a_folder_that_another_process_has_locked_is_not_waited_for(tmp_path: Path) -> None:
    import fcntl

    store = folder(tmp_path)
    store.write([line(1)])
    told = [Actual(whole(store.find([(id_of(1), 0)], FOREVER)[0]), "b")]
    with (tmp_path / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(NotYetError):
            store.add_actuals(told, FOREVER)
    assert store.add_actuals(told, FOREVER) == [NEW]


def test_a_list_says_nothing_where_one_of_it_contradicts(tmp_path: Path) -> None:
    store = folder(tmp_path, 1)
    for number in range(1, 4):
        store.write([line(number)])
    assert tell(store, (line(2), "b")) == [NEW]
    assert tell(store, (line(1), "a"), (line(2), "c"), (line(3), "a")) == [NEW, "b", NEW]
    assert tell(store, (line(1), "x"), (line(2), "b"), (line(3), "x"), (line(1), "x")) == [NEW, "b", NEW, "x"]


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path) -> None:
    store = folder(tmp_path)
    store.write([line(1), line(2), line(3)])
    assert tell(store, (line(1), "b")) == [NEW]
    (path,) = tmp_path.glob("feedback-*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"id":"%s","row":0,"act' % id_of(2).encode())
    assert tell(store, (line(2), "b")) == [NEW]
    assert tell(store, (line(1), "b"), (line(2), "b"), (line(3), "c")) == ["b", "b", NEW]
    assert len(path.read_bytes().splitlines()) == 4


@pytest.mark.parametrize("damage", ["absent", "behind", "ahead", "nonsense"])
def test_the_index_of_feedback_is_only_ever_a_help(tmp_path: Path, damage: str) -> None:
    """Whatever is wrong with it: no value is forgotten, and none stored twice."""
    store = folder(tmp_path)
    lines = [line(number) for number in range(1, 101)]
    store.write(lines)
    (log,) = tmp_path.glob("predictions-*")
    tell(store, *((each, "a") for each in lines[:40]))
    before = index_file(log).read_bytes()
    tell(store, *((each, "b") for each in lines[40:80]))
    if damage == "absent":
        index_file(log).unlink()
    elif damage == "behind":  # its writer was killed, or was of a release that had no index
        index_file(log).write_bytes(before)
    elif damage == "ahead":  # a list was taken back
        index_file(log).write_bytes((2**40).to_bytes(8, "little") + before[8:])
        lines = lines[:40] + lines[80:]
    else:
        slots = b"".join(random.Random(1).randbytes(3) + bytes(5) for _ in range(200))  # noqa: S311
        index_file(log).write_bytes(feedback_file(log).stat().st_size.to_bytes(8, "little") + slots)
        lines = lines[80:]
    expected = [{"a": "a", "b": "b"}.get(self) or NEW for self in ("a" * 40 + "b" * 40 + "." * 20)]
    expected = [expected[int(each.id.split("-")[1], 16) - 1] for each in lines]
    assert tell(store, *((each, "z") for each in lines)) == expected
    if NEW in expected and set(expected) != {NEW}:  # the list contradicted, so nothing of it was stored
        lines = lines[-20:]
        assert tell(store, *((each, "z") for each in lines)) == [NEW] * 20
    assert tell(store, *((each, "z") for each in lines)) == ["z"] * 20


def test_feedback_is_stored_with_little_work_however_much_there_is(tmp_path: Path) -> None:
    store = folder(tmp_path)
    lines = [line(number) for number in range(1, 5001)]
    store.write(lines)
    for start in range(0, 5000, 1000):
        tell(store, *((each, "a" * 200) for each in lines[start : start + 1000]))
    found = store.find([(lines[77].id, 0)], FOREVER)
    (path,) = tmp_path.glob("feedback-*.jsonl")
    assert path.stat().st_size > 1_000_000
    with work(tmp_path) as done:
        assert store.add_actuals([Actual(whole(found[0]), "a" * 200)], FOREVER) == ["a" * 200]
    assert done["bytes"] < 10_000
    assert done["files"] <= 4


def test_a_thousand_files_at_once_are_opened_one_after_the_other(month: tuple[Path, list[str]]) -> None:
    """A process may have 1,024 files open, and needs them for its connections."""
    path, ids = month
    store = folder(path)
    rows = [whole(row) for row in store.find([(one, 0) for one in ids[720:1720]], FOREVER)]
    most = 0

    class Watching(Until):
        def check(self) -> None:
            nonlocal most
            most = max(most, len(os.listdir("/proc/self/fd")))  # noqa: PTH208

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert store.add_actuals([Actual(row, "a") for row in rows], Watching(FOREVER.due)) == [NEW] * 1000
    assert store.add_actuals([Actual(row, "a") for row in rows], Watching(FOREVER.due)) == ["a"] * 1000
    assert most < before + 20
    for file in path.glob("feedback-*"):
        file.unlink()


def test_no_line_of_the_log_is_so_short_that_two_share_a_slot() -> None:
    shortest = line(old_id_of(1, "0" * 12), model="m")
    assert len(msgspec.json.encode(msgspec.structs.replace(shortest, columns={}, scores=[]))) > SLOT_BYTES


def test_what_does_not_fit_is_taken_back_from_every_file(tmp_path: Path) -> None:
    """A disk that is full in the middle of a list."""
    import resource

    store = folder(tmp_path, 1)
    for number in range(1, 4):
        store.write([line(number)])
    tell(store, (line(3), "x"))
    files = {path: path.read_bytes() for path in tmp_path.glob("feedback-*.jsonl")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    long = "a" * 300
    values = ((line(1), "short"), (line(2), long))
    resource.setrlimit(resource.RLIMIT_FSIZE, (250, hard))
    try:
        with pytest.raises(Exception, match=str(tmp_path)):
            tell(store, *values)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = {path: path.read_bytes() for path in tmp_path.glob("feedback-*.jsonl")}
    assert {path: content for path, content in left.items() if content} == files
    assert tell(store, *values) == [NEW, NEW]
    assert tell(store, *values) == ["short", long]


def test_what_a_shadow_predicts_stands_beside_its_row(tmp_path: Path) -> None:
    """Also when it comes after the next file was begun; it expires with its row."""
    store = folder(tmp_path, file_bytes=1)  # each write has a file of its own
    lines = [line(id_of(number)) for number in (1, 2, 3)]
    for each in lines:
        store.write([each])
    assert store.write_shadows([shadow_of(each) for each in (lines[2], lines[0])]) == 2
    assert store.write_shadows([shadow_of(lines[0], "6")]) == 1
    found = {}
    for path in tmp_path.glob("shadows-*.jsonl"):
        beside = path.with_name("predictions-" + path.name.removeprefix("shadows-"))
        row = msgspec.json.decode(beside.read_bytes())
        shadows = [msgspec.json.decode(each) for each in path.read_bytes().splitlines()]
        assert {each["id"] for each in shadows} == {row["id"]}
        found[row["id"]] = [(each["version"], each["role"], each["prediction"]) for each in shadows]
    assert found == {
        lines[0].id: [("5", "shadow", "b"), ("6", "shadow", "b")],
        lines[2].id: [("5", "shadow", "b")],
    }
    assert find(store, lines[0].id) == (lines[0].id, 0, 1)
    store.expire(-1)
    assert list(tmp_path.glob("*.jsonl")) == []
    assert store.write_shadows([shadow_of(lines[0])]) == 0, "its row is gone"
    assert list(tmp_path.iterdir()) == []
