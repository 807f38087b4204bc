"""What a person who starts a load test can have got wrong."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class UsageError(Exception):
    """What is wrong and how to put it right, in one sentence; the load test ends with exit code 2."""


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The name that was meant, as a question, or all that there are."""
    names = list(known)
    found = difflib.get_close_matches(wrong, names, 1)
    return f"did you mean {found[0]!r}?" if found else f"there is {', '.join(names)}."
