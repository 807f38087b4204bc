"""A person's rows leave the files of a prediction log, while servers write to it.

Each file is written anew without the rows and takes the place of the old one in one rename. Servers see that
(`artifact.logged.stands`): a writer goes on in a file of its own, and feedback finds its rows again. The lock
of a file keeps its writer away meanwhile, the lock of the folder keeps feedback away. The feedback of rows is
removed before the rows, so a run that was killed is completed by the next one.
"""

from __future__ import annotations

import bz2
import fcntl
import gzip
import lzma
import os
import re
import shutil
import tarfile
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import msgspec

from artifact.logged import LOCK, index_file, stands
from training.erasure.found import Found, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from training.erasure.person import Person

_NAME = re.compile(r"(predictions|feedback|shadows)-(.+?)\.jsonl((?:[.-][\w-]+)*)")
_OURS = re.compile(rf"index-.*|live-.*\.json|\..*|{re.escape(LOCK)}")
_COUNTED = {"predictions": "rows", "feedback": "feedback", "shadows": "shadows"}  # the fields of a place
_HEAD = re.compile(rb'\{"id":"([0-9a-f-]+)","row":(\d+),')
_HALF = ".forgetting-"
_OPENS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}

_Key = tuple[bytes, bytes]  # id and row, as they stand in a line


class _Group(NamedTuple):
    """The files that began as one file of the log: itself, and its rotated or compressed copies.

    Parameters
    ----------
    beside
        The feedback of its rows, and what shadows predict for them.
    """

    predictions: list[Path]
    beside: list[Path]


def erase(folder: Path, person: Person, *, dry: bool = False) -> Found:
    """Remove a person's rows and feedback from a folder and the folders in it.

    Parameters
    ----------
    dry
        Only count them.

    Raises
    ------
    UnknownKeyError
        A row is encrypted with a key that is not here.
    OSError
        A file cannot be written. What was removed before stays removed; run it again.
    """
    found = Found()
    if not dry:
        with _locked(folder):
            for half in folder.rglob(f"{_HALF}*"):  # of a run that was killed
                half.unlink(missing_ok=True)
    for group in _groups(folder, found).values():
        keys = _search_group(group, person, found)
        if keys and dry:
            _count(group, keys, found)
        elif keys:
            # The lock is held only where something is removed: servers' feedback waits for it.
            with _locked(folder):
                _erase_group(group, person, found, keys)
    return found


def look_in_archive(path: Path, person: Person) -> Place:
    """Count a person's rows in an archive (tar) with files of a log.

    Raises
    ------
    tarfile.TarError, OSError, EOFError, UnknownKeyError
        It cannot be read.
    """
    found, keys = Found(), set[_Key]()
    place = Place(str(path))
    with tarfile.open(path, "r:*") as archive:
        members = [
            (parts[1], member) for member in archive if (parts := _NAME.fullmatch(Path(member.name).name))
        ]
        members.sort(key=lambda one: one[0] != "predictions")  # those first
        for kind, member in members:
            packed = archive.extractfile(member)
            if packed is None:
                continue
            with _unpacked(packed) as file:
                if kind == "predictions":
                    own = {key for line in file if (key := _key_if_persons(line, person, found)) is not None}
                    place.rows += len(own)
                    keys |= own
                else:
                    n = sum(_key_of(line) in keys for line in file)
                    setattr(place, _COUNTED[kind], getattr(place, _COUNTED[kind]) + n)
    return place


def _groups(folder: Path, found: Found) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        parts = _NAME.fullmatch(path.name)
        if parts:
            group = groups.setdefault(parts[2], _Group([], []))
            (group.predictions if parts[1] == "predictions" else group.beside).append(path)
        elif not _OURS.fullmatch(path.name):
            found.problems.append(f"{path} is not a file of a prediction log, and was not searched")
    return groups


def _search_group(group: _Group, person: Person, found: Found) -> set[_Key]:
    keys: set[_Key] = set()
    for path in group.predictions:
        keys |= _search(path, person, found)
    return keys


def _erase_group(group: _Group, person: Person, found: Found, keys: set[_Key]) -> None:
    # Rows that were written since the search are removed too, so their feedback is looked for as well.
    keys |= _search_group(group, person, Found())
    for path in group.beside:
        _rewrite(path, keys, found)
    for path in group.predictions:
        _rewrite(path, keys, found)


def _count(group: _Group, keys: set[_Key], found: Found) -> None:
    for path in (*group.beside, *group.predictions):
        with suppress(FileNotFoundError), _opened(path) as file:
            n = sum(_key_of(line) in keys for line in file)
            if n:
                found.places.append(_place(path, n))


def _place(path: Path, n: int) -> Place:
    kind = path.name.partition("-")[0]
    return Place(str(path), **{_COUNTED[kind]: n})


def _search(path: Path, person: Person, found: Found) -> set[_Key]:
    """The keys of a person's rows in a file. If it cannot be searched, `found.problems` says so."""
    keys: set[_Key] = set()
    try:
        with _opened(path) as file:
            for line in file:
                key = _key_if_persons(line, person, found)
                if key is not None:
                    keys.add(key)
    except FileNotFoundError:  # it has expired
        pass
    except (OSError, EOFError, lzma.LZMAError) as error:
        found.problems.append(f"{path} cannot be searched: {getattr(error, 'strerror', None) or error}")
    return keys


def _key_if_persons(line: bytes, person: Person, found: Found) -> _Key | None:
    try:
        said = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return _key_of(line) if person.in_half_a_line(line) else None
    if not isinstance(said, dict) or "model" not in said or not {"columns", "sealed"} & said.keys():
        return None
    return _key_of(line) if found.is_persons(person, said) else None


def _key_of(line: bytes) -> _Key:
    head = _HEAD.match(line)
    return (head[1], head[2]) if head else (b"", line)


def _rewrite(path: Path, keys: set[_Key], found: Found) -> None:
    """Write a file anew without the lines of some keys, or remove it if no other line is left."""
    with suppress(FileNotFoundError), _own(path) as (source, descriptor):
        half = path.with_name(f"{_HALF}{path.name}")
        removed = kept = 0
        try:
            with _made_like(source, half) as target:
                for line in source:
                    if _key_of(line) in keys:
                        removed += 1
                    else:
                        kept += 1
                        target.write(line)
            if not removed:
                return
            _take_place(half, path, os.fstat(descriptor), empty=not kept)
        finally:
            half.unlink(missing_ok=True)
        # The index has positions in the old files; servers make it anew.
        index_file(path.with_name("predictions-" + path.name.partition("-")[2])).unlink(missing_ok=True)
        found.places.append(_place(path, removed))


def _take_place(half: Path, path: Path, was: os.stat_result, *, empty: bool) -> None:
    if empty:
        path.unlink()
        return
    shutil.copymode(path, half)
    with suppress(PermissionError):
        os.chown(half, was.st_uid, was.st_gid)
    os.utime(half, ns=(was.st_atime_ns, was.st_mtime_ns))  # by which it expires
    _sync(half)
    half.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- files and locks


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for the folder's lock, which servers take for the moment of adding feedback."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def _own(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """A file to read, and its descriptor; no server writes to it meanwhile."""
    while True:
        with path.open("rb") as raw:
            fcntl.flock(raw, fcntl.LOCK_EX)
            if not stands(path, raw.fileno()):
                continue
            with _unpacked(raw) as file:
                yield file, raw.fileno()
            return


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's lines, unpacked; see `_unpacked`."""
    with path.open("rb") as raw, _unpacked(raw) as file:
        yield file


def _unpacked(raw: IO[bytes]) -> Any:
    """The unpacked content of a file; its first bytes say how it is packed, not its name.

    Raises
    ------
    OSError
        It is packed by a program that is not supported here.
    """
    begin = raw.read(6)
    raw.seek(0)
    for magic, opens in _OPENS.items():
        if begin.startswith(magic):
            return opens(raw, "rb")
    if begin and begin[:1] not in b"{ \n":
        raise OSError(
            0, "it is neither JSON lines nor packed by gzip, bzip2 or xz; unpack it and run this again"
        )
    return nullcontext(raw)


def _made_like(source: Any, path: Path) -> Any:
    """A new file, packed like `source`."""
    for opens, kind in ((gzip.open, gzip.GzipFile), (bz2.open, bz2.BZ2File), (lzma.open, lzma.LZMAFile)):
        if isinstance(source, kind):
            return opens(path, "wb")
    return path.open("wb")
