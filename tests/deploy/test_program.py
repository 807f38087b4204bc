"""Ctrl-C ends a server that make started, whenever it comes, without a traceback and with nothing left."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.servers import CHECKOUT, free_port
from tests.serving.artifacts import iris

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 120


class MLflow:
    """`python -m deploy mlflow` in a process group of its own, as a terminal has it."""

    def __init__(self, folder: Path) -> None:
        self.port, self.log = free_port(), folder / "log"
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy", "mlflow", "--port", str(self.port)],
                cwd=CHECKOUT,
                env=environment | {"OKAMOCHI_STATE_DIR": str(folder)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def family(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def answers(self) -> bool:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as got,
        ):
            return bool(got.status == 200)
        return False

    def started(self, stage: str) -> bool:
        """Whether it has come so far: said where it is, started MLflow, answers."""
        if stage == "says":
            return "Ctrl-C stops it" in self.log.read_text()
        return bool(self.family()) if stage == "begins" else self.answers()

    def wait_for(self, stage: str) -> None:
        end = time.monotonic() + SECONDS
        while not self.started(stage):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[MLflow]:
    server = MLflow(tmp_path)
    yield server
    for process in server.family():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.process.kill()
    server.process.wait()


@pytest.mark.parametrize("stage", ["says", "begins", "answers"])
def test_an_interrupt_ends_mlflow_quietly(mlflow: MLflow, stage: str) -> None:
    """While it starts, as on a busy machine, and while it runs: no traceback, no process, exit code 0."""
    mlflow.wait_for(stage)
    family = mlflow.family()

    os.killpg(mlflow.process.pid, signal.SIGINT)  # as the terminal does

    assert mlflow.process.wait(SECONDS) == 0, mlflow.log.read_text()
    _, alive = psutil.wait_procs(family, timeout=SECONDS)
    assert not alive
    assert "Traceback" not in mlflow.log.read_text()
    assert "KeyboardInterrupt" not in mlflow.log.read_text()
    assert mlflow.log.read_text().rstrip().endswith("Stopped.")


def test_scoring_needs_nothing_of_the_server(tmp_path: Path) -> None:
    """The image of training, in which a Job scores, does not hold the package `serving`."""
    made = iris(tmp_path / "iris")
    table, output = tmp_path / "in.csv", tmp_path / "out.csv"
    table.write_text(",".join(made.signature.names) + "\n5.1,3.5,1.4,0.2\n5.1,wide,1.4,0.2\n")
    code = (
        "import sys; sys.modules['serving'] = None; from deploy.__main__ import main; "
        f"sys.exit(main(['score', {str(made.path)!r}, {str(table)!r}, {str(output)!r}, '--jobs', '1']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(csv.reader(output.open()))[1:] == [["5.1", "3.5", "1.4", "0.2", "setosa"]]
    assert "1 were refused" in done.stdout


def test_the_follower_needs_nothing_of_the_server(tmp_path: Path) -> None:
    """The image of training, in which it runs beside a server, does not hold the package `serving`."""
    code = (
        "import sys; sys.modules['serving'] = None; from deploy.__main__ import main; "
        f"sys.exit(main(['follow', 'absent', '--once', '--lock', {str(tmp_path / 'models.lock')!r}]))"
    )
    where = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}", "BENTOML_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**os.environ, **where},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {1, 2, 4}, done.stderr
    assert "Traceback" not in done.stderr
    assert "absent" in done.stdout + done.stderr
