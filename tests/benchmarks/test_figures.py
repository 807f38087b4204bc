"""The figures are judged on ratios, and what was not measured is neither met nor missed."""

from __future__ import annotations

import msgspec
import pytest

from benchmarks.explained import problems
from benchmarks.figures import KEYS_OFF, KEYS_ON, OFF, judge
from benchmarks.load import Load, Offered
from benchmarks.report import page
from benchmarks.results import Bulk, Explained, Instructions, Overload, Results, Row, summary


def row(name: str, *rates: float, p99_ms: float = 1.0) -> Row:
    rounds = [Load(rate=rate, p50_ms=1.0, p99_ms=p99_ms, errors=1, requests=1) for rate in rates]
    return summary(
        Row(
            name=name,
            title=name,
            model="logistic",
            connections=64,
            rounds=rounds,
            rate=0,
            p50_ms=0,
            p99_ms=0,
            errors=0,
        )
    )


def results(*rows: Row) -> Results:
    return Results(
        started="2025-01-01T00:00:00Z",
        quick=True,
        machine={"processor": "p", "cores": "2", "memory_gb": "24", "system": "s", "generator": "g"},
        versions={"python": "3.11"},
        rounds=3,
        seconds=1.0,
        rows=list(rows),
    )


def verdicts(found: Results) -> dict[str, bool | None]:
    return {figure.title: figure.met for figure in judge(found)}


def test_a_ratio_compares_medians_of_rounds() -> None:
    """One slow round of ours, or one fast round of theirs, changes no verdict."""
    found = verdicts(results(row("predict", 10, 1500, 1501), row("empty", 1000, 999, 9999)))
    assert found["/predict, times the empty ASGI app"] is True


def test_a_ratio_below_its_bound_is_missed() -> None:
    """1.49 times is not 1.5 times."""
    found = verdicts(results(row("predict", 1490), row("empty", 1000)))
    assert found["/predict, times the empty ASGI app"] is False


def test_the_fastest_framework_counts() -> None:
    """A slow framework cannot hide a fast one."""
    found = verdicts(results(row("predict", 1000), row("flask", 10), row("litserve", 60)))
    assert found["/predict, times the fastest framework"] is False


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    """A machine without cargo passes, and the table says that the compiled server was not there."""
    found = results(row("predict", 1000), row("empty", 100))
    assert verdicts(found)["/predict, times the compiled server"] is None
    found.figures = judge(found)
    assert "not measured" in page(found)


def test_errors_of_all_rounds_add_up() -> None:
    """An error in any round is shown."""
    assert row("predict", 1, 2, 3).errors == 3


def test_many_rows_are_compared_with_what_bounds_them() -> None:
    """A forest with the model's own time, logistic regression with the time to decode its body."""
    found = results()
    common = {"rows": 10_000, "in_process_ms": 40.0, "decode_ms": 10.0}
    found.bulk = [
        Bulk(model="forest", json_ms=81.0, binary_ms=45.0, **common),
        Bulk(model="logistic", json_ms=16.0, **common),
    ]
    judged = {(figure.title, figure.model): figure.met for figure in judge(found)}
    assert judged["10,000 rows in JSON, of the rate in process", "forest"] is False
    assert judged["10,000 rows in binary, of the rate in process", "forest"] is True
    assert judged["10,000 rows in JSON, times decoding the body", "logistic"] is True


def test_an_overloaded_server_may_refuse_but_not_fail() -> None:
    """One 500 or one lost connection among thousands of answers is a miss."""
    found = results()
    offered = Offered(
        offered=900,
        sent=900,
        goodput=280,
        statuses={"200": 2800, "429": 6199, "500": 1},
        p50_ms=1,
        p99_ms=2,
        livez_ms=101,
    )
    loops = {"3 times": offered, "9 times": offered}
    found.overload = [Overload(model="slow", peak=300, open_loops=loops, peaks={"9 times": 320})]
    judged = verdicts(found)
    assert judged["overload 3 times, neither 200 nor 429"] is False
    assert judged["overload 3 times, goodput of the peak"] is True
    assert judged["overload 9 times, goodput of the peak"] is False  # of the peaks beside it
    assert judged["overload 3 times, /livez in ms"] is False


def test_a_part_of_the_server_may_cost_three_in_a_hundred() -> None:
    """Of the processor time with all of it off, round by round: the machine became slower meanwhile."""
    found = results()
    found.parts = [row(OFF, 1000), row("drift", 990), row("prediction log", 990)]
    rounds = ([20.0, 24.0, 30.0], [20.5, 24.6, 30.3], [20.0, 25.0, 31.5])
    for part, cpu_rounds_us in zip(found.parts, rounds, strict=True):
        part.cpu_rounds_us = cpu_rounds_us
    assert verdicts(found) == {
        "processor time with drift": True,
        "processor time with prediction log": False,
    }
    assert "| prediction log | 990 |" in page(found)


def test_instructions_where_they_were_counted_decide_what_a_part_costs() -> None:
    """Two servers that are the same take other processor times, and the same instructions."""
    found = results()
    found.parts = [row(OFF, 1000), row("drift", 990)]
    for part, cpu_us in zip(found.parts, (20.0, 22.0), strict=True):
        part.cpu_rounds_us = [cpu_us]
    found.instructions = [
        Instructions(title=OFF, model="logistic", rarely=90_000, often=90_000, slower=40, fraction=0),
        Instructions(
            title="drift", model="logistic", rarely=90_100, often=98_000, slower=40, fraction=0.0033
        ),
        Instructions(
            title="traces", model="logistic", rarely=90_100, often=250_000, slower=40, fraction=0.0455
        ),
    ]
    assert verdicts(found) == {"instructions with drift": True, "instructions with traces": False}
    assert "| drift | 90,100 | 98,000 | 40 | 0.33 % |" in page(found)


def test_a_model_in_its_own_process_is_compared_with_fastapi_alone() -> None:
    """Its rate is bounded by its own library, so the empty app is no measure for it."""
    rows = [row("predict", 4900), row("fastapi", 1000)]
    for one in rows:
        one.model = "splines"
    found = results(*rows)
    assert verdicts(found) == {"/predict, times FastAPI with the same pipeline": False}
    found.figures = judge(found)
    assert "splines, which have no ONNX form" in page(found)


def test_keys_are_compared_round_by_round() -> None:
    """The machine became half as fast meanwhile: each round is compared with the one beside it."""
    found = results()
    off, on = row(KEYS_OFF, 40_000, 30_000, 20_000), row(KEYS_ON, 39_000, 29_400, 19_000)
    for one in (off, on):
        one.rounds = [msgspec.structs.replace(load, errors=0) for load in one.rounds]
    found.keys = [off, on]
    assert judge(found)[-1].value == pytest.approx(0.975)
    assert verdicts(found)["rate with keys, of the rate without"] is True
    on.rounds[1:] = [msgspec.structs.replace(load, rate=load.rate * 0.9) for load in on.rounds[1:]]
    assert verdicts(found)["rate with keys, of the rate without"] is False


def test_explanations_have_a_time_and_leave_predictions_their_rate() -> None:
    found = results()
    common = {
        "score": "probability",
        "p90_ms": 40.0,
        "cpu_ms": 9.0,
        "alone": [100.0, 90.0, 80.0],
        "beside_explained": [3.0],
    }
    found.explained = [
        Explained(model="forest", p50_ms=29.0, beside=[96.0, 87.0, 70.0], **common),
        Explained(model="logistic", p50_ms=3.1, beside=[90.0, 80.0, 79.0], **common),
    ]
    judged = {(figure.title, figure.model): figure.met for figure in judge(found)}
    assert judged["one explanation (probability), median in ms", "forest"] is True
    assert judged["predictions beside explanations, of the rate alone", "forest"] is True
    assert judged["one explanation (probability), median in ms", "logistic"] is False
    assert judged["predictions beside explanations, of the rate alone", "logistic"] is False
    assert "29.00" in page(found)


def test_an_explanation_counts_only_if_it_adds_up_and_is_exact_enough() -> None:
    parts = [{"contribution": 0.3}, {"contribution": -0.1}]
    right = {"score": 0.7, "base": 0.5, "error": 0.03, "contributions": parts}
    assert list(problems(right)) == []
    assert len(list(problems({**right, "error": 0.031}))) == 1
    assert len(list(problems({**right, "base": 0.4}))) == 1
