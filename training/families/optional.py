"""What is shared by the families whose libraries are not in the group `training`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from training.onnx.boosters import thresholds_of_booster, write_booster
from training.onnx.graph import ML_OPSET, Writer

if TYPE_CHECKING:
    from training.families.layout import Layout

MIN_ROWS = 5_000
"""Rows from which boosters of other libraries are searched; docs/decisions/0025-boosting-families.md."""

MAX_CLASSES = 30


@cache
def library(name: str) -> Any:
    """The module of that name; None where it is not installed or one of the system's libraries is missing."""
    try:
        return import_module(name)
    except (ImportError, OSError):
        return None


def affordable(rows: int, _width: int, classes: int) -> bool:
    """Whether the search tries a booster of another library on a table of this size."""
    return rows >= MIN_ROWS and classes <= MAX_CLASSES


def writers(package: str, *estimators: str) -> dict[type, Writer]:
    """The ONNX writer of each of these classes; empty if the package is not installed."""
    found = library(package)
    if found is None:
        return {}
    writer = Writer(write_booster, thresholds=thresholds_of_booster, ml_opset=ML_OPSET)
    return {getattr(found, name): writer for name in estimators}


def rounds(layout: Layout) -> int:
    """The largest number of boosting rounds; each grows a tree for each class, slower on a larger table."""
    trees = layout.trees_a_round
    cells = layout.rows * max(1, layout.cost) * trees
    return max(60, min(1_500 // trees, 300_000_000 // cells))
