"""A server that runs as a child until a signal comes, and of which nothing is left afterwards."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STOPPING_S = 30
"""How long the server may take to answer what it has accepted before it is killed."""
LOOK_EVERY_S = 0.2


def catch_signals() -> list[int]:
    """Collect what would stop this process, from now on, in the list that is given."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda signum, _frame: stopped.append(signum))
    return stopped


def run(
    command: list[str], stopped: list[int], *, cwd: Path, look: Callable[[], None] = lambda: None
) -> int | None:
    """Run a server until it ends or a signal stops it; its exit code, None where it was a signal.

    Parameters
    ----------
    stopped
        Of `catch_signals`.
    look
        Called again and again while the server runs.
    """
    # Its own session: the terminal's Ctrl-C reaches it once, through us, and as SIGTERM, for which no Python
    # program prints a traceback, also while it starts.
    server = subprocess.Popen(command, cwd=cwd, start_new_session=True)
    try:
        while server.poll() is None and not stopped:
            look()
            time.sleep(LOOK_EVERY_S)
    finally:
        stop(server)
    if stopped:
        print("Stopped.", flush=True)
        return None
    return server.returncode


def stop(server: subprocess.Popen[bytes]) -> None:
    """Let the server finish what it has accepted, then make sure that none of its processes is left."""
    processes = family(server.pid)
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            print(f"The server did not stop within {STOPPING_S} s and is killed.", file=sys.stderr)
            server.kill()
            server.wait()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def family(pid: int) -> list[psutil.Process]:
    """Give what it started: each of BentoML's workers leads a process group of its own."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
