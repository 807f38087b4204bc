"""A file that several programs read and write has the old content or the new one, and its own mode."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from artifact import atomic

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o600), (0o640, 0o640)])
def test_a_private_file_is_private_from_the_start_and_keeps_the_mode_that_it_was_given(
    tmp_path: Path, mode: int | None, expected: int
) -> None:
    path = tmp_path / "keys"
    if mode is not None:
        path.write_bytes(b"old")
        path.chmod(mode)
    atomic.write(path, b"new", private=True)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == expected


def test_the_target_of_a_link_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    atomic.write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
