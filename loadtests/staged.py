"""A shape as Locust takes it."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from locust import LoadTestShape

from loadtests.shapes import SHAPES

USERS = 100
SPAWN_RATE = 100.0
"""Users a second; above that Locust warns."""


class Staged(LoadTestShape):
    """The shape of a name; it follows Locust's own `--users`, `--spawn-rate` and `--run-time`."""

    use_common_options = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.changes: list[tuple[float, int]] = []
        """When, by the clock on the wall, how many users were asked for."""

    @property
    def seconds(self) -> int:
        """Where `--run-time` does not say."""
        return SHAPES[self.name].seconds

    def reset_time(self) -> None:
        """Begin anew."""
        super().reset_time()
        self.changes = []

    def tick(self) -> tuple[int, float] | None:
        """Give the users of now and how fast to get there; None when all stages are over."""
        runner: Any = self.runner
        given = runner.environment.parsed_options
        seconds = given.run_time or self.seconds
        now = SHAPES[self.name].users_at(self.get_run_time(), given.num_users or USERS, seconds)
        if now != (self.changes[-1][1] if self.changes else None):
            self.changes.append((time.time(), now or 0))
        return None if now is None else (now, given.spawn_rate or SPAWN_RATE)

    def held(self, end: float) -> list[tuple[int, float, float]]:
        """Users, start and end, by the clock on the wall, of the stages that were reached by `end`."""
        times = [*self.changes, (end, 0)]
        return [(users, start, min(stop, end)) for (start, users), (stop, _) in pairwise(times) if users]
