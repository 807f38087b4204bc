"""`.ci/run` runs what failed once more, fails if it fails again, and names at its end what needed that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.servers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

TESTS = """
import pathlib
def test_steady():
    pass
def test_starved():
    seen = pathlib.Path(__file__).with_name("seen")
    again = seen.exists()
    seen.touch()
    assert again
"""
DEEP = """
import pathlib
def test_starved_in_the_deep():
    seen = pathlib.Path(__file__).with_name("seen in the deep")
    again = seen.exists()
    seen.touch()
    assert again
"""
BROKEN = """
def test_broken():
    assert False
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the script, some tests, and a `make` that runs them."""
    folder = tmp_path / "clone"
    for name in (".ci", ".venv/bin", "bin"):
        (folder / name).mkdir(parents=True)
    shutil.copy(CHECKOUT / ".ci" / "run", folder / ".ci")
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    program(
        folder / "bin" / "make",
        f"""case "$1" in test) file=test_it.py;; test-deep) file=test_deep.py;; *) exit 0;; esac
for word; do case "$word" in ARGS=*) args=${{word#ARGS=}};; esac; done
exec {sys.executable} -m pytest -q -p no:randomly -p no:xdist $args $file""",
    )
    program(folder / "bin" / "id", "echo 1000")  # nothing is installed
    (folder / "test_it.py").write_text(TESTS)
    (folder / "test_deep.py").write_text(DEEP)
    return folder


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def ci(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(
        [folder / ".ci" / "run"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_what_needed_a_second_run_is_named_at_the_end(clone: Path) -> None:
    """Behind the closing line of pytest, which stays the last of it; both targets are run."""
    done = ci(clone)

    assert done.returncode == 0, done.stdout + done.stderr
    before, _, after = done.stdout.partition("\nTests that needed a second run:\n")
    assert after == "  test_it.py::test_starved\n  test_deep.py::test_starved_in_the_deep\n"
    assert "1 passed" in before.rstrip().splitlines()[-1]

    again = ci(clone)
    assert again.returncode == 0
    assert "second run" not in again.stdout, "there was none"


def test_what_fails_again_fails_the_run(clone: Path) -> None:
    """And is named as well."""
    (clone / "test_it.py").write_text(TESTS + BROKEN)
    done = ci(clone)

    assert done.returncode != 0
    names = done.stdout.partition("Tests that needed a second run:\n")[2].split()
    assert sorted(names) == ["test_it.py::test_broken", "test_it.py::test_starved"]
    failed = json.loads((clone / ".pytest_cache" / "v" / "cache" / "lastfailed").read_text())
    assert list(failed) == ["test_it.py::test_broken"]
