"""`models.lock` is read as people and editors leave it, or refused with one sentence that names the line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from artifact import models_lock
from artifact.models_lock import CANARY, SHADOW, Entry, LockError

if TYPE_CHECKING:
    from pathlib import Path

IRIS, WINE, NEW = (
    "okamochi-iris:3-0123456789ab",
    "okamochi-wine:1-ba9876543210",
    "okamochi-iris:4-aaaaaaaaaaaa",
)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "models.lock"


@pytest.mark.parametrize(
    "content",
    [
        f"iris {IRIS}\nwine {WINE}\n",
        f"iris {IRIS}\nwine {WINE}",
        f"\ufeffiris {IRIS}\nwine {WINE}\n",
        f"\ufeff# Windows\r\n\r\niris {IRIS}\r\nwine {WINE}\r\n",
        f"iris {IRIS}\rwine {WINE}\r",
        f"\tiris\t{IRIS}\t\n  wine \t {WINE}  \n\n\n",
        f"# the default\niris {IRIS} # rolled back on Monday\n  # another\nwine {WINE}#x\n",
        f"iris\u00a0{IRIS}\nwine {WINE}\n",
        f"iris {IRIS} champion\nwine\t{WINE}\tchampion # as bundled\n",
    ],
)
def test_it_is_read_as_editors_write_it(lock: Path, content: str) -> None:
    """A byte order mark, other ends of lines, tabs, comments and empty lines; the order is the file's."""
    lock.write_bytes(content.encode())

    assert list(models_lock.read(lock).items()) == [("iris", IRIS), ("wine", WINE)]


@pytest.mark.parametrize("content", [None, b"", b"\xef\xbb\xbf", b"\n\r\n# nothing\n"])
def test_no_file_and_an_empty_one_name_no_model(lock: Path, content: bytes | None) -> None:
    """Which is no error here: who reads it says what to do."""
    if content is not None:
        lock.write_bytes(content)

    assert models_lock.read(lock) == {}


@pytest.mark.parametrize(
    ("content", "line", "found", "expected"),
    [
        (b"iris\n", 1, "the name 'iris' alone", "a name and a tag"),
        (f"iris {IRIS}\n\nwine {WINE} shadow\n".encode(), 3, "a shadow of 'wine', which has no", "champion"),
        (f"iris {IRIS} canary=5\n".encode(), 1, "a canary of 'iris', which has no", "champion"),
        (f"iris {IRIS} king\n".encode(), 1, "the role 'king'", "champion, shadow or canary=PERCENT"),
        (f"iris {IRIS} Champion\n".encode(), 1, "the role 'Champion'", "champion, shadow or"),
        (f"iris {IRIS}\niris {NEW} shadow=5\n".encode(), 2, "the role 'shadow=5'", "without a number"),
        (f"iris {IRIS}\niris {NEW} canary\n".encode(), 2, "the role 'canary'", "above 0, at most 100"),
        (f"iris {IRIS}\niris {NEW} canary=0\n".encode(), 2, "the role 'canary=0'", "above 0, at most 100"),
        (f"iris {IRIS}\niris {NEW} canary=101\n".encode(), 2, "the role 'canary=101'", "at most 100"),
        (f"iris {IRIS}\niris {NEW} canary=nan\n".encode(), 2, "the role 'canary=nan'", "at most 100"),
        (f"iris {IRIS}\niris {NEW} canary=1e1\n".encode(), 2, "the role 'canary=1e1'", "at most 100"),
        (f"iris {IRIS}\niris {NEW} canary=-5\n".encode(), 2, "the role 'canary=-5'", "at most 100"),
        (f"iris {IRIS}\niris {NEW} canary=5%\n".encode(), 2, "the role 'canary=5%'", "at most 100"),
        (f"iris {IRIS}\niris {NEW} canary=\u0665\n".encode(), 2, r"the role 'canary=\u0665'", "at most 100"),
        (f"iris {IRIS}\niris {NEW} champion\n".encode(), 2, "a second champion of 'iris'", "line 1 has one"),
        (
            f"iris {NEW} shadow\niris {IRIS}\niris {NEW} shadow\n".encode(),
            3,
            "a second shadow of 'iris'",
            "line 1 has one",
        ),
        (f"iris {IRIS} champion now\n".encode(), 1, "a fourth word 'now'", "a name, a tag and a role"),
        (
            f"iris {IRIS}\nwine {WINE}\niris {IRIS}\n".encode(),
            3,
            "the name 'iris' again",
            "in line 1 as well",
        ),
        (b"iris okamochi-iris\n", 1, "the tag 'okamochi-iris'", "an exact tag"),
        (b"iris okamochi-iris:latest\n", 1, "the tag 'okamochi-iris:latest'", "an exact tag"),
        (b"iris okamochi-iris:\n", 1, "the tag 'okamochi-iris:'", "an exact tag"),
        (b"iris :1\n", 1, "the tag ':1'", "an exact tag"),
        (b"iris Okamochi-Iris:1\n", 1, "the tag 'Okamochi-Iris:1'", "an exact tag"),
        (b"iris okamochi-iris:1:2\n", 1, "the tag", "an exact tag"),
        (b"iris ../iris:1\n", 1, "the tag '../iris:1'", "an exact tag"),
        (b"iris okamochi-iris:1-\xc3\xa9\n", 1, r"the tag 'okamochi-iris:1-\xe9'", "an exact tag"),
        (b"iris a:" + b"1" * 64 + b"\n", 1, "the tag", "an exact tag"),
        (b"iris " + b"a" * 64 + b":1\n", 1, "the tag", "an exact tag"),
        (b"iris " + b"a" * 9000 + b"\n", 1, "the tag '" + b"a".decode() * 80 + "'", "an exact tag"),
        (f"okamochi-iris {IRIS}\n".encode(), 1, "'okamochi-iris'", "the name of a use case"),
        (f"Iris {IRIS}\n".encode(), 1, "'Iris'", "the name of a use case"),
        (f"\u200biris {IRIS}\n".encode(), 1, r"'\u200biris'", "the name of a use case"),
        (f"iris={IRIS}\n".encode(), 1, "'iris=okamochi", "the name of a use case"),
        (f"\n\nwine {WINE}\ni\0ris x:1\n".encode(), 4, r"'i\x00ris'", "the name of a use case"),
        (f"iris {IRIS}\nwine \xff\n".encode("latin-1"), 2, "the byte 0xff", "text in UTF-8"),
        (f"iris {IRIS}\n".encode("utf-16"), 1, "the byte 0xff", "text in UTF-8"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    lock: Path, content: bytes, line: int, found: str, expected: str
) -> None:
    """With the file, the line, what was found, what was expected and what to type."""
    lock.write_bytes(content)

    with pytest.raises(LockError) as said:
        models_lock.entries(lock)

    text = str(said.value)
    assert text.startswith(f"{lock}, line {line}: found {found}")
    assert expected in text
    assert "bundle --only" in text
    assert text.isascii()
    assert len(text) < 500 + len(str(lock))


def test_a_file_that_cannot_be_opened_is_named(lock: Path) -> None:
    """A folder of that name, as a mount that found no file leaves it."""
    lock.mkdir()
    with pytest.raises(LockError, match=r"models\.lock cannot be read: Is a directory"):
        models_lock.read(lock)


def test_one_line_changes_and_all_else_stays(lock: Path) -> None:
    """Comments, blanks and the order; a name that is new comes last, and what is left is read as before."""
    lock.write_bytes(f"\ufeff# mine\r\nwine\t{WINE} # keep\r\n\r\niris  {IRIS}  # was 2".encode())

    left = models_lock.update(lock, [Entry("digits", "okamochi-digits:1-a"), Entry("iris", NEW)])

    expected = {"wine": WINE, "iris": NEW, "digits": "okamochi-digits:1-a"}
    assert list(left.items()) == list(models_lock.read(lock).items()) == list(expected.items())
    lines = ["# mine", f"wine\t{WINE} # keep", "", f"iris  {NEW}  # was 2", "digits okamochi-digits:1-a"]
    assert lock.read_text() == "".join(f"{line}\n" for line in lines)
    assert [path.name for path in lock.parent.iterdir()] == ["models.lock"]


def test_a_role_has_a_line_of_its_own(lock: Path) -> None:
    """`read` has the champions alone; the first champion is the default, wherever other roles stand."""
    lock.write_text(
        f"iris {NEW} canary=2.5\nwine {WINE} champion\niris {IRIS}\nwine {WINE}  shadow # as is\n"
    )

    assert models_lock.entries(lock) == [
        Entry("iris", NEW, CANARY, 2.5),
        Entry("wine", WINE),
        Entry("iris", IRIS),
        Entry("wine", WINE, SHADOW),
    ]
    assert list(models_lock.read(lock).items()) == [("wine", WINE), ("iris", IRIS)]


def test_one_role_changes_and_the_others_stay(lock: Path) -> None:
    lock.write_text(f"iris {IRIS}\niris {NEW}  canary=5 # trying\n")
    models_lock.update(lock, [Entry("iris", NEW, SHADOW), Entry("iris", IRIS, CANARY, 20)])
    assert lock.read_text() == f"iris {IRIS}\niris {IRIS}  canary=20 # trying\niris {NEW} shadow\n"

    models_lock.update(lock, [Entry("iris", NEW)], removed=[("iris", SHADOW), ("wine", CANARY)])
    assert lock.read_text() == f"iris {NEW}\niris {IRIS}  canary=20 # trying\n"

    with pytest.raises(LockError, match="which has no champion"):
        models_lock.update(lock, [Entry("wine", WINE, SHADOW)])
    assert lock.read_text() == f"iris {NEW}\niris {IRIS}  canary=20 # trying\n"


def test_a_damaged_file_is_not_changed(lock: Path) -> None:
    """An update says why; writing all of it anew is what mends it."""
    lock.write_text("iris\n")
    with pytest.raises(LockError):
        models_lock.update(lock, [Entry("wine", WINE)])
    assert lock.read_text() == "iris\n"

    models_lock.write(lock, {"wine": WINE})
    assert models_lock.read(lock) == {"wine": WINE}


def test_a_link_stays_a_link(lock: Path, tmp_path: Path) -> None:
    """Several checkouts may share one lock."""
    shared = tmp_path / "shared" / "models.lock"
    shared.parent.mkdir()
    shared.write_text(f"iris {IRIS}\n")
    lock.symlink_to(shared)

    models_lock.update(lock, [Entry("iris", NEW)])

    assert lock.is_symlink()
    assert models_lock.read(shared) == {"iris": NEW}
