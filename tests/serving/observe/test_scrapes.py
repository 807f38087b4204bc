"""A crowd that asks for `/metrics` costs no more than one client; replies have what was counted before."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from serving.observe import metrics, scrapes
from serving.observe.scrapes import Scrapes

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The texts that were made: the first is 1, the second 2."""
    found: list[int] = []
    at_once = []

    def exposition() -> bytes:
        at_once.append(1)
        assert len(at_once) == 1, "two are made at once"
        time.sleep(0.02)
        at_once.pop()
        found.append(len(found) + 1)
        return b"%d" % found[-1]

    monkeypatch.setattr(metrics, "exposition", exposition)
    return found


def test_who_asks_at_once_shares_one_text(made: list[int]) -> None:
    async def main() -> None:
        asked = Scrapes()
        assert set(await asyncio.gather(*(asked.text() for _ in range(64)))) == {b"1"}

    asyncio.run(main())
    assert made == [1]


def test_who_asks_while_one_is_being_made_gets_the_next(made: list[int]) -> None:
    """It would lack what was answered since it was begun."""

    async def main() -> None:
        asked = Scrapes()
        first = asyncio.ensure_future(asked.text())
        await asyncio.sleep(0)
        while asked._next is not None:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.001)
        later = [asyncio.ensure_future(asked.text()) for _ in range(64)]
        assert await first == b"1"
        assert set(await asyncio.gather(*later)) == {b"2"}

    asyncio.run(main())
    assert made == [1, 2]


def test_a_crowd_that_asks_again_and_again_leaves_the_loop_most_of_the_time(
    made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    usual: Callable[..., object] = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await usual(min(seconds, 0.01))  # type: ignore[misc]

    monkeypatch.setattr(scrapes.asyncio, "sleep", sleep)

    async def client(asked: Scrapes) -> None:
        for _ in range(5):
            await asked.text()

    async def main() -> None:
        asked = Scrapes()
        await asyncio.gather(*(client(asked) for _ in range(64)))

    asyncio.run(main())
    assert len(made) == 5
    assert all(0.02 < pause <= scrapes.MAX_PAUSE_S for pause in pauses[1:])


def test_one_that_fails_fails_for_those_who_asked_and_for_nobody_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> bytes:
        raise OSError(5, "Input/output error")

    async def main() -> None:
        asked = Scrapes()
        with monkeypatch.context() as failing:
            failing.setattr(metrics, "exposition", broken)
            found = await asyncio.gather(*(asked.text() for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in found] == [OSError] * 3
        assert b"okamochi_requests" in await asked.text()

    asyncio.run(main())


def test_a_client_that_leaves_takes_no_text_from_the_others(made: list[int]) -> None:
    async def main() -> None:
        asked = Scrapes()
        leaving, staying = (asyncio.ensure_future(asked.text()) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == b"1"

    asyncio.run(main())
    assert made == [1]
