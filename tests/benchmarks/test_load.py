"""The generators and the harness against real servers on this machine."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks import dialects
from benchmarks.contestants import EMPTY, Setting
from benchmarks.load import Sampler, open_loop, write_requests
from benchmarks.models import Prepared
from benchmarks.servers import BenchError, Command, free_port, group_alive, running, wait_ready

if TYPE_CHECKING:
    from pathlib import Path

PREPARED = Prepared(name="m", title="m", precision="float64", rows=[[1.0], [2.0]], labels=[0, 1])
REFUSES = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0
    def do_POST(self):
        Handler.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if Handler.asked % 2 else 429)
        self.send_header("Content-Length", "20")
        self.end_headers()
        self.wfile.write(b'{"prediction":[7]}  ')
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_every_offered_request_is_accounted_for(tmp_path: Path) -> None:
    """An open loop sends what it was asked to send, and every answer is counted under its status."""
    port = free_port()
    requests = write_requests(tmp_path / "requests", dialects.FEATURES, PREPARED)
    with running(
        "half", Command([sys.executable, "-c", REFUSES, str(port)], tmp_path), port, tmp_path / "log"
    ) as server:
        wait_ready(server, "/", b"", time.monotonic())
        found = open_loop(port, requests, rate=100, seconds=1, connections=4)
    assert sum(found.statuses.values()) == 100
    assert set(found.statuses) == {"200", "429"}
    assert not group_alive(server.process.pid)


def test_wrong_answers_under_load_are_noticed(tmp_path: Path) -> None:
    """A server that answers 7 where scikit-learn says 0 or 1 does not get away with it."""
    port = free_port()
    with running(
        "wrong", Command([sys.executable, "-c", REFUSES, str(port)], tmp_path), port, tmp_path / "log"
    ) as server:
        wait_ready(server, "/", b"", time.monotonic())
        with Sampler(server, dialects.FEATURES, PREPARED) as sampler:
            while sampler.asked < 2:
                time.sleep(0.01)
    assert sampler.wrong


def test_a_server_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    """Whoever reads the error sees why the contestant did not start."""
    argv = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        running("broken", Command(argv, tmp_path), 1, tmp_path / "log") as server,
        pytest.raises(BenchError) as error,
    ):
        wait_ready(server, "/", b"", time.monotonic())
    assert "no such model" in str(error.value)


def test_the_empty_app_reads_the_body_and_answers_one_byte(tmp_path: Path) -> None:
    """The yardstick is the one that the design pins, and it is ended whole."""
    port = free_port()
    command = EMPTY.start(Setting(PREPARED, tmp_path, port, tmp_path))
    assert "httptools" in command.argv
    assert "uvloop" in command.argv
    requests = write_requests(tmp_path / "requests", dialects.EMPTY, PREPARED)
    with running("empty", command, port, tmp_path / "log") as server:
        wait_ready(server, "/predict", b"{}", time.monotonic())
        assert open_loop(port, requests, rate=50, seconds=1).statuses == {"200": 50}
    with pytest.raises(ProcessLookupError):
        os.killpg(server.process.pid, 0)
