"""A client's values and names for error messages: short, and in the spelling of JSON."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_SHOWN = 60  # characters of a client's own text
MAX_BITS = 200  # of a whole number that is shown


def described(value: object) -> str:
    """A value that a client sent, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {short(value)}"
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return f"a number of {value.bit_length()} bits"
    names: dict[type, str] = {dict: "an object", list: "a list"}
    return names.get(type(value)) or cut(str(value))


def short(text: str) -> str:
    """A client's name, in quotes."""
    return repr(cut(text))


def cut(text: str) -> str:
    """A text of at most `MAX_SHOWN` characters."""
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def listed(names: Sequence[str]) -> str:
    """The first eight names, in quotes."""
    shown = ", ".join(map(short, names[:8]))
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def keys(names: Sequence[str]) -> str:
    """The first eight keys of JSON."""
    return ", ".join(f'"{cut(name)}"' for name in names[:8])


def hint(key: str, known: Sequence[str], expected: str = "") -> str:
    """The known key that is most like an unknown one; else the expected ones, by default all known keys."""
    near = difflib.get_close_matches(key[:100], known, 1)
    return f"did you mean {near[0]!r}?" if near else f"expected {expected or keys(known)}"


def one_of(names: Sequence[str]) -> str:
    """Two keys of JSON or more, of which one is expected."""
    return f"{keys(names[:-1])} or {keys(names[-1:])}"
