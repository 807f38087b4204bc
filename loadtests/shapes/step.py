"""Increasing load, to find the knee of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.shapes.shape import Shape

if TYPE_CHECKING:
    from loadtests.shapes.shape import Stages

MAX_STEPS = 10
MIN_STEP_S = 3
"""The minimum of a step: new users start in its first second."""


def stages(users: int, seconds: float) -> Stages:
    """Up to ten equal steps."""
    steps = max(1, min(MAX_STEPS, int(seconds // MIN_STEP_S), users))
    return [(seconds / steps, round(users * step / steps)) for step in range(1, steps + 1)]


SHAPE = Shape(stages, seconds=60)
