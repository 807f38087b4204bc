"""Rates as a person writes them, and what a bucket lets through."""

from __future__ import annotations

import pytest

from serving.access.brake import AT_ONCE, MAX_S, Brake
from serving.access.rates import Bucket, per_second


@pytest.mark.parametrize(
    ("text", "expected"),
    [("100/s", 100), ("60/min", 1), ("3600/h", 1), ("86400/d", 1), ("0.5/s", 0.5)],
)
def test_rates(text: str, expected: float) -> None:
    assert per_second(text) == expected


@pytest.mark.parametrize(
    "text", ["", "100", "0/s", "-1/s", "1/w", "1e9/s", "inf/s", "1/s ", "/s", "1,5/s", "٣/s"]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="expected a rate such as 100/s"):
        per_second(text)


def test_a_bucket_holds_a_second_and_fills_at_its_rate() -> None:
    now = 1e9
    bucket = Bucket(10)
    assert sum(bucket.take(now) for _ in range(100)) == 10
    now += 0.55
    assert sum(bucket.take(now) for _ in range(100)) == 5
    now += 1_000.0
    assert sum(bucket.take(now) for _ in range(100)) == 10
    slow = Bucket(0.1)
    assert [slow.take(now), slow.take(now)] == [True, False]
    assert slow.wait_s(now) == 10
    now += 10.001
    assert slow.take(now)


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    bucket = Bucket(10)
    assert all(bucket.take(1e9) for _ in range(10))
    assert bucket.take(1e9 - 3_600)


def test_the_brake_lets_a_few_tries_go_at_once_and_forgets() -> None:
    now = [0.0]
    brake = Brake(lambda: now[0])
    waits = [brake.wait_s() for _ in range(3 * AT_ONCE + 5)]
    assert waits[: AT_ONCE - 1] == [0.0] * (AT_ONCE - 1)
    assert waits == sorted(waits)
    assert waits[-1] == MAX_S
    now[0] = 100.0
    assert brake.wait_s() == 0.0
