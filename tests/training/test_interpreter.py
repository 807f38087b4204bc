"""A command that was typed with another Python than that of `.venv`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from training import interpreter

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "command", [("training", "list"), ("training", "run", "iris"), ("deploy", "bundle", "iris")]
)
def test_a_python_without_the_dependencies_is_told_of_the_one_that_has_them(command: tuple[str, ...]) -> None:
    """One sentence and exit 2, where a traceback would end in the name of some library."""
    bare = [sys.executable, "-S", "-m", *command]
    done = subprocess.run(bare, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "has no msgspec; " in done.stderr
    assert f".venv/bin/python -m {command[0]} ..." in done.stderr


def test_a_module_of_ours_that_is_missing_is_no_matter_of_the_python() -> None:
    assert interpreter.lacks(ModuleNotFoundError(name="training.nowhere"), "training") is None


def test_commands_that_are_printed_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `python` where that is ours already: in an activated environment, or an image without .venv."""
    monkeypatch.setattr(interpreter, "ENVIRONMENT", tmp_path / ".venv")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert interpreter.typed("-m training list") == ".venv/bin/python -m training list"

    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / ".venv"))
    assert interpreter.typed("-m training list") == "python -m training list"

    monkeypatch.delenv("VIRTUAL_ENV")
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert interpreter.typed("-m training list") == "python -m training list"
