"""The gate lets through what is better and says in words what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.decide.gate import MIN_SLICE_ROWS, Bound, Decision, Figures, Floor, Gain, Limits, Slice, decide

FIRST = Figures(metric="roc_auc", higher_is_better=True, value=0.9, test_rows=100, size_mb=1.0, row_ms=0.1)
BETTER = replace(FIRST, champion_version="3", champion_value=0.8, gain=Gain(0.1, 0.05, 0.15))

numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
anything = st.floats(width=32)
limits = st.builds(
    Limits,
    max_size_mb=st.none() | numbers,
    max_row_ms=st.none() | numbers,
    max_slice_gap=st.none() | numbers,
    min_gain=numbers,
)
gains = st.tuples(numbers, numbers, numbers).map(sorted).map(lambda g: Gain(mean=g[1], low=g[0], high=g[2]))
figures = st.builds(
    Figures,
    metric=st.just("f1"),
    higher_is_better=st.booleans(),
    value=anything,
    test_rows=st.integers(1, 1000),
    size_mb=anything,
    row_ms=anything,
    floors=st.lists(st.builds(Floor, st.just("recall"), anything, numbers, st.booleans()), max_size=3).map(
        tuple
    ),
    slices=st.lists(
        st.builds(Slice, st.just("sex"), st.just("f"), st.integers(0, 90), anything), max_size=3
    ).map(tuple),
    bounds=st.lists(
        st.builds(
            Bound,
            st.just("x"),
            st.just("sex"),
            st.just(""),
            anything,
            anything,
            anything,
            numbers,
            st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
    limits=limits,
    champion_version=st.none() | st.just("7"),
    champion_value=st.none() | numbers,
    gain=st.none() | gains,
)


def refused_for(decision: Decision, text: str) -> None:
    assert not decision.accepted
    assert text in decision.reasons[0]


def test_the_first_model_needs_floors_only() -> None:
    """A name without a champion takes any model that meets its floors."""
    assert decide(FIRST).accepted
    assert "first" in decide(FIRST).reasons[0]
    poor = replace(FIRST, floors=(Floor("roc_auc", 0.9, 0.95),))
    refused_for(decide(poor), "roc_auc is 0.9, but [gate.floors] demands at least 0.95")


def test_an_unmeasured_model_goes_live_only_where_nothing_measured_is() -> None:
    """It may be the first and may follow an unmeasured one; floors and a measured champion refuse it."""
    unmeasured = replace(FIRST, value=float("nan"), test_rows=0, measured=False, champion_measured=False)
    assert decide(unmeasured).accepted
    second = replace(unmeasured, champion_version="3")
    assert decide(second).accepted
    refused_for(decide(replace(second, champion_measured=True)), "the champion (version 3) is measured")
    floor = Floor("roc_auc", float("nan"), 0.5)
    refused_for(decide(replace(unmeasured, floors=(floor,))), "roc_auc is undefined here")
    refused_for(decide(replace(unmeasured, limits=Limits(max_row_ms=0.01))), "A row alone takes 0.1 ms")


def test_a_measured_model_takes_the_place_of_an_unmeasured_one() -> None:
    """Without a comparison, but only if it is better than guessing."""
    measured = replace(FIRST, champion_version="3", champion_measured=False)
    assert decide(replace(measured, baseline_value=0.5, baseline_gain=Gain(0.4, 0.3, 0.5))).accepted
    guessing = replace(measured, baseline_value=0.9, baseline_gain=Gain(0.0, -0.1, 0.1))
    refused_for(decide(guessing), "It is not measurably better than guessing")


def test_a_floor_of_an_error_is_a_ceiling() -> None:
    """Where lower is better, the floor is the most that is allowed."""
    assert decide(replace(FIRST, floors=(Floor("mae", 3.0, 4.0, higher_is_better=False),))).accepted
    refused_for(decide(replace(FIRST, floors=(Floor("mae", 5.0, 4.0, higher_is_better=False),))), "at most 4")


def test_better_on_the_same_rows_replaces_the_champion() -> None:
    """The whole interval of the gain lies above zero."""
    decision = decide(BETTER)
    assert decision.accepted
    assert "0.9 against 0.8 of the champion (version 3)" in decision.reasons[0]


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        (Gain(0.0, 0.0, 0.0), "both give the same scores on the same 100 test rows"),
        (Gain(0.02, -0.01, 0.05), "could be chance"),
        (Gain(0.02, 0.0, 0.05), "could be chance"),
        (Gain(-0.1, -0.2, -0.05), "no better"),
    ],
)
def test_what_is_not_surely_better_is_refused(gain: Gain, text: str) -> None:
    """Alike, perhaps better, and worse are three different sentences."""
    refused_for(decide(replace(BETTER, gain=gain)), text)


def test_a_demanded_gain_is_named() -> None:
    """A gain above zero but below what the use case demands names the key."""
    refused_for(decide(replace(BETTER, limits=Limits(min_gain=0.06))), "min_gain = 0.06")
    assert decide(replace(BETTER, limits=Limits(min_gain=0.04))).accepted


def test_a_champion_that_cannot_be_scored_stays() -> None:
    """Without a comparison nothing changes, and the reason is the champion's own."""
    blind = replace(BETTER, champion_value=None, gain=None, champion_problem="it reads the column 'age'")
    refused_for(decide(blind), "cannot be compared with the champion (version 3): it reads the column 'age'.")


def test_ceilings_of_size_and_time() -> None:
    """Too large and too slow are refused together, each naming its key."""
    heavy = decide(replace(FIRST, limits=Limits(max_size_mb=0.5, max_row_ms=0.05)))
    assert not heavy.accepted
    assert "max_size_mb = 0.5" in heavy.reasons[0]
    assert "max_row_ms = 0.05" in heavy.reasons[1]
    assert decide(replace(FIRST, limits=Limits(max_size_mb=1.0, max_row_ms=0.1))).accepted


def test_a_slice_left_behind_is_refused() -> None:
    """A group on which the model is worse than allowed is named; a group too small to tell is not."""
    left = Slice("sex", "female", MIN_SLICE_ROWS, 0.7)
    fair = Limits(max_slice_gap=0.1)
    refused_for(decide(replace(FIRST, slices=(left,), limits=fair)), "where sex is female")
    assert decide(replace(FIRST, slices=(replace(left, rows=MIN_SLICE_ROWS - 1),), limits=fair)).accepted
    assert decide(replace(FIRST, slices=(replace(left, value=0.85),), limits=fair)).accepted
    lower = replace(FIRST, higher_is_better=False, slices=(replace(left, value=1.1),), limits=fair)
    refused_for(decide(lower), "0.2 worse than overall")


def test_an_undefined_figure_is_refused() -> None:
    """NaN passes no rule."""
    refused_for(decide(replace(FIRST, value=float("nan"))), "undefined")
    refused_for(decide(replace(FIRST, floors=(Floor("roc_auc", float("nan"), 0.1),))), "undefined")
    assert not decide(replace(FIRST, size_mb=float("nan"), limits=Limits(max_size_mb=1))).accepted


@given(figures)
def test_it_always_decides_and_always_says_why(case: Figures) -> None:
    """Whatever the figures, there is a decision and a finished sentence for it."""
    decision = decide(case)
    assert decision.reasons
    assert all(reason.endswith(".") for reason in decision.reasons)


@given(figures, st.floats(0, 1e6))
def test_no_gain_never_replaces_a_champion(case: Figures, loss: float) -> None:
    """With a champion, a gain whose lower end is not above zero never goes live, whatever else holds."""
    case = replace(
        case,
        champion_version="7",
        champion_value=0.5,
        gain=Gain(0.0, -loss, loss),
        limits=replace(case.limits, min_gain=0.0),
    )
    assert not decide(case).accepted


@given(figures, numbers)
def test_demanding_more_never_lets_more_through(case: Figures, limit: float) -> None:
    """Another floor can only turn a yes into a no."""
    stricter = replace(case, floors=(*case.floors, Floor("recall", 0.5, limit)))
    assert decide(case).accepted or not decide(stricter).accepted


@given(figures)
def test_broken_floors_always_refuse(case: Figures) -> None:
    """A model below its floor is never accepted, and that floor is among the reasons."""
    below = replace(case, floors=(Floor("recall", 0.1, 0.2),))
    decision = decide(below)
    assert not decision.accepted
    assert any("recall is 0.1" in reason for reason in decision.reasons)


BASELINE = 0.5


def first(low: float, *, anyway: bool = False) -> Decision:
    """A first model whose gain over the baseline has this lower end."""
    gain = Gain(low + 0.1, low, low + 0.2)
    return decide(
        Figures(
            metric="roc_auc", higher_is_better=True, value=0.55, test_rows=60, size_mb=1.0,
            row_ms=1.0, baseline_value=BASELINE, baseline_gain=gain, anyway=anyway,
        )
    )  # fmt: skip


def test_a_first_model_that_is_no_better_than_guessing_is_refused() -> None:
    """With the figures, what to look at, and the option that promotes it all the same."""
    refused = first(-0.05)

    assert not refused.accepted
    assert "not measurably better than guessing: roc_auc 0.55 against 0.5" in refused.reasons[0]
    assert "data report" in refused.reasons[0]
    assert "promote --anyway" in refused.reasons[0]
    assert not first(0.0).accepted
    assert first(0.01).accepted
    assert first(-0.05, anyway=True).accepted


def test_a_baseline_that_has_no_figure_refuses_nothing() -> None:
    """Where the metric is undefined for the same answer to every row, the floors alone decide."""
    assert first(float("nan")).accepted


def test_groups_that_are_too_far_apart_are_refused_in_words() -> None:
    parity = Bound(
        "demographic_parity_difference", "sex and age", "paid = True", 0.21, 0.15, 0.27, 0.1,
        apart="selected: m, 40 to 90 0.6 against f, 18 to 40 0.39",
    )  # fmt: skip
    said = decide(replace(FIRST, bounds=(parity,)))
    refused_for(
        said, "demographic_parity_difference of sex and age for paid = True is 0.21 (95 % between 0.15"
    )
    refused_for(said, "f, 18 to 40 0.39), but [gate.fairness] demands at most 0.1.")
    assert decide(replace(FIRST, bounds=(replace(parity, limit=0.21),))).accepted
    ratio = replace(parity, measure="demographic_parity_ratio", value=0.79, limit=0.8, at_least=True)
    refused_for(decide(replace(FIRST, bounds=(ratio,))), "demands at least 0.8")
    assert decide(replace(FIRST, bounds=(replace(ratio, value=0.8),))).accepted
    undefined = replace(parity, value=float("nan"), apart="")
    refused_for(decide(replace(FIRST, bounds=(undefined,))), "is undefined: fewer than two groups")
