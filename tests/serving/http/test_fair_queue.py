"""Whoever asks much waits for itself, and nobody for it."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

from serving.errors import Problem
from serving.http.caller import Presence
from serving.http.fair_queue import FairQueue, Place
from serving.waiting import GivenUpError, NotYetError, Until
from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


def queue(requests: int = 100, most_bytes: int = 1000, threads: int = 2) -> FairQueue:
    return FairQueue("feedback", threads=threads, max_requests=requests, max_bytes=most_bytes)


class Gate:
    """Calls that wait in their threads until they are let go, and the order in which they began."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.go = threading.Event()

    def __call__(self, name: str) -> str:
        self.began.append(name)
        assert self.go.wait(PATIENCE_S)
        return name


def ask(
    fair: FairQueue, caller: str, call: Callable[..., Any], *arguments: Any, until: Until | None = None
) -> asyncio.Task[Any]:
    async def work(place: Place) -> Any:
        return await place.run(call, *arguments)

    return asyncio.ensure_future(fair.answer(caller, until or Until(math.inf), work))


async def settle(condition: Callable[[], bool]) -> None:
    """Until something is so that is on its way."""
    end = perf_counter() + 60
    while not condition():
        assert perf_counter() < end
        await asyncio.sleep(0.001)


@asynccontextmanager
async def opened(gate: Gate) -> AsyncIterator[None]:
    try:
        yield
    finally:
        gate.go.set()


async def refusal(task: asyncio.Task[Any]) -> Problem:
    with pytest.raises(Problem) as raised:
        await task
    return raised.value


def test_callers_take_turns() -> None:
    async def main() -> None:
        fair, gate = queue(threads=1), Gate()
        async with opened(gate):
            many = [ask(fair, "many", gate, f"many {i}") for i in range(30)]
            await settle(lambda: gate.began == ["many 0"])
            one = [ask(fair, "one", gate, f"one {i}") for i in range(2)]
            other = ask(fair, "other", gate, "other")
            await settle(lambda: fair.requests == 33)
        assert await asyncio.gather(*many, *one, other)
        assert gate.began[:8] == [
            *("many 0", "many 1", "one 0", "other"),
            *("many 2", "one 1", "many 3", "many 4"),
        ]
        assert (fair.requests, fair.bytes) == (0, 0)

    asyncio.run(main())


def test_no_caller_has_all_threads() -> None:
    async def main() -> None:
        fair, gate = queue(), Gate()
        async with opened(gate):
            many = [ask(fair, "many", gate, f"many {i}") for i in range(30)]
            await settle(lambda: fair.requests == 30)
            one = [ask(fair, "one", gate, f"one {i}") for i in range(2)]
            await settle(lambda: len(gate.began) == 2)
            assert gate.began == ["many 0", "one 0"]
        assert await asyncio.gather(*many, *one)

    asyncio.run(main())


def test_a_full_queue_makes_room_for_who_has_least() -> None:
    async def main() -> None:
        fair, gate = queue(requests=10), Gate()
        async with opened(gate):
            many = [ask(fair, "many", gate, f"many {i}") for i in range(10)]
            await settle(lambda: len(gate.began) == 1)
            eleventh = await refusal(ask(fair, "many", gate, "too many"))
            assert (eleventh.status, eleventh.reason) == (429, "queue_full")
            assert dict(eleventh.headers)[b"retry-after"] == b"1"
            others = [ask(fair, f"other {i}", gate, f"other {i}") for i in range(3)]
            pushed_out = [await refusal(many[i]) for i in (9, 8, 7)]
            assert {problem.status for problem in pushed_out} == {429}
            assert fair.requests == 10
            assert not any(task.done() for task in (*many[:7], *others))
        assert await asyncio.gather(*many[:7], *others)
        assert fair.requests == 0

    asyncio.run(main())


def test_where_all_have_as_much_the_newcomer_is_refused() -> None:
    async def main() -> None:
        fair, gate = queue(requests=3), Gate()
        async with opened(gate):
            tasks = [ask(fair, f"caller {i}", gate, str(i)) for i in range(3)]
            await asyncio.sleep(0)
            assert (await refusal(ask(fair, "caller 3", gate, "3"))).status == 429
            assert not any(task.done() for task in tasks)
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_bytes_are_bounded_while_they_arrive() -> None:
    async def main() -> None:
        fair = queue(most_bytes=1000)
        go = asyncio.Event()

        async def receive(place: Place, size: int) -> int:
            for _ in range(size // 100):
                place.hold(100)
                await asyncio.sleep(0)
            await go.wait()
            return size

        def send(caller: str, size: int) -> asyncio.Task[int]:
            return asyncio.ensure_future(
                fair.answer(caller, Until(math.inf), lambda place: receive(place, size))
            )

        many = [send("many", 300) for _ in range(3)]
        await settle(lambda: fair.bytes == 900)
        one = send("one", 400)
        await settle(many[2].done)
        assert (await refusal(many[2])).status == 429
        await settle(lambda: fair.bytes == 1000)
        assert (await refusal(send("many", 100))).status == 429
        assert fair.bytes == 1000
        go.set()
        assert await asyncio.gather(*many[:2], one) == [300, 300, 400]
        assert (fair.requests, fair.bytes) == (0, 0)

    asyncio.run(main())


def test_who_leaves_gives_the_place_back_at_once_and_its_work_stops() -> None:
    async def main() -> None:
        fair, gate = queue(), Gate()
        stopped = threading.Event()

        def search(until: Until) -> None:
            try:
                while True:
                    until.check()
            except GivenUpError:
                stopped.set()
                raise

        until = Until(math.inf)
        async with opened(gate):
            running = ask(fair, "a", search, until, until=until)
            waiting = [ask(fair, "a", gate, f"a {i}") for i in range(50)]
            await settle(lambda: fair.requests == 51)
            for task in (running, *waiting):
                task.cancel()
            await asyncio.gather(running, *waiting, return_exceptions=True)
            await settle(lambda: fair.requests == 0)
            assert stopped.wait(PATIENCE_S)
            assert gate.began == []
            after = ask(fair, "a", gate, "after")
        assert await after == "after"

    asyncio.run(main())


def test_what_waits_too_long_is_refused_and_never_begun() -> None:
    async def main() -> None:
        fair, gate = queue(threads=1), Gate()
        async with opened(gate):
            first = ask(fair, "a", gate, "first")
            await settle(lambda: gate.began == ["first"])
            late = await refusal(ask(fair, "a", gate, "late", until=Until(perf_counter() + 0.05)))
            assert (late.status, late.reason) == (429, "deadline")
            assert fair.requests == 1
        assert await first == "first"
        await settle(lambda: fair.requests == 0)
        assert gate.began == ["first"]

    asyncio.run(main())


def test_who_has_to_wait_for_others_holds_no_thread() -> None:
    async def main() -> None:
        fair, gate = queue(threads=1), Gate()
        asked: list[str] = []

        def not_yet() -> str:
            asked.append("asked")
            if len(asked) < 3:
                raise NotYetError(0.05)
            return "found"

        gate.go.set()
        fresh = ask(fair, "a", not_yet)
        await settle(lambda: asked == ["asked"])
        assert await ask(fair, "a", gate, "other") == "other"
        assert await fresh == "found"
        assert len(asked) == 3

    asyncio.run(main())


def test_an_error_is_the_callers_own() -> None:
    async def main() -> None:
        fair = queue()

        def fail() -> None:
            raise Problem(404, "There is none.")

        assert (await refusal(ask(fair, "a", fail))).status == 404
        assert await ask(fair, "a", str, 1) == "1"
        assert (fair.requests, fair.bytes) == (0, 0)

    asyncio.run(main())


def test_who_may_have_left_comes_last_and_goes_first() -> None:
    async def main() -> None:
        fair, gate = queue(requests=6, threads=1), Gate()
        leaving = [Presence() for _ in range(4)]

        def ask_as(presence: Presence, caller: str, name: str) -> asyncio.Task[Any]:
            async def work(place: Place) -> Any:
                return await place.run(gate, name)

            return asyncio.ensure_future(fair.answer(caller, Until(math.inf), work, presence))

        async with opened(gate):
            first = ask(fair, "a", gate, "first")
            await settle(lambda: gate.began == ["first"])
            left = [ask_as(presence, "a", f"left {i}") for i, presence in enumerate(leaving)]
            stayed = ask(fair, "a", gate, "stayed")
            await settle(lambda: fair.requests == 6)
            for presence in leaving:
                presence.may_have_left = True
            more = ask(fair, "a", gate, "more")  # of the same caller, whose others may have left
            assert (await refusal(left[0])).status == 429
        assert await asyncio.gather(first, stayed, more, *left[1:])
        assert gate.began == ["first", "stayed", "more", "left 1", "left 2", "left 3"]

    asyncio.run(main())
