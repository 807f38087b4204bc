"""A model that was made elsewhere as one ONNX graph behind the matrix that our own models have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from artifact.onnx_table import OnnxTable
from training.imported.embedded import embedded
from training.imported.words import UNLISTED, with_words
from training.imported.writers import finders
from training.imported.writers.catalog import WRITERS
from training.onnx.boosters import is_booster, write_booster
from training.onnx.convert import sealed
from training.onnx.graph import INPUT, Graph, NoExport, Number, Words, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from artifact.python_model import PythonModel
    from artifact.signature import Column, Signature
    from training.onnx.graph import Columns


def convert(model: Any, spec: PythonModel, signature: Signature) -> tuple[onnx.ModelProto, Signature]:
    """Write a fitted model as a graph with the input `X` and the output `scores`, as our own models have.

    Returns
    -------
    The graph, and the signature with all the words that a step of the model knows.

    Raises
    ------
    NoExport
        There is no graph for a part of the model.
    """
    if signature.decided:  # rows that show the difference may be in no table
        raise NoExport("the model's own label is not always that of its highest probability")
    if isinstance(model, OnnxTable):
        return embedded(model, spec, signature)
    boosters = {type(part): BOOSTER for part in parts_within(model) if _is_booster(part)}
    for _ in range(3):
        graph = Graph({**WRITERS, **boosters})
        columns = _columns(graph, spec, signature)
        scores = (
            finders.write(graph, model, columns, spec.methods)
            if len(spec.methods) > 1
            else graph.predict(model, columns)
        )
        listed = with_words(signature, graph.unlisted)
        if listed == signature:
            break
        signature = listed
    places = [*spec.order] if signature.classes or signature.numbers else [0]
    if places != list(range(len(places))):
        scores = graph.gather(scores, places)
    return sealed(graph, scores, signature.width, signature.outputs), signature


def parts_within(model: Any) -> Iterator[Any]:
    """A fitted model and everything that it holds, each once."""
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, (list, tuple)):
            waiting += part
        elif isinstance(part, np.ndarray):
            waiting += part.ravel().tolist() if part.dtype == object else []
        elif hasattr(part, "__dict__") and not isinstance(part, type):
            yield part
            waiting += vars(part).values()


def _is_booster(part: Any) -> bool:
    """Whether it is one of theirs, or the object that a booster's own file is opened as."""
    return is_booster(part) or is_booster(getattr(part, "booster", None))


BOOSTER = Writer(write_booster)


def _columns(graph: Graph, spec: PythonModel, signature: Signature) -> Columns:
    """The model's columns, in its order, of the matrix."""
    starts = {name: place.start for name, place in zip(signature.names, signature.places, strict=True)}
    kinds = {each.name: each for each in signature.columns}
    found: list[Number | Words] = []
    for each in spec.inputs:
        column, start = kinds[each.name], starts[each.name]
        if column.kind == "number":
            found.append(Number(INPUT, start, signature.width))
        elif column.kind == "category":
            index = graph.op(
                "Squeeze",
                graph.cast(graph.add(graph.gather(INPUT, [start]), [[1.0]]), TensorProto.INT64),
                graph.constant([1], np.int64),
            )
            found.append(Words(each.name, index, cells_of(column, boolean=each.dtype == "bool")))
        else:
            found.append(Words(each.name, "", (None, UNLISTED, UNLISTED)))
    return tuple(found)


def cells_of(column: Column, *, boolean: bool) -> tuple[Any, ...]:
    """What the model gets for each code of a column from -1 on, and for a word beyond the last."""
    if boolean:
        truth = {"true": True, "false": False}
        return (None, *(truth.get(word, word) for word in column.categories), UNLISTED)
    return (np.nan, *column.categories, UNLISTED)


__all__ = ["NoExport", "cells_of", "convert"]
