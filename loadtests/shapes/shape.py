"""What a shape is: a list of stages, each so many users for so many seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Stages = list[tuple[float, int]]


@dataclass(frozen=True)
class Shape:
    """How the number of users goes up and down.

    Parameters
    ----------
    stages
        Seconds and users of each stage, for at most so many users and so many seconds in all.
    seconds
        Where `--run-time` does not say.
    """

    stages: Callable[[int, float], Stages]
    seconds: int = 30

    def users_at(self, elapsed: float, users: int, seconds: float) -> int | None:
        """The users of the stage that runs after so many seconds; None after the last."""
        for length, count in self.stages(users, seconds):
            elapsed -= length
            if elapsed < 0:
                return count
        return None
