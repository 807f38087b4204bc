"""ONNX graphs over tensors of any rank, and artifacts of them as `run` seals them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from artifact import manifest
from training.imported.load import load
from training.imported.tensor_graph import read_graph
from training.imported.unmeasured_tensors import seal_tensors, tensor_card
from training.settings import Model, UseCase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

FLOAT, INT64, BOOL, STRING, HALF = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.STRING,
    TensorProto.FLOAT16,
)


def graph(
    nodes: Sequence[tuple[str, str, str] | tuple[str, str, str, dict[str, Any]]],
    inputs: Mapping[str, tuple[int, Sequence[int | str | None] | None]],
    outputs: Mapping[str, tuple[int, Sequence[int | str | None] | None]],
    **weights: Any,
) -> Any:
    """A model of nodes (operator, inputs, outputs, attributes), names parted by blanks, and of constants."""
    made = [
        helper.make_node(each[0], each[1].split(), each[2].split(), **(each[3] if len(each) > 3 else {}))
        for each in nodes
    ]
    found = helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(found, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(rows: int | str = "n") -> Any:
    """Images of 3 x 8 x 8 to 2 numbers and the larger one's place."""
    random = np.random.default_rng(1)
    return graph(
        [
            ("Conv", "image kernel", "c", {"pads": [1, 1, 1, 1]}),
            ("Relu", "c", "r"),
            ("GlobalAveragePool", "r", "p"),
            ("Flatten", "p", "f"),
            ("MatMul", "f w", "logits"),
            ("ArgMax", "logits", "class", {"axis": 1, "keepdims": 0}),
        ],
        {"image": (FLOAT, [rows, 3, 8, 8])},
        {"logits": (FLOAT, [rows, 2]), "class": (INT64, [rows])},
        kernel=random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        w=random.normal(size=(4, 2)).astype(np.float32),
    )


def sequences() -> Any:
    """Token ids and a mask to a mean of embeddings in float16, and whether no token is masked."""
    table = np.random.default_rng(2).normal(size=(10, 5)).astype(np.float32)
    return graph(
        [
            ("Gather", "table ids", "e"),
            ("Cast", "mask", "m", {"to": FLOAT}),
            ("Unsqueeze", "m last", "m3"),
            ("Mul", "e m3", "em"),
            ("ReduceMean", "em", "mean", {"axes": [1], "keepdims": 0}),
            ("Cast", "mean", "pooled", {"to": HALF}),
            ("ReduceMin", "m", "least", {"axes": [1], "keepdims": 0}),
            ("Cast", "least", "whole", {"to": BOOL}),
        ],
        {"ids": (INT64, ["batch", "length"]), "mask": (BOOL, ["batch", "length"])},
        {"pooled": (HALF, ["batch", 5]), "whole": (BOOL, ["batch"])},
        table=table,
        last=np.array([2]),
    )


def texts() -> Any:
    """Texts of [n, 2] to themselves without "a" in lower case."""
    return graph(
        [("Identity", "words", "same")],
        {"words": (STRING, ["n", 2])},
        {"same": (STRING, ["n", 2])},
    )


def dependent() -> Any:
    """Each row less the mean of all rows."""
    return graph(
        [("ReduceMean", "x", "mean", {"axes": [0], "keepdims": 1}), ("Sub", "x mean", "y")],
        {"x": (FLOAT, ["n", 2, 2])},
        {"y": (FLOAT, ["n", 2, 2])},
    )


def scalars() -> Any:
    """A sequence of any length, a whole number without dimensions and a text-free answer of any rank."""
    return graph(
        [("Cast", "rate", "r", {"to": FLOAT}), ("Mul", "wave r", "louder")],
        {"wave": (FLOAT, [None, None, 4]), "rate": (INT64, [])},
        {"louder": (FLOAT, None)},
    )


def logarithms() -> Any:
    """The logarithm, which is NaN of what is below 0."""
    return graph([("Log", "x", "y")], {"x": (FLOAT, ["n", 1, 2])}, {"y": (FLOAT, ["n", 1, 2])})


GRAPHS: dict[str, Callable[[], Any]] = {
    "images": images,
    "one_image": lambda: images(1),
    "sequences": sequences,
    "texts": texts,
    "dependent": dependent,
    "scalars": scalars,
    "logarithms": logarithms,
}


def seal(folder: Path, name: str, model: Any) -> manifest.Artifact:
    """An artifact of a graph, in a new folder."""
    folder.mkdir(parents=True)
    file = folder / f"{name}.onnx"
    onnx.save(model, file)
    use_case = UseCase(
        name=name, target="prediction", model=Model(source=str(file), tensors=True), file=str(file)
    )
    loaded = load(file, trust=False, tensors=True)
    found = read_graph(file)
    seal_tensors(
        folder / "okamochi", use_case, loaded, found, tensor_card(use_case, loaded, found, "0" * 64), "run"
    )
    return manifest.load(folder / "okamochi", name=name)
