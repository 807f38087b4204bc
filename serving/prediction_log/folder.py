"""The prediction log in a folder, which processes and pods may share."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from artifact import verdict
from serving import ids
from serving.prediction_log.record import NEW, Line, StoreError, Told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedWriter
    from pathlib import Path

    from artifact.verdict import Verdict

_LINE = re.compile(rb'\{"id":"[0-9a-f]{12}-([0-9a-f]+)","row":(\d+),')
_encode = msgspec.json.encode


class Folder:
    """JSON lines in files of this process's own; the folder may be shared by many.

    `predictions-TIME-HOST-PID-PREFIX-NUMBER.jsonl`, and beside each, once there is some, `feedback-...` of
    its rows, which any process may add to under a lock.
    """

    def __init__(self, path: Path, *, file_bytes: int, file_s: float) -> None:
        self.path = path
        self._file_bytes, self._file_s = file_bytes, file_s
        self._file: BufferedWriter | None = None
        self._opened = 0.0
        self._count = 0
        host = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:60]
        self._name = f"{host}-{os.getpid()}-{ids.PREFIX}"

    def write(self, lines: Sequence[Line]) -> None:
        """See `Store`."""
        content = b"".join(_encode(line) + b"\n" for line in lines)
        try:
            file = self._open()
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(content)
                file.flush()
            except OSError:
                self.close()  # a full disk takes half a line
                os.truncate(file.name, end)
                raise
            if end + len(content) >= self._file_bytes or time.monotonic() - self._opened >= self._file_s:
                self.close()
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}") from error

    def _open(self) -> BufferedWriter:
        if self._file is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._count += 1
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            name = f"predictions-{stamp}-{self._name}-{self._count:06d}.jsonl"
            self._file = (self.path / name).open("xb")
            self._opened = time.monotonic()
        return self._file

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
                        feedback_file(path).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error

    def verdicts(self) -> list[Verdict]:
        """See `Store`."""
        try:
            return verdict.found_in(self.path)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error

    def find(self, id: str, row: int | None) -> Line | None:  # noqa: A002
        """See `Store`."""
        found = self._locate(id, row)
        return None if found is None else found[1]

    def _locate(self, id: str, row: int | None) -> tuple[Path, Line] | None:  # noqa: A002
        prefix, number = id.split("-")
        place = (int(number, 16), -1 if row is None else row)
        for path in sorted(self.path.glob(f"predictions-*-{prefix}-*.jsonl"), reverse=True):
            try:
                raw = _search(path, place)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"{path}: {error.strerror}") from error
            if raw is not None:
                return path, msgspec.json.decode(raw, type=Line)
        return None

    def tell(self, told: Sequence[Told]) -> list[Any]:
        """See `Store`."""
        places: list[Path] = []
        for line, _ in told:
            found = self._locate(line.id, line.row)
            if found is None:
                raise StoreError(f"{self.path}: the log of {line.id} has just expired")
            places.append(feedback_file(found[0]))
        try:
            return add_to_files(places, told)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error


def feedback_file(log: Path) -> Path:
    """Where the actual values of a log's rows are."""
    return log.with_name("feedback-" + log.name.removeprefix("predictions-"))


def _search(path: Path, place: tuple[int, int]) -> bytes | None:
    """The line of (number of the id, row) in a file that is sorted by both; row -1 is the id's first line."""
    with path.open("rb") as file:
        low, high = 0, file.seek(0, os.SEEK_END)
        while low < high:  # the last byte from which the next whole line is before `place`
            middle = (low + high) // 2
            at, line = _line_from(file, middle)
            if not line or _place(line) >= place:
                high = middle
            else:
                low = at + len(line)
        _, line = _line_from(file, low)
        found = _place(line) if line else None
        if found is None or found[0] != place[0] or (place[1] >= 0 and found != place):
            return None
        return line


def _line_from(file: Any, start: int) -> tuple[int, bytes]:
    """The first line that begins at `start` or later, and where; b"" for none that is whole."""
    file.seek(max(0, start - 1))
    if start:
        file.readline()
    at = file.tell()
    line = file.readline()
    return at, line if line.endswith(b"\n") else b""


def _place(line: bytes) -> tuple[int, int]:
    found = _LINE.match(line)
    return (int(found[1], 16), int(found[2])) if found else (-1, -1)


# ---- beside the files of the log


def add_to_files(paths: Sequence[Path], told: Sequence[Told]) -> list[Any]:
    """Add values to the feedback files of their rows, all or, where one contradicts what is known, none.

    Returns
    -------
    For each what was known before, else `NEW`.

    Raises
    ------
    OSError
        A file cannot be read or written.
    """
    with ExitStack() as stack:
        files: dict[Path, Any] = {}
        held: dict[Path, bytes] = {}
        for path in sorted(set(paths)):  # in one order, so that two processes never wait for each other
            file = files[path] = stack.enter_context(path.open("a+b", buffering=0))
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            held[path] = file.read()
        added: dict[Path, list[bytes]] = {}
        now: dict[tuple[str, int], Any] = {}
        before: list[Any] = []
        for path, (line, actual) in zip(paths, told, strict=True):
            key = (line.id, line.row)
            known = now[key] if key in now else _known(held[path], line)
            before.append(known)
            if known is NEW:
                now[key] = actual
                added.setdefault(path, []).append(_feedback_line(line, actual))
        if any(known is not NEW and known != each.actual for known, each in zip(before, told, strict=True)):
            return before
        for path, lines in added.items():
            whole = held[path].endswith(b"\n") or not held[path]
            content = (b"" if whole else b"\n") + b"".join(lines)
            if files[path].write(content) != len(content):
                files[path].truncate(len(held[path]))
                raise OSError(0, "no room for the feedback")
        return before


def _known(held: bytes, line: Line) -> Any:
    start = -1
    while (start := held.find(b'{"id":"%s","row":%d,' % (line.id.encode(), line.row), start + 1)) >= 0:
        try:
            return msgspec.json.decode(held[start:].partition(b"\n")[0])["actual"]
        except msgspec.DecodeError:  # cut short when the disk was full or its writer died
            continue
    return NEW


def _feedback_line(line: Line, actual: Any) -> bytes:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    said = {"id": line.id, "row": line.row, "actual": actual, "model": line.model, "at": at}
    return msgspec.json.encode(said) + b"\n"
