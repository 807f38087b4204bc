"""Whether a model answers labels or probabilities, found out from its answers, and checks of these."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.encode import canonical
from artifact.onnx_table import OnnxTable
from artifact.python_model import answer_of, score_of
from training.imported.load import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from artifact.python_model import PythonModel
    from artifact.signature import Signature
    from training.imported.describe import Described

LOOKED_AT = 500
"""Rows whose answers are looked at."""
SHOWN = 12
OFF_ONE = 1e-3
"""How far the sum of a row's probabilities may be from 1: float16 has three digits."""


@contextmanager
def scoring(signature: Signature) -> Iterator[None]:
    """Within it, a model is asked for rows of a table; an error of its own is told with the columns it got.

    Raises
    ------
    ModelError
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(_not_scored(error, signature)) from error


def reason_of(error: Exception) -> str:
    """The first line of an error that a model raises, or its type if it has no text."""
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def _not_scored(error: Exception, signature: Signature) -> str:
    names = signature.names
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (
        f"The model does not score the table's rows: {reason_of(error)}. "
        f"It was given the columns {', '.join(map(repr, names[:SHOWN]))}{more}."
    )


def by_name(
    model: Any, described: Described, spec: PythonModel, signature: Signature, rows: NDArray[Any]
) -> PythonModel:
    """The spec of a model that names no columns and fails on an array: it may ask for them by name."""
    if described.names or spec.frame or spec.texts:
        return spec
    framed = msgspec.structs.replace(spec, frame=True)
    return next((each for each in (spec, framed) if not fails(model, each, signature, rows)), spec)


def fails(model: Any, spec: PythonModel, signature: Signature, rows: NDArray[Any]) -> bool:
    """Whether a model raises on rows of the table."""
    try:
        answer_of(model, spec, signature)(rows[:LOOKED_AT])
    except Exception:  # noqa: BLE001 - whatever it raises, it does not take them
        return True
    return False


def by_its_answers(
    model: Any, described: Described, spec: PythonModel, signature: Signature, rows: NDArray[Any]
) -> PythonModel:
    """The spec of a model without `classes_` that answers labels, or columns that are named as the classes.

    Raises
    ------
    ModelError
        It raises on the rows.
    """
    if not signature.classes or described.classes:
        return spec
    rows = rows[:LOOKED_AT]
    with scoring(signature):
        answered = answer_of(model, spec, signature)(rows)
    wanted = [canonical(label) for label in signature.classes]
    named = [canonical(name) for name in getattr(answered, "columns", ())]
    if sorted(named) == sorted(wanted):
        return msgspec.structs.replace(spec, order=tuple(named.index(label) for label in wanted))
    flat = np.asarray(answered)
    if flat.size != len(rows):
        return spec
    values = {canonical(value): value for value in flat.reshape(len(rows)).tolist()}
    if not values.keys() <= set(wanted):
        return spec
    own = tuple(values.get(each, label) for each, label in zip(wanted, signature.classes, strict=True))
    return msgspec.structs.replace(spec, labels=own)


def with_labels(model: Any, spec: PythonModel, signature: Signature, rows: NDArray[Any]) -> PythonModel:
    """The spec of an ONNX file that is asked for its labels, if the numbers beside them are no probabilities.

    Converters write the margins of a linear support vector machine there, for example.
    """
    if not isinstance(model, OnnxTable) or not (signature.classes and model.labels) or spec.labels:
        return spec
    try:
        check_probabilities(signature, score_of(model, spec, signature)(rows[:LOOKED_AT]))
    except (ModelError, ValueError):
        return msgspec.structs.replace(spec, method="predict", labels=signature.classes)
    return spec


def check_probabilities(signature: Signature, scores: NDArray[np.float64]) -> None:
    """Refuse what a classifier answers if it is no probability of each class.

    Raises
    ------
    ModelError
        Names the row and what it gives.
    """
    if not signature.classes:
        return
    scores = scores[:, : len(signature.classes)]
    off = (np.abs(scores.sum(axis=1) - 1) > OFF_ONE) | (scores < -OFF_ONE).any(axis=1)
    if off.any():
        row = int(np.flatnonzero(off)[0])
        shown = ", ".join(f"{value:.4g}" for value in scores[row][:8].tolist())
        raise ModelError(
            f"The model's answers are no probabilities of {len(signature.classes)} classes: row {row} gives "
            f"{shown}. Expected numbers from 0 to 1 whose sum is 1: let a network end in a softmax, or in a "
            "sigmoid for two classes."
        )
