"""The requests of one process: when each is due, its body, and its result."""

from __future__ import annotations

import time
from itertools import cycle
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any

import gevent

from loadtests import payloads
from loadtests.payloads import Golden
from loadtests.protocols import Model
from loadtests.tally import Tally, bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.payloads import Request
    from loadtests.protocols import Protocol
    from loadtests.tally import Outcome

DRAIN_S = 60.0
"""How long the last requests may take when a test ends."""


class Pace:
    """The pace of one user: a request every `period_s`; requests that are due in the past are skipped."""

    def __init__(self, period_s: float, start: float) -> None:
        self.period_s = period_s
        self.due = start

    def next(self, now: float) -> tuple[float, int]:
        """When the next request is due, and how many were skipped before it."""
        if not self.period_s:
            return now, 0
        self.due += self.period_s
        skipped = max(0, int((now - self.due) // self.period_s + 1))
        self.due += skipped * self.period_s
        return self.due, skipped


class Schedule:
    """The schedule of all users of a process: no request is skipped, and a late one keeps its due time."""

    def __init__(self, rate: float, start: float) -> None:
        self.period_s = 1 / rate
        self._next = start

    def next(self) -> float:
        """When the next request is due."""
        due = self._next
        self._next += self.period_s
        return due

    def overdue(self, now: float) -> Iterator[float]:
        """Take all requests that are due and not sent."""
        while self._next <= now:
            yield self.next()


class Traffic:
    """The state that the users of a process share.

    Parameters
    ----------
    plan
        All that a process needs, as `Run._plan` makes it.
    index
        The number of this process among those that send.
    """

    def __init__(self, plan: dict[str, Any], index: int) -> None:
        self.model = Model(**plan["model"])
        self.shed_allowed: bool = plan["shed_allowed"]
        self.tally = Tally(plan["window_s"])
        self.closed = False
        self._golden = Golden(**plan["golden"]) if plan["golden"] else None
        self._pace: float = plan["pace"]
        self._on_their_way = 0
        self._random = Random(index)  # noqa: S311 - the same rows in each run
        self._requests: dict[str, Iterator[Request]] = {}
        now = perf_counter()
        self._wall = time.time() - now
        rate, processes = plan["rate"], plan["processes"]
        self._schedule = None
        if rate:
            self._schedule = Schedule(rate / processes, now + index % processes / rate)

    def pace(self) -> Pace:
        """The pace of a new user; the first requests are spread over a period."""
        period = 1 / self._pace if self._pace else 0.0
        return Pace(period, perf_counter() - self._random.uniform(0, period))

    def next_due(self, pace: Pace) -> float:
        """When a free user must send its next request."""
        if self._schedule is not None:
            return self._schedule.next()
        now = perf_counter()
        due, skipped = pace.next(now)
        if skipped:
            self.tally.due(self._wall + now, skipped)
        return due

    def prepare(self, protocol: Protocol) -> None:
        """Generate the requests of a protocol in advance, since that takes some milliseconds."""
        if protocol.endpoint not in self._requests:
            if self._golden:
                found = payloads.golden_requests(protocol, self.model, self._golden)
            else:
                found = payloads.made(protocol, self.model, self._random)
            self._requests[protocol.endpoint] = cycle(found)

    def request(self, protocol: Protocol) -> Request:
        """The next request to send."""
        return next(self._requests[protocol.endpoint])

    def sending(self, due: float, *, waited: bool) -> None:
        """Count a request that is being sent; `waited`: its user was free before it was due."""
        self._on_their_way += 1
        self.tally.due(self._wall + due)
        if waited:
            self.tally.lateness[bucket((perf_counter() - due) * 1000)] += 1

    def over(
        self, protocol: Protocol, due: float, status: int, outcome: Outcome, milliseconds: float
    ) -> None:
        """Count a finished request, by the milliseconds since it was due; status 0 means no answer."""
        self._on_their_way -= 1
        route = self.model.name, protocol.endpoint
        self.tally.done(self._wall + due, route, status, outcome, milliseconds)

    def cut_off(self, protocol: Protocol, due: float) -> None:
        """Count a request whose user Locust has ended."""
        self._on_their_way -= 1
        self.tally.cut_off(self._wall + due, (self.model.name, protocol.endpoint))

    def close(self) -> None:
        """Stop sending, and wait for the last answers."""
        if self.closed:
            return
        self.closed = True
        if self._schedule is not None:
            for due in self._schedule.overdue(perf_counter()):
                self.tally.due(self._wall + due)
        end = perf_counter() + DRAIN_S
        while self._on_their_way and perf_counter() < end:
            gevent.sleep(0.01)


def processes_of(runner: Any) -> int:
    """The number of processes that send requests."""
    return max(1, getattr(runner, "worker_count", 1))
