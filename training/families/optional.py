"""Libraries that a family may need and that the group `training` does not install."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

MIN_ROWS = 5_000
"""Rows from which boosters of other libraries are searched; docs/decisions/0025-boosting-families.md."""


@cache
def library(name: str) -> Any:
    """The module of that name; None where it is not installed or one of the system's libraries is missing."""
    try:
        return import_module(name)
    except (ImportError, OSError):
        return None


def rounds(rows: int, cost: int, classes: int) -> int:
    """The largest number of boosting rounds; each grows a tree for each class, slower on a larger table."""
    trees_a_round = classes if classes > 2 else 1
    cells = rows * max(1, cost) * trees_a_round
    return max(60, min(1_500 // trees_a_round, 300_000_000 // cells))
