"""Resolve the dependency groups of pyproject.toml into `requirements/`, with hashes, for every platform."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path("requirements")
WIDEST = "dev"
NARROWER = ("training", "boosting", "serving", "loadtests", "spark", "examples")
"""Compiled with the pins of the widest group, so that a server has the versions that were tested."""
APART = ("frameworks",)
"""Installed in environments of their own, with pins of their own."""


def lock(arguments: list[str]) -> int:
    """Compile every group; `arguments` are passed to uv (`--upgrade`). Returns uv's exit code."""
    for group in (WIDEST, *NARROWER, *APART):
        print(f"Resolving {group}", flush=True)
        constraints = [] if group not in NARROWER else ["-c", str(REQUIREMENTS / f"{WIDEST}.txt")]
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
        command += [*constraints, *arguments, "--group", group, "pyproject.toml"]
        code = subprocess.run([*command, "-o", str(REQUIREMENTS / f"{group}.txt")], check=False).returncode
        if code:
            return code
    return 0
