"""The contestants' locks are whole."""

from __future__ import annotations

import re

import pytest

from benchmarks.environments import HERE

FOLDER = HERE / "requirements"


@pytest.mark.parametrize("source", sorted(FOLDER.glob("*.in")), ids=lambda path: path.stem)
def test_every_requirement_is_pinned_by_hash(source: object) -> None:
    """An environment made next year is the one that was measured."""
    lock = (FOLDER / f"{source.stem}.txt").read_text()  # type: ignore[attr-defined]
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==[^\n]*\\\n\s+--hash=sha256:", lock, flags=re.MULTILINE)
    names = [line for line in source.read_text().splitlines() if line and not line.startswith("#")]  # type: ignore[attr-defined]
    assert set(names) <= set(pins)
    assert not re.search(r"https?://", lock)
