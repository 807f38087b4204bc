"""Wrong usage of a load test."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class UsageError(Exception):
    """What is wrong and what to do about it; the load test ends with exit code 2."""


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Ask whether the nearest known name was meant; where none is near, list all."""
    names = list(known)
    found = difflib.get_close_matches(wrong, names, 1)
    return f"did you mean {found[0]!r}?" if found else f"expected one of {', '.join(names)}."
