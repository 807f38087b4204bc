"""The options of a request, the same in every protocol that has a place for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from artifact.encode import CellError
from serving.errors import Problem
from serving.protocols.wording import described

if TYPE_CHECKING:
    from serving.scoring.catalog import LiveModel

OPTIONS = ("probabilities", "threshold")


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


def with_options(rows: Any, *, probabilities: bool, threshold: float | None, scalar: bool = False) -> Query:
    """A valid request that may have options."""
    plain = not (probabilities or scalar) and threshold is None
    return Query(rows, len(rows), plain, probabilities, threshold, scalar)


def probabilities_of(value: object, model: LiveModel) -> bool:
    """The option `probabilities`; null is the same as absent.

    Raises
    ------
    Problem
        422: the value is not a bool, or the model has no probabilities.
    """
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _refused("probabilities", f"expected true or false, got {described(value)}")
    if value and not model.signature.classes:
        what = "answers named numbers" if model.signature.numbers else "is a regression"
        raise _refused("probabilities", f"{model.name!r} {what} and has no probabilities")
    return value


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
        raise _refused("threshold", f"only a binary model has one; {model.name!r} is {task}")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise _refused("threshold", f"expected a number from 0 to 1, got {described(value)}")
    return float(value)


def _refused(option: str, reason: str) -> Problem:
    return Problem(422, f"{option!r}: {reason}", errors=[CellError(None, option, reason, "bad_option")])
