"""The feedback of the log's rows, in files beside the log.

`feedback-NAME.jsonl` has a line for each actual value of a row of `predictions-NAME.jsonl`, and `index-NAME`
has the positions of these lines. Lines of the log begin more than `SLOT_BYTES` apart; for each `SLOT_BYTES`
bytes of the log, the index has a slot of 8 bytes with the position of the value in the feedback. So the
value of a row is found by two short reads, however much feedback there is.

The index can always be rebuilt. Its first 8 bytes give the length of the feedback that it covers; missing
entries are added before a look-up. Each slot is checked against the line that it points to.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections import defaultdict
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import msgspec

from artifact.logged import LOCK, feedback_file, index_file, shadows_file
from artifact.sealing import SealedError, about_feedback, opened
from serving.prediction_log.lines import line_of
from serving.prediction_log.record import NEW, StoreError
from serving.waiting import NotYetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from artifact.sealing import Sealing
    from serving.prediction_log.record import Actual, Found
    from serving.waiting import Until

LOCKED_S = 0.02  # pause before the lock of a folder is tried again
SLOT_BYTES = 128  # shorter than the shortest line of the log
READ_BYTES = 4_096  # at once, of a line
_KEY = re.compile(rb'\{"id":"([0-9a-f]{12}-[0-9a-f]{1,16}(?:-[0-9a-f]{32})?)","row":(\d+),')
_U64 = struct.Struct("<Q")
_Log: TypeAlias = "tuple[Path, int]"  # with the inode that the rows were found in


def forget(log: Path) -> None:
    """Delete what belongs to a log's rows: their feedback, and what shadows predict for them."""
    shadows_file(log).unlink(missing_ok=True)
    feedback_file(log).unlink(missing_ok=True)
    index_file(log).unlink(missing_ok=True)


def add(folder: Path, actuals: Sequence[Actual], until: Until, sealing: Sealing | None = None) -> list[Any]:
    """Add values; if one contradicts a stored value, add none.

    One process at a time does this in a folder, so no value is stored twice. Files are opened one after the
    other, since a thousand at once are more than a process may have.

    Returns
    -------
    For each item the value that was stored before, else `NEW`.

    Raises
    ------
    OSError
        A file cannot be read or written.
    """
    by_log: dict[_Log, list[int]] = defaultdict(list)
    for i, (row, _) in enumerate(actuals):
        by_log[row.place[:2]].append(i)
    with _locked(folder):
        before = _known(by_log, actuals, until, sealing)
        if any(
            known is not NEW and known != each.actual for known, each in zip(before, actuals, strict=True)
        ):
            return before
        _store(
            {log: [actuals[i] for i in items if before[i] is NEW] for log, items in by_log.items()}, sealing
        )
    return before


def _known(
    by_log: dict[_Log, list[int]], actuals: Sequence[Actual], until: Until, sealing: Sealing | None
) -> list[Any]:
    before: list[Any] = [NEW] * len(actuals)
    for log, items in by_log.items():
        until.check()
        with suppress(FileNotFoundError), _Answers(*log, sealing) as answers:  # no feedback yet
            answers.catch_up(until)
            for i in items:
                until.check()
                before[i] = answers.known(actuals[i].row)
    now: dict[tuple[str, int], Any] = {}
    for i, (row, actual) in enumerate(actuals):
        if before[i] is NEW:
            before[i] = now.get((row.id, row.row), NEW)
            now.setdefault((row.id, row.row), actual)
    return before


def _store(values: dict[_Log, list[Actual]], sealing: Sealing | None) -> None:
    sizes: dict[Path, int] = {}
    try:
        for log, actuals in values.items():
            if not actuals:
                continue
            with _Answers(*log, sealing, create=True) as answers:
                sizes[feedback_file(log[0])] = answers.size
                answers.add(actuals)
    except OSError:
        for path, size in sizes.items():
            os.truncate(path, size)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder; NotYetError if another process or thread has locked it."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotYetError(LOCKED_S) from None
        yield
    finally:
        os.close(lock)


class _Answers:
    """The feedback of one file of the log, with its index."""

    def __init__(self, log: Path, file: int, sealing: Sealing | None, *, create: bool = False) -> None:
        self._log, self._sealing = log, sealing
        # No feedback is added for a file that has just expired; and in one that was rewritten since the rows
        # were found, they stand elsewhere, so they have to be found again.
        if log.stat().st_ino != file:
            raise NotYetError(0)
        flags = os.O_RDWR | os.O_CLOEXEC
        new = os.O_CREAT if create else 0
        self._file = os.open(feedback_file(log), flags | os.O_APPEND | new, 0o666)
        try:
            self._index = os.open(index_file(log), flags | os.O_CREAT, 0o666)
        except OSError:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        os.close(self._index)

    @property
    def size(self) -> int:
        return os.fstat(self._file).st_size

    def known(self, row: Found) -> Any:
        """The value of a row; `NEW` if there is none."""
        slot = self._slot(row.place[2])
        if not slot:
            return NEW
        line = self._line(slot - 1)
        if not line.startswith(b'{"id":"%s","row":%d,' % (row.id.encode(), row.row)):
            return NEW
        try:
            said = msgspec.json.decode(line)
        except msgspec.DecodeError:  # cut short when the disk was full or its writer died
            return NEW
        try:
            return opened(said, self._sealing)["actual"]
        except SealedError as error:
            raise StoreError(str(error)) from None

    def _line(self, start: int) -> bytes:
        parts: list[bytes] = []
        while part := os.pread(self._file, READ_BYTES, start):
            line, end, _ = part.partition(b"\n")
            parts.append(line)
            if end:
                break
            start += len(part)
        return b"".join(parts)

    def add(self, actuals: Sequence[Actual]) -> None:
        """Add lines, all or none."""
        size, covered = self.size, self._covered()
        content = bytearray(b"" if not size or os.pread(self._file, 1, size - 1) == b"\n" else b"\n")
        places: list[tuple[int, int]] = []
        for row, actual in actuals:
            places.append((row.place[2], len(content)))
            content += _feedback_line(row, actual, self._sealing)
        if os.write(self._file, content) != len(content):
            raise OSError(0, "no room for the feedback")
        start = os.lseek(self._file, 0, os.SEEK_CUR) - len(content)
        with suppress(OSError):  # the values are stored; `catch_up` adds what the index lacks
            for at, offset in places:
                self._set_slot(at, start + offset + 1)
            if covered == start:
                self._cover(start + len(content))

    # ---- the index

    def catch_up(self, until: Until) -> None:
        """Index the lines that a process that died, or one of an older release, has added."""
        covered = self._covered()
        if covered == self.size:
            return
        with self._log.open("rb") as log, feedback_file(self._log).open("rb") as file:
            file.seek(covered)
            try:
                for line in file:
                    until.check()
                    key = _KEY.match(line)
                    row = line_of(log, self._log, key[1].decode(), int(key[2])) if key else None
                    if row is not None and self.known(row) is NEW:
                        self._set_slot(row.place[2], covered + 1)
                    covered += len(line)
            finally:
                self._cover(covered)

    def _covered(self) -> int:
        return min(self._read(0), self.size)

    def _cover(self, size: int) -> None:
        self._write(0, size)

    def _slot(self, at: int) -> int:
        return self._read(1 + at // SLOT_BYTES)

    def _set_slot(self, at: int, value: int) -> None:
        self._write(1 + at // SLOT_BYTES, value)

    def _read(self, slot: int) -> int:
        raw = os.pread(self._index, _U64.size, slot * _U64.size)
        return int(_U64.unpack(raw)[0]) if len(raw) == _U64.size else 0

    def _write(self, slot: int, value: int) -> None:
        os.pwrite(self._index, _U64.pack(value), slot * _U64.size)


def _feedback_line(row: Found, actual: Any, sealing: Sealing | None) -> bytes:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    said = {"id": row.id, "row": row.row, "actual": actual, "model": row.model, "at": at}
    if sealing is not None:
        content = msgspec.json.encode({"actual": said.pop("actual")})
        said |= msgspec.structs.asdict(sealing.seal(content, about_feedback(row.id, row.row, row.model)))
    return msgspec.json.encode(said) + b"\n"
