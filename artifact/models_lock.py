"""`models.lock`: which models are served, one on a line. Its format is here, and nowhere else.

A line is a use case's name, an exact tag of BentoML's model store and, if written, the role `champion`, with
blanks or tabs between them. The first line is the default model. Empty lines are ignored, and so is what
follows a `#`.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "models.lock"
NAME_RULE = re.compile(r"[a-z][a-z0-9_]{0,40}")
"""Names of use cases."""

_PART = r"(?=.{1,63}(?:$|:))[a-z0-9](?:[-._a-z0-9]*[a-z0-9])?"
_TAG_RULE = re.compile(f"{_PART}:{_PART}")
"""As BentoML has it, a name and a version of at most 63 characters each."""

CHAMPION = "champion"
"""The role of the version that answers, and of a line without a role."""
_LATER = re.compile(r"shadow|canary(?:=.*)?")
"""Roles that have a meaning, and that no server has yet."""

SHOWN_CHARACTERS = 80


class LockError(Exception):
    """What in which line of the file cannot be read, and what was expected (exit code 2)."""

    exit_code = 2


def read(path: Path) -> dict[str, str]:
    """Names and exact tags, the default model first; nothing where there is no such file.

    Raises
    ------
    LockError
    """
    return _parse(path, _lines(path))


def update(path: Path, tags: Mapping[str, str]) -> dict[str, str]:
    """Give names other tags, append names that are new, leave all else as it is; gives what stands there now.

    Whoever calls it holds off other writers.

    Raises
    ------
    LockError
        Nothing was written.
    """
    lines = _lines(path)
    locked = _parse(path, lines)
    for number, line in enumerate(lines):
        words = _words(line)
        if words and words[0] in tags:
            lines[number] = line.replace(words[1], tags[words[0]], 1)
    lines += [f"{name} {tag}" for name, tag in tags.items() if name not in locked]
    _replace(path, lines)
    return {**locked, **tags}


def write(path: Path, tags: Mapping[str, str]) -> None:
    """Write exactly these, whatever the file held."""
    _replace(path, [f"{name} {tag}" for name, tag in tags.items()])


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LockError(f"{path} cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")  # editors on Windows begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _refusal(path, line, f"the byte 0x{content[error.start]:02x}", "text in UTF-8") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1].strip() else lines[:-1]


def _parse(path: Path, lines: list[str]) -> dict[str, str]:
    locked: dict[str, str] = {}
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        words = _words(line)
        if not words:
            continue
        name = words[0]
        if not NAME_RULE.fullmatch(name):
            expected = "the name of a use case (lower-case letters, digits and _)"
            raise _refusal(path, number, _shown(name), expected)
        if len(words) == 1:
            raise _refusal(path, number, f"the name {_shown(name)} alone", "a name and a tag")
        if len(words) > 3:
            raise _refusal(path, number, f"a fourth word {_shown(words[3])}", "a name, a tag and a role")
        if len(words) == 3 and words[2] != CHAMPION:
            later = "; shadow and canary are not supported yet" if _LATER.fullmatch(words[2]) else ""
            raise _refusal(path, number, f"the role {_shown(words[2])}", f"{CHAMPION} or no role{later}")
        if not _TAG_RULE.fullmatch(words[1]) or words[1].endswith(":latest"):
            expected = "an exact tag of BentoML's model store, such as okamochi-iris:3-0123456789ab"
            raise _refusal(path, number, f"the tag {_shown(words[1])}", expected)
        if name in locked:
            expected = f"each name once; it stands in line {seen[name]} as well"
            raise _refusal(path, number, f"the name {_shown(name)} again", expected)
        locked[name], seen[name] = words[1], number
    return locked


def _words(line: str) -> list[str]:
    return line.partition("#")[0].split()


def _shown(word: str) -> str:
    return ascii(word[:SHOWN_CHARACTERS])


def _refusal(path: Path, line: int, found: str, expected: str) -> LockError:
    return LockError(
        f"{path}, line {line}: found {found}, expected {expected}. Mend that line, or write the file anew: "
        "`python -m deploy bundle --only NAME...`"
    )


def _replace(path: Path, lines: list[str]) -> None:
    """Write so that a reader finds the old file or the new one, whole, whenever the machine stops."""
    path = path.resolve()  # where it is a link, what it leads to is replaced, and not the link
    half = path.with_name(f"{path.name}.new")
    with half.open("w", encoding="utf-8", newline="\n") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
