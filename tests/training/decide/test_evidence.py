"""However often one looks, two equal models are told apart by chance at most as often as alpha says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.live_delay import first_decisions
from training.decide.evidence import interval, round_alpha, weigh

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.live_delay import Draw

HISTORIES, ROWS, ALPHA = 10_000, 1_500, 0.05


def _lognormal(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Skewed, with a long tail that is cut off at the bound."""
    return np.minimum(np.exp(1.5 * rng.normal(size=n)) / 60, 1)


def _below(z: float) -> float:
    """The standard normal distribution function."""
    return math.erfc(-z / math.sqrt(2)) / 2


LOGNORMAL_MEAN = math.exp(1.5**2 / 2) / 60 * _below(math.log(60) / 1.5 - 1.5) + _below(-math.log(60) / 1.5)
"""The mean of `_lognormal`: that of a lognormal below its bound, and the bound as often as it is reached."""

EQUAL: dict[str, Draw] = {
    "two that disagree on a tenth": lambda rng, n: rng.choice([-1.0, 0.0, 1.0], n, p=[0.05, 0.9, 0.05]),
    "two that always disagree": lambda rng, n: rng.choice([-1.0, 1.0], n),
    "small differences": lambda rng, n: np.clip(rng.normal(0, 0.05, n), -1, 1),
    "often a little better, seldom much worse": lambda rng, n: np.where(rng.random(n) < 0.01, -0.99, 0.01),
    "often a little worse, seldom much better": lambda rng, n: np.where(rng.random(n) < 0.01, 0.99, -0.01),
    "a tail of Cauchy's, cut off at the bound": lambda rng, n: np.clip(0.1 * rng.standard_cauchy(n), -1, 1),
    "skewed, with a long tail": lambda rng, n: _lognormal(rng, n) - LOGNORMAL_MEAN,
}


@pytest.mark.parametrize("draw", EQUAL.values(), ids=EQUAL)
def test_equal_models_are_rarely_told_apart(draw: Draw) -> None:
    """10,000 histories, looked at after every row."""
    wrong = (first_decisions(draw, HISTORIES, ROWS, ALPHA) > 0).mean()
    assert wrong <= ALPHA


def test_the_simulation_is_of_the_test_that_is_used() -> None:
    """Row by row it gives what `weigh` gives of the rows so far."""
    draw = EQUAL["small differences"]
    differences = draw(np.random.default_rng(3), 400) + 0.02
    first = next(n for n in range(1, 401) if weigh(differences[:n], 1.0, ALPHA).better == "shadow")
    replayed = iter(differences)
    assert first_decisions(lambda _, n: np.full(n, next(replayed)), 1, 400, ALPHA)[0] == first


def test_a_better_shadow_and_a_worse_one_are_told() -> None:
    rng = np.random.default_rng(1)
    differences = np.clip(rng.normal(0.02, 0.1, 2_000), -1, 1)
    better = weigh(differences, 1.0, ALPHA)
    worse = weigh(-differences, 1.0, ALPHA)
    assert (better.better, better.rows_left) == ("shadow", 0)
    assert (worse.better, worse.rows_left) == ("champion", 0)
    assert worse.for_champion == pytest.approx(better.for_shadow)
    assert weigh(5 * differences, 5.0, ALPHA).for_shadow == pytest.approx(better.for_shadow), "in any unit"


def test_either_of_two_wrong_decisions_has_half_of_alpha() -> None:
    """The capital that decides is 2 / alpha, since there are two ways to be wrong."""
    assert weigh(np.zeros(1), 1.0, ALPHA).needed == pytest.approx(math.log(2 / ALPHA))


def test_outcomes_may_become_known_in_any_order() -> None:
    """What a look finds depends on the rows that are known, and not on their order."""
    rng = np.random.default_rng(2)
    differences = np.clip(rng.normal(0.01, 0.1, 500), -1, 1)
    one, other = (weigh(each, 1.0, ALPHA) for each in (differences, rng.permutation(differences)))
    assert one.for_shadow == pytest.approx(other.for_shadow)


def test_the_rows_that_are_left_are_about_right() -> None:
    """Of a steady difference, by the estimate after a quarter of the rows that it takes."""
    rng = np.random.default_rng(4)
    ratios = []
    for _ in range(60):
        differences = np.clip(rng.normal(0.02, 0.1, 3_000), -1, 1)
        took = next(n for n in range(20, 3_001, 10) if weigh(differences[:n], 1.0, ALPHA).better == "shadow")
        early = weigh(differences[: max(took // 2, 1)], 1.0, ALPHA)
        assert early.rows_left is not None
        ratios.append((took // 2 + early.rows_left) / took)
    assert 0.5 < np.median(ratios) < 2


def test_without_rows_or_differences_nothing_is_decided_or_foretold() -> None:
    for differences in (np.zeros(0), np.zeros(500)):
        found = weigh(differences, 1.0, ALPHA)
        assert found.better == "undecided"
        assert found.rows_left is None
        assert (found.for_shadow, found.for_champion) == (0, 0)
    assert math.isnan(weigh(np.zeros(0), 1.0, ALPHA).mean)
    assert interval(np.zeros(0), 2.0, ALPHA) == pytest.approx((-2, 2), abs=1e-5)


def test_the_interval_holds_the_mean_and_decides_as_the_test() -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(200):
        n = int(rng.integers(20, 600))
        mean = rng.normal(0, 0.05)
        differences = np.clip(mean + rng.uniform(-0.3, 0.3, n), -1, 1)
        low, high = interval(differences, 1.0, ALPHA)
        assert low <= differences.mean() <= high
        missed += not low <= mean <= high
        found = weigh(differences, 1.0, ALPHA).better
        assert found == ("shadow" if low > 0 else "champion" if high < 0 else "undecided")
    assert missed <= 10


def test_a_difference_beyond_the_bound_is_an_error() -> None:
    """It would break the promise in silence."""
    for wrong in (1.1, -1.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="outside of the bound"):
            weigh(np.array([0.0, wrong]), 1.0, ALPHA)


def test_all_rounds_together_have_alpha() -> None:
    parts = [round_alpha(ALPHA, number) for number in range(10_000)]
    assert sum(parts) == pytest.approx(ALPHA, rel=1e-4)
    assert sum(parts) <= ALPHA
    assert parts[0] > ALPHA / 2
