"""A server of small models, one of them slow, and Locust as a person starts it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sklearn.ensemble import RandomForestClassifier

from tests.bento_server import bento_server, prepare
from tests.faults.conftest import native
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server
    from tests.serving.artifacts import Made

LOCUSTFILE = Path(__file__).resolve().parents[2] / "loadtests" / "locustfile.py"

LENIENT = """
[{shape}]
p50_ms = 60000
p95_ms = 60000
p99_ms = 60000
error_rate = 0
goodput = 0.01
goodput_per_s = 0.1
"""
"""Times are the machine's; statuses, answers and counts are ours."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("load-artifacts")
    return {
        "iris": artifacts.iris(folder / "iris"),
        "linear": artifacts.linear(folder / "linear"),
        "loans": artifacts.loans(folder / "loans"),
        # 20 to 50 ms a call.
        "slow": native(folder / "slow", "slow", RandomForestClassifier(300, max_depth=2, random_state=0)),
    }


@pytest.fixture(scope="session")
def server(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The first model is the default; the queue is short, so that forty users are shed and six never are."""
    folder = tmp_path_factory.mktemp("load") / "work"
    prepare(folder, {name: (model.path, "1") for name, model in made.items()})
    with bento_server(folder, settings={"OKAMOCHI_QUEUE_ROWS": "8"}) as started:
        yield started


@dataclass(frozen=True)
class Done:
    """A run of Locust that has ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line that a person sees on standard output."""
        return self.out.strip().splitlines()[-1] if self.out.strip() else ""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--only-summary", *arguments]


def locust(folder: Path, *arguments: str) -> Done:
    """Run Locust without its web UI, in a folder that is not the checkout."""
    done = subprocess.run(
        command("--headless", *arguments),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def lenient(folder: Path, shape: str, *more: str) -> list[str]:
    """Options for objectives that any machine meets."""
    path = folder / "objectives.toml"
    path.write_text("\n".join((LENIENT.format(shape=shape), *more)))
    return ["--objectives", str(path)]
