"""The queue of a model, with real event loops and threads, and scores that are plain functions."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from artifact.signature import Column, Signature
from serving.errors import Problem
from serving.observe import supervised
from serving.scoring.batcher import CROWD_ROWS, Batcher, Ticket, packer
from serving.scoring.costs import Costs, expected_seconds, limits, wait_s
from tests.servers import PATIENCE_S

ONE = Signature(task="regression", target="y", columns=(Column(name="x", kind="number"),))
FOREVER = float("inf")

packed = packer(1)

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.scoring.scores import Scores


def double(matrix: Any) -> Any:
    return matrix.astype(np.float64) * 2


def batcher(score: Callable[[Any], Any] = double, **options: Any) -> Batcher:
    return Batcher(score, ONE, **({"objective_s": 0.01, "max_rows": 1000} | options))


async def ask(
    queue: Batcher, *values: float, deadline: float = FOREVER, explicit: bool = False
) -> list[float] | Problem:
    future: asyncio.Future[list[float] | Problem] = asyncio.get_running_loop().create_future()

    def done(scores: Scores | None, first: int, problem: Problem | None) -> None:
        future.set_result(problem if scores is None else scores.numbers[first : first + len(values)])

    try:
        queue.submit(packed([[value] for value in values]), len(values), done, deadline, explicit=explicit)
    except Problem as problem:
        return problem
    return await future


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread or callback brings about; the test's own timeout ends a wait in vain."""
    while not true():  # noqa: ASYNC110 - it is no event
        await asyncio.sleep(0.001)


# ---- policy


def test_cost_is_a_line_between_points_and_in_proportion_beyond() -> None:
    points = [(1.0, 2.0), (11.0, 4.0)]
    assert expected_seconds([], 5) == 0
    assert expected_seconds(points, 0.5) == 2
    assert expected_seconds(points, 6) == 3
    assert expected_seconds(points, 22) == 8


def test_one_held_up_call_hardly_moves_the_cost() -> None:
    costs = Costs()
    for _ in range(20):
        costs.observe(1, 0.001)
    costs.observe(1, 10.0)
    assert costs.points()[0][1] < 0.002
    assert costs.least() == 0.001


def test_a_quick_model_is_scored_on_the_loop_up_to_a_millisecond() -> None:
    found = limits([(1, 10e-6), (1024, 1e-3), (4096, 4e-3)], 0.01)
    assert found.inline_rows == 1024
    assert found.batch_rows == 8192


def test_a_model_slower_than_the_objective_still_gets_batches_where_they_are_cheap() -> None:
    """A lone row of 50 ms against an objective of 10: batches grow until they cost twice that."""
    found = limits([(1, 0.050), (64, 0.055), (256, 0.120)], 0.01)
    assert found.inline_rows == 0
    assert found.batch_rows == 128
    dear = limits([(1, 0.050), (4, 0.200)], 0.01)
    assert dear.batch_rows == 2


def test_twice_the_largest_call_is_tried_where_its_rows_cost_little() -> None:
    assert limits([(1, 0.025), (4, 0.026)], 0.01).batch_rows == 8
    assert limits([(1, 0.005), (2, 0.0102)], 0.01).batch_rows == 1


def test_calls_that_were_held_up_while_warming_up_limit_no_batch_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a busy machine: four rows seemed to cost twice what one did, and more were never tried."""
    sizes: list[int] = []
    now = time.perf_counter()

    def forest(matrix: Any) -> Any:
        nonlocal now
        sizes.append(len(matrix))
        now += 0.002  # what each call costs, however busy this machine is
        return double(matrix)

    monkeypatch.setattr("serving.scoring.batcher.perf_counter", lambda: now)

    async def main() -> None:
        queue = batcher(forest, objective_s=0.001, max_rows=100_000)
        for rows, seconds in ((1, 0.0022), (4, 0.0043), (16, 0.01)):
            queue._costs.observe(rows, seconds)
        queue._decide_limits()
        assert queue.limits.batch_rows == 4
        # In requests of some rows each: one that is larger than a call takes turns with the others.
        await asyncio.gather(*(ask(queue, *range(4)) for _ in range(5000)))

    asyncio.run(main())
    assert max(sizes) >= 64


def test_a_quick_model_comes_back_to_the_loop_after_a_busy_time_in_the_thread() -> None:
    costs = Costs()
    costs.observe(1, 10e-6)
    for _ in range(50):
        costs.observe(1, 0.005)
    found = limits(costs.points(), 0.01, costs.best())
    assert found.inline_rows >= 64
    assert found.row_s > 0.001


def test_the_wait_is_that_of_the_rows_before_and_its_own() -> None:
    assert wait_s(limits([(1, 0.01), (100, 1.0)], 0.01), 50, 50) == pytest.approx(1.0)


# ---- batches


def test_what_arrives_together_is_scored_together_and_each_gets_its_own() -> None:
    calls: list[int] = []

    def score(matrix: Any) -> Any:
        calls.append(len(matrix))
        return double(matrix)

    async def main() -> None:
        queue = batcher(score)
        found = await asyncio.gather(*(ask(queue, i, i + 0.5) for i in range(60)))
        assert found == [[2 * i, 2 * i + 1] for i in range(60)]

    asyncio.run(main())
    assert calls == [120]


def test_packed_rows_and_matrices_share_a_batch() -> None:
    async def main() -> None:
        queue = batcher()
        matrix: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        queue.submit(
            np.array([[7.0]]), 1, lambda scores, first, _: matrix.set_result(scores.numbers[first]), FOREVER
        )
        assert await asyncio.gather(ask(queue, 1), ask(queue, 2), matrix) == [[2], [4], 14]

    asyncio.run(main())


def test_a_slow_call_leaves_the_loop_free_and_the_next_batch_forms_meanwhile() -> None:
    calls: list[tuple[int, bool]] = []
    release = threading.Event()

    def score(matrix: Any) -> Any:
        calls.append((len(matrix), threading.current_thread() is threading.main_thread()))
        release.wait(PATIENCE_S)
        return double(matrix)

    async def main() -> None:
        queue = batcher(score)
        queue.limits = limits([(1, 0.05), (64, 0.06)], 0.01)
        first = asyncio.ensure_future(ask(queue, 1))
        await until(lambda: bool(calls))
        more = [asyncio.ensure_future(ask(queue, i)) for i in range(20)]
        await asyncio.sleep(0.01)
        assert queue.queued_rows == 20
        release.set()
        assert await first == [2]
        assert await asyncio.gather(*more) == [[2 * i] for i in range(20)]
        assert queue.queued_rows == 0
        queue.close()

    asyncio.run(main())
    assert calls == [(1, False), (20, False)]


def test_a_slow_call_is_made_on_the_loop_where_the_system_has_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As under the limit of processes of a pod: a late answer instead of none."""

    def none_left(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        queue = batcher()
        queue.limits = limits([(1, 0.05), (64, 0.06)], 0.01)
        with monkeypatch.context() as exhausted:
            exhausted.setattr(threading.Thread, "start", none_left)
            assert await asyncio.gather(*(ask(queue, i) for i in range(5))) == [[2 * i] for i in range(5)]
        assert await ask(queue, 7) == [14]
        assert queue._pool._callers
        queue.close()

    asyncio.run(main())


def test_rows_that_were_in_hand_when_the_thread_failed_are_to_be_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is known against them, and those that wait are scored once it is back."""

    async def main() -> None:
        queue = batcher()
        queue.limits = limits([(1, 0.05), (64, 0.06)], 0.01)
        usual, left = supervised._Call.run, [1]

        def once(call: Any) -> None:
            if left:
                raise MemoryError(left.pop())
            usual(call)

        monkeypatch.setattr(supervised._Call, "run", once)
        first = asyncio.ensure_future(ask(queue, 1))
        lost = await first
        assert isinstance(lost, Problem)
        assert (lost.status, lost.headers) == (503, ((b"retry-after", b"1"),))
        assert await ask(queue, 2) == [4]
        assert queue.queued_rows == 0
        queue.close()

    asyncio.run(main())


def test_a_request_of_many_rows_is_scored_in_parts_with_others_in_between() -> None:
    order: list[str] = []

    async def main() -> None:
        queue = batcher(max_rows=10_000)
        queue.limits = limits([(1, 1e-3), (16, 1e-2)], 0.01)
        assert queue.limits.batch_rows == 8

        async def named(name: str, *values: float) -> None:
            assert await ask(queue, *values) == [2 * value for value in values]
            order.append(name)

        await asyncio.gather(named("large", *range(1000)), *(named("small", i) for i in range(5)))

    asyncio.run(main())
    assert order[-1] == "large"


# ---- failures


def test_only_the_request_that_makes_the_model_raise_fails() -> None:
    def score(matrix: Any) -> Any:
        if (matrix == 13).any():
            raise ValueError("thirteen")
        return double(matrix)

    async def main() -> None:
        queue = batcher(score)
        found = await asyncio.gather(*(ask(queue, i) for i in range(40)))
        for i, one in enumerate(found):
            if i == 13:
                assert isinstance(one, Problem)
                assert one.status == 500
            else:
                assert one == [2 * i]
        assert await ask(queue, 1) == [2]

    asyncio.run(main())


def test_a_row_without_a_finite_score_fails_alone_and_is_named() -> None:
    def score(matrix: Any) -> Any:
        return np.where(matrix == 13, np.inf, matrix * 2).astype(np.float64)

    async def main() -> None:
        queue = batcher(score)
        good, bad = await asyncio.gather(ask(queue, 1), ask(queue, 1, 13))
        assert good == [2]
        assert isinstance(bad, Problem)
        assert (bad.status, [error.row for error in bad.errors]) == (422, [1])

    asyncio.run(main())


def test_scores_of_another_shape_fail() -> None:
    async def main() -> None:
        found = await ask(batcher(lambda matrix: np.zeros((len(matrix) + 1, 1))), 1)
        assert isinstance(found, Problem)
        assert found.status == 500

    asyncio.run(main())


def test_a_reply_that_raises_costs_the_others_nothing() -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no reply")

    async def main() -> None:
        queue = batcher()
        queue.submit(packed([[1.0]]), 1, broken, FOREVER)
        assert await ask(queue, 2) == [4]

    asyncio.run(main())


# ---- bounds


def test_a_full_queue_refuses_with_retry_after() -> None:
    async def main() -> None:
        queue = batcher(max_rows=10)
        found = await asyncio.gather(*(ask(queue, 1, 2, 3, 4) for _ in range(3)))
        assert found[:2] == [[2, 4, 6, 8]] * 2
        assert isinstance(found[2], Problem)
        assert (found[2].status, found[2].reason) == (429, "queue_full")
        assert found[2].headers[0][0] == b"retry-after"
        assert int(found[2].headers[0][1]) >= 1

    asyncio.run(main())


def held(queue_of: Callable[[Callable[[Any], Any]], Batcher]) -> tuple[Batcher, threading.Event]:
    """A slow model whose calls last until the event."""
    release = threading.Event()

    def score(matrix: Any) -> Any:
        release.wait(PATIENCE_S)
        return double(matrix)

    queue = queue_of(score)
    queue.limits = limits([(1, 0.05), (64, 0.06)], 0.01)
    return queue, release


def test_a_deadline_that_passes_in_the_queue_is_answered_then() -> None:
    async def main() -> None:
        queue, release = held(batcher)
        first = asyncio.ensure_future(ask(queue, 1))
        await asyncio.sleep(0.01)
        patient = asyncio.ensure_future(ask(queue, 2, deadline=time.perf_counter() + 60))
        hasty = await ask(queue, 3, deadline=time.perf_counter() + 0.1)
        assert isinstance(hasty, Problem)
        assert (hasty.status, hasty.reason) == (429, "deadline")
        assert queue.queued_rows == 1
        release.set()
        assert (await first, await patient) == ([2], [4])
        queue.close()

    asyncio.run(main())


def test_a_request_whose_deadline_passed_before_its_batch_is_not_scored() -> None:
    calls: list[int] = []

    def score(matrix: Any) -> Any:
        calls.append(len(matrix))
        return double(matrix)

    async def main() -> None:
        queue = batcher(score)
        late = asyncio.ensure_future(ask(queue, 1, deadline=time.perf_counter() + 0.02))
        asyncio.get_running_loop().call_soon(time.sleep, 0.05)  # the loop is held up between the two
        found = await late
        assert isinstance(found, Problem)
        assert (found.status, found.reason) == (429, "deadline")

    asyncio.run(main())
    assert calls == []


def test_a_deadline_that_cannot_be_kept_is_refused_at_once() -> None:
    async def main() -> None:
        queue, release = held(batcher)
        first = asyncio.ensure_future(ask(queue, 1))
        await asyncio.sleep(0.01)
        late = await ask(queue, *range(900), deadline=time.perf_counter() + 0.2)
        assert isinstance(late, Problem)
        assert late.status == 429
        release.set()
        assert await first == [2]
        queue.close()

    asyncio.run(main())


def test_an_idle_model_is_tried_whatever_it_is_expected_to_take() -> None:
    async def main() -> None:
        queue = batcher()
        queue.limits = limits([(1, 100.0)], 0.01)
        assert await ask(queue, 1, deadline=time.perf_counter() + 60) == [2]
        queue.close()

    asyncio.run(main())


def test_a_late_answer_is_none_where_the_client_gave_the_deadline() -> None:
    def score(matrix: Any) -> Any:
        time.sleep(0.6)
        return double(matrix)

    async def main() -> None:
        queue = batcher(score)
        assert await ask(queue, 1, deadline=time.perf_counter() + 0.5) == [2]
        late = await ask(queue, 1, deadline=time.perf_counter() + 0.5, explicit=True)
        assert isinstance(late, Problem)
        assert late.status == 429

    asyncio.run(main())


def test_a_client_that_leaves_frees_its_place() -> None:
    async def main() -> None:
        queue, release = held(batcher)
        first = asyncio.ensure_future(ask(queue, 1))
        await asyncio.sleep(0.01)
        answered: list[Any] = []
        tickets: list[Ticket] = [
            queue.submit(packed([[1.0]] * 5), 5, lambda *found: answered.append(found), FOREVER)
            for _ in range(4)
        ]
        assert queue.queued_rows == 20
        for ticket in tickets[:3]:
            queue.cancel(ticket)
            queue.cancel(ticket)
        assert queue.queued_rows == 5
        release.set()
        await first
        await until(lambda: bool(answered))
        assert len(answered) == 1
        assert queue.queued_rows == 0
        queue.close()

    asyncio.run(main())


def test_queued_rows_add_up_whatever_happens() -> None:
    """Requests that are answered, refused, given up, split and that raise: in the end nothing is queued."""
    random = np.random.default_rng(3)

    def score(matrix: Any) -> Any:
        time.sleep(0.0005)
        if (matrix == 13).any():
            raise ValueError("thirteen")
        return double(matrix)

    async def main() -> None:
        queue = batcher(score, max_rows=400)
        queue.limits = limits([(1, 0.002), (16, 0.01)], 0.01)
        open_: list[Ticket] = []
        outcomes: list[str] = []

        def done(scores: Scores | None, _first: int, _problem: Problem | None) -> None:
            outcomes.append("scores" if scores else "problem")

        for _ in range(300):
            n = int(random.integers(1, 60))
            rows = packed([[float(value)] for value in random.integers(0, 300, n)])
            try:
                open_.append(queue.submit(rows, n, done, time.perf_counter() + random.random() * 0.2))
            except Problem:
                outcomes.append("refused")
            if random.random() < 0.1:
                queue.cancel(open_[int(random.integers(len(open_)))])
            if random.random() < 0.3:
                await asyncio.sleep(0.002)
        await until(lambda: not any(ticket.open for ticket in open_))
        await until(lambda: queue.queued_rows == 0)
        assert {"scores", "problem", "refused"} <= set(outcomes)
        assert await ask(queue, 1) == [2]
        queue.close()

    asyncio.run(main())


def test_warming_up_measures_and_stops_where_calls_get_long() -> None:
    sizes: list[int] = []

    def score(matrix: Any) -> Any:
        sizes.append(len(matrix))
        time.sleep(len(matrix) * 0.001)
        return double(matrix)

    queue = batcher(score)
    queue.warm_up(np.zeros((1, 1)))
    assert max(sizes) <= 16
    assert queue.limits.inline_rows == 0
    assert queue.slow


def test_a_model_that_is_slow_by_the_call_and_not_by_the_row_gets_large_batches() -> None:
    """A native forest takes as long for one row as for a hundred: small batches would waste that."""

    def forest(matrix: Any) -> Any:
        time.sleep(0.02)
        return double(matrix)

    queue = batcher(forest)
    queue.warm_up(np.zeros((1, 1)))
    assert queue.limits.batch_rows >= 1024
    assert wait_s(queue.limits, 0, 20_000) < 20


def test_the_first_of_a_crowd_are_answered_before_the_last_are_read() -> None:
    """What their replies bring is queued as well, and nobody is answered twice or for another."""
    sizes: list[int] = []
    answers: dict[float, list[float]] = {}

    def quick(matrix: Any) -> Any:
        sizes.append(len(matrix))
        return double(matrix)

    async def main() -> None:
        queue = batcher(quick, objective_s=1.0, max_rows=100_000)
        queue.warm_up(np.ones((1, 1)))
        sizes.clear()

        def send(value: float, again: int = 0) -> None:
            def done(scores: Scores | None, first: int, _problem: Problem | None) -> None:
                assert scores is not None
                answers.setdefault(value, []).append(scores.numbers[first])
                if again:
                    send(value + 10_000, again - 1)

            queue.submit(packed([[value]]), 1, done, FOREVER)

        for value in range(2 * CROWD_ROWS + 50):
            send(float(value), again=2)
            if value == CROWD_ROWS - 1:
                assert len(answers) == CROWD_ROWS, "the first wait for the last"
        await until(lambda: len(answers) == 3 * (2 * CROWD_ROWS + 50))
        assert queue.queued_rows == 0
        assert not queue._flushing

    asyncio.run(main())
    assert all(found == [2 * value] for value, found in answers.items())
    assert sizes[0] == CROWD_ROWS
