"""How differently a model treats groups of people: rates of each group, and how far apart they are.

The measures are those of Fairlearn (https://fairlearn.org, "Common fairness metrics"). For classes, a row is
selected where the model's answer is the class in question. For a regression, the mean prediction and the mean
error take the place of rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from training.metrics.slices import levels_of
from training.settings import FAIRNESS_OF_CLASSES, FAIRNESS_OF_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Label
    from training.metrics.truth import Truth

MIN_GROUP_ROWS = 30
"""A smaller group is shown and not compared: its rates say more about chance than about the model."""
MAX_LEVELS, MAX_ANSWERS = 12, 10
RESAMPLES = 2_000
Z = 1.959964  # the normal distribution's 97.5 % quantile

SELECTION, TPR, FPR, CALIBRATION = (
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "calibration",
)
PREDICTION, ERROR = "mean_prediction", "mean_error"

RATES: dict[str, str] = {
    SELECTION: "selected",
    TPR: "true positive rate",
    FPR: "false positive rate",
    CALIBRATION: "observed less predicted",
    PREDICTION: "mean prediction",
    ERROR: "mean error (actual less predicted)",
}
"""A group's figures, with their titles."""

MEASURES: dict[str, tuple[str, ...]] = {
    "demographic_parity_difference": (SELECTION,),
    "demographic_parity_ratio": (SELECTION,),
    "equal_opportunity_difference": (TPR,),
    "equalized_odds_difference": (TPR, FPR),
    "calibration_difference": (CALIBRATION,),
    "mean_prediction_difference": (PREDICTION,),
    "mean_error_difference": (ERROR,),
}
"""How far groups are apart, and in which rates: the largest less the smallest, or for a ratio, over it."""
RATIO = "demographic_parity_ratio"


@dataclass(frozen=True)
class Rate:
    """A figure of a group with its 95 % interval; NaN where it is undefined.

    Rates have Wilson's interval, means that of the normal approximation.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """The rows where sensitive columns have certain levels, and the model's rates on them.

    Parameters
    ----------
    rates
        By the names in `RATES`.
    """

    levels: tuple[str, ...]
    rows: int
    rates: Mapping[str, Rate]

    @property
    def judged(self) -> bool:
        """Whether it has enough rows to be compared."""
        return self.rows >= MIN_GROUP_ROWS


@dataclass(frozen=True)
class Disparity:
    """How far the groups are apart, with a 95 % bootstrap interval; NaN with fewer than two groups.

    Parameters
    ----------
    rate
        The rate that is furthest apart.
    highest, lowest
        The groups with its largest and its smallest value; None where it is undefined.
    chance
        In what share of samples groups of these sizes that are treated alike would be as far apart; by
        parametric resampling with the rate of all groups together.
    """

    measure: str
    value: float
    low: float
    high: float
    rate: str
    highest: Group | None
    lowest: Group | None
    chance: float = float("nan")

    @property
    def words(self) -> str:
        """The two groups that are furthest apart, with their rates; empty where it is undefined."""
        if self.highest is None or self.lowest is None:
            return ""
        sides = (
            f"{', '.join(group.levels)} {group.rates[self.rate].value:.3g}"
            for group in (self.highest, self.lowest)
        )
        return f"{RATES[self.rate]}: {' against '.join(sides)}"

    @property
    def sentence(self) -> str:
        """The figure with its interval, its groups and what chance would do."""
        name = self.measure.replace("_", " ").capitalize()
        if not np.isfinite(self.value):
            return f"{name}: undefined, since fewer than two groups can be compared."
        often = "in fewer than 0.1%" if self.chance < 0.001 else f"in {self.chance:.1%}"
        return (
            f"{name}: {self.value:.3g}, 95 % between {self.low:.3g} and {self.high:.3g} ({self.words}). "
            f"Groups that are treated alike are as far apart {often} of samples."
        )


@dataclass(frozen=True)
class Fairness:
    """The groups of one sensitive column, or of two together, for one answer of the model.

    Parameters
    ----------
    answer
        The class that counts as selected; None for a regression.
    disparities
        Each measure of the task.
    """

    columns: tuple[str, ...]
    answer: Label | None
    groups: tuple[Group, ...]
    disparities: Mapping[str, Disparity]

    @property
    def title(self) -> str:
        """The columns, as a person names them."""
        return " and ".join(self.columns)


def fairness(
    truth: Truth, scores: NDArray[np.float64], sensitive: Any, classes: Sequence[Label] = ()
) -> list[Fairness]:
    """Rates and disparities by each sensitive column and by each pair of them.

    Parameters
    ----------
    truth
        The rows' own classes or values; of a binary task, the positive class is the answer in question.
    scores
        Shape (rows, outputs).
    sensitive
        A data frame with a row for each score.
    classes
        Empty for a regression. Of more than two, each is an answer in question, up to MAX_ANSWERS.

    Returns
    -------
    Single columns first; empty without a sensitive column.
    """
    levels = {str(name): levels_of(sensitive[name], MAX_LEVELS) for name in sensitive.columns}
    names = [(name,) for name in levels] + list(combinations(levels, 2))
    found = []
    for columns in names:
        rows_of: dict[tuple[str, ...], list[int]] = {}
        for row, key in enumerate(zip(*(levels[name] for name in columns), strict=True)):
            rows_of.setdefault(key, []).append(row)
        places = {key: np.array(rows) for key, rows in sorted(rows_of.items())}
        found += [_compared(columns, places, asked) for asked in _asked(truth, scores, classes)]
    return found


@dataclass(frozen=True)
class _Asked:
    """What is compared, by row, each of shape (rows,).

    Parameters
    ----------
    answer
        The class in question; None for a regression.
    true, given
        Whether it is the row's class, and the model's answer; for a regression the values themselves.
    expected
        Its probability, or the predicted value.
    """

    answer: Label | None
    true: NDArray[Any]
    given: NDArray[Any]
    expected: NDArray[np.float64]

    def at(self, rows: NDArray[np.intp]) -> _Asked:
        return _Asked(self.answer, self.true[rows], self.given[rows], self.expected[rows])

    @property
    def residuals(self) -> NDArray[np.float64]:
        return self.true.astype(np.float64) - self.expected


def _asked(truth: Truth, scores: NDArray[np.float64], classes: Sequence[Label]) -> list[_Asked]:
    if not classes:
        values = scores[:, 0]
        return [_Asked(None, np.asarray(truth.y, np.float64), values, values)]
    predicted, chances = truth.predicted(scores), truth.chances(scores)
    places = [truth.positive] if len(classes) == 2 else range(min(len(classes), MAX_ANSWERS))
    return [_Asked(classes[i], truth.y == i, predicted == i, chances[:, i]) for i in places]


def _compared(
    columns: tuple[str, ...], places: Mapping[tuple[str, ...], NDArray[np.intp]], asked: _Asked
) -> Fairness:
    rows_of = {levels: asked.at(rows) for levels, rows in places.items()}
    groups = tuple(Group(levels, len(rows.true), _rates(rows)) for levels, rows in rows_of.items())
    judged = [group for group in groups if group.judged]
    rng = np.random.default_rng(0)
    together = asked.at(np.concatenate([places[group.levels] for group in judged])) if judged else asked
    shared = {name: rate.value for name, rate in _rates(together).items()}
    draws = [_drawn(rng, rows_of[group.levels]) for group in judged]
    alike = [_drawn_alike(rng, rows_of[group.levels], shared) for group in judged]
    measures = FAIRNESS_OF_NUMBERS if asked.answer is None else FAIRNESS_OF_CLASSES
    disparities = {measure: _disparity(measure, judged, draws, alike) for measure in measures}
    return Fairness(columns, asked.answer, groups, disparities)


def _rates(rows: _Asked) -> dict[str, Rate]:
    true, given = rows.true, rows.given
    if rows.answer is None:
        return {PREDICTION: _mean(given), ERROR: _mean(rows.residuals)}
    return {
        SELECTION: _wilson(int(given.sum()), len(given)),
        TPR: _wilson(int((given & true).sum()), int(true.sum())),
        FPR: _wilson(int((given & ~true).sum()), int((~true).sum())),
        CALIBRATION: _mean(rows.residuals),
    }


def _wilson(hits: int, rows: int) -> Rate:
    """A share with Wilson's score interval (Wilson, 1927)."""
    if not rows:
        return Rate(float("nan"), float("nan"), float("nan"))
    share = hits / rows
    middle = (share + Z * Z / (2 * rows)) / (1 + Z * Z / rows)
    half = Z / (1 + Z * Z / rows) * float(np.sqrt(share * (1 - share) / rows + Z * Z / (4 * rows * rows)))
    return Rate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def _mean(values: NDArray[np.float64]) -> Rate:
    mean = float(values.mean())
    half = Z * float(values.std(ddof=1)) / float(np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return Rate(mean, mean - half, mean + half)


def _drawn(rng: np.random.Generator, group: _Asked) -> dict[str, NDArray[np.float64]]:
    """A group's rates on resamples of its rows, each of shape (RESAMPLES,).

    Counts of a resample are multinomial, so no row is drawn; means are drawn from the normal distribution
    that they approach.
    """
    true, given, rows = group.true, group.given, len(group.true)

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return rng.normal(values.mean(), values.std() / np.sqrt(rows), RESAMPLES)

    if group.answer is None:
        return {PREDICTION: means(given), ERROR: means(group.residuals)}
    cells = np.array([(true & given).sum(), (~true & given).sum(), (true & ~given).sum()], np.float64)
    shares = cells / rows
    drawn = rng.multinomial(rows, [*shares, max(0.0, 1 - shares.sum())], RESAMPLES).astype(np.float64)
    hits, false_alarms, missed, rejected = drawn.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            SELECTION: (hits + false_alarms) / rows,
            TPR: hits / (hits + missed),
            FPR: false_alarms / (false_alarms + rejected),
            CALIBRATION: means(group.residuals),
        }


def _drawn_alike(
    rng: np.random.Generator, group: _Asked, shared: Mapping[str, float]
) -> dict[str, NDArray[np.float64]]:
    """The rates of a group of this size whose true rates are those of all groups together."""
    rows = len(group.true)

    def means(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return rng.normal(shared[name], values.std() / np.sqrt(rows), RESAMPLES)

    if group.answer is None:
        return {PREDICTION: means(PREDICTION, group.given), ERROR: means(ERROR, group.residuals)}

    def shares(name: str, out_of: int) -> NDArray[np.float64]:
        if not out_of or not np.isfinite(shared[name]):
            return np.full(RESAMPLES, np.nan)
        return rng.binomial(out_of, shared[name], RESAMPLES) / out_of

    return {
        SELECTION: shares(SELECTION, rows),
        TPR: shares(TPR, int(group.true.sum())),
        FPR: shares(FPR, int((~group.true).sum())),
        CALIBRATION: means(CALIBRATION, group.residuals),
    }


def _disparity(
    measure: str,
    groups: Sequence[Group],
    draws: Sequence[Mapping[str, NDArray[np.float64]]],
    alike: Sequence[Mapping[str, NDArray[np.float64]]],
) -> Disparity:
    best: Disparity | None = None
    for rate in MEASURES[measure]:
        there = [i for i, group in enumerate(groups) if np.isfinite(group.rates[rate].value)]
        if len(there) < 2:
            continue
        chosen = [groups[i] for i in there]
        highest = max(chosen, key=lambda group: group.rates[rate].value)
        lowest = min(chosen, key=lambda group: group.rates[rate].value)
        value = _apart(measure, highest.rates[rate].value, lowest.rates[rate].value)
        spread = _spread(measure, np.array([draws[i][rate] for i in there]))
        by_chance = _spread(measure, np.array([alike[i][rate] for i in there]))
        if not np.isfinite(value) or not spread.size:
            continue
        low, high = np.quantile(spread, [0.025, 0.975])
        further = by_chance <= value if measure == RATIO else by_chance >= value
        found = Disparity(
            measure, value, float(low), float(high), rate, highest, lowest, float(further.mean())
        )
        best = found if best is None or found.value > best.value else best
    if best is None:
        nan = float("nan")
        return Disparity(measure, nan, nan, nan, MEASURES[measure][0], None, None)
    return best


def _spread(measure: str, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far apart the groups are in each resample, of rates of shape (groups, RESAMPLES)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = _apart(measure, rates.max(axis=0), rates.min(axis=0))
    return np.asarray(spread[np.isfinite(spread)], np.float64)


def _apart(measure: str, highest: Any, lowest: Any) -> Any:
    if measure != RATIO:
        return highest - lowest
    return np.divide(lowest, highest) if np.ndim(highest) else lowest / highest if highest else float("nan")
