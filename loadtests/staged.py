"""A shape in the form that Locust expects."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from locust import LoadTestShape

from loadtests.shapes import SHAPES

USERS = 100
SPAWN_RATE = 100.0
"""Users per second; Locust warns above it."""


class Staged(LoadTestShape):
    """A shape by its name, scaled by Locust's `--users`, `--spawn-rate` and `--run-time`."""

    use_common_options = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.changes: list[tuple[float, int]] = []
        """Wall-clock times, and the number of users from then on."""

    @property
    def seconds(self) -> int:
        """The duration without `--run-time`."""
        return SHAPES[self.name].seconds

    def reset_time(self) -> None:
        """Start again from the first stage."""
        super().reset_time()
        self.changes = []

    def tick(self) -> tuple[int, float] | None:
        """The number of users now, and the rate of change; None after the last stage."""
        runner: Any = self.runner
        given = runner.environment.parsed_options
        seconds = given.run_time or self.seconds
        now = SHAPES[self.name].users_at(self.get_run_time(), given.num_users or USERS, seconds)
        if now != (self.changes[-1][1] if self.changes else None):
            self.changes.append((time.time(), now or 0))
        return None if now is None else (now, given.spawn_rate or SPAWN_RATE)

    def held(self, end: float) -> list[tuple[int, float, float]]:
        """Users, start and end (wall-clock) of the stages that began before `end`."""
        times = [*self.changes, (end, 0)]
        return [(users, start, min(stop, end)) for (start, users), (stop, _) in pairwise(times) if users]
