"""What the programs that read or write a prediction log agree on: file names, the lock, hashed cells."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Any

from artifact.kinds.category import canonical

if TYPE_CHECKING:
    from pathlib import Path

LOCK = "feedback.lock"
"""The file of a folder that is locked by `flock` by whoever adds feedback or rewrites files."""
HASH_DIGITS = 16
MAX_TEXT = 4_096  # characters of one cell
RANKED = "rank"
"""The endpoint of lines that predict a list of items; the outcome of one row cannot judge them."""


def hash_of(key: str, cell: Any) -> str | None:
    """A sensitive cell as 16 hexadecimal digits; it cannot be recovered without the key."""
    if cell is None:
        return None
    return hmac.new(key.encode(), canonical(cell).encode(), hashlib.sha256).hexdigest()[:HASH_DIGITS]


def feedback_file(log: Path) -> Path:
    """Path of the file with the values of a log's rows."""
    return log.with_name("feedback-" + log.name.removeprefix("predictions-"))


def shadows_file(log: Path) -> Path:
    """Path of the file with what shadows predict for a log's rows."""
    return log.with_name("shadows-" + log.name.removeprefix("predictions-"))


def index_file(log: Path) -> Path:
    """Path of the index: for each row the byte of its value in the feedback."""
    return log.with_name("index-" + log.name.removeprefix("predictions-").removesuffix(".jsonl"))


def stands(path: str | os.PathLike[str], descriptor: int) -> bool:
    """Whether an open file is still the one at its path: what is written to one that was replaced is lost."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))  # noqa: PTH116 - a Path costs more
    except FileNotFoundError:
        return False
