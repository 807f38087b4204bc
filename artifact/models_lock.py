"""`models.lock`: which models are served, one on a line. Its format is here, and nowhere else.

A line is a use case's name, an exact tag of BentoML's model store and, if written, a role, with blanks or
tabs between them: `champion` (the default), `shadow`, or `canary=5` with the percentage of callers that it
answers. Each name has one champion, and may have one shadow and one canary. The champion of the first line is
the default model. Empty lines are ignored, and so is what follows a `#`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from artifact import atomic
from artifact.regular import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

FILE = "models.lock"
NAME_RULE = re.compile(r"[a-z][a-z0-9_]{0,40}")
NAME_IN_WORDS = "a small letter, then at most 40 small letters, digits or _"
"""Names of use cases."""

_PART = r"(?=.{1,63}(?:$|:))[a-z0-9](?:[-._a-z0-9]*[a-z0-9])?"
_TAG_RULE = re.compile(f"{_PART}:{_PART}")
"""As BentoML has it, a name and a version of at most 63 characters each."""

CHAMPION = "champion"
"""The role of the version that answers, and of a line without a role."""
SHADOW = "shadow"
"""The role of a version that predicts what the champion answered, and answers no caller."""
CANARY = "canary"
"""The role of a version that answers some of the champion's callers."""
ROLES = (CHAMPION, SHADOW, CANARY)
MAX_PERCENT = 100.0
MAX_BYTES = 1024 * 1024
"""Of a file: some 15,000 lines. Servers read it every few seconds."""

_PERCENT = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,6})?")
SHOWN_CHARACTERS = 80


class LockError(Exception):
    """What in which line of the file cannot be read, and what was expected (exit code 2)."""

    exit_code = 2


class Entry(NamedTuple):
    """A line of the file.

    Parameters
    ----------
    percent
        Of the callers, for a canary; 0 for another role.
    """

    name: str
    tag: str
    role: str = CHAMPION
    percent: float = 0.0

    @property
    def slot(self) -> tuple[str, str]:
        """Name and role: a file has each once."""
        return self.name, self.role

    @property
    def line(self) -> str:
        """As it is written."""
        return " ".join([self.name, self.tag, *([] if self.role == CHAMPION else [self.word])])

    @property
    def word(self) -> str:
        """The third word of the line."""
        return f"{self.role}={percent_word(self.percent)}" if self.role == CANARY else self.role


def percent_word(percent: float) -> str:
    """A percentage as it is written, without an exponent: `role_of` reads the same number."""
    return f"{percent:.6f}".rstrip("0").rstrip(".")


def role_of(word: str) -> tuple[str, float]:
    """The role that a word names, and its percentage.

    Raises
    ------
    ValueError
        The message says what was expected.
    """
    role, sign, percent = word.partition("=")
    if role not in ROLES:
        raise ValueError(f"{CHAMPION}, {SHADOW} or {CANARY}=PERCENT, such as {CANARY}=5")
    if role != CANARY:
        if sign:
            raise ValueError(f"{role} without a number; only a canary has one")
        return role, 0.0
    number = float(percent) if _PERCENT.fullmatch(percent) else 0.0
    if not 0 < number <= MAX_PERCENT:
        raise ValueError(f"{CANARY}= and a percentage above 0, at most {MAX_PERCENT:g}, such as {CANARY}=5")
    return role, number


def entries(path: Path) -> list[Entry]:
    """All lines, in the order of the file; empty if the file does not exist.

    Raises
    ------
    LockError
    """
    return _parse(path, _lines(path))


def read(path: Path) -> dict[str, str]:
    """Names and exact tags of the champions, the default model first; empty if the file does not exist.

    Raises
    ------
    LockError
    """
    return _champions(entries(path))


def update(path: Path, changes: Iterable[Entry], removed: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Replace the lines of the same name and role, add others behind, leave all else; return the champions.

    Whoever calls it holds off other writers.

    Parameters
    ----------
    removed
        Names and roles whose lines go.

    Raises
    ------
    LockError
        Nothing was written.
    """
    lines = _lines(path)
    _parse(path, lines)
    changed = {each.slot: each for each in changes}
    gone = set(removed)
    kept: list[str] = []
    for line in lines:
        words = _words(line)
        slot = (words[0], role_of(words[2])[0] if len(words) == 3 else CHAMPION) if words else None
        if slot in gone:
            continue
        new = changed.pop(slot, None) if slot is not None else None
        kept.append(line if new is None else _changed(line, words, new))
    kept += [each.line for each in changed.values()]
    found = _parse(path, kept)
    _replace(path, kept)
    return _champions(found)


def write(path: Path, tags: Mapping[str, str]) -> None:
    """Write exactly these champions, whatever the file held."""
    _replace(path, [Entry(name, tag).line for name, tag in tags.items()])


def _champions(found: Iterable[Entry]) -> dict[str, str]:
    return {each.name: each.tag for each in found if each.role == CHAMPION}


def _changed(line: str, words: list[str], new: Entry) -> str:
    """A line with another tag and percentage; its blanks and what follows a `#` stay."""
    line = line.replace(words[1], new.tag, 1)
    return line if len(words) < 3 or words[2] == new.word else line.replace(words[2], new.word, 1)


def _lines(path: Path) -> list[str]:
    try:
        content = read_regular(path, MAX_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LockError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise LockError(f"{path} cannot be read: it is longer than {MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")  # editors on Windows begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _refusal(path, line, f"the byte 0x{content[error.start]:02x}", "text in UTF-8") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1].strip() else lines[:-1]


def _parse(path: Path, lines: list[str]) -> list[Entry]:
    found: list[Entry] = []
    seen: dict[tuple[str, str], int] = {}
    for number, line in enumerate(lines, 1):
        words = _words(line)
        if not words:
            continue
        entry = _entry(path, number, words)
        if entry.slot in seen:
            expected = f"each name once; it stands in line {seen[entry.slot]} as well"
            again = f"the name {_shown(entry.name)} again"
            if entry.role != CHAMPION or len(words) == 3:
                again = f"a second {entry.role} of {_shown(entry.name)}"
                expected = f"one {entry.role} of each name; line {seen[entry.slot]} has one"
            raise _refusal(path, number, again, expected)
        seen[entry.slot] = number
        found.append(entry)
    for entry in found:
        if (entry.name, CHAMPION) not in seen:
            expected = "a line of its champion as well; another role is of no use without one"
            of = f"a {entry.role} of {_shown(entry.name)}, which has no champion"
            raise _refusal(path, seen[entry.slot], of, expected)
    return found


def _entry(path: Path, number: int, words: list[str]) -> Entry:
    name = words[0]
    if not NAME_RULE.fullmatch(name):
        expected = "the name of a use case (lower-case letters, digits and _)"
        raise _refusal(path, number, _shown(name), expected)
    if len(words) == 1:
        raise _refusal(path, number, f"the name {_shown(name)} alone", "a name and a tag")
    if len(words) > 3:
        raise _refusal(path, number, f"a fourth word {_shown(words[3])}", "a name, a tag and a role")
    try:
        role, percent = role_of(words[2] if len(words) == 3 else CHAMPION)
    except ValueError as error:
        raise _refusal(path, number, f"the role {_shown(words[2])}", str(error)) from None
    if not _TAG_RULE.fullmatch(words[1]) or words[1].endswith(":latest"):
        expected = "an exact tag of BentoML's model store, such as okamochi-iris:3-0123456789ab"
        raise _refusal(path, number, f"the tag {_shown(words[1])}", expected)
    return Entry(name, words[1], role, percent)


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
    atomic.write(path, "".join(f"{line}\n" for line in lines).encode())
