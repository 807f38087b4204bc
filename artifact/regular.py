"""Reading a file that a person has named: nothing else at its place is waited for."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_regular(path: Path, most: int = -1) -> bytes:
    """The content of a regular file, or of a link to one.

    Parameters
    ----------
    most
        The bytes to read at most; by default all.

    Raises
    ------
    OSError
        It is absent or may not be read; or it is a pipe, a device or a folder.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(most)
