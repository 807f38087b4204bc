"""Values that the workers of one server share: small files in a folder that is emptied at each start."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

FOLDER = "okamochi"
"""Below the folder of the workers' metrics, which no other server uses and which is emptied at each start."""


class Shared:
    """Values by name, each read and written whole.

    Parameters
    ----------
    folder
        None if the server has no such folder: the values then stay in this process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._memory: dict[str, bytes] = {}

    @classmethod
    def of_server(cls) -> Shared:
        """The values of the server whose worker this process is."""
        metrics = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        return cls(Path(metrics) / FOLDER if metrics else None)

    def read(self, name: str, kind: type[T]) -> T | None:
        """A value; None if it is missing or cannot be read."""
        try:
            content = (self._folder / name).read_bytes() if self._folder else self._memory[name]
            return msgspec.msgpack.decode(content, type=kind)
        except (OSError, KeyError, msgspec.MsgspecError):
            return None

    def write(self, name: str, value: object) -> None:
        """Replace a value in one step.

        Raises
        ------
        OSError
            The disk takes nothing; the old value is unchanged.
        """
        content = msgspec.msgpack.encode(value)
        if self._folder is None:
            self._memory[name] = content
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        half = self._folder / f".{name}.{os.getpid()}-{threading.get_ident()}"
        try:
            half.write_bytes(content)
            half.replace(self._folder / name)
        finally:
            half.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Forget a value, if there is one."""
        self._memory.pop(name, None)
        if self._folder is not None:
            with suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)

    def names(self, prefix: str) -> list[str]:
        """The names with this prefix."""
        if self._folder is None:
            return [name for name in self._memory if name.startswith(prefix)]
        try:
            return sorted(path.name for path in self._folder.glob(f"{prefix}*"))
        except OSError:
            return []

    def state(self, name: str) -> object:
        """An object that changes whenever the value is written; the value is not read."""
        if self._folder is None:
            return self._memory.get(name)
        try:
            found = (self._folder / name).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    @contextmanager
    def one_writer(self) -> Iterator[None]:
        """Let one worker at a time read a value and replace it.

        Raises
        ------
        OSError
            The disk takes no file.
        """
        if self._folder is None:
            yield
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
