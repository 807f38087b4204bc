"""Run a server as a child process until a signal comes, and leave none of its processes behind."""

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
"""How long the server may take to answer accepted requests before it is killed."""
LOOK_EVERY_S = 0.2


def catch_signals() -> list[int]:
    """From now on, append each signal that would stop this process to the returned list."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda signum, _frame: stopped.append(signum))
    return stopped


def run(
    command: list[str], stopped: list[int], *, cwd: Path, look: Callable[[], None] = lambda: None
) -> int | None:
    """Run a server until it ends or a signal comes; returns its exit code, None after a signal.

    Parameters
    ----------
    stopped
        The list that `catch_signals` returned.
    look
        Called every LOOK_EVERY_S while the server runs.
    """
    # In a session of its own, the terminal's Ctrl-C does not reach it. It gets SIGTERM from `stop` instead,
    # on which no Python program prints a traceback, even while it starts.
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
    """Let the server answer accepted requests, then kill whatever process of it is left."""
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
    """All descendants; they are not one process group, since each of BentoML's workers leads its own."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
