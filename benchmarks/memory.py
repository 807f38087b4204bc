"""Runs a command and tells what it took: seconds, CPU seconds, and the most memory of all its processes.

    python -m benchmarks.memory -- python -m training run large.toml

Memory is the sum of the proportional set sizes (PSS), so what processes share counts once.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PAUSE_S = 0.25


def descendants(pid: int) -> list[int]:
    """The process and all that it has started."""
    found, front = [pid], [pid]
    while front:
        one = front.pop()
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                children = [int(child) for child in (task / "children").read_text().split()]
                found += children
                front += children
    return found


def pss_mb(pid: int) -> float:
    """The memory of a process, its share of what it shares with others; 0 for one that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1000
    return 0.0


def measured(command: list[str]) -> int:
    """Run the command, print what it took, and return its exit code."""
    started = time.monotonic()
    most, when, shares = 0.0, 0.0, [0.0]
    process = subprocess.Popen(command)
    while process.poll() is None:
        found = [pss_mb(pid) for pid in descendants(process.pid)]
        if sum(found) > most:
            most, when, shares = sum(found), time.monotonic() - started, found
        time.sleep(PAUSE_S)
    taken = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = taken.ru_utime + taken.ru_stime
    each = " + ".join(f"{share:,.0f}" for share in sorted(shares, reverse=True) if share > 20)
    print(
        f"{time.monotonic() - started:.0f} s, {cpu_s:.0f} s of CPU; most memory {most:,.0f} MB "
        f"after {when:.0f} s ({each})",
        flush=True,
    )
    return process.returncode


if __name__ == "__main__":
    command = sys.argv[1:]
    sys.exit(measured(command[1:] if command[:1] == ["--"] else command))
