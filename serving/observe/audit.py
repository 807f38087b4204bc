"""The audit log: caller, model, version, time and status of the requests; no values.

A line counts the equal requests of one caller within a second, so none is left out and the cost stays bounded
at any rate: an addition for a request, a few lines a second for the disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import msgspec

from serving.observe import metrics
from serving.observe.supervised import Supervised

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("bentoml.okamochi")

EVERY_S = 1.0
MAX_LINES = 50_000
"""Lines that wait while the disk takes none; further lines are lost, and counted."""

Kind = tuple[str, str, str, str, int]
"""Caller, model, version, endpoint and status."""


class Audit:
    """Writes the lines to a file, which several workers may share and another program may move away.

    Parameters
    ----------
    path
        Of the file; it is created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: Counter[Kind] = Counter()
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._waiting: list[bytes] = []
        self._failed = False
        self._thread = Supervised("audit", self._run)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def __call__(self, caller: str, model: str, version: str, endpoint: str, status: int) -> None:
        """Count one answered request; in the event loop."""
        counts = self._counts
        if not counts:
            asyncio.get_running_loop().call_later(EVERY_S, self._flush)
        counts[caller, model, version, endpoint, status] += 1

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._thread.close()
        self._write()

    def _flush(self) -> None:
        counts, self._counts = self._counts, Counter()
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for (caller, model, version, endpoint, status), count in counts.items():
            if self._lines.qsize() + len(self._waiting) >= MAX_LINES:
                metrics.AUDIT_LOST.inc(count)
                continue
            line = {"time": when, "caller": caller or None, "model": model or None}
            line |= {"version": version or None, "endpoint": endpoint}
            self._lines.put(msgspec.json.encode({**line, "status": status, "requests": count}) + b"\n")

    def _run(self) -> None:
        while not self._thread.ended.wait(EVERY_S):
            self._write()

    def _write(self) -> None:
        """Append the lines that wait; keep those that the disk does not take."""
        while True:
            try:
                self._waiting.append(self._lines.get_nowait())
            except Empty:
                break
        if not self._waiting:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                while self._waiting:
                    # Of a line that the disk cut short, the beginning stays, and the line is written again.
                    data = b"".join(self._waiting[:100])
                    written = os.write(descriptor, data)
                    del self._waiting[: data[:written].count(b"\n")]
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._failed:
                logger.error("the audit log %s cannot be written: %s", self._path, error.strerror)  # noqa: TRY400 - the reason is enough
            self._failed = True
            return
        if self._failed:
            logger.info("the audit log %s is written again", self._path)
        self._failed = False
