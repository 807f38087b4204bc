"""docs/clients.md is what its script writes, and its programs get their answers where their tools are."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar

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
    for program in clients.programs(clients.fetched(server.url), server.url):
        printed = run(program, tmp_path)
        assert printed is None or re.search("malignant|benign", printed), (program.title, printed)
        ran += [program.title] if printed is not None else []
    wanted = {"curl", "Python, requests", "Python, httpx"} | ({"C#"} if REQUIRE_ALL else set())
    assert wanted <= set(ran)


ODD = [
    [
        'O\'Brien "Ort"',
        "a\\b\\u0041",
        "`x` $HOME ${x} $(id) %s {0} {x}",
        "北京 é 😀",
        "a\tb\nc",
        "",
        "URL BODY",
        None,
    ]
]
"""A row whose texts have what some language takes for the end of a text or for more than a text."""


class Kept(BaseHTTPRequestHandler):
    """Keeps each body."""

    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        """Answer as a server of Okamochi."""
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        reply = b'{"prediction": ["kept"]}'
        self.send_response(200)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)


@pytest.mark.deep
def test_any_text_of_a_row_arrives_as_it_is(clients: Any, tmp_path: Path) -> None:
    """Quotes, backslashes, marks of templates and other scripts, in each language."""
    media = {"examples": {"features": {"value": {"features": ODD}}}}
    document = {"paths": {"/predict": {"post": {"requestBody": {"content": {"application/json": media}}}}}}
    Kept.bodies.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Kept) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        for program in clients.programs(document, f"http://127.0.0.1:{listening.server_port}"):
            printed = run(program, tmp_path)
            assert printed is None or "kept" in printed, program.title
            if printed is not None:
                assert json.loads(Kept.bodies.pop()) == {"features": ODD}, program.title
        listening.shutdown()
    assert not Kept.bodies


def run(program: Any, folder: Path) -> str | None:
    """What a program prints; None where its tool is not here."""
    path = f"{os.environ['PATH']}{os.pathsep}/usr/local/go/bin"
    command = TOOLS.get(program.file, [])
    tool = shutil.which(command[0], path=path) if command else None
    if tool is None or (command[0] == "java" and shutil.which("javac") is None):
        return None
    file = folder / program.file
    file.write_text(program.text)
    if tool.endswith("mono"):
        compiled = file.with_suffix(".exe")
        made = ["mcs", "-warnaserror", "-r:System.Net.Http.dll", f"-out:{compiled}", str(file)]
        subprocess.run(made, check=True, timeout=PATIENCE_S)
        file = compiled
    done = subprocess.run(
        [tool, *command[1:], str(file)],
        cwd=folder,
        env={**os.environ, "PATH": path, "GOCACHE": str(folder.parent / "go"), "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, (program.title, done.stderr)
    return done.stdout
