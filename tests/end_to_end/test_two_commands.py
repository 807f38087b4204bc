"""A fresh copy of the tree in an empty home folder: `make serve`, the line it prints, what stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from deploy import environment
from tests.servers import CHECKOUT, free_port, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

TABLE = "size;colour;price\n" + "".join(
    f"{size};{colour};{size * 2 + bonus}\n"
    for size in range(1, 41)
    for colour, bonus in (("red", 3), ("blue", 0), ("", 1))
)


@dataclass
class Command:
    """A `make` that runs, with what it has said so far."""

    process: subprocess.Popen[str]
    log: Path

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, seconds: float = 300) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if text in self.said():
                return self.said()
            assert self.process.poll() is None, f"make ended: {self.said()}"
            time.sleep(0.2)
        raise AssertionError(f"no {text!r} in {self.said()}")

    def everyone(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


@dataclass(frozen=True)
class Copy:
    """A copy of the tree with a home folder of its own."""

    folder: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """A login shell's and nothing of ours."""
        kept = {"PATH", "LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS"}
        return {key: value for key, value in os.environ.items() if key in kept} | {"HOME": str(self.home)}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    @contextlib.contextmanager
    def make(self, *arguments: str) -> Iterator[Command]:
        log = self.home / f"make-{time.monotonic_ns()}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["make", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        command = Command(process, log)
        try:
            yield command
        finally:
            left = command.everyone() if process.poll() is None else []
            for each in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Every file that git knows or would take, in a path with a space; installed packages are borrowed."""
    folder = tmp_path_factory.mktemp("copy") / "a checkout"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, folder / name)
    venv = folder / ".venv"
    venv.mkdir()
    for part in ("bin", "lib"):
        (venv / part).symlink_to(Path(sys.prefix) / part)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", venv)
    (venv / "okamochi-environment").write_text(environment.fingerprint("dev") + "\n")
    (folder / "prices.csv").write_text(TABLE)
    home = folder.parent / "home"
    home.mkdir()
    return Copy(folder, home)


@pytest.mark.timeout(900)
def test_from_a_table_to_a_served_prediction(copy: Copy) -> None:
    """The printed line works when pasted; Ctrl-C leaves nothing running; a second run trains nothing."""
    done = copy.run(".venv/bin/python", "-m", "training", "init", "prices.csv", "--target", "price")
    assert done.returncode == 0, done.stdout + done.stderr
    port = free_port()
    serve = ("serve", f"PORT={port}", "TRIALS=2", "USECASES=linear prices.toml")

    with copy.make(*serve) as first:
        said = first.wait_for("Ctrl-C stops the server.")
        lines = re.findall(r"^curl .*$", said, flags=re.MULTILINE)
        replies = [json.loads(copy.run("/bin/sh", "-c", line).stdout) for line in lines]
        assert [reply["model"] for reply in replies] == ["linear", "prices"]
        assert "Next:" not in said, "what is being done is no next step"
        assert all(len(reply["prediction"]) == 1 for reply in replies)
        everyone = first.everyone()
        os.killpg(first.process.pid, signal.SIGINT)  # as the terminal does
        gone, alive = psutil.wait_procs(everyone, timeout=60)
        assert not alive, [each.cmdline() for each in alive]
        assert len(gone) >= 4, "make, ours, BentoML's parent and worker"
        assert "Traceback" not in first.said()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))

    lock = (copy.folder / "models.lock").read_text()
    with copy.make(*serve[:-1], "USECASES=prices.toml") as second:
        said = second.wait_for("Ctrl-C stops the server.", seconds=60)
        assert said.count("nothing to train") == 1
        assert "searching" not in said
        assert (copy.folder / "models.lock").read_text() == lock, "linear is kept for whoever serves all"
        (line,) = re.findall(r"^curl .*$", said, flags=re.MULTILINE)
        assert f":{port}/predict " in line, "what was asked for is the default"
        assert json.loads(copy.run("/bin/sh", "-c", line).stdout)["model"] == "prices"
        assert [model["name"] for model in get(f"http://127.0.0.1:{port}/models")["models"]] == ["prices"]
        everyone = second.everyone()
        second.process.terminate()  # as a supervisor does
        _, alive = psutil.wait_procs(everyone, timeout=60)
        assert not alive, [each.cmdline() for each in alive]

    bring_back_what_was_lost(copy, serve, replies)

    # Each tool by hand, as its user knows it: the experiments are where `mlflow ui` looks.
    ui = free_port()
    for command in (
        [".venv/bin/python", "-m", "mlflow", "ui", "--port", str(ui)],
        ["make", "mlflow", f"MLFLOW_PORT={ui}"],
    ):
        url = f"http://127.0.0.1:{ui}"
        with started(
            command,
            url=url,
            ready="/health",
            log=copy.home / "ui.log",
            environment=copy.environment | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            cwd=copy.folder,
        ):
            names = {
                model["name"]
                for model in get(url + "/api/2.0/mlflow/registered-models/search")["registered_models"]
            }
            assert names == {"linear", "prices"}


def bring_back_what_was_lost(copy: Copy, serve: Sequence[str], replies: list[dict[str, Any]]) -> None:
    """`make backup`, a lost home and state, `make restore`: the same answers, and nothing is trained."""
    done = copy.run("make", "backup", "BACKUP=saved/it.tar.gz")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"models: \d+ files, .*: okamochi-linear:1-[0-9a-f]{12}, okamochi-prices:1-", done.stdout
    )

    assert copy.run("make", "clean").returncode == 0
    shutil.rmtree(copy.home / "bentoml")
    done = copy.run("make", "restore", "BACKUP=saved/it.tar.gz")
    assert done.returncode == 0, done.stdout + done.stderr

    with copy.make(*serve) as third:
        said = third.wait_for("Ctrl-C stops the server.", seconds=60)
        assert said.count("nothing to train") == 2
        lines = re.findall(r"^curl .*$", said, flags=re.MULTILINE)
        again = [json.loads(copy.run("/bin/sh", "-c", line).stdout) for line in lines]
        everyone = third.everyone()
        third.process.terminate()
        _, alive = psutil.wait_procs(everyone, timeout=60)
        assert not alive, [each.cmdline() for each in alive]
    assert [reply | {"id": ""} for reply in again] == [reply | {"id": ""} for reply in replies]

    refused = copy.run("make", "restore", "BACKUP=saved/it.tar.gz")
    assert refused.returncode == 2
    assert "would replace" in refused.stderr
    assert "Traceback" not in refused.stderr


def get(url: str) -> dict[str, list[dict[str, str]]]:
    with urllib.request.urlopen(url, timeout=30) as reply:
        found: dict[str, list[dict[str, str]]] = json.load(reply)
    return found


def test_a_use_case_that_is_none_is_one_sentence(copy: Copy) -> None:
    """With the nearest right name; nothing is started."""
    done = copy.run("make", "serve", f"PORT={free_port()}", "USECASES=breast_cancr")

    assert done.returncode != 0
    assert 'did you mean "breast_cancer"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_registry_that_is_down_stops_the_command(copy: Copy) -> None:
    """It fails closed: exit 4, and nothing is served."""
    uri = f"http://127.0.0.1:{free_port()}"
    done = copy.run("make", "serve", f"PORT={free_port()}", "USECASES=linear", f"MLFLOW_TRACKING_URI={uri}")

    assert "Error 4" in done.stderr
    assert "connection refused" in done.stderr
    assert "Traceback" not in done.stderr
