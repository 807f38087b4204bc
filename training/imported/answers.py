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

    from artifact.manifest import Score
    from artifact.python_model import PythonModel
    from artifact.signature import Signature
    from training.imported.describe import Described

LOOKED_AT = 500
"""Rows whose answers are looked at."""
SHOWN = 12
ALONE = 32
"""Rows that a model is asked for alone and together."""
ALONE_S = 2.0
"""The time that this may take, in seconds; a model that is slower than half of it for a row is not asked."""
ELSE = 1e-3
"""The part of the largest answer by which an answer has to differ to be another one."""
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


def check_each_row_alone(
    model: Any, score: Score, signature: Signature, rows: NDArray[Any], *, row_s: float
) -> None:
    """Refuse a model whose answer for a row depends on the other rows of the call, or on chance.

    A server answers the rows of several requests in one call.

    Parameters
    ----------
    row_s
        How long the model takes for a row, in seconds.

    Raises
    ------
    ModelError
    """
    count = min(ALONE, len(rows), int(ALONE_S / max(row_s, 1e-6)))
    if count < 2:
        return
    places = np.linspace(0, len(rows) - 1, count).astype(int)
    with scoring(signature):
        together, again = score(rows[places]), score(rows[places])
        alone = np.concatenate([score(rows[place : place + 1]) for place in places])
    size = np.maximum(np.abs(together).max(axis=0), 1e-9)
    for other, said in ((again, "again"), (alone, "alone")):
        off = np.flatnonzero((np.abs(together - other) > ELSE * size).any(axis=1))
        if len(off) > count / 10:  # on a border a single row may fall to either side
            row = int(off[0])
            column = int(np.argmax(np.abs(together[row] - other[row])))
            shown = f"row {places[row]} gives {together[row, column]:.4g}"
            if said == "again":
                raise ModelError(
                    f"The model answers the same rows otherwise each time: {shown}, and when asked again "
                    f"{other[row, column]:.4g}. Expected a model without chance in predict: export a network "
                    "for inference (model.eval()), or fix the seed."
                )
            more = " tensors = true in [model] serves the file through /v2, one request at a time."
            raise ModelError(
                f"The model's answer for a row depends on the other rows of the call: {shown} among "
                f"{count - 1} others and {other[row, column]:.4g} alone. Expected the same answer for a row "
                "in any call, since a server puts rows of several requests into one."
                + more
                * isinstance(model, OnnxTable)
            )
