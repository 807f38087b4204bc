"""What the keys of a prediction log sealed opens with them, and with nothing else."""

from __future__ import annotations

import base64
import codecs
import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from artifact.sealing import DamagedError, LogKeysError, Sealed, Sealing, UnknownKeyError, add_key, read_keys
from deploy.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

KEY = base64.b64encode(b"k" * 32).decode()


def test_what_was_sealed_opens_with_its_key_for_its_place_only(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "one")
    sealing = Sealing(tmp_path / "keys")

    found = sealing.seal(b"secret", "row 1")

    assert found.key == "one"
    assert sealing.open(found, "row 1") == Sealing(tmp_path / "keys").open(found, "row 1") == b"secret"
    with pytest.raises(DamagedError, match="'one'"):
        sealing.open(found, "row 2")
    raw = bytearray(base64.b64decode(found.sealed))
    for place in range(len(raw)):
        raw[place] ^= 1
        with pytest.raises(DamagedError):
            sealing.open(Sealed("one", base64.b64encode(raw).decode()), "row 1")
        raw[place] ^= 1
    for cut in range(len(raw)):
        with pytest.raises(DamagedError):
            sealing.open(Sealed("one", base64.b64encode(raw[:cut]).decode()), "row 1")
    with pytest.raises(DamagedError):
        sealing.open(msgspec.structs.replace(found, sealed="no base64"), "row 1")


def test_nothing_is_sealed_alike_twice(tmp_path: Path) -> None:
    """Neither by one process nor by several, nor by a process and its fork: AES-GCM breaks there."""
    add_key(tmp_path / "keys")
    sealing = Sealing(tmp_path / "keys")
    heads = {base64.b64decode(sealing.seal(b"x", "").sealed)[:24] for _ in range(1000)}
    heads |= {base64.b64decode(Sealing(tmp_path / "keys").seal(b"x", "").sealed)[:24] for _ in range(10)}
    assert len(heads) == 1010
    read, write = os.pipe()
    if not os.fork():
        os.write(write, base64.b64decode(sealing.seal(b"x", "").sealed)[:24])
        os._exit(0)
    os.wait()
    heads |= {os.read(read, 24), base64.b64decode(sealing.seal(b"x", "").sealed)[:24]}
    assert len(heads) == 1012
    os.close(read)
    os.close(write)


def test_a_new_key_seals_and_the_old_one_still_opens(tmp_path: Path) -> None:
    """A process that runs takes it without a restart, also the reader of what another one sealed by it."""
    path = tmp_path / "keys"
    add_key(path, "old")
    writer, reader = Sealing(path), Sealing(path)
    before = writer.seal(b"1", "")

    add_key(path, "new")

    assert writer.seal(b"2", "").key == "old"
    assert writer.refresh() == ""
    after = writer.seal(b"3", "")
    assert after.key == "new"
    assert (reader.open(after, ""), reader.open(before, "")) == (b"3", b"1")
    assert read_keys(path).current == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_broken_later_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    add_key(path, "one")
    sealing = Sealing(path)
    good = path.read_bytes()
    for bad in (b"one nonsense\n", b"", None):
        path.unlink()
        if bad is not None:
            path.write_bytes(bad)
        assert "the keys from before are used" in sealing.refresh()
        assert sealing.open(sealing.seal(b"x", ""), "") == b"x"
    path.write_bytes(good.replace(b"one", b"two"))
    assert sealing.refresh() == ""
    assert sealing.seal(b"x", "").key == "two"


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    add_key(tmp_path / "a", "one")
    add_key(tmp_path / "b", "two")
    with pytest.raises(UnknownKeyError, match="the key 'one', which .*b does not have"):
        Sealing(tmp_path / "b").open(Sealing(tmp_path / "a").seal(b"x", ""), "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"", "has no key"),
        (b"# one " + KEY.encode(), "has no key"),
        (b"one", "line 1: expected an id"),
        (b"# keys\n\none two three", "line 3: expected an id"),
        (b"a/b " + KEY.encode(), "line 1: expected an id"),
        (b"one " + KEY[:-4].encode(), "line 1: the key 'one' is not 32 bytes"),
        (b"one \xc3\xa9" + KEY.encode(), "line 1: the key 'one' is not 32 bytes"),
        (b"one %s\none %s" % (KEY.encode(), KEY.encode()), "line 2: the id 'one' is there twice"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_a_keys_file_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    """It names file and line, and no key."""
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(LogKeysError, match="OKAMOCHI_LOG_KEYS: .*keys") as raised:
        read_keys(tmp_path / "keys")
    assert said in str(raised.value)
    assert KEY[:20] not in str(raised.value)


def test_a_byte_order_mark_is_no_part_of_an_id(tmp_path: Path) -> None:
    """Editors on Windows write it."""
    path = tmp_path / "keys"
    path.write_bytes(codecs.BOM_UTF8 + b"one " + KEY.encode() + b"\r\n")
    assert list(read_keys(path).keys) == ["one"]
    add_key(path, "two")
    assert list(read_keys(path).keys) == ["one", "two"]


def test_the_command_adds_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    assert main(["log-key", str(path)]) == 0
    assert main(["log-key", str(path)]) == 0
    assert main(["log-key", str(path), "--id", "mine"]) == 0
    first, second, third = read_keys(path).keys
    assert (second, third) == (f"{first}.2", "mine")
    assert main(["log-key", str(path), "--id", "mine"]) == 2
    assert main(["log-key", str(path), "--id", "a b"]) == 2
    told = capsys.readouterr()
    assert not any(
        base64.b64encode(key).decode() in told.out + told.err for key in read_keys(path).keys.values()
    )
    path.write_text("nonsense")
    assert main(["log-key", str(path)]) == 2
    assert path.read_text() == "nonsense"
