"""Which model is best: figures in, a decision with its reasons out. Nothing here does any I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass

MIN_SLICE_ROWS = 30
"""A slice of fewer rows is not judged: its figure says more about chance than about the model."""


Finding = tuple[bool, str]
"""Whether a rule is met, and the sentence that says so."""


@dataclass(frozen=True)
class Gain:
    """How much better the challenger is than the champion on the same test rows.

    Parameters
    ----------
    mean, low, high
        Paired bootstrap, 95 % interval; in units of the metric, positive where the challenger is better.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Floor:
    """A figure that the use case demands: at least `limit`, or at most where lower is better."""

    metric: str
    value: float
    limit: float
    higher_is_better: bool = True

    @property
    def met(self) -> bool:
        """Whether the figure is good enough; an undefined one never is."""
        return self.value >= self.limit if self.higher_is_better else self.value <= self.limit


@dataclass(frozen=True)
class Slice:
    """One group of a sensitive column, and how the model does on it."""

    column: str
    group: str
    rows: int
    value: float


@dataclass(frozen=True)
class Bound:
    """How far groups of people may be apart, and how far they are.

    Parameters
    ----------
    columns
        The sensitive columns that make the groups, such as "sex and age".
    answer
        What the model's answer is about; empty for a regression.
    value, low, high
        NaN where it is undefined; the interval is for the reader, the value is judged.
    apart
        The groups with the highest and the lowest rate, in words; empty where it is undefined.
    """

    measure: str
    columns: str
    answer: str
    value: float
    low: float
    high: float
    limit: float
    at_least: bool = False
    apart: str = ""

    @property
    def met(self) -> bool:
        """Whether the groups are close enough; an undefined figure never is."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True)
class Limits:
    """What the use case allows; null allows anything.

    Parameters
    ----------
    max_slice_gap
        How much worse a slice may be than all test rows together, in units of the metric.
    min_gain
        What the lower end of the gain's interval must exceed.
    """

    max_size_mb: float | None = None
    max_row_ms: float | None = None
    max_slice_gap: float | None = None
    min_gain: float = 0.0


@dataclass(frozen=True)
class Figures:
    """All that the gate judges by.

    Parameters
    ----------
    value
        The challenger's metric on the test rows.
    champion_version, champion_value, gain
        Null without a champion. With one, `champion_value` and `gain` are null where it could not score the
        test rows, for the reason in `champion_problem`.
    row_ms
        What one row costs alone, in milliseconds.
    baseline_value, baseline_gain
        Of a baseline that looks at no column, and how much better the challenger is; null with a champion.
    anyway
        A first model may be no better than the baseline.
    measured, champion_measured
        Whether a table measured the challenger and the champion. The figures of an unmeasured model are NaN.
    """

    metric: str
    higher_is_better: bool
    value: float
    test_rows: int
    size_mb: float
    row_ms: float
    floors: tuple[Floor, ...] = ()
    slices: tuple[Slice, ...] = ()
    bounds: tuple[Bound, ...] = ()
    limits: Limits = Limits()
    champion_version: str | None = None
    champion_value: float | None = None
    champion_problem: str | None = None
    gain: Gain | None = None
    baseline_value: float | None = None
    baseline_gain: Gain | None = None
    anyway: bool = False
    measured: bool = True
    champion_measured: bool = True


@dataclass(frozen=True)
class Decision:
    """Whether the challenger goes live, and why; reasons are sentences, what refuses it first."""

    accepted: bool
    reasons: tuple[str, ...]


def decide(figures: Figures) -> Decision:
    """Judge a challenger: better than the champion, floors met, no ceiling broken, no slice left behind.

    Every rule is checked, so that a person sees all that is wrong at once.
    """
    refusals: list[str] = []
    grounds: list[str] = []
    for met, reason in (
        *_against_champion(figures),
        *(_floor(floor) for floor in figures.floors),
        *_ceilings(figures),
        *_slice_gaps(figures),
        *(_bound(bound) for bound in figures.bounds),
    ):
        (grounds if met else refusals).append(reason)
    return Decision(not refusals, (*refusals, *grounds))


def _against_champion(figures: Figures) -> list[Finding]:
    metric = figures.metric
    if not figures.measured:
        return [_unmeasured(figures)]
    if not math.isfinite(figures.value):
        return [
            (
                False,
                f"{metric} is undefined on the {figures.test_rows} test rows, so it cannot be judged.",
            )
        ]
    if figures.champion_version is None:
        first = f"It is the first: {metric} {figures.value:.4g} on {figures.test_rows} test rows."
        return [(True, first), *_against_guessing(figures)]
    champion = f"the champion (version {figures.champion_version})"
    if not figures.champion_measured:
        shown = f"{metric} {figures.value:.4g} on {figures.test_rows} test rows"
        return [(True, f"It is measured, and {champion} is not: {shown}."), *_against_guessing(figures)]
    if figures.gain is None or figures.champion_value is None:
        why = figures.champion_problem or "it gave no scores"
        return [(False, f"It cannot be compared with {champion}: {why}.")]
    gain, needed = figures.gain, figures.limits.min_gain
    sides = f"{metric} {figures.value:.4g} against {figures.champion_value:.4g} of {champion}"
    rows = f"the same {figures.test_rows} test rows"
    interval = f"gain {gain.mean:+.3g}, 95 % between {gain.low:+.3g} and {gain.high:+.3g}"
    if gain.low > needed:
        return [(True, f"It is better: {sides} on {rows} ({interval}).")]
    if gain.low == gain.high == 0.0:
        return [(False, f"It is no better: {sides}; both give the same scores on {rows}.")]
    demand = "its lower end must be above " + ("0" if needed == 0 else f"min_gain = {needed:g}")
    verdict = "It may be better, but that could be chance" if gain.mean > needed else "It is no better"
    return [(False, f"{verdict}: {sides} on {rows} ({interval}; {demand}).")]


def _unmeasured(figures: Figures) -> Finding:
    """A model without a table is served where nothing that was measured is."""
    if figures.champion_version is None:
        return True, "It is the first, and it is unmeasured: no table says how good it is."
    champion = f"the champion (version {figures.champion_version})"
    if figures.champion_measured:
        return (
            False,
            f"It is unmeasured, and {champion} is measured: name a table in [source] to compare them.",
        )
    return True, f"It is unmeasured, as {champion} is: the newer one is served."


def _against_guessing(figures: Figures) -> list[Finding]:
    """A first model has no champion to beat, but the baseline, which gives every row the same answer."""
    gain, value = figures.baseline_gain, figures.baseline_value
    if gain is None or value is None or not math.isfinite(gain.low):
        return []
    sides = f"{figures.metric} {figures.value:.4g} against {value:.4g} of the same answer for every row"
    interval = f"gain {gain.mean:+.3g}, 95 % between {gain.low:+.3g} and {gain.high:+.3g}"
    if gain.low > 0:
        return [(True, f"It is better than guessing: {sides} ({interval}).")]
    if figures.anyway:
        return [(True, f"It may be no better than guessing, and is promoted anyway: {sides} ({interval}).")]
    look = "the data report shows what each column says about the target"
    rows = f"{figures.test_rows} test rows"
    refusal = f"It is not measurably better than guessing: {sides} on {rows} ({interval}); {look}."
    return [(False, f"{refusal} `promote --anyway` promotes it all the same.")]


def _floor(floor: Floor) -> Finding:
    sense = "at least" if floor.higher_is_better else "at most"
    if math.isnan(floor.value):
        return False, f"{floor.metric} is undefined here, but [gate.floors] demands {sense} {floor.limit:g}."
    if floor.met:
        return True, f"{floor.metric} {floor.value:.4g} meets the floor ({sense} {floor.limit:g})."
    return False, f"{floor.metric} is {floor.value:.4g}, but [gate.floors] demands {sense} {floor.limit:g}."


def _ceilings(figures: Figures) -> list[Finding]:
    found = []
    for what, value, key, limit in (
        ("The model's size", figures.size_mb, "max_size_mb", figures.limits.max_size_mb),
        ("A row alone", figures.row_ms, "max_row_ms", figures.limits.max_row_ms),
    ):
        unit = key.rsplit("_", 1)[1].replace("mb", "MB")
        verb = "is" if unit == "MB" else "takes"
        if limit is None:
            continue
        if value <= limit:
            found.append((True, f"{what} {verb} {value:.3g} {unit}, within {key} = {limit:g}."))
        else:
            found.append((False, f"{what} {verb} {value:.3g} {unit}, but [gate] allows {key} = {limit:g}."))
    return found


def _slice_gaps(figures: Figures) -> list[Finding]:
    limit = figures.limits.max_slice_gap
    judged = [part for part in figures.slices if part.rows >= MIN_SLICE_ROWS and math.isfinite(part.value)]
    if limit is None or not judged:
        return []
    sign = 1 if figures.higher_is_better else -1
    gaps = [(sign * (figures.value - part.value), part) for part in judged]
    unfair = [
        f"{figures.metric} is {part.value:.4g} where {part.column} is {part.group} ({part.rows} rows), "
        f"{gap:.3g} worse than overall, but [gate] allows max_slice_gap = {limit:g}."
        for gap, part in gaps
        if not gap <= limit
    ]
    if unfair:
        return [(False, reason) for reason in unfair]
    gap, part = max(gaps, key=lambda each: each[0])
    if gap <= 0:
        return [(True, f"None of {len(judged)} slices is worse than all test rows together.")]
    worst = f"{part.column} is {part.group}: {max(gap, 0.0):.3g} worse than overall"
    return [(True, f"No slice is worse than allowed (the worst, where {worst}; max_slice_gap = {limit:g}).")]


def _bound(bound: Bound) -> Finding:
    sense = "at least" if bound.at_least else "at most"
    of = f" of {bound.columns}" + (f" for {bound.answer}" if bound.answer else "")
    demand = f"{sense} {bound.limit:g}"
    if not math.isfinite(bound.value):
        return False, (
            f"{bound.measure}{of} is undefined: fewer than two groups have enough rows, but [gate.fairness] "
            f"demands {demand}."
        )
    interval = f"95 % between {bound.low:.3g} and {bound.high:.3g}"
    if bound.met:
        return True, f"{bound.measure}{of} is {bound.value:.3g} ({interval}), as demanded ({demand})."
    return False, (
        f"{bound.measure}{of} is {bound.value:.3g} ({interval}; {bound.apart}), but [gate.fairness] demands "
        f"{demand}."
    )
