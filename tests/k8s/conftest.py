"""Rendering takes kubectl, which has kustomize built in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True, scope="session")
def kubectl(program: Callable[[str], str]) -> str:
    return program("kubectl")
