"""Named numbers: the answer of a model without classes for a row, and the name of each number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.onnx_table import OnnxTable
from artifact.python_model import answer_of, answers_of
from training.imported.load import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.python_model import PythonModel
    from artifact.signature import Signature
    from training.imported.describe import Described
    from training.settings import UseCase

CALLED = {"predict": "cluster", "transform": "distance", "predict_proba": "probability"}
"""The name of a method's numbers; those of any other method have the method's name."""


def named_numbers(
    model: Any,
    described: Described,
    spec: PythonModel,
    signature: Signature,
    rows: NDArray[Any],
    *,
    use_case: UseCase,
) -> tuple[PythonModel, Signature]:
    """The spec and the signature of a model that answers several numbers; unchanged where it answers one.

    Parameters
    ----------
    signature
        The signature of a regression.
    rows
        Raw rows that the model is asked for.

    Raises
    ------
    ModelError
        It answers words, or the count of its numbers differs from the count of targets in the use case.
    """
    graph = isinstance(model, OnnxTable) and len(model.tensors) > 1 and not described.methods
    methods = described.methods or (("every",) if graph else (spec.method,))
    asked = msgspec.structs.replace(spec, methods=methods)
    _refuse_words(answer_of(model, spec, signature)(rows))
    widths = [each.shape[1] for each in answers_of(model, asked, signature)(rows)]
    if widths == [1] and use_case.task != "scores" and not described.methods:
        return spec, signature
    own: tuple[str, ...] = ()
    if described.ranks:
        own = ("score",)
    elif described.methods:
        own = _of_methods(methods, widths)
    elif graph:
        own = model.names_of_every(rows[:1])
    else:
        own = tuple(map(str, getattr(answer_of(model, spec, signature)(rows[:1]), "columns", ())))
    names, order = _names(own, widths, use_case, fixed=bool(described.methods))
    try:
        named = msgspec.structs.replace(signature, task="scores", numbers=names)
    except ValueError as error:
        raise ModelError(f"The model has no contract: {error}.") from None
    return msgspec.structs.replace(asked, order=order), named


def _refuse_words(answered: Any) -> None:
    flat = np.asarray(answered.toarray() if hasattr(answered, "toarray") else answered).ravel()
    if len(flat) and isinstance(flat[0], (str, bytes)):
        raise ModelError(
            f"The model answers labels such as {str(flat[0])!r} and does not list them: name a table "
            "that has all of them: init MODEL --data TABLE --target COLUMN."
        )


def _names(
    own: tuple[str, ...], widths: list[int], use_case: UseCase, *, fixed: bool
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names of the numbers, and for each of them its place in the model's answer."""
    width, given = sum(widths), use_case.targets
    if fixed and given and set(given) != set(own):
        raise ModelError(
            f"The model answers {', '.join(own)}, and targets is {', '.join(given)}: no column measures "
            "outlier scores, clusters or an order of rows. Leave targets out."
        )
    if given and len(given) != width:
        raise ModelError(
            f"The model answers {width} numbers a row, and targets names {len(given)} "
            f"({', '.join(given)}): expected one name for each number."
        )
    if given and len(own) == width and set(own) == set(given):
        return given, tuple(own.index(name) for name in given)
    if not given and len(own) == width and not all(name.isdigit() for name in own):
        return own, tuple(range(width))
    return given or numbered(use_case.target, width), tuple(range(width))


def _of_methods(methods: tuple[str, ...], widths: list[int]) -> tuple[str, ...]:
    outliers = "decision_function" in methods
    found: list[str] = []
    for method, width in zip(methods, widths, strict=True):
        name = "label" if outliers and method == "predict" else CALLED.get(method, method)
        found += numbered(name, width)
    return tuple(found)


def numbered(name: str, count: int) -> tuple[str, ...]:
    """The name alone for one number; for several, the name with the place of each number."""
    return (name,) if count == 1 else tuple(f"{name}_{place}" for place in range(count))
