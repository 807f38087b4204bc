"""A fitted pipeline as one ONNX graph that computes in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, helper
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from training.onnx.columns import transform_columns
from training.onnx.graph import INPUT, IR_VERSION, ML_OPSET, OPSET, OUTPUT, Graph, NoExport, Writer
from training.onnx.transformers import transform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def convert(pipeline: Any, width: int, writers: Mapping[type, Writer]) -> onnx.ModelProto:
    """Write a fitted pipeline as one graph.

    Parameters
    ----------
    width
        Columns of the encoded matrix.
    writers
        By the type of each predictor that the pipeline may hold.

    Returns
    -------
    A model with the input `X`, float64 (rows, width), and the output `scores`, float64 (rows, k): the
    classes' probabilities, or a regression's values with k = 1.

    Raises
    ------
    NoExport
        There is no writer for an estimator of the pipeline.
    """
    classes = len(getattr(pipeline, "classes_", ()))
    graph = Graph(writers, ml_opset=_ml_opset(pipeline, classes, writers))
    return sealed(graph, graph.predict(pipeline, INPUT), width, classes or 1)


def sealed(graph: Graph, scores: str, width: int, outputs: int) -> onnx.ModelProto:
    """A graph as a model whose output is `scores`."""
    graph.nodes.append(helper.make_node("Identity", [scores], [OUTPUT], name=OUTPUT))
    proto = helper.make_graph(
        graph.nodes,
        "okamochi",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, outputs])],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", graph.ml_opset)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="okamochi")
    onnx.checker.check_model(model)
    return model


def _ml_opset(pipeline: Any, classes: int, writers: Mapping[type, Writer]) -> int:
    """One graph has one version of ai.onnx.ml: what a part needs comes before what makes another faster."""
    parts = [writers[type(part)] for part in parts_of(pipeline, writers) if type(part) in writers]
    needed = [part.ml_opset for part in parts if part.ml_opset is not None]
    faster = [each for part in parts if (each := part.ml_opset_of_many_classes) is not None and classes > 2]
    return max(needed or faster or [ML_OPSET])


def parts_of(model: Any, writers: Mapping[type, Writer]) -> Iterator[Any]:
    """A fitted model and the predictors within it."""
    yield model
    if type(model) in writers:
        for member in writers[type(model)].members(model):
            yield from parts_of(member, writers)


def _write_pipeline(graph: Graph, model: Pipeline, x: Any) -> str:
    for _, part in model.steps[:-1]:
        x = transform_columns(graph, part, x) if isinstance(x, tuple) else transform(graph, part, x)
    return graph.predict(model.steps[-1][1], x)


def _write_scaled_target(graph: Graph, model: TransformedTargetRegressor, x: Any) -> str:
    scaler = model.transformer_
    if type(scaler) is not StandardScaler:
        raise NoExport(f"no ONNX form of a target transformed by {type(scaler).__name__}")
    value = graph.predict(model.regressor_, x)
    return graph.add(graph.mul(value, scaler.scale_[None, :]), scaler.mean_[None, :])


def _last_step(model: Pipeline) -> Sequence[Any]:
    return [model.steps[-1][1]]


def _regressor(model: TransformedTargetRegressor) -> Sequence[Any]:
    return [model.regressor_]


HOLDERS: dict[type, Writer] = {
    Pipeline: Writer(_write_pipeline, members=_last_step, holds=True),
    TransformedTargetRegressor: Writer(_write_scaled_target, members=_regressor, holds=True),
}
"""What holds a predictor of any family."""
