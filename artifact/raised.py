"""What a log may say about an error: its kind and its place."""

from __future__ import annotations

import traceback

MAX_FRAMES = 8


def raised_at(error: BaseException | None) -> str:
    """Kind of an error and where it was raised, innermost last; without its words, which may quote a cell."""
    if error is None:
        return "no error"
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    where = " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__} at {where or 'an unknown place'}"
