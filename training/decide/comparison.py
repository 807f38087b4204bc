"""Champion and shadow on the same rows: how often they agree, how good each is, and what that decides."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np

from artifact.encode import canonical
from training.decide.aliases import MADE_CHAMPION_BY, PROMOTION, REPLACED, changes_of
from training.decide.evidence import Evidence, interval, round_alpha, weigh
from training.decide.live import RESAMPLES, Estimate, actual_of, estimate
from training.decide.live_log import Row
from training.decide.live_pairs import UNKNOWN
from training.decide.losses import MAX_ERROR_RMSE, bound_of, loss_of, losses
from training.decide.promote import FIGURES
from training.metrics.metric import METRICS
from training.metrics.truth import truth_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from training.decide.live_pairs import Pair
    from training.registry.records import Version
    from training.settings import Live

DAY_S = 86_400
MAX_FEW = 10_000
"""Where the columns can hold fewer different rows than this, equal rows are usual, and each counts."""

Action = Literal["promote", "roll back", "keep", "wait"]
Why = Literal["decided", "equal", "future", "unusable"]
"""Why a row with an outcome does not count: it led to an earlier decision; an equal row counts already; its
time lies in the future; the model could not give that outcome, or a score is missing."""


class Contender(NamedTuple):
    """A version and the signature of its artifact."""

    version: Version
    signature: Signature


class CannotCompareError(Exception):
    """Why two versions cannot be compared, and the key that mends it (exit code 2)."""

    exit_code = 2


@dataclass(frozen=True)
class Comparison:
    """What the rows that both scored say of a champion and a shadow.

    Parameters
    ----------
    rows, agreement
        Rows that both scored, and the fraction with equal labels; NaN for a regression.
    distance
        Mean over the rows of the largest difference of a probability, or of the difference of the numbers.
    left_out
        Rows with an outcome that do not count, by reason.
    metric, champion_quality, shadow_quality
        The gate's metric of each on the rows that count; None where it was not asked for, or without rows.
    loss, bound, champion_loss, shadow_loss
        The loss that decides, the greatest of a row, and the mean of each.
    level
        The probability of a wrong decision that this round of the comparison may use.
    evidence
        On the differences of loss, champion minus shadow.
    low, high
        The confidence sequence of the mean difference; NaN where it was not asked for.
    until
        The time of the last row that counts; empty without one.
    """

    name: str
    champion: str
    shadow: str
    rows: int
    agreement: float
    distance: float
    left_out: dict[Why, int]
    metric: str
    champion_quality: Estimate | None
    shadow_quality: Estimate | None
    loss: str
    bound: float
    champion_loss: float
    shadow_loss: float
    level: float
    evidence: Evidence
    low: float
    high: float
    until: str


@dataclass(frozen=True)
class Ruling:
    """What the rule of `[live]` says.

    Parameters
    ----------
    acts
        Whether the rule is switched on.
    rows_left
        About how many more rows decide; 0 once it is decided, None where no difference was seen.
    """

    action: Action
    acts: bool
    reason: str
    rows_left: int | None


def compare(
    champion: Contender,
    shadow: Contender,
    pairs: Iterable[Pair],
    live: Live,
    *,
    now: float | None = None,
    with_figures: bool = True,
) -> Comparison:
    """Compare two versions on the rows that both scored.

    Parameters
    ----------
    now
        Seconds since the epoch.
    with_figures
        Also estimate the metric and the intervals, which takes time and decides nothing.

    Raises
    ------
    CannotCompareError
    """
    version, signature = champion
    _check_alike(champion, shadow)
    metric = version.tags.get("metric", "")
    loss = live.metric or loss_of(metric, signature.task)
    max_error = _max_error(version, live) if signature.task == "regression" else math.nan
    bound = bound_of(loss, len(signature.classes), max_error)
    outputs = signature.outputs, shadow.signature.outputs
    read = _Read(signature, outputs, used_until(version, shadow.version), _day_after(now))
    for pair in pairs:
        read.add(pair)
    rounds = read.rounds(began(version, shadow.version), live.days * DAY_S)
    weighed = [
        (number, theirs, own, _losses_of(loss, (signature, shadow.signature), theirs, own, max_error))
        for number, (theirs, own) in sorted(rounds.items())
    ] or [(0, [], [], (np.zeros(0), np.zeros(0)))]
    found = [
        (weigh(each - other, bound, round_alpha(live.alpha, number)), i)
        for i, (number, _, _, (each, other)) in enumerate(weighed)
    ]
    evidence, place = max(found, key=lambda one: (one[0].better != "undecided", one[0].rows, one[1]))
    number, theirs, own, (champion_losses, shadow_losses) = weighed[place]
    level = round_alpha(live.alpha, number)
    low = high = math.nan
    if with_figures and theirs:
        low, high = interval(champion_losses - shadow_losses, bound, level)
    return Comparison(
        name=version.name,
        champion=version.number,
        shadow=shadow.version.number,
        rows=read.rows,
        agreement=read.agreed / read.rows if read.rows and signature.classes else math.nan,
        distance=read.distance / read.rows if read.rows else math.nan,
        left_out=read.left_out,
        metric=metric,
        champion_quality=_quality(metric, signature, theirs) if with_figures else None,
        shadow_quality=_quality(metric, shadow.signature, own) if with_figures else None,
        loss=loss,
        bound=bound,
        champion_loss=float(champion_losses.mean()) if theirs else math.nan,
        shadow_loss=float(shadow_losses.mean()) if own else math.nan,
        level=level,
        evidence=evidence,
        low=low,
        high=high,
        until=max((row.at for row in theirs), default=""),
    )


def rule(found: Comparison, live: Live, *, before: bool) -> Ruling:
    """What `[live]` demands of a comparison.

    Parameters
    ----------
    before
        Whether the shadow is the version that was champion before this one.
    """
    evidence, rows = found.evidence, found.evidence.rows
    acts = live.roll_back if before else live.promote_shadow
    told = (
        f"on {rows} rows with known outcomes, mean {_named(found.loss)} {found.shadow_loss:.4g} of version "
        f"{found.shadow} against {found.champion_loss:.4g} of version {found.champion} (at most "
        f"{100 * live.alpha:g} % wrong decisions, however often one looks)"
    )
    if evidence.better == "undecided" or rows < live.min_rows:
        left = evidence.rows_left
        if left is not None:
            left = max(left, live.min_rows - rows)
        return Ruling("wait", acts, "No difference is certain yet" + (f": {told}." if rows else "."), left)
    if evidence.better == "champion":
        return Ruling("keep", acts, f"The champion is better than the shadow: {told}.", 0)
    if before:
        return Ruling("roll back", acts, f"It is worse than the champion before it: {told}.", 0)
    return Ruling("promote", acts, f"The shadow is better than the champion: {told}.", 0)


def began(champion: Version, shadow: Version) -> float:
    """Since when both versions can have scored the same rows in their roles, in seconds since the epoch."""
    changes = changes_of(champion)
    became = datetime.fromisoformat(changes[-1].at).timestamp() if changes else champion.created
    return max(became, shadow.created)


def used_until(champion: Version, shadow: Version) -> str:
    """The time of the last row that has led to a decision about either of the two; empty: there is none."""
    return max((change.until for version in (champion, shadow) for change in changes_of(version)), default="")


def is_before(champion: Version, shadow: Version) -> bool:
    """Whether the shadow is the version that the champion was promoted in place of."""
    tags = champion.tags
    return tags.get(MADE_CHAMPION_BY, PROMOTION) == PROMOTION and tags.get(REPLACED) == shadow.number


@dataclass
class _Read:
    """The pairs of a log, sorted into those that count and the others."""

    signature: Signature
    outputs: tuple[int, int]
    used: str
    latest: str
    rows: int = 0
    agreed: int = 0
    distance: float = 0.0
    left_out: dict[Why, int] = field(default_factory=dict)
    _kept: list[tuple[Row, Row]] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._each = self.signature.combinations <= MAX_FEW

    def add(self, pair: Pair) -> None:
        if not _whole(pair, self.outputs):
            self._leave("unusable", pair)
            return
        self.rows += 1
        self.agreed += canonical(pair.prediction) == canonical(pair.shadow_prediction)
        k = len(self.signature.classes) or 1
        scores = zip(pair.scores[:k], pair.shadow_scores[:k], strict=True)
        self.distance += max(abs(one - other) for one, other in scores)
        if pair.actual is UNKNOWN:
            return
        actual = actual_of(pair.actual, self.signature)
        if actual is None:
            self._leave("unusable", pair)
        elif pair.at <= self.used:
            self._leave("decided", pair)
        elif pair.at > self.latest:
            self._leave("future", pair)
        elif self._is_equal(pair):
            self._leave("equal", pair)
        else:
            theirs = Row(pair.at, "", {}, pair.scores, actual)
            self._kept.append((theirs, msgspec.structs.replace(theirs, scores=pair.shadow_scores)))

    def rounds(self, since: float, seconds: float) -> dict[int, tuple[list[Row], list[Row]]]:
        """The rows of champion and shadow that count, by the round that their times lie in."""
        found: dict[int, tuple[list[Row], list[Row]]] = {}
        for theirs, own in self._kept:
            number = max(0, int((datetime.fromisoformat(theirs.at).timestamp() - since) // seconds))
            both = found.setdefault(number, ([], []))
            both[0].append(theirs)
            both[1].append(own)
        return found

    def _is_equal(self, pair: Pair) -> bool:
        if self._each:
            return False
        row = msgspec.json.encode(pair.columns, order="sorted")
        if row in self._seen:
            return True
        self._seen.add(row)
        return False

    def _leave(self, why: Why, pair: Pair) -> None:
        if pair.actual is not UNKNOWN:
            self.left_out[why] = self.left_out.get(why, 0) + 1


def _whole(pair: Pair, outputs: tuple[int, int]) -> bool:
    return all(
        len(scores) == expected and all(isinstance(score, (int, float)) for score in scores)
        for scores, expected in zip((pair.scores, pair.shadow_scores), outputs, strict=True)
    )


def _check_alike(champion: Contender, shadow: Contender) -> None:
    if champion.signature.numbers:
        raise CannotCompareError(
            f"{champion.version.name}: version {champion.version.number} answers named numbers "
            f"({', '.join(champion.signature.numbers[:8])}), and [live] compares classes or one number"
        )
    ours, theirs = (
        (each.signature.task, [canonical(label) for label in each.signature.classes])
        for each in (champion, shadow)
    )
    if ours != theirs:
        told = [
            f"version {each.version.number} has {', '.join(map(str, each.signature.classes)) or 'numbers'}"
            for each in (champion, shadow)
        ]
        raise CannotCompareError(
            f"{champion.version.name}: champion and shadow have other answers ({'; '.join(told)}), so they "
            "cannot be compared"
        )


def _losses_of(
    loss: str,
    signatures: tuple[Signature, Signature],
    theirs: Sequence[Row],
    own: Sequence[Row],
    max_error: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    found = []
    for signature, rows in zip(signatures, (theirs, own), strict=True):
        actual = [row.actual for row in rows]
        truth = truth_of(signature.task, actual, signature.classes, signature.positive, signature.threshold)
        scores = np.array([row.scores for row in rows], np.float64)
        found.append(losses(loss, truth, scores, max_error))
    return found[0], found[1]


def _quality(metric: str, signature: Signature, rows: Sequence[Row]) -> Estimate | None:
    return estimate(metric, signature, rows, RESAMPLES) if rows and metric in METRICS else None


def _max_error(champion: Version, live: Live) -> float:
    if live.max_error is not None:
        return live.max_error
    rmse = json.loads(champion.tags.get(FIGURES, "{}")).get("metrics", {}).get("rmse")
    if rmse is None or not 0 < rmse < math.inf:
        raise CannotCompareError(
            f"{champion.name}: the champion (version {champion.number}) has no RMSE above 0 on test rows, so "
            "errors have no bound; set live.max_error in the use case to the largest error that counts"
        )
    return MAX_ERROR_RMSE * float(rmse)


def _day_after(now: float | None) -> str:
    """A day after now, as the log spells times."""
    moment = datetime.fromtimestamp((time.time() if now is None else now) + DAY_S, UTC)
    return moment.isoformat(timespec="milliseconds")


def _named(loss: str) -> str:
    return {
        "accuracy": "error rate",
        "brier": "Brier score",
        "log_loss": "log loss",
        "mae": "absolute error",
        "rmse": "squared error",
    }[loss]
