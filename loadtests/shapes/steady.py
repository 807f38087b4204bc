"""A constant load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.shapes.shape import Shape

if TYPE_CHECKING:
    from loadtests.shapes.shape import Stages


def stages(users: int, seconds: float) -> Stages:
    """All users from the beginning to the end."""
    return [(seconds, users)]


SHAPE = Shape(stages)
