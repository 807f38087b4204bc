"""A file is replaced whole: a reader finds the old content or the new one, whenever the machine stops."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file whole or not at all; where the path is a link, its target is replaced.

    Parameters
    ----------
    private
        Whether a new file has mode 0600, and an existing one keeps its mode; otherwise the umask counts.

    Raises
    ------
    OSError
        The old file, if there was one, is unchanged.
    """
    path = path.resolve()
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o666)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
            if private and path.exists():
                os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
