"""The form of a shape: a list of stages, each with a duration and a number of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Stages = list[tuple[float, int]]


@dataclass(frozen=True)
class Shape:
    """How the number of users changes over time.

    Parameters
    ----------
    stages
        The seconds and users of each stage, for a maximum of users and a total of seconds.
    seconds
        The duration without `--run-time`.
    """

    stages: Callable[[int, float], Stages]
    seconds: int = 30

    def users_at(self, elapsed: float, users: int, seconds: float) -> int | None:
        """The number of users after some seconds; None after the last stage."""
        for length, count in self.stages(users, seconds):
            elapsed -= length
            if elapsed < 0:
                return count
        return None
