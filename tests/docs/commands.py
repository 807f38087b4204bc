"""The commands that the pages show, as a reader would paste them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
HISTORY = "CHANGELOG.md"
PAGES = sorted(
    page
    for page in (*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("*.md"), *(CHECKOUT / "k8s").glob("*.md"))
    if page.name != HISTORY
)
PROGRAMS = re.compile(
    r"(?:make|curl|\.venv/bin/\w+|python|okamochi|bentoml|mlflow|locust|kubectl|docker|git|export)(?= )"
)
EXCERPT = "..."
"""What stands for something left out: such a command is shown as what a program printed, not to be pasted."""


@dataclass(frozen=True)
class Command:
    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def blocks(text: str) -> list[list[str]]:
    """The lines of each indented block, and of each fenced one whose language is the shell's or none."""
    found: list[list[str]] = [[]]
    language: str | None = None
    before = ""
    for line in text.splitlines():
        fence = re.match(r"\s*```(\w*)", line)
        if fence:
            language = fence[1] if language is None else None
            found.append([])
        elif language is not None:
            if language in {"", "sh", "bash"}:
                found[-1].append(line.strip())
        elif line.startswith("    ") and (not before or found[-1]):
            found[-1].append(line.strip())
        elif line:
            found.append([])
        before = line
    return [block for block in found if block]


def shown(page: Path) -> list[Command]:
    """The commands of a page's blocks; of a transcript those behind its prompt, as the rest is output."""
    name = page.relative_to(CHECKOUT).as_posix()
    found = []
    for block in blocks(page.read_text()):
        transcript = any(line.startswith("$ ") for line in block)
        for line in re.sub(r"([|\\])\n", r"\1 ", "\n".join(block)).splitlines():
            typed = line.removeprefix("$ ") if transcript else line
            if (line.startswith("$ ") or not transcript) and PROGRAMS.match(typed):
                text = re.sub(r"\s+#\s.*$", "", typed).strip()
                if EXCERPT not in text:
                    found.append(Command(name, text))
    return found


def mentioned(page: Path) -> list[Command]:
    """Commands between backticks in a page's text and tables."""
    name = page.relative_to(CHECKOUT).as_posix()
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return [
        Command(name, found)
        for found in re.findall(r"`([^`\n]+)`", text)
        if PROGRAMS.match(found) and EXCERPT not in found
    ]


ALL_SHOWN = [command for page in PAGES for command in shown(page)]
ALL_MENTIONED = [command for page in PAGES for command in mentioned(page)]
