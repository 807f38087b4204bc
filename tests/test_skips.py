"""A program that a machine lacks skips its tests, except where everything was said to be installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

TEST = """
def test_it(program):
    program("no-such-program")
"""


@pytest.mark.parametrize(
    ("require_all", "code", "said"),
    [("", 0, "no-such-program is not installed"), ("1", 1, "OKAMOCHI_REQUIRE_ALL=1 forbids")],
)
def test_a_program_that_is_absent(tmp_path: Path, require_all: str, code: int, said: str) -> None:
    """One line that names it; with OKAMOCHI_REQUIRE_ALL=1 a failure."""
    (tmp_path / "test_it.py").write_text(TEST)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "-rs",
            "--rootdir",
            str(tmp_path),
            str(tmp_path),
        ],
        cwd=CHECKOUT,
        env={**os.environ, "OKAMOCHI_REQUIRE_ALL": require_all},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stdout
    assert said in done.stdout
