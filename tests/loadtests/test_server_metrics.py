"""The server's counts against what was sent."""

from __future__ import annotations

from collections import Counter

import pytest

from loadtests.server_metrics import NotOurs, disagreements, parse
from loadtests.tally import Tally

PAGE = """
# HELP okamochi_requests_total Requests answered.
# TYPE okamochi_requests_total counter
okamochi_requests_total{endpoint="predict",model="iris",status="200"} 1234567.0
okamochi_requests_total{endpoint="infer",model="iris",status="429"} 1.0e+03
okamochi_requests_total{endpoint="health",model="",status="200"} 99.0
okamochi_lane_requests_total{lane="express"} 7.0
"""
OK, SHED = ("iris", "predict", "200"), ("iris", "predict", "429")


def sent(count: int, *, shed: int = 0, unanswered: int = 0) -> Tally:
    tally = Tally()
    for status, times in ((200, count), (429, shed), (0, unanswered)):
        for _ in range(times):
            tally.done(0.0, ("iris", "predict"), status, "good", 1.0)
    return tally


def test_requests_to_models_are_read_and_all_others_left_out() -> None:
    assert parse(PAGE) == {("iris", "predict", "200"): 1234567, ("iris", "infer", "429"): 1000}


def test_a_page_of_another_program_is_refused() -> None:
    with pytest.raises(NotOurs):
        parse("python_gc_objects_collected_total 3\n")


def test_a_server_that_has_answered_nothing_yet_has_counted_nothing() -> None:
    assert parse("# TYPE okamochi_requests_total counter\n") == Counter()


@pytest.mark.parametrize(
    ("after", "tally", "agrees"),
    [
        ({OK: 15}, sent(5), True),
        ({OK: 15, SHED: 2}, sent(5, shed=2), True),
        ({OK: 14}, sent(5), False),
        ({OK: 16}, sent(5), False),
        ({OK: 15, SHED: 1}, sent(5), False),
        ({OK: 15}, sent(5, shed=1), False),
        ({OK: 15, ("linear", "predict", "200"): 1}, sent(5), False),
        ({OK: 15}, sent(5, unanswered=1), True),
        ({OK: 16}, sent(5, unanswered=1), True),
        ({OK: 17}, sent(5, unanswered=1), False),
        ({OK: 4}, sent(5), False),
    ],
)
def test_counts_agree_or_the_difference_is_named(after: dict, tally: Tally, agrees: bool) -> None:
    """Ten were counted before."""
    found = disagreements({OK: 10}, after, tally)

    assert (found == []) is agrees


def test_a_server_that_was_restarted_is_told_from_one_that_counts_wrongly() -> None:
    assert "restarted" in disagreements({OK: 10}, {OK: 5}, sent(5))[0]
    assert disagreements({OK: 10}, {OK: 16}, sent(5)) == [
        "iris predict 200: the server counted 6 requests, 5 were sent"
    ]
