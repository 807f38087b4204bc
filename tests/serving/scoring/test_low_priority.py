"""Work below the predictions: on real event loops, with scores that are plain functions."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.scoring.low_priority import LowPriority
from serving.scoring.spare_time import SpareTime
from tests.serving.scoring.test_batcher import FOREVER, ask, batcher, double, packed, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from serving.errors import Problem
    from serving.scoring.low_priority import Chunk


class Rows:
    """Work of some rows; it keeps their scores."""

    def __init__(self, count: int, *, make: Callable[[int, int], Any] | None = None) -> None:
        self.open = True
        self.count = count
        self.sizes: list[int] = []
        self.scores: list[float] = []
        self.seconds = 0.0
        self.problem: Problem | None = None
        self.ended = False
        self._make = make or (lambda start, stop: np.arange(start, stop, dtype=float)[:, None])
        self._done = 0

    def chunk(self, most: int) -> Chunk | None:
        if self._done == self.count:
            self.ended = True
            return None
        start, self._done = self._done, min(self.count, self._done + most)
        self.sizes.append(self._done - start)
        return lambda: self._make(start, self._done)

    def scored(self, scores: NDArray[Any], seconds: float) -> None:
        self.scores += scores[:, 0].tolist()
        self.seconds += seconds

    def failed(self, problem: Problem) -> None:
        self.open, self.problem = False, problem


def slow(rows: Any) -> Any:
    """A model whose call takes 0.2 ms."""
    until = perf_counter() + 0.0002
    while perf_counter() < until:
        pass
    return double(rows)


def queue_of(score: Callable[[Any], Any] = double, **options: Any) -> tuple[Any, LowPriority]:
    main = batcher(score, **options)
    main.warm_up(np.zeros((1, 1)))
    return main, LowPriority(main, score, 1, SpareTime())


@pytest.mark.parametrize("inline", [True, False])
def test_work_is_scored_in_chunks_no_longer_than_a_batch(inline: bool) -> None:
    async def main() -> None:
        predictions, queue = queue_of(inline=inline)
        work = Rows(100_000)
        queue.submit(work)
        await until(lambda: work.ended)
        assert work.scores == [2.0 * i for i in range(100_000)]
        limits = predictions.limits
        assert max(work.sizes) <= (limits.inline_rows if inline else limits.batch_rows // 2)
        assert len(work.sizes) > 1
        predictions.close()

    asyncio.run(main())


def test_a_prediction_waits_for_one_chunk_at_most() -> None:
    """It comes while a long work runs, and is answered before the work's next chunk but one."""

    async def main() -> None:
        predictions, queue = queue_of()
        work = Rows(10**7)
        queue.submit(work)
        await until(lambda: len(work.sizes) > 1)
        before = len(work.sizes)
        after: list[int] = []
        predictions.submit(packed([[5.0]]), 1, lambda *_: after.append(len(work.sizes)), FOREVER)
        await until(lambda: bool(after))
        assert after[0] <= before + 1
        work.open = False
        predictions.close()

    asyncio.run(main())


@pytest.mark.parametrize("rows", [1, 3_000])
@pytest.mark.parametrize("models", [1, 3])
def test_while_predictions_come_all_work_together_takes_a_twentieth_at_most(rows: int, models: int) -> None:
    """Whether one piece of it is cheap or dear, of one model or several; and it goes on."""

    async def main() -> None:
        spare = SpareTime()
        predictions = batcher()
        mains = [batcher(slow) for _ in range(models)]
        for each in mains:
            each.warm_up(np.zeros((1, 1)))
        queues = [LowPriority(each, slow, 1, spare) for each in mains]
        works = [Rows(rows) for _ in queues]
        done: list[Rows] = []
        await ask(predictions, 1.0)
        began = perf_counter()
        for queue, work in zip(queues, works, strict=True):
            queue.submit(work)
        while perf_counter() < began + 1.5:
            await ask(predictions, 1.0)
            for place, work in enumerate(works):
                if work.ended:
                    done.append(work)
                    works[place] = Rows(rows)
                    queues[place].submit(works[place])
        seconds = sum(work.seconds for work in done + works)
        assert seconds / (perf_counter() - began) < 0.05
        assert done
        for each in (predictions, *mains):
            each.close()

    asyncio.run(main())


def test_an_idle_server_owes_nothing_for_work_that_it_did() -> None:
    """Also not for work that came with predictions of its own, in one batch or several."""

    async def main() -> None:
        predictions, queue = queue_of()
        scored: list[Any] = []
        for turn in range(50):
            for row in (1.0, 2.0):
                submit = predictions.submit_low
                submit(packed([[row]]), 1, lambda *found: scored.append(found), FOREVER, explicit=False)
            await until(lambda turn=turn: len(scored) == 2 * turn + 2)
            work = Rows(20_000)
            queue.submit(work)
            await until(lambda work=work: work.ended)
            assert not queue.spare.busy
        predictions.close()

    asyncio.run(main())


def test_callers_take_turns() -> None:
    async def main() -> None:
        order: list[str] = []

        def of(caller: str, rows: int) -> Rows:
            def made(start: int, stop: int) -> Any:
                order.append(caller)
                return np.zeros((stop - start, 1))

            return Rows(rows, make=made)

        predictions, queue = queue_of()
        much, little = [of("greedy", 10**5) for _ in range(20)], [of("modest", 5) for _ in range(3)]
        for work in much:
            queue.submit(work, "greedy")
        for work in little:
            queue.submit(work, "modest")
        await until(lambda: much[-1].ended)
        assert order[:6] == ["greedy", "modest", "greedy", "modest", "greedy", "modest"]
        predictions.close()

    asyncio.run(main())


def test_work_that_nobody_waits_for_is_dropped_and_the_next_begins() -> None:
    async def main() -> None:
        predictions, queue = queue_of()
        left, next_one = Rows(10**9), Rows(3)
        queue.submit(left)
        queue.submit(next_one)
        await until(lambda: bool(left.sizes))
        left.open = False
        await until(lambda: next_one.ended)
        predictions.close()

    asyncio.run(main())


@pytest.mark.parametrize("inline", [True, False])
def test_a_model_that_raises_ends_that_work_alone(inline: bool) -> None:
    def fragile(rows: Any) -> Any:
        if (rows == 7).any():
            raise RuntimeError("a secret cell")
        return double(rows)

    async def main() -> None:
        predictions, queue = queue_of(fragile, inline=inline)
        bad, good = Rows(20), Rows(5)
        queue.submit(bad)
        queue.submit(good)
        await until(lambda: good.ended)
        assert bad.problem is not None
        assert bad.problem.status == 500
        assert "secret" not in bad.problem.detail
        assert good.problem is None
        assert await ask(predictions, 1.0) == [2.0]
        predictions.close()

    asyncio.run(main())


def test_a_bug_in_the_work_ends_it_alone() -> None:
    class Broken(Rows):
        def scored(self, scores: NDArray[Any], seconds: float) -> None:
            raise ValueError(f"a bug in {len(scores)} scores after {seconds} s")

    async def main() -> None:
        predictions, queue = queue_of()
        bad, good = Broken(20), Rows(5)
        queue.submit(bad)
        queue.submit(good)
        await until(lambda: good.ended)
        assert bad.problem is not None
        assert bad.problem.status == 500
        predictions.close()

    asyncio.run(main())
