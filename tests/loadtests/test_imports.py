"""What a load test is made of: Locust's machine has neither the server's nor the training's dependencies."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "loadtests"
LOCUST = {"locustfile.py", "run.py", "staged.py"}
"""Who may import Locust, which patches the standard library of whoever does; tests import the others."""
SOAK = {"benchmarks", "psutil"}
LOCUSTS_OWN = {"gevent", "psutil"}


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.py")), ids=lambda file: file.stem)
def test_a_file_imports_only_what_its_place_allows(file: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])

    allowed = set(sys.stdlib_module_names) | {"loadtests"} | LOCUSTS_OWN
    allowed |= {"locust"} if file.name in LOCUST else set()
    allowed |= SOAK if file.name == "soak.py" else set()
    assert found <= allowed


def test_this_process_has_not_imported_locust() -> None:
    assert "locust" not in sys.modules
