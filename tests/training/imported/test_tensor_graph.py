"""What an ONNX file over tensors says of itself: datatypes, shapes, and whether its rows may share a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from artifact.tensors import array_of
from tests.artifact.graphs import FLOAT, GRAPHS, INT64, graph, images
from training.imported.load import ModelError
from training.imported.tensor_graph import TensorGraph, read_graph

if TYPE_CHECKING:
    from pathlib import Path


def read(folder: Path, model: Any) -> TensorGraph:
    onnx.save(model, folder / "model.onnx")
    return read_graph(folder / "model.onnx")


WHY_NOT = {
    "images": "",
    "one_image": "the first size of 'image' is fixed",
    "sequences": "",
    "texts": "",
    "dependent": "the rows of output 'y' depend on the other rows of a call",
    "scalars": "the first size of 'rate' is fixed",
    "logarithms": "",
}


@pytest.mark.parametrize("what", WHY_NOT)
def test_rows_share_a_call_only_where_each_is_answered_as_if_it_were_alone(what: str, tmp_path: Path) -> None:
    """Proven on made requests; the reason is told where they do not."""
    found = read(tmp_path, GRAPHS[what]())

    assert found.why_not_batched == WHY_NOT[what]
    assert found.tensors.batched == (not WHY_NOT[what])
    assert found.golden.inputs is not None
    assert found.golden.outputs is not None


def test_shapes_and_datatypes_are_those_of_the_file(tmp_path: Path) -> None:
    """A size without a fixed number is -1, and a scalar has no sizes."""
    sequences = read(tmp_path, GRAPHS["sequences"]()).tensors
    scalars = read(tmp_path, GRAPHS["scalars"]()).tensors

    assert [(each.name, each.datatype, each.sizes) for each in sequences.inputs] == [
        ("ids", "INT64", [-1, -1]),
        ("mask", "BOOL", [-1, -1]),
    ]
    assert [(each.name, each.datatype, each.sizes) for each in sequences.outputs] == [
        ("pooled", "FP16", [-1, 5]),
        ("whole", "BOOL", [-1]),
    ]
    assert [each.sizes for each in scalars.inputs] == [[-1, -1, 4], []]
    assert [each.sizes for each in scalars.outputs] == [[-1, -1, 4]]


def x(nodes: Any, shape: Any = ("n", 4), **weights: Any) -> Any:
    return graph(nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, ["n", *shape[1:]])}, **weights)


TOGETHER = {
    "softmax over the rows": (lambda: x([("Softmax", "x", "y", {"axis": 0})]), "depend on the other rows"),
    "the largest of all": (
        lambda: x([("ReduceMax", "x", "m", {"keepdims": 0}), ("Div", "x m", "y")]),
        "depend on the other rows",
    ),
    "only where one is large": (
        lambda: x(
            [
                ("ReduceMax", "x", "m", {"keepdims": 0}),
                ("Greater", "m limit", "g"),
                ("Where", "g zero x", "y"),
            ],
            limit=np.float32(1e4),
            zero=np.float32(0),
        ),
        "depend on the other rows",
    ),
    "a running sum": (
        lambda: x([("CumSum", "x axis", "y")], axis=np.int64(0)),
        "depend on the other rows",
    ),
    "rows in another order": (
        lambda: x([("Gather", "x last", "g"), ("Add", "x g", "y")], last=np.array([-1])),
        "depend on the other rows",
    ),
    "random": (lambda: x([("RandomNormalLike", "x", "y")]), "differ from run to run"),
    "one shape for rows and length": (
        lambda: x([("Relu", "x", "y")], ("n", "n")),
        "the size 'n' is also another than the first",
    ),
    "inputs with rows of their own": (
        lambda: graph(
            [("MatMul", "a b", "y")],
            {"a": (FLOAT, ["n", 4]), "b": (FLOAT, ["k", 4, 2])},
            {"y": (FLOAT, ["k", "n", 2])},
        ),
        "the first sizes of its inputs have the names k, n",
    ),
    "detections": (
        lambda: graph(
            [("NonZero", "x", "t"), ("Transpose", "t", "y")],
            {"x": (FLOAT, ["n", 4])},
            {"y": (INT64, ["m", 2])},
        ),
        "its operator NonZero may look at all rows at once",
    ),
}


@pytest.mark.parametrize("what", TOGETHER)
def test_a_graph_that_looks_at_other_rows_is_asked_one_request_at_a_time(what: str, tmp_path: Path) -> None:
    """Also where that shows only in large numbers, or in its names."""
    make, why = TOGETHER[what]

    found = read(tmp_path, make())

    assert why in found.why_not_batched


def test_random_answers_are_compared_by_their_shape_alone(tmp_path: Path) -> None:
    """Such a model can be served, and no golden number would ever be met again."""
    found = read(tmp_path, TOGETHER["random"][0]())

    assert found.golden.tolerance == float("inf")


def test_sizes_that_a_graph_leaves_open_are_tried(tmp_path: Path) -> None:
    """Images of three channels and of the one size that fits the weights."""
    model = graph(
        [("Flatten", "x", "f"), ("MatMul", "f w", "y")],
        {"x": (FLOAT, ["n", "c", "h", "w"])},
        {"y": (FLOAT, ["n", 2])},
        w=np.ones((3 * 32 * 32, 2), np.float32),
    )

    found = read(tmp_path, model)

    assert found.golden.inputs is not None
    assert found.golden.inputs[0].shape == [4, 3, 32, 32]
    assert found.tensors.batched


def test_a_graph_that_answers_no_made_request_is_served_all_the_same(tmp_path: Path) -> None:
    """Without a golden request, and one request at a time."""
    model = graph(
        [("Reshape", "x shape", "y")],
        {"x": (FLOAT, ["n", "m"])},
        {"y": (FLOAT, ["n", 7, 11, 13])},
        shape=np.array([-1, 7, 11, 13]),
    )

    found = read(tmp_path, model)

    assert found.golden.inputs is None
    assert "no request was found that it answers" in found.why_not_batched


def sequence_output() -> Any:
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 2])
    found = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 2])],
        [helper.make_value_info("y", helper.make_sequence_type_proto(tensor))],
    )
    return helper.make_model(found, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


REFUSED = {
    "a sequence": (sequence_output, r"its output 'y' is seq\(tensor\(float\)\); expected a tensor"),
    "bfloat16": (
        lambda: graph(
            [("Cast", "x", "y", {"to": FLOAT})],
            {"x": (TensorProto.BFLOAT16, ["n", 2, 2])},
            {"y": (FLOAT, ["n", 2, 2])},
        ),
        r"its input 'x' is tensor\(bfloat16\)",
    ),
    "no input": (
        lambda: graph([("Identity", "w", "y")], {}, {"y": (FLOAT, [2])}, w=np.ones(2, np.float32)),
        "takes no input",
    ),
    "an operator that onnxruntime lacks": (
        lambda: graph([("Sparkle", "x", "y")], {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}),
        "Sparkle",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_graph_that_the_protocol_has_no_tensors_for_is_one_sentence(what: str, tmp_path: Path) -> None:
    """It names the tensor and its type."""
    make, said = REFUSED[what]

    with pytest.raises(ModelError, match=said) as refused:
        read(tmp_path, make())

    assert "\n" not in str(refused.value)


def test_the_golden_answer_is_onnxruntimes_own(tmp_path: Path) -> None:
    """The rows together, as the file gives them."""
    from artifact.onnx_session import open_session

    found = read(tmp_path, images())
    assert found.golden.inputs is not None
    assert found.golden.outputs is not None
    own = open_session(images().SerializeToString()).run(
        None, {"image": array_of(found.golden.inputs[0], "FP32")}
    )

    np.testing.assert_array_equal(array_of(found.golden.outputs[0], "FP32"), own[0])
    np.testing.assert_array_equal(array_of(found.golden.outputs[1], "INT64"), own[1])
