"""Requests that threads work on: bounded in number, bytes and time, and shared evenly by who asks.

A request has a place from its head on until it is answered or nobody waits for it any more, so also while its
body is received. Callers take turns, and none of them has all threads. A newcomer to a full queue gets the
place of the caller who has the most; only who has as much as anyone is refused. Whoever may have left comes
last and goes first.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from serving.errors import Problem, overloaded
from serving.http.caller import Presence
from serving.observe.supervised import Pool
from serving.waiting import GivenUpError, NotYetError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from serving.errors import Reason
    from serving.waiting import Until

T = TypeVar("T")

RETRY_AFTER_S = 1


class Place:
    """A request's place in the queue."""

    def __init__(self, queue: FairQueue, caller: str, presence: Presence) -> None:
        self._queue = queue
        self.caller = caller
        self.presence = presence
        self.bytes = 0
        self.call: Callable[[], Any] | None = None  # that waits for its turn
        self.result: asyncio.Future[Any] | None = None
        self.running = False  # in a thread, which cannot be taken from it
        self.open = True  # somebody waits for it
        self.pushed_out: asyncio.Future[Problem] = asyncio.get_running_loop().create_future()

    def hold(self, size: int) -> None:
        """Count bytes that this request has in memory from now on.

        Raises
        ------
        Problem
            429: all requests together have too many, and no other caller has more of them.
        """
        self._queue.hold(self, size)

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a function that is called in a thread, when it is this request's turn.

        A function that raises `NotYetError` is called again later; meanwhile others have their turns.
        """
        while True:
            self.call = partial(function, *arguments)
            self.result = asyncio.get_running_loop().create_future()
            self._queue.wait_for_turn(self)
            try:
                return await self.result
            except NotYetError as error:
                await asyncio.sleep(error.after_s)


class FairQueue:
    """See the module. For the event loop; only `Place.run` has something done in a thread.

    Parameters
    ----------
    name
        Of the route, for threads, refusals and the metric of refusals.
    max_requests
        That are received, wait, or are worked on.
    max_bytes
        Of their bodies.
    """

    def __init__(self, name: str, *, threads: int, max_requests: int, max_bytes: int) -> None:
        self._name = name
        self._pool = Pool(name, threads)
        self._free = threads
        self._max_of_one = max(1, threads - 1)
        self._max_requests, self._max_bytes = max_requests, max_bytes
        self._places: dict[str, list[Place]] = {}  # by caller, oldest first
        self._waiting: dict[str, deque[Place]] = {}  # the caller whose turn is next first
        self._running: Counter[str] = Counter()
        self.requests = 0
        self.bytes = 0

    async def answer(
        self,
        caller: str,
        until: Until,
        work: Callable[[Place], Awaitable[T]],
        presence: Presence | None = None,
    ) -> T:
        """What `work` gives, with a place of its own.

        Raises
        ------
        Problem
            429: there is no place, another caller was given this one, or the time is over.
        """
        place = self._enter(caller, presence or Presence())
        task = asyncio.ensure_future(work(place))
        try:
            await asyncio.wait(
                (task, place.pushed_out), timeout=until.left_s, return_when=asyncio.FIRST_COMPLETED
            )
            if task.done():
                return task.result()
            if place.pushed_out.done():
                raise place.pushed_out.result()
            raise self._late()
        except GivenUpError:
            raise self._late() from None
        finally:
            until.give_up()  # a thread that works on it stops at its next step
            task.cancel()
            self._leave(place)

    def _late(self) -> Problem:
        return self._refusal("it waited until its deadline", "deadline")

    def _refusal(self, what: str, reason: Reason) -> Problem:
        detail = f"Too busy for this {self._name}: {what}. Try again in {RETRY_AFTER_S} s."
        return overloaded(detail, reason, RETRY_AFTER_S)

    # ---- places

    def _enter(self, caller: str, presence: Presence) -> Place:
        if self.requests >= self._max_requests:
            full = self._refusal(f"{self.requests} requests are received or wait already", "queue_full")
            self._make_room(caller, full, len, 1)
        place = Place(self, caller, presence)
        self._places.setdefault(caller, []).append(place)
        self.requests += 1
        return place

    def hold(self, place: Place, size: int) -> None:
        """See `Place.hold`."""
        place.bytes += size
        self.bytes += size
        while self.bytes > self._max_bytes:
            full = self._refusal(f"bodies of {self.bytes} bytes are received or wait already", "queue_full")
            self._make_room(place.caller, full, lambda places: sum(each.bytes for each in places), 0)

    def _make_room(self, caller: str, full: Problem, amount: Callable[[list[Place]], int], more: int) -> None:
        """Take the newest place from the caller who has the most, if that is another.

        Before that, one whose client may have left, whoever had it.

        Parameters
        ----------
        more
            What this caller is about to have beyond what it has.
        """
        every = [place for places in self._places.values() for place in places]
        victim = next((each for each in every if each.presence.may_have_left and not each.running), None)
        if victim is None:
            most = max(self._places, key=lambda each: amount(self._places[each]))
            own = amount(self._places.get(caller, [])) + more
            victim = next((each for each in reversed(self._places[most]) if not each.running), None)
            if most == caller or amount(self._places[most]) <= own or victim is None:
                raise full
        victim.pushed_out.set_result(full)
        self._leave(victim)

    def _leave(self, place: Place) -> None:
        """Give the place back, now or when the thread has ended that works on it."""
        if place.open:
            place.open = False
            waiting = self._waiting.get(place.caller)
            if waiting is not None and place in waiting:
                waiting.remove(place)
                if not waiting:
                    del self._waiting[place.caller]
            if not place.running:
                self._release(place)

    def _release(self, place: Place) -> None:
        places = self._places[place.caller]
        places.remove(place)
        if not places:
            del self._places[place.caller]
        self.requests -= 1
        self.bytes -= place.bytes

    # ---- turns

    def wait_for_turn(self, place: Place) -> None:
        """Queue a place's call behind the others of its caller."""
        self._waiting.setdefault(place.caller, deque()).append(place)
        self._start()

    def _start(self) -> None:
        while self._free:
            place = self._next()
            if place is None or place.call is None:
                return
            places = self._waiting.pop(place.caller)
            places.remove(place)
            if places:
                self._waiting[place.caller] = places  # behind all others
            self._free -= 1
            self._running[place.caller] += 1
            place.running = True
            done = asyncio.get_running_loop().run_in_executor(self._pool, place.call)
            done.add_done_callback(partial(self._ended, place))

    def _next(self) -> Place | None:
        """Whose turn it is; one whose client may have left comes after all others."""
        doubtful = None
        for caller, places in self._waiting.items():
            if self._running[caller] < self._max_of_one:
                for place in places:
                    if not place.presence.may_have_left:
                        return place
                doubtful = doubtful or places[0]
        return doubtful

    def _ended(self, place: Place, done: asyncio.Future[Any]) -> None:
        self._free += 1
        self._running[place.caller] -= 1
        if not self._running[place.caller]:
            del self._running[place.caller]
        place.running = False
        place.call = None
        error = done.exception()
        if not place.open:
            self._release(place)
        elif place.result is not None and not place.result.done():
            if error is not None:
                place.result.set_exception(error)
            else:
                place.result.set_result(done.result())
        self._start()
