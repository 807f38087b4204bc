"""A contestant that cannot be built here is absent with its reason, and the others are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import environments
from benchmarks.environments import Absent

if TYPE_CHECKING:
    from pathlib import Path

NO_TOOLCHAIN = """error: rustup could not choose a version of cargo to run, because one wasn't specified
help: run 'rustup default stable' to download the latest stable release of Rust"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder with programs, and an empty cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def program(path: Path, name: str, says: str) -> None:
    """A program that says something and fails."""
    file = path / name
    file.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{says}\nEND\nexit 1\n")
    file.chmod(0o755)


def test_a_cargo_without_a_toolchain_is_one_sentence(path: Path) -> None:
    """As rustup leaves it where none was installed."""
    program(path, "cargo", NO_TOOLCHAIN)
    with pytest.raises(Absent) as said:
        environments.compiled_server()
    assert str(said.value) == f"cargo cannot build it: {NO_TOOLCHAIN.splitlines()[0]}"


@pytest.mark.parametrize(
    "says", ["", "   Compiling tokio\nerror[E0277]: no\n  --> src/main.rs", "no such thing"]
)
def test_whatever_cargo_says_is_one_line(path: Path, says: str) -> None:
    """Also nothing."""
    program(path, "cargo", says)
    with pytest.raises(Absent, match=r"^cargo cannot build it: [^\n]+$"):
        environments.compiled_server()


def test_an_environment_that_cannot_be_installed_is_one_sentence(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as without a package index."""
    program(path, "python", "")
    monkeypatch.setattr(environments.sys, "executable", str(path / "python"))
    with pytest.raises(Absent, match=r"^its environment cannot be installed: [^\n]+$"):
        environments.python_of("flask")
    assert not list(tmp_path.glob("cache/**/complete"))
