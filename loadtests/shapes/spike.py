"""A crowd that arrives at once and leaves again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.shapes.shape import Shape

if TYPE_CHECKING:
    from loadtests.shapes.shape import Stages


def stages(users: int, seconds: float) -> Stages:
    """A fifth of the users, then all of them, then a fifth again."""
    few = max(1, users // 5)
    return [(0.3 * seconds, few), (0.4 * seconds, users), (0.3 * seconds, few)]


SHAPE = Shape(stages)
