"""docs/clients.md is what its script writes, and its programs get their answers where their tools are."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import REQUIRE_ALL
from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from tests.servers import Server

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "clients.py"
TOOLS = {
    "client.sh": ["bash"],
    "with_requests.py": [sys.executable],
    "with_httpx.py": [sys.executable],
    "client.mjs": ["node"],
    "client.go": ["go", "run"],
    "Client.java": ["java"],
    "Client.cs": ["mono"],
}
"""The command of each file. Java runs a source file only where it has its compiler; Mono what `mcs` makes."""


@pytest.fixture(scope="module")
def clients() -> Any:
    spec = importlib.util.spec_from_file_location("clients", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["clients"] = found
    spec.loader.exec_module(found)
    return found


def test_the_page_is_what_the_script_writes(clients: Any, server: Server) -> None:
    """Except the numbers of the example, which depend on the model."""
    numbers = re.compile(r"\[\[[^\]]*\]\]")
    found, expected = SCRIPT.with_suffix(".md").read_text(), clients.page(clients.fetched(server.url))
    assert numbers.sub("[[]]", found) == numbers.sub("[[]]", expected), "run `make clients`"
    assert len(numbers.findall(found)) == len(clients.PROGRAMS)


@pytest.mark.deep
def test_each_program_gets_its_answer(clients: Any, server: Server, tmp_path: Path) -> None:
    ran = []
    path = f"{os.environ['PATH']}{os.pathsep}/usr/local/go/bin"
    for program in clients.programs(clients.fetched(server.url), server.url):
        command = TOOLS.get(program.file, [])
        tool = shutil.which(command[0], path=path) if command else None
        if tool is None or (command[0] == "java" and shutil.which("javac") is None):
            continue
        file = tmp_path / program.file
        file.write_text(program.text)
        if tool.endswith("mono"):
            compiled = file.with_suffix(".exe")
            made = ["mcs", "-warnaserror", "-r:System.Net.Http.dll", f"-out:{compiled}", str(file)]
            subprocess.run(made, check=True, timeout=PATIENCE_S)
            file = compiled
        done = subprocess.run(
            [tool, *command[1:], str(file)],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "GOCACHE": str(tmp_path / "go"), "GOFLAGS": "-mod=mod"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, (program.title, done.stderr)
        assert re.search("malignant|benign", done.stdout), (program.title, done.stdout)
        ran.append(program.title)
    wanted = {"curl", "Python, requests", "Python, httpx"} | ({"C#"} if REQUIRE_ALL else set())
    assert wanted <= set(ran)
