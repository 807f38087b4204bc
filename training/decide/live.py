"""How good a champion is on the rows that it answered: prediction log and feedback against its promise.

The promise is the figure on the test rows at the gate. It was measured on so many rows, as the live figure
is, so both have noise: the promise counts as broken only if the live interval stays below it by more than
what the promise's own interval explains.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.encode import canonical
from artifact.verdict import LiveVerdict
from training.decide.live_fairness import live_groups
from training.decide.live_log import NothingToJudgeError, Row
from training.decide.promote import FIGURES
from training.metrics.metric import METRICS
from training.metrics.truth import truth_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from artifact.signature import Signature
    from training.metrics.fairness import Fairness
    from training.registry.records import Version

MIN_ROWS = 30
"""Fewer rows with feedback are not judged."""
MIN_LEVEL_ROWS, MAX_LEVELS = 20, 12
RESAMPLES, RESAMPLES_OF_PART, MIN_RESAMPLES = 1_000, 200, 100
MAX_RESAMPLED_CELLS = 20_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its 95 % bootstrap interval; NaN where it is undefined."""

    rows: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LiveQuality:
    """How good a champion is on the rows that it answered.

    Parameters
    ----------
    promise, promise_rows
        The metric on the test rows at promotion, and how many they were.
    tolerance
        How far the interval may be from the promise before that is broken.
    days, slices
        The same by day (UTC) and by column and level.
    fairness
        How the model treats groups of people, by its sensitive columns; empty where the log has none.
    others, unusable
        Rows with feedback that other versions answered, and rows whose value the model could not give.
    """

    name: str
    version: str
    metric: str
    higher_is_better: bool
    promise: float
    promise_rows: int | None
    live: Estimate
    tolerance: float
    broken: bool
    days: dict[str, Estimate]
    slices: list[tuple[str, str, Estimate]]
    fairness: list[Fairness]
    others: int
    unusable: int

    def verdict(self) -> LiveVerdict:
        """What servers show of it in their metrics, as of now."""
        return LiveVerdict(
            model=self.name,
            version=self.version,
            metric=self.metric,
            promise=self.promise,
            value=self.live.value,
            low=self.live.low,
            high=self.live.high,
            broken=self.broken,
            rows=self.live.rows,
            at=time.time(),
        )


def judge(version: Version, signature: Signature, rows: Iterator[Row] | Sequence[Row]) -> LiveQuality:
    """How the rows of a version compare with its promise.

    Raises
    ------
    NothingToJudgeError
        The version has no promise, or too few rows have feedback.
    """
    metric = version.tags.get("metric", "")
    figures = json.loads(version.tags.get(FIGURES, "{}"))
    promise = figures.get("metrics", {}).get(metric)
    if metric not in METRICS or promise is None or not math.isfinite(promise):
        raise NothingToJudgeError(
            f"version {version.number} of {version.name} has no figure from the gate to compare with"
        )
    own, others, unusable = rows_of(version.number, signature, rows)
    if len(own) < MIN_ROWS:
        more = f"; {others} are of other versions" if others else ""
        more += f"; the value of {unusable} is not one that it could give" if unusable else ""
        raise NothingToJudgeError(
            f"{len(own)} rows that version {version.number} of {version.name} answered have feedback; "
            f"at least {MIN_ROWS} are needed to judge it{more}"
        )
    live = estimate(metric, signature, own, RESAMPLES)
    if not math.isfinite(live.value):
        raise NothingToJudgeError(
            f"{metric} is undefined on the {live.rows} rows that have feedback: they are all of one class"
        )
    higher = METRICS[metric].higher_is_better
    test_rows = figures.get("test_rows")
    tolerance = tolerance_of(live, test_rows, higher_is_better=higher)
    short = promise - live.high if higher else live.low - promise
    return LiveQuality(
        name=version.name,
        version=version.number,
        metric=metric,
        higher_is_better=higher,
        promise=promise,
        promise_rows=test_rows,
        live=live,
        tolerance=tolerance,
        broken=short > tolerance,
        days=_by_day(metric, signature, own),
        slices=_by_slice(metric, signature, own),
        fairness=live_groups(signature, own),
        others=others,
        unusable=unusable,
    )


def rows_of(
    version: str, signature: Signature, rows: Iterator[Row] | Sequence[Row]
) -> tuple[list[Row], int, int]:
    """The rows that a version answered, how many are of other versions, and how many have no usable value."""
    own: list[Row] = []
    others = unusable = 0
    for row in rows:
        actual = actual_of(row.actual, signature)
        if row.version != version:
            others += 1
        elif actual is None or len(row.scores) != signature.outputs:
            unusable += 1
        else:
            own.append(msgspec.structs.replace(row, actual=actual))
    return own, others, unusable


def tolerance_of(live: Estimate, promise_rows: int | None, *, higher_is_better: bool) -> float:
    """What the noise of the promise adds to that of the live figure.

    On `promise_rows` test rows the same metric has a half-width that is sqrt(live rows / test rows) times the
    live one, l. The difference of two estimates has one of sqrt(l^2 + p^2), of which l is in the interval
    already. Then a model that keeps its promise is called broken once in forty times.
    """
    if not promise_rows:
        return 0.0
    half = live.high - live.value if higher_is_better else live.value - live.low
    return math.hypot(half, half * math.sqrt(live.rows / promise_rows)) - half


def actual_of(value: Any, signature: Signature) -> Any:
    """A value as one of the signature's labels, a number, or a list of named numbers; None for any other."""
    if signature.numbers:
        named = value if isinstance(value, dict) else {}
        numbers = [named.get(name) for name in signature.numbers]
        there = all(isinstance(each, (int, float)) and math.isfinite(each) for each in numbers)
        return numbers if there else None
    if signature.task == "regression":
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if number else None
    if isinstance(value, (list, dict)) or value is None:
        return None
    return next((label for label in signature.classes if canonical(label) == canonical(value)), None)


def estimate(metric: str, signature: Signature, rows: Sequence[Row], resamples: int) -> Estimate:
    """A metric on rows, with its bootstrap interval."""
    scores = np.array([row.scores for row in rows], np.float64)
    actual = [row.actual for row in rows]
    truth = truth_of(signature.task, actual, signature.classes, signature.positive, signature.threshold)
    compute = METRICS[metric].compute
    value = compute(truth, scores)
    n = len(rows)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(max(MIN_RESAMPLES, min(resamples, MAX_RESAMPLED_CELLS // n))):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        draws.append(compute(truth.weighed(weights), scores))
    defined = [draw for draw in draws if math.isfinite(draw)]
    if not defined or not math.isfinite(value):
        return Estimate(n, math.nan, math.nan, math.nan)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Estimate(n, float(value), float(low), float(high))


def _by_day(metric: str, signature: Signature, rows: Sequence[Row]) -> dict[str, Estimate]:
    days: dict[str, list[Row]] = {}
    for row in rows:
        days.setdefault(row.at[:10], []).append(row)
    return {day: estimate(metric, signature, days[day], RESAMPLES_OF_PART) for day in sorted(days)}


def _by_slice(metric: str, signature: Signature, rows: Sequence[Row]) -> list[tuple[str, str, Estimate]]:
    categories = [column.name for column in signature.columns if column.kind == "category"]
    found = []
    for name in dict.fromkeys((*signature.sensitive, *categories)):
        if not any(name in row.columns for row in rows):
            continue  # left out of the log, for want of a key
        cells = [row.columns.get(name) for row in rows]
        levels = ["missing" if cell is None else canonical(cell) for cell in cells]
        often = {level for level, _ in Counter(levels).most_common(MAX_LEVELS)}
        groups: dict[str, list[Row]] = {}
        for level, row in zip(levels, rows, strict=True):
            groups.setdefault(level if level in often else "other", []).append(row)
        found += [
            (name, level, estimate(metric, signature, groups[level], RESAMPLES_OF_PART))
            for level in sorted(groups)
            if len(groups[level]) >= MIN_LEVEL_ROWS
        ]
    return found
