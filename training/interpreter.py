"""How a person starts Python here, the message for the wrong Python, the packages. Standard library only."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT = Path(__file__).resolve().parent.parent / ".venv"
OURS = {"artifact", "benchmarks", "deploy", "loadtests", "serving", "training"}


def typed(command: str) -> str:
    """A command that works when pasted here: `.venv` is named where it is used but not activated."""
    named = "VIRTUAL_ENV" not in os.environ and Path(sys.prefix).resolve() == ENVIRONMENT.resolve()
    return f"{'.venv/bin/' if named else ''}python {command}"


def lacks(missing: ModuleNotFoundError, package: str) -> str | None:
    """The message where this Python lacks a library that `package` needs; None where the fault is our own."""
    name = (missing.name or "").partition(".")[0]
    if name in OURS or Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return None
    command = f".venv/bin/python -m {package}"
    if (ENVIRONMENT / "bin" / "python").exists():
        return f"{sys.executable} has no {name}; the Python of this checkout has: {command} ..."
    return f"{sys.executable} has no {name}; `make serve` or `make train` makes .venv, then: {command} ..."


@cache
def installed_packages() -> Mapping[str, list[str]]:
    """The installed distributions that hold a package, by the name that it is imported as.

    Kept, as Python reads the file list of every distribution for it: 0.2 s.
    """
    from importlib.metadata import packages_distributions

    return packages_distributions()
