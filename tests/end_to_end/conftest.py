"""A fresh copy of the tree in an empty home folder, and commands that run in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from deploy import environment
from tests.servers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    home = folder.parent / "home"
    home.mkdir()
    return Copy(folder, home)
