"""The options of a request, the same in every protocol that has a place for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from artifact import calibration
from artifact.encode import CellError, Fault
from artifact.signature import same_label
from serving.errors import Problem
from serving.protocols.wording import cut, described
from serving.scoring.explain import Explain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving.scoring.catalog import LiveModel

OPTIONS = ("probabilities", "threshold")
EXPLAIN_OPTIONS = ("explain", "class", "log_odds")
SURE_OPTIONS = ("interval", "warnings")


class Interval(msgspec.Struct, frozen=True, gc=False):
    """A level, and the largest distance of the outcome from the scores at it; see `artifact.calibration`."""

    level: float
    within: float


class Warnings(msgspec.Struct, frozen=True, gc=False):
    """What is unusual about the rows, and how many more such findings there are."""

    found: list[Any]
    left_out: int


class Query(msgspec.Struct, frozen=True, gc=False):
    """A valid request: its rows, and its options unless they are the default ones.

    `rows` are the `n` rows for `Batcher.submit`.
    """

    rows: Any
    n: int
    plain: bool = True  # all options have their default values
    probabilities: bool = False
    threshold: float | None = None
    scalar: bool = False
    within_s: float | None = None
    explain: Explain | None = None
    picture: bool = False  # the explanation as a picture
    csv: bool = False  # the answer as CSV
    interval: Interval | None = None
    warnings: Warnings | None = None


def with_options(
    rows: Any,
    *,
    probabilities: bool,
    threshold: float | None,
    scalar: bool = False,
    explain: Explain | None = None,
) -> Query:
    """A valid request that may have options."""
    plain = not (probabilities or scalar) and threshold is None and explain is None
    return Query(rows, len(rows), plain, probabilities, threshold, scalar, explain=explain)


def probabilities_of(value: object, model: LiveModel) -> bool:
    """The option `probabilities`; null is the same as absent.

    Raises
    ------
    Problem
        422: the value is not a bool, or the model has no probabilities.
    """
    return _flag_for_probabilities("probabilities", value, model)


def threshold_of(value: object, model: LiveModel) -> float | None:
    """The option `threshold`; null is the same as absent.

    Raises
    ------
    Problem
        422: the value is not a number from 0 to 1, or the model is not binary.
    """
    if value is None:
        return None
    task = model.signature.task
    if task != "binary":
        raise bad_option("threshold", f"only a binary model has one; {model.name!r} is {task}")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise bad_option("threshold", f"expected a number from 0 to 1, got {described(value)}")
    return float(value)


def explain_of(
    options: Mapping[str, Any], model: LiveModel, threshold: float | None, always: bool = False
) -> Explain | None:
    """The options `explain`, `class` and `log_odds`; null is the same as absent.

    Parameters
    ----------
    always
        Whether the request is for an explanation without the option.

    Raises
    ------
    Problem
        422: a value is wrong, the model has no such class or no background rows, or an option has no effect.
    """
    explain = flag_of("explain", options.get("explain"))
    label = class_of(options.get("class"), model)
    log_odds = _flag_for_probabilities("log_odds", options.get("log_odds"), model)
    if not (explain or always):
        for name, given in (("class", label is not None), ("log_odds", log_odds)):
            if given:
                raise bad_option(name, "it has no effect where no explanation is asked for")
        return None
    model.explainer.check(1)
    return Explain(label, log_odds, threshold)


def interval_of(value: object, model: LiveModel) -> Interval | None:
    """The option `interval`, the chance with which it holds the outcome; null is the same as absent.

    Raises
    ------
    Problem
        422: the value is not a number between 0 and 1, or the model cannot promise this level.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise bad_option("interval", f"expected a number between 0 and 1, got {described(value)}")
    missed = model.calibration
    if missed is None:
        how = f"train it again (`python -m training run {model.name}`)"
        if model.artifact.manifest.metrics == {}:
            how = "name a table in its use case, whose rows measure it, and run it again"
        if model.signature.numbers:
            how = "a model that answers named numbers has none"
        raise bad_option("interval", f"{model.name!r} was not calibrated on held-out rows; {how}")
    within = calibration.reach(missed, value)
    if within is None:
        most = calibration.highest_level(len(missed))
        raise bad_option(
            "interval",
            f"{model.name!r} was calibrated on {len(missed)} held-out rows, which can promise at most "
            f"{math.floor(1000 * most) / 1000:g}; got {described(value)}",
        )
    return Interval(value, within)


def check_digits(explain: Explain | None, digits: int) -> None:
    """Refuse log-odds to a caller whose probabilities are rounded: log-odds would reveal the other digits.

    Raises
    ------
    Problem
        422.
    """
    if digits and explain is not None and explain.log_odds:
        raise bad_option(
            "log_odds",
            f"probabilities are rounded to {digits} digits for this caller; ask for them without log_odds",
        )


def flag_of(option: str, value: object) -> bool:
    """An option that is true or false; null is the same as absent.

    Raises
    ------
    Problem
        422.
    """
    if value is None:
        return False
    if not isinstance(value, bool):
        raise bad_option(option, f"expected true or false, got {described(value)}")
    return value


def _flag_for_probabilities(option: str, value: object, model: LiveModel) -> bool:
    """A flag that only a model with probabilities takes."""
    flag = flag_of(option, value)
    if flag and not model.signature.classes:
        what = "answers named numbers" if model.signature.numbers else "is a regression"
        raise bad_option(option, f"{model.name!r} {what} and has no probabilities")
    return flag


def class_of(value: object, model: LiveModel) -> int | None:
    """The index of the class, or of the named number, that the option `class` names; null: none.

    Raises
    ------
    Problem
        422: the model has no such class.
    """
    if value is None:
        return None
    signature = model.signature
    if signature.task == "regression":
        raise bad_option("class", f"{model.name!r} is a regression, which has no classes")
    names = signature.classes or signature.numbers
    for i, name in enumerate(names):
        if same_label(name, value) or (isinstance(value, str) and str(name) == value):
            return i
    known = ", ".join(cut(str(name)) for name in names[:8])
    raise bad_option("class", f"expected one of {known}, got {described(value)}")


def bad_option(
    key: str, reason: str, *, row: int | None = None, fault: Fault | None = "bad_option"
) -> Problem:
    """422 for a key of the body.

    Parameters
    ----------
    row
        The place of a wrong value in a list.
    fault
        The reason in the log; None for the usual one of the status.
    """
    return Problem(422, f"{key!r}: {reason}", errors=[CellError(row, key, reason, fault)])
