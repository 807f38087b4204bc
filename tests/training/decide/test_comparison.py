"""A rule that acts by itself counts each row once, only where both models scored it, and never again."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from artifact.signature import Column, Signature
from training.decide.aliases import CHAMPION_AT, MADE_CHAMPION_BY, REPLACED, ROLLBACK
from training.decide.comparison import CannotCompareError, Contender, compare, is_before, rule
from training.decide.evidence import round_alpha
from training.decide.live_pairs import UNKNOWN, Pair
from training.decide.losses import bound_of, losses
from training.decide.promote import FIGURES
from training.metrics.metric import METRICS
from training.metrics.truth import truth_of
from training.registry.records import Version
from training.settings import LOSS_NAMES, Live

if TYPE_CHECKING:
    from collections.abc import Sequence

SWEET = Signature(
    task="binary",
    target="sweet",
    classes=("no", "yes"),
    positive="yes",
    columns=(Column(name="weight", kind="number"),),
)
NOW = 1_795_000_000.0
BEGAN = "2026-11-01T00:00:00.000Z"


def contender(
    number: str, signature: Signature = SWEET, *, metric: str = "roc_auc", **tags: str
) -> Contender:
    figures = {"metrics": {"rmse": 2.0}}
    return Contender(
        Version("sweet", number, "run", {"metric": metric, FIGURES: json.dumps(figures), **tags}), signature
    )


def champion(number: str = "7", replaced: str = "6", **change: str) -> Contender:
    said = {"by": "promotion", "replaced": replaced, **change}
    return contender(number, **{f"{CHAMPION_AT}{BEGAN}": json.dumps(said), REPLACED: replaced})


def pairs(
    n: int, champion_right: float, shadow_right: float, *, seed: int = 0, day: int = 5, first: int = 0
) -> list[Pair]:
    rng = np.random.default_rng(seed)
    found = []
    for i in range(first, first + n):
        yes = bool(rng.random() < 0.5)
        said = [0.9 if yes == bool(rng.random() < right) else 0.1 for right in (champion_right, shadow_right)]
        labels = ["yes" if chance > 0.5 else "no" for chance in said]
        found.append(
            Pair(
                f"2026-11-{day:02d}T{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}.000+00:00",
                {"weight": float(i)},
                labels[0],
                [1 - said[0], said[0]],
                labels[1],
                [1 - said[1], said[1]],
                "yes" if yes else "no",
            )
        )
    return found


def test_a_better_shadow_is_promoted_and_a_worse_one_is_not() -> None:
    live = Live(promote_shadow=True)
    found = compare(champion(), contender("8"), pairs(800, 0.7, 0.9), live, now=NOW)
    ruling = rule(found, live, before=False)
    assert (ruling.action, ruling.acts, ruling.rows_left) == ("promote", True, 0)
    assert "The shadow is better than the champion: on 800 rows with known outcomes" in ruling.reason
    assert found.low > 0
    assert found.champion_quality is not None
    assert found.shadow_quality is not None
    assert found.champion_quality.value < found.shadow_quality.value
    assert 0.55 < found.agreement < 0.8

    found = compare(champion(), contender("8"), pairs(800, 0.9, 0.7), live, now=NOW)
    assert rule(found, live, before=False).action == "keep"


def test_a_champion_that_is_worse_than_the_one_before_it_is_rolled_back() -> None:
    live = Live(roll_back=True)
    found = compare(champion(), contender("6"), pairs(800, 0.7, 0.9), live, now=NOW)
    assert rule(found, live, before=True).action == "roll back"
    assert rule(found, live, before=True).acts
    assert not rule(found, live, before=False).acts


def test_the_predecessor_is_the_version_that_the_last_promotion_replaced() -> None:
    assert is_before(champion().version, contender("6").version)
    assert not is_before(champion().version, contender("8").version)
    back = contender("6", **{MADE_CHAMPION_BY: ROLLBACK, REPLACED: "7"}).version
    assert not is_before(back, contender("7").version), "it is the one that was rolled back from"


def test_few_rows_and_equal_models_are_waited_for() -> None:
    live = Live(promote_shadow=True, min_rows=500)
    few = rule(compare(champion(), contender("8"), pairs(400, 0.6, 0.95), live, now=NOW), live, before=False)
    assert (few.action, few.rows_left) == ("wait", 100)
    alike = [msgspec.structs.replace(pair, shadow_scores=pair.scores) for pair in pairs(900, 0.8, 0.8)]
    same = rule(compare(champion(), contender("8"), alike, live, now=NOW), live, before=False)
    assert (same.action, same.rows_left) == ("wait", None)
    nothing = compare(champion(), contender("8"), [], live, now=NOW)
    assert rule(nothing, live, before=False).reason == "No difference is certain yet."
    assert math.isnan(nothing.agreement)


def test_rows_without_an_outcome_tell_only_how_often_both_agree() -> None:
    silent = [msgspec.structs.replace(pair, actual=UNKNOWN) for pair in pairs(300, 0.7, 0.9)]
    found = compare(champion(), contender("8"), silent, Live(), now=NOW)
    assert (found.rows, found.evidence.rows) == (300, 0)
    assert 0 < found.agreement < 1
    assert found.champion_quality is None


def test_equal_rows_count_once_unless_the_columns_can_hold_only_few() -> None:
    """A client that sends one row again and again promotes nothing."""
    (one,) = [pair for pair in pairs(50, 0.0, 1.0) if pair.prediction != pair.shadow_prediction][:1]
    live = Live(promote_shadow=True)
    found = compare(champion(), contender("8"), [one] * 5_000, live, now=NOW)
    assert found.evidence.rows == 1
    assert found.left_out == {"equal": 4_999}
    assert rule(found, live, before=False).action == "wait"
    few = msgspec.structs.replace(
        SWEET, columns=(Column(name="weight", kind="number", integer=True, minimum=0, maximum=9),)
    )
    alike = [msgspec.structs.replace(pair, columns={"weight": 3}) for pair in pairs(200, 0.8, 0.8)]
    counted = compare(contender("7", few), contender("8", few), alike, live, now=NOW)
    assert counted.evidence.rows == 200


def test_rows_that_led_to_a_decision_do_not_count_again() -> None:
    """Neither for the version that it made champion nor against it."""
    old = pairs(800, 0.7, 0.9)
    new = pairs(30, 0.8, 0.8, day=6, first=5_000)
    until = max(pair.at for pair in old)
    live = Live(promote_shadow=True)
    decided = f"{CHAMPION_AT}2026-11-05T20:00:00.000Z"
    change = json.dumps({"by": "promotion", "replaced": "7", "reason": "It is better.", "until": until})
    for either in (
        (champion(), contender("8", **{decided: change})),
        (contender("7", **{decided: change}), contender("8")),
    ):
        found = compare(*either, [*old, *new], live, now=NOW)
        assert found.evidence.rows == 30
        assert found.left_out == {"decided": 800}
        assert rule(found, live, before=False).action == "wait"


def test_rows_of_the_future_and_impossible_outcomes_do_not_count() -> None:
    """A clock that was ahead for a while must not hide all later rows from the next comparison."""
    good = pairs(100, 0.8, 0.8)
    future = msgspec.structs.replace(good[0], at="2036-01-01T00:00:00.000+00:00", columns={"weight": -1.0})
    impossible = msgspec.structs.replace(good[0], actual="maybe", columns={"weight": -2.0})
    short = msgspec.structs.replace(good[0], shadow_scores=[0.5], columns={"weight": -3.0})
    missing = msgspec.structs.replace(good[0], scores=[None, 1.0], columns={"weight": -4.0})
    found = compare(champion(), contender("8"), [*good, future, impossible, short, missing], Live(), now=NOW)
    assert found.evidence.rows == 100
    assert found.left_out == {"future": 1, "unusable": 3}
    assert found.until == max(pair.at for pair in good)


def test_a_round_begins_anew_with_what_is_left_of_alpha() -> None:
    """Rows of two rounds are never added up: by then the first ones may have left the log."""
    first = pairs(60, 0.75, 0.95, day=5)
    later = pairs(120, 0.75, 0.95, seed=1, day=15, first=1_000)
    live = Live(days=7, min_rows=1)
    found = compare(champion(), contender("8"), [*first, *later], live, now=NOW)
    assert found.evidence.rows == 120
    assert found.level == round_alpha(live.alpha, 2)
    assert found.evidence.needed == pytest.approx(math.log(2 / found.level))
    whole = compare(champion(), contender("8"), [*first, *later], Live(days=30, min_rows=1), now=NOW)
    assert whole.evidence.rows == 180
    assert whole.level == round_alpha(live.alpha, 0)


def test_a_clock_that_was_behind_leaves_rows_in_the_first_round() -> None:
    early = [
        msgspec.structs.replace(pair, at=pair.at.replace("2026-11", "1970-01"))
        for pair in pairs(800, 0.7, 0.9)
    ]
    later = pairs(100, 0.7, 0.9, first=2_000)
    found = compare(champion(), contender("8"), [*early, *later], Live(), now=NOW)
    assert (found.evidence.better, found.level) == ("shadow", round_alpha(0.05, 0))
    assert found.evidence.rows == 900


def test_an_error_beyond_the_bound_counts_as_the_bound() -> None:
    """One enormous error decides nothing."""
    house = Signature(task="regression", target="price", columns=(Column(name="rooms", kind="number"),))
    rng = np.random.default_rng(0)

    def told(error: float, other: float, n: int) -> list[Pair]:
        return [
            Pair(f"2026-11-05T00:00:{i % 60:02d}.000+00:00", {"rooms": float(i)}, 0.0,
                 [float(rng.normal(0, error))], 0.0, [float(rng.normal(0, other))], 0.0)
            for i in range(n)
        ]  # fmt: skip

    live = Live()
    rivals = (contender("7", house, metric="rmse"), contender("8", house, metric="rmse"))
    found = compare(*rivals, told(2.0, 1.5, 900), live, now=NOW)
    assert found.bound == 36
    assert found.evidence.better == "shadow"
    wild = [*told(1.0, 1.0, 50), msgspec.structs.replace(told(1, 1, 51)[50], scores=[1e9])]
    found = compare(*rivals, wild, live, now=NOW)
    assert found.evidence.better == "undecided"
    assert found.champion_loss < 36
    assert compare(*rivals, wild, Live(max_error=10), now=NOW).bound == 100
    unmeasured = Contender(Version("house", "1", "run", {"metric": "mae"}), house)
    with pytest.raises(CannotCompareError, match=r"set live\.max_error"):
        compare(unmeasured, rivals[1], wild, live, now=NOW)


def test_models_of_other_classes_cannot_be_compared() -> None:
    other = msgspec.structs.replace(SWEET, classes=("no", "so", "yes"), task="multiclass", positive=None)
    with pytest.raises(CannotCompareError, match=r"version 7 has no, yes; version 8 has no, so, yes"):
        compare(champion(), contender("8", other), [], Live(), now=NOW)


@pytest.mark.parametrize(
    ("task", "loss"), [(task, loss) for task, names in LOSS_NAMES.items() for loss in names]
)
def test_the_mean_loss_is_the_metric_and_keeps_its_bound(task: str, loss: str) -> None:
    """As long as nothing reaches the bound; and a wrong certainty reaches it."""
    rng = np.random.default_rng(0)
    classes: Sequence[str] = {"binary": "ab", "multiclass": "abc", "regression": ""}[task]
    if classes:
        scores = rng.dirichlet([5.0] * len(classes), 400)
        truth = truth_of(task, list(rng.choice(list(classes), 400)), list(classes))
        extreme = np.eye(len(classes))[(truth.y.astype(int) + 1) % len(classes)]
    else:
        truth = truth_of(task, rng.normal(size=400))
        scores, extreme = rng.normal(size=(400, 1)), np.full((400, 1), 1e9)
    bound = bound_of(loss, len(classes), 50.0)
    mean = losses(loss, truth, scores, 50.0).mean()
    expected = METRICS[loss].compute(truth, scores)
    assert mean == pytest.approx({"accuracy": 1 - expected, "rmse": expected**2}.get(loss, expected))
    assert losses(loss, truth, extreme, 50.0) == pytest.approx(np.full(400, bound))
