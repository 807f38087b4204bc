"""The folder in which the commands of a test run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder; what `init` writes lands there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
