"""Resolve the dependency groups of pyproject.toml into `requirements/`, hashed and for every platform."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path("requirements")
WIDEST = "dev"
NARROWER = ("training", "boosting", "serving", "loadtests")
"""Compiled under the widest group's pins, so that what was tested is what is served."""


def lock(arguments: list[str]) -> int:
    """Compile every group; `arguments` go to uv (`--upgrade` takes newer versions). Gives uv's exit code."""
    for group in (WIDEST, *NARROWER):
        print(f"Resolving {group}", flush=True)
        constraints = [] if group == WIDEST else ["-c", str(REQUIREMENTS / f"{WIDEST}.txt")]
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
        command += [*constraints, *arguments, "--group", group, "pyproject.toml"]
        code = subprocess.run([*command, "-o", str(REQUIREMENTS / f"{group}.txt")], check=False).returncode
        if code:
            return code
    return 0
