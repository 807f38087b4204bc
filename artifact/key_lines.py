"""Files of keys with a key on each line; blanks separate the words, and what follows a `#` is ignored."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from artifact.regular import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def content_of(path: Path, variable: str, error: type[Exception]) -> bytes:
    """The content of a file of keys.

    Parameters
    ----------
    variable
        The environment variable that names the file.
    error
        Its message says why the file cannot be read.
    """
    try:
        return read_regular(path)
    except OSError as reason:
        raise error(f"{variable}: {path} cannot be read: {reason.strerror}") from None


def lines_of(
    content: bytes, path: Path, variable: str, error: type[Exception]
) -> Iterator[tuple[str, list[str]]]:
    """The words of each line that has any, after the place of the line for messages.

    Parameters
    ----------
    content
        What `content_of` has read; a byte order mark, which editors on Windows write, is ignored.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{variable}: {path} is not text in UTF-8") from None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            yield f"{variable}: {path}, line {number}:", words


def key_of(word: str, size: int) -> bytes | None:
    """A key of `size` bytes in base64; None if the word is anything else."""
    try:
        key = base64.b64decode(word, validate=True)
    except ValueError:
        return None
    return key if len(key) == size else None
