"""The files in which workers share their metrics, on a disk that may be full.

`prometheus_client` mmaps a sparse file; writing an unallocated page on a full disk raises SIGBUS. Here the
blocks are allocated when a file is made or grows. When the disk is full, the values stay in the worker's
own memory: the worker goes on serving, and `/metrics` shows only the worker that answers it.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

FIRST_BYTES = 1 << 16

logger = logging.getLogger("bentoml.okamochi")
_in_memory: list[str] = []


class AllocatedFile(MmapedDict):
    """One file, whose blocks are allocated before anything is written to them."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode:
            try:
                _make(Path(filename))
            except OSError as error:
                filename = _hold(filename, error)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        ours: Any = self
        grown = ours._capacity  # noqa: SLF001
        while ours._used + _max_bytes(key) > grown:  # noqa: SLF001
            grown *= 2
        if grown > ours._capacity:  # noqa: SLF001
            try:
                _take(ours._f.fileno(), grown)  # noqa: SLF001
            except OSError as error:
                self._leave_the_disk(error)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _leave_the_disk(self, error: OSError) -> None:
        ours: Any = self
        held = bytes(ours._m)  # noqa: SLF001
        self.close()  # type: ignore[no-untyped-call]
        ours._f = open(_hold(ours._fname, error), "a+b")  # noqa: SIM115, PTH123, SLF001
        ours._f.write(held)  # noqa: SLF001
        ours._f.flush()  # noqa: SLF001
        ours._m = mmap(ours._f.fileno(), len(held))  # noqa: SLF001


def install() -> None:
    """Allocate every metric file of this process, BentoML's included; call it before the first is opened."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        vars(values)["MmapedDict"] = AllocatedFile


def shared() -> bool:
    """Whether every value of this process is in a file that the other workers can read."""
    return not _in_memory


def _make(path: Path) -> None:
    """Make a file in one step: a worker that adds the files up would fail on an empty one."""
    if path.exists() and path.stat().st_size:
        return
    unfinished = path.with_suffix(".new")
    try:
        with unfinished.open("wb") as file:
            _take(file.fileno(), FIRST_BYTES)
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink()
        raise


def _take(descriptor: int, size: int) -> None:
    if os.fstat(descriptor).st_size < size:
        os.posix_fallocate(descriptor, 0, size)


def _max_bytes(key: str) -> int:
    """The largest size of an entry: a length, the key padded to eight bytes, a value and a time."""
    return 4 + len(key.encode()) + 8 + 16


def _hold(filename: str, error: OSError) -> str:
    if not _in_memory:
        logger.warning(
            "%s cannot be allocated (%s): until a restart, /metrics shows only the worker that answers it",
            filename,
            error.strerror,
        )
    _in_memory.append(filename)
    return f"/proc/self/fd/{os.memfd_create('metrics')}"
