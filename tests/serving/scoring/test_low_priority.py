"""Work below the predictions: on real event loops, with scores that are plain functions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.scoring import low_priority
from serving.scoring.low_priority import MIN_INLINE_ROWS, LowPriority
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

    def scored(self, scores: NDArray[Any]) -> None:
        self.scores += scores[:, 0].tolist()

    def failed(self, problem: Problem) -> None:
        self.open, self.problem = False, problem


def queue_of(score: Callable[[Any], Any] = double, **options: Any) -> tuple[Any, LowPriority]:
    main = batcher(score, **options)
    main.warm_up(np.zeros((1, 1)))
    return main, LowPriority(main, score, 1)


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


def test_while_predictions_come_the_work_pauses_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for predictions of another model of the worker."""
    pauses: list[float] = []

    async def main() -> None:
        predictions, queue = queue_of()
        other = batcher()
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def noted(delay: float, callback: Any, *arguments: Any) -> Any:
            if callback == queue._run:
                pauses.append(delay)
            return later(delay, callback, *arguments)

        monkeypatch.setattr(loop, "call_later", noted)
        work = Rows(MIN_INLINE_ROWS * 2000)
        queue.submit(work)
        while not work.ended:
            await ask(other, 1.0)
        assert len(work.scores) == work.count
        assert pauses
        alone = Rows(1)
        pauses.clear()
        queue.submit(alone)
        await until(lambda: alone.ended)
        assert not pauses, "an idle server waits for nothing"
        predictions.close()
        other.close()

    asyncio.run(main())
    assert low_priority.PAUSE >= 19, "predictions keep 95 % of their rate"


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
        def scored(self, scores: NDArray[Any]) -> None:
            raise ValueError(f"a bug in {len(scores)} scores")

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
