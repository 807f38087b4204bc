"""Counts of requests and answers, which several processes can add up."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

STEP = math.log(1.02)
MIN_MS = 0.01

Outcome = Literal["good", "shed", "error"]
Route = tuple[str, str]
"""A model's name and a route's short name."""
Served = tuple[str, str, str]
"""A model's name, a route's short name and a status, as the server's `okamochi_requests_total` has them."""


@dataclass
class Window:
    """The requests that were due in one period.

    Parameters
    ----------
    due
        How many requests were due.
    times
        Correct answers by `bucket` of their milliseconds.
    """

    due: int = 0
    good: int = 0
    shed: int = 0
    error: int = 0
    times: Counter[int] = field(default_factory=Counter)

    def add(self, other: Window) -> None:
        """Count the other's requests too."""
        self.due += other.due
        self.good += other.good
        self.shed += other.shed
        self.error += other.error
        self.times.update(other.times)

    @property
    def finished(self) -> int:
        return self.good + self.shed + self.error


class Tally:
    """The requests of one process, or the sum over several.

    `width_s` is the length of a window in seconds. Windows are numbered by wall-clock time, so a number means
    the same time in all processes.
    """

    def __init__(self, width_s: float = 1.0) -> None:
        self.width_s = width_s
        self.windows: defaultdict[int, Window] = defaultdict(Window)
        self.answers: Counter[Served] = Counter()
        self.unanswered: Counter[Route] = Counter()
        """By model and route; the server may have counted these or not."""
        self.lateness: Counter[int] = Counter()
        """Requests of users that were free in time, by `bucket` of the milliseconds that they were late."""

    def window(self, wall: float) -> Window:
        """The window of a wall-clock time."""
        return self.windows[int(wall // self.width_s)]

    def due(self, wall: float, count: int = 1) -> None:
        """Count requests that were due at this time."""
        self.window(wall).due += count

    def done(self, wall: float, route: Route, status: int, outcome: Outcome, milliseconds: float) -> None:
        """Count a finished request that was due at `wall`; status 0 means no answer."""
        if status:
            self.answers[*route, str(status)] += 1
        else:
            self.unanswered[route] += 1
        window = self.window(wall)
        if outcome == "good":
            window.good += 1
            window.times[bucket(milliseconds)] += 1
        elif outcome == "shed":
            window.shed += 1
        else:
            window.error += 1

    def cut_off(self, wall: float, route: Route) -> None:
        """Count a request that was aborted by its user: it is no longer due, and not answered."""
        self.window(wall).due -= 1
        self.unanswered[route] += 1

    def add(self, other: Tally) -> None:
        """Count the other's requests too."""
        for number, window in other.windows.items():
            self.windows[number].add(window)
        self.answers.update(other.answers)
        self.unanswered.update(other.unanswered)
        self.lateness.update(other.lateness)

    def total(self) -> Window:
        """All windows as one."""
        whole = Window()
        for window in self.windows.values():
            whole.add(window)
        return whole

    def between(self, start: float, end: float) -> tuple[Window, float]:
        """The sum of the windows wholly between two wall-clock times, and their length in seconds."""
        first, last = math.ceil(start / self.width_s), math.floor(end / self.width_s)
        whole = Window()
        for number in range(first, last):
            if number in self.windows:
                whole.add(self.windows[number])
        return whole, max(0, last - first) * self.width_s

    def message(self) -> dict[str, Any]:
        """The same as JSON, to send to another process; `Tally.of` reads it."""
        return {
            "width_s": self.width_s,
            "windows": [
                [number, w.due, w.good, w.shed, w.error, list(w.times.items())]
                for number, w in self.windows.items()
            ],
            "answers": [[*key, count] for key, count in self.answers.items()],
            "unanswered": [[*key, count] for key, count in self.unanswered.items()],
            "lateness": list(self.lateness.items()),
        }

    @classmethod
    def of(cls, message: dict[str, Any]) -> Tally:
        """The tally of a `message`."""
        tally = cls(message["width_s"])
        for number, due, good, shed, error, times in message["windows"]:
            tally.windows[number] = Window(due, good, shed, error, Counter(dict(times)))
        for model, endpoint, status, count in message["answers"]:
            tally.answers[model, endpoint, status] = count
        for model, endpoint, count in message["unanswered"]:
            tally.unanswered[model, endpoint] = count
        tally.lateness = Counter(dict(message["lateness"]))
        return tally


def bucket(milliseconds: float) -> int:
    """The number of a time's bucket; buckets are 2 % wide."""
    return round(math.log(max(milliseconds, MIN_MS)) / STEP)


def percentile(times: Counter[int], fraction: float) -> float | None:
    """The milliseconds within which this fraction of the requests was answered, by nearest rank."""
    rank = max(1, math.ceil(fraction * times.total()))
    seen = 0
    for number in sorted(times):
        seen += times[number]
        if seen >= rank:
            return math.exp(number * STEP)
    return None
