"""Verdicts: figures and objectives in, lines out."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.objectives import Objectives
from loadtests.tally import Tally, Window, bucket, percentile
from loadtests.verdict import Stage, judge, judge_steps, knee, passed, steps_table, table


def window(
    *, good: int = 100, shed: int = 0, error: int = 0, due: int | None = None, ms: float = 5
) -> Window:
    total = good + shed + error
    return Window(total if due is None else due, good, shed, error, Counter({bucket(ms): good}))


def missed(found: Window, **bounds: float) -> list[str]:
    return [line.name for line in judge(found, 10.0, Objectives(**bounds)) if line.met is False]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, []),
        ({"p50_ms": 6, "p95_ms": 6, "p99_ms": 6, "error_rate": 0, "goodput": 1, "goodput_per_s": 10}, []),
        ({"p50_ms": 4}, ["p50_ms"]),
        ({"p95_ms": 4}, ["p95_ms"]),
        ({"p99_ms": 4}, ["p99_ms"]),
        ({"goodput_per_s": 10.1}, ["goodput_per_s"]),
    ],
)
def test_each_bound_is_held_by_itself(bounds: dict[str, float], expected: list[str]) -> None:
    assert missed(window(), **bounds) == expected


def test_errors_are_a_share_of_all_requests_that_are_over() -> None:
    assert missed(window(good=99, error=1), error_rate=0.01) == []
    assert missed(window(good=98, error=2), error_rate=0.01) == ["error_rate"]


def test_429_is_an_error_unless_the_objectives_allow_for_it() -> None:
    found = window(good=90, shed=10)

    assert missed(found, error_rate=0) == ["error_rate"]
    assert missed(found, error_rate=0, shed_rate=0.1) == []
    assert missed(found, error_rate=0, shed_rate=0.09) == ["shed_rate"]


def test_what_was_due_and_not_sent_is_missing_from_the_goodput() -> None:
    assert missed(window(good=90, due=100), goodput=0.9) == []
    assert missed(window(good=89, due=100), goodput=0.9) == ["goodput"]


def test_no_answer_at_all_is_no_success() -> None:
    assert not passed(judge(Window(), 1.0, Objectives()))


def test_no_right_answer_misses_every_time() -> None:
    assert missed(window(good=0, error=3), p99_ms=1000) == ["p99_ms"]


def test_the_table_ends_with_the_whole_verdict() -> None:
    lines = judge(window(), 10.0, Objectives(p95_ms=6, p99_ms=1))

    text = table("steady", lines)

    assert text.splitlines()[-1] == "FAILED: p99_ms"
    assert "MISSED" in text
    assert table("steady", judge(window(), 10.0, Objectives())).splitlines()[-1] == "PASSED"


# ---- steps


def stages(*found: Window) -> list[Stage]:
    return [Stage(10 * (i + 1), 10.0, one) for i, one in enumerate(found)]


STEP = Objectives(p95_ms=20, error_rate=0, shed_rate=0.01, goodput=0.95)


def test_the_knee_is_the_last_step_before_the_first_that_misses() -> None:
    found = stages(window(ms=5), window(ms=15), window(ms=25), window(ms=5))

    best = knee(found, STEP)

    assert best is not None
    assert best.users == 20


@pytest.mark.parametrize("bad", [window(ms=25), window(error=1), window(shed=5), window(good=90, due=100)])
def test_whatever_is_missed_ends_the_climb(bad: Window) -> None:
    best = knee(stages(window(), bad, window()), STEP)

    assert best is not None
    assert best.users == 10


def test_a_knee_below_the_first_step_fails() -> None:
    lines = judge_steps(stages(window(ms=50)), window(ms=50), STEP)

    assert lines[0].met is False


def test_steps_beyond_the_knee_may_be_slow_and_shed_but_not_fail() -> None:
    first, slow, failing = window(), window(ms=500, shed=50), window(error=1)
    for beyond, fine in ((slow, True), (failing, False)):
        whole = Window()
        whole.add(first)
        whole.add(beyond)
        assert passed(judge_steps(stages(first, beyond), whole, STEP)) is fine


def test_a_rate_that_is_asked_for_is_compared_with_the_knee() -> None:
    found = stages(window(good=100), window(good=200), window(ms=500))

    for wanted, fine in ((20, True), (21, False)):
        bounds = Objectives(p95_ms=20, goodput_per_s=wanted)
        assert passed(judge_steps(found, Window(), bounds)) is fine


def test_no_step_at_all_fails() -> None:
    assert not passed(judge_steps([], Window(), STEP))


def test_the_table_of_steps_has_a_line_for_each() -> None:
    assert len(steps_table(stages(window(), window(good=0, error=1))).splitlines()) == 3


# ---- tallies


@given(st.lists(st.floats(0.011, 100_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_within_a_hundredth_of_the_one_of_the_sorted_list(
    times: list[float], share: float
) -> None:
    import math

    right = sorted(times)[math.ceil(share * len(times)) - 1]

    found = percentile(Counter(map(bucket, times)), share)

    assert found == pytest.approx(right, rel=0.0101)


def test_no_times_have_no_percentile() -> None:
    assert percentile(Counter(), 0.99) is None


@given(
    st.lists(
        st.tuples(
            st.floats(1_000, 1_100),
            st.sampled_from([("predict", 200, "good"), ("infer", 429, "shed"), ("infer", 0, "error")]),
            st.integers(0, 1),
        )
    )
)
def test_the_tallies_of_two_processes_add_up_to_that_of_one(requests: list[tuple]) -> None:
    parts, whole, together = [Tally(), Tally()], Tally(), Tally()
    for wall, (endpoint, status, outcome), process in requests:
        for tally in (parts[process], whole):
            tally.due(wall)
            tally.done(wall, ("iris", endpoint), status, outcome, 3.0)

    for part in parts:
        together.add(Tally.of(part.message()))

    assert together.total() == whole.total()
    assert together.answers == whole.answers
    assert together.unanswered == whole.unanswered
    assert together.total().finished == len(requests)


def test_only_windows_that_lie_wholly_between_two_times_count() -> None:
    tally = Tally(2.0)
    for wall in (9.9, 10.0, 11.9, 12.0, 14.0):
        tally.due(wall)

    found, seconds = tally.between(9.5, 14.9)

    assert (found.due, seconds) == (3, 4.0)
    assert tally.between(10.1, 11.9) == (Window(), 0.0)
