"""The prediction log in a folder, which processes and pods may share.

Each process writes files of its own, named after its prefix and the time of their first id. The ids of a
process rise, so its files are in order, and so are the lines of each. The file names alone show which file
can have an id, and a binary search finds the line in it.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from bisect import bisect_right
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from artifact import verdict
from artifact.logged import shadows_file, stands
from serving import ids
from serving.prediction_log import answers
from serving.prediction_log.lines import line_of, place_of
from serving.prediction_log.record import StoreError, sealed_line, sealed_shadow_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedWriter, FileIO
    from pathlib import Path

    from artifact.sealing import Sealing
    from artifact.verdict import LiveVerdict
    from serving.prediction_log.record import Actual, Found, Line, ShadowLine
    from serving.waiting import Until

_NAME = re.compile(r"predictions-[^-]+-[^-]+-\d+-([0-9a-f]{12})-(\d+)(?:-([0-9a-f]+))?\.jsonl")
_encode = msgspec.json.encode


class File(NamedTuple):
    """A file of the log, by the parts of its name."""

    first: int  # the time of its first id; -1 where an older release wrote it: then it stands in the file
    number: int  # among those of its process
    path: Path


class Folder:
    """JSON lines in files of this process's own; many processes may share the folder.

    `predictions-TIME-HOST-PID-PREFIX-NUMBER-FIRST.jsonl`, and beside each, once there is some, `feedback-...`
    of its rows, which any process may add to, and `shadows-...` with what shadows predict for its rows.
    """

    def __init__(self, path: Path, *, file_bytes: int, file_s: float, sealing: Sealing | None = None) -> None:
        self.path = path
        self._sealing = sealing
        self._file_bytes, self._file_s = file_bytes, file_s
        self._file: BufferedWriter | None = None
        self._opened = 0.0
        self._count = 0
        self._written: list[tuple[int, Path]] = []  # its own files, by the time of their first id
        host = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:60]
        self._name = f"{host}-{os.getpid()}-{ids.PREFIX}"
        self._files: dict[str, list[File]] = {}  # by prefix, when the folder was last listed
        self._firsts: dict[Path, int] = {}  # read from files of an older release

    def write(self, lines: Sequence[Line]) -> None:
        """See `Store`."""
        sealing = self._sealing
        written = lines if sealing is None else [sealed_line(line, sealing) for line in lines]
        content = b"".join(_encode(line) + b"\n" for line in written)
        try:
            file = self._open(lines[0])
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(content)
                file.flush()
            except OSError:
                os.ftruncate(file.fileno(), end)  # a full disk takes half a line
                self.close()
                raise
            _lock(file, fcntl.LOCK_UN)
            if end + len(content) >= self._file_bytes or time.monotonic() - self._opened >= self._file_s:
                self.close()
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}") from error

    def _open(self, first: Line) -> BufferedWriter:
        """The file to append to, locked: a program that takes rows out of it replaces it meanwhile."""
        if self._file is not None:
            _lock(self._file, fcntl.LOCK_EX)
            if not stands(self._file.name, self._file.fileno()):
                self.close()
        if self._file is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._count += 1
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            order = ids.place_of(first.id)[1]
            name = f"predictions-{stamp}-{self._name}-{self._count:06d}-{order:x}.jsonl"
            self._file = (self.path / name).open("xb")
            self._written.append((order, self.path / name))
            self._opened = time.monotonic()
            _lock(self._file, fcntl.LOCK_EX)
        return self._file

    def write_shadows(self, lines: Sequence[ShadowLine]) -> int:
        """See `Store`."""
        by_log: dict[Path, bytearray] = defaultdict(bytearray)
        sealing, stored = self._sealing, 0
        try:
            for line in lines:
                log = self._own(ids.place_of(line.id)[1])
                if log is not None:
                    by_log[log] += _encode(line if sealing is None else sealed_shadow_line(line, sealing))
                    by_log[log] += b"\n"
                    stored += 1
            for log, content in by_log.items():
                _append(shadows_file(log), content)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}") from error
        return stored

    def _own(self, order: int) -> Path | None:
        """The file of this process that has an id of this time; None if it is gone."""
        while len(self._written) > 1 and not self._written[0][1].exists():
            self._written.pop(0)
        at = bisect_right(self._written, order, key=lambda file: file[0])
        path = self._written[at - 1][1] if at else None
        return path if path is not None and path.exists() else None

    def close(self) -> None:
        """See `Store`."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what it still holds does not fit
                file.close()

    def expire(self, days: float) -> None:
        """See `Store`."""
        oldest = time.time() - 86_400 * days
        try:
            for path in self.path.glob("predictions-*.jsonl"):
                with suppress(FileNotFoundError):  # another process expires the same folder
                    if path.stat().st_mtime < oldest:
                        path.unlink()
                        answers.forget(path)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        self._files, self._firsts = {}, {}

    def verdicts(self) -> list[LiveVerdict]:
        """See `Store`."""
        try:
            return verdict.found_in(self.path)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error

    # ---- rows by their ids

    def find(self, wanted: Sequence[tuple[str, int | None]], until: Until) -> list[Found | None]:
        """See `Store`."""
        found: list[Found | None] = [None] * len(wanted)
        try:
            self._find(wanted, found, until)
            if None in found:  # the folder has changed since it was listed, or the ids are not in the log
                self._list(until)
                self._find(wanted, found, until)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        return found

    def _find(
        self, wanted: Sequence[tuple[str, int | None]], found: list[Found | None], until: Until
    ) -> None:
        asked: dict[Path, list[int]] = defaultdict(list)
        for i, (one, _) in enumerate(wanted):
            if found[i] is None:
                until.check()
                for path in self._paths(one):
                    asked[path].append(i)
        for path, items in asked.items():
            with suppress(FileNotFoundError), path.open("rb") as file:  # it may have expired
                for i in items:
                    until.check()
                    found[i] = found[i] or line_of(file, path, *wanted[i])

    def _list(self, until: Until) -> None:
        files: dict[str, list[File]] = defaultdict(list)
        try:
            for entry in os.scandir(self.path):
                until.check()
                parts = _NAME.fullmatch(entry.name)
                if parts:
                    first = int(parts[3], 16) if parts[3] else -1
                    files[parts[1]].append(File(first, int(parts[2]), self.path / entry.name))
        except FileNotFoundError:
            if self._count or self._files:  # it was there: a volume that is away, whose rows will be back
                raise
        for several in files.values():
            several.sort()
        self._files = dict(files)

    def _paths(self, one: str) -> list[Path]:
        """The files that may have an id: one, and the one before it if a reply's rows were split."""
        prefix, order = ids.place_of(one)
        files = self._files.get(prefix, [])
        at = bisect_right(files, order, key=self._first)
        if not at:
            return []
        parted = at > 1 and self._first(files[at - 1]) == order
        return [file.path for file in files[at - 2 if parted else at - 1 : at]]

    def _first(self, file: File) -> int:
        """The time of a file's first id; for a file of an older release, its number."""
        first = file.first if file.first >= 0 else self._firsts.get(file.path, -1)
        if first < 0:
            with suppress(FileNotFoundError), file.path.open("rb") as opened:
                first = place_of(opened.readline())[0]
            if first < 0:
                return 2**64  # it has no line yet
            self._firsts[file.path] = first
        return first

    # ---- feedback

    def add_actuals(self, actuals: Sequence[Actual], until: Until) -> list[Any]:
        """See `Store`."""
        try:
            return answers.add(self.path, actuals, until, self._sealing)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error


def _lock(file: BufferedWriter | FileIO, operation: int) -> None:
    with suppress(OSError):  # NFS before version 4 has no locks: rows are still logged there
        fcntl.flock(file, operation)


def _append(path: Path, content: bytearray) -> None:
    """Add whole lines to a file, or none."""
    while True:
        with path.open("ab", buffering=0) as file:
            _lock(file, fcntl.LOCK_EX)
            if not stands(path, file.fileno()):
                continue
            end = file.seek(0, os.SEEK_END)
            if file.write(content) != len(content):
                os.ftruncate(file.fileno(), end)
                raise OSError(0, "no room for what the shadow predicts")
            return
