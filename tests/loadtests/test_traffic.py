"""When requests are due."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.shapes import SHAPES
from loadtests.traffic import Pace, Schedule


def test_a_user_in_time_keeps_its_rhythm() -> None:
    pace = Pace(0.5, 10.0)

    assert [pace.next(10.0 + 0.5 * i) for i in range(3)] == [(10.5, 0), (11.0, 0), (11.5, 0)]


@given(st.floats(0.01, 2), st.lists(st.floats(0, 5), max_size=30))
def test_a_user_that_is_late_skips_and_says_how_many(period: float, takes: list[float]) -> None:
    """What is sent and what is skipped together are what was due."""
    pace, now, due, seen = Pace(period, 0.0), 0.0, 0.0, 0
    for seconds in takes:
        due, skipped = pace.next(now)
        assert due >= now - 1e-9
        seen += 1 + skipped
        now = max(now, due) + seconds
    assert seen * period == pytest.approx(due)


def test_a_user_without_a_rhythm_sends_at_once() -> None:
    assert Pace(0.0, 3.0).next(7.0) == (7.0, 0)


def test_a_schedule_does_not_wait_for_anybody() -> None:
    """A request that nobody was free to send stays due when it was: that is what an open loop is."""
    schedule = Schedule(10.0, 100.0)

    assert [schedule.next() for _ in range(3)] == pytest.approx([100.0, 100.1, 100.2])
    assert list(schedule.overdue(100.55)) == pytest.approx([100.3, 100.4, 100.5])
    assert list(schedule.overdue(100.55)) == []


def test_the_schedules_of_two_processes_together_are_one() -> None:
    """As `Traffic` divides a rate of ten a second between two."""
    both = sorted(due for i in range(2) for due in islice(iter(Schedule(5.0, i / 10.0).next, None), 5))

    assert both == pytest.approx([i / 10 for i in range(10)])


@given(st.sampled_from(sorted(SHAPES)), st.integers(1, 2000), st.floats(2, 4000))
def test_a_shape_lasts_as_long_and_has_as_many_users_as_it_was_told(
    name: str, users: int, seconds: float
) -> None:
    stages = SHAPES[name].stages(users, seconds)

    assert sum(length for length, _ in stages) == pytest.approx(seconds)
    assert max(count for _, count in stages) == users
    assert min(count for _, count in stages) >= 1


def test_steps_only_go_up() -> None:
    counts = [users for _, users in SHAPES["step"].stages(7, 60)]

    assert counts == sorted(set(counts))


def test_the_stages_come_one_after_the_other() -> None:
    spike = SHAPES["spike"]

    assert [spike.users_at(at, 10, 100) for at in (0, 29, 31, 69, 71, 99, 101)] == [2, 2, 10, 10, 2, 2, None]
