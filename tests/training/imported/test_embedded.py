"""ONNX files over a table in a worker: exact, or in a process of their own with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris

from artifact import manifest, runtime
from artifact.encode import BadRows, Encoder
from artifact.onnx_table import OnnxTable
from tests.training.imported.test_onnx_files import by_column, classifier, network
from training.imported.describe import describe
from training.imported.exact import onnx_form
from training.imported.load import load
from training.imported.unmeasured import contract_of
from training.onnx.parity import onnx_score
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION
from training.settings import Model, UseCase

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Said

    from training.imported.exact import Form
    from training.imported.unmeasured import Contract

X, _ = load_iris(return_X_y=True)


def formed(model: Any, folder: Path, rows: Any = X) -> tuple[Contract, Form]:
    """The contract of a file and its form for a worker, held against the file on some rows."""
    onnx.save(model, folder / "model.onnx")
    use_case = UseCase(name="graph", target="prediction", model=Model(source="model.onnx"))
    loaded = load(folder / "model.onnx", trust=False)
    found = contract_of(loaded, use_case)
    form = onnx_form(
        loaded.model, found.spec, found.signature, found.score, raw_rows=rows, tolerance=np.array([1e-6])
    )
    return found, form


def whole(kind: int, *, flat: bool) -> Any:
    """The sum of whole numbers, taken as one tensor, or as one tensor of shape [rows] a column."""
    names = ["a", "b"] if flat else ["x"]
    info = [helper.make_tensor_value_info(each, kind, ["n"] if flat else ["n", 2]) for each in names]
    nodes = [helper.make_node("Cast", [each], [f"{each}f"], to=TensorProto.FLOAT) for each in names]
    if flat:
        nodes += [helper.make_node("Add", ["af", "bf"], ["y"])]
    else:
        nodes += [helper.make_node("MatMul", ["xf", "w"], ["y"])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"] if flat else ["n", 1])
    ones = numpy_helper.from_array(np.ones((2, 1), np.float32), "w")
    graph = helper.make_graph(nodes, "whole", info, [output], [] if flat else [ones])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def unsorted_map() -> Any:
    """A ZipMap whose labels stand in another order than the keys of its maps."""
    model = network(last="Softmax", outputs=3)
    labels = ["zeta", "alpha", "mid"]
    model.graph.node.append(
        helper.make_node("ZipMap", ["y"], ["maps"], domain="ai.onnx.ml", classlabels_strings=labels)
    )
    kind = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    del model.graph.output[:]
    model.graph.output.append(helper.make_value_info("maps", helper.make_sequence_type_proto(kind)))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    return model


def names_of_ours() -> Any:
    """An input X and an output scores, as the matrix and the answer of a worker are called."""
    model = network(last="Identity", outputs=2)
    for node in model.graph.node:
        node.input[:] = ["X" if each == "x" else each for each in node.input]
        node.output[:] = ["scores" if each == "y" else each for each in node.output]
    model.graph.input[0].name, model.graph.output[0].name = "X", "scores"
    return model


WORDS = np.array([["red", 2.0, 5.1], ["blue", 0.0, 4.0], ["green", 1.0, 6.2], ["red", 0.0, 5.0]], object)
WHOLE = np.array([[float(i), float(i * 7 % 11)] for i in range(20)])
EXACT: dict[str, tuple[Callable[[], Any], Any]] = {
    "ZipMap": (lambda: classifier(zipmap=True), X),
    "no ZipMap": (lambda: classifier(zipmap=False), X),
    "a map in another order": (unsorted_map, X),
    "softmax": (lambda: network(last="Softmax", outputs=3), X),
    "sigmoid": (lambda: network(last="Sigmoid", outputs=1), X),
    "float64": (lambda: network(last="Softmax", outputs=3, kind=TensorProto.DOUBLE), X),
    "operator set 11": (lambda: network(last="Identity", outputs=1, opset=11), X),
    "operator set 21": (lambda: network(last="Identity", outputs=1, opset=21), X),
    "several numbers": (names_of_ours, X),
    "words, whole numbers and numbers": (by_column, WORDS),
    "int64": (lambda: whole(TensorProto.INT64, flat=False), WHOLE),
    "uint8": (lambda: whole(TensorProto.UINT8, flat=False), WHOLE),
    "an input for each column": (lambda: whole(TensorProto.INT32, flat=True), WHOLE),
}


@pytest.mark.parametrize("what", EXACT)
def test_a_file_in_a_worker_answers_as_it_does_itself(what: str, tmp_path: Path) -> None:
    """Also on rows that no table has: halves, numbers out of range, missing cells, unknown words."""
    make, rows = EXACT[what]
    found, form = formed(make(), tmp_path, rows)
    assert form.runtime == "onnx", form.reason
    assert form.signature is not None
    graph = onnx_score(form.graph)
    records = [dict(zip(found.signature.names, row, strict=True)) for row in rows.tolist()]
    for value in (1.5, -1.0, 300.0, 1e12, None, "a word"):
        records += [records[0] | {name: value} for name in found.signature.names]

    for record in records:
        try:
            expected = found.score(Encoder(found.signature).records([record]))
        except ValueError:  # BadRows is one too
            try:
                assert not np.isfinite(graph(Encoder(form.signature).records([record]))).all(), record
            except BadRows:
                continue
        else:
            answered = graph(Encoder(form.signature).records([record]))
            np.testing.assert_allclose(answered, expected, rtol=1e-6, atol=1e-7, err_msg=str(record))


def scanned() -> Any:
    """A Loop of one pass around the identity."""
    inside = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["each"])],
        "pass",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("each", TensorProto.FLOAT, ["n", 4]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["one", "true"], ["all"], body=inside),
        helper.make_node("Squeeze", ["all", "zero"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(1, np.int64), "one"),
        numpy_helper.from_array(np.array(True), "true"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "loop", info[:1], info[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


APART: dict[str, tuple[Callable[[], Any], str]] = {
    "a fixed number of rows": (lambda: network(last="Softmax", outputs=3, rows=4), "takes 4 rows at a time"),
    "an old operator set": (lambda: network(last="Softmax", outputs=3, opset=7), "operator set 7"),
    "a loop": (scanned, "the operator Loop"),
    "float16": (
        lambda: network(last="Softmax", outputs=3, kind=TensorProto.FLOAT16),
        "does not round float64 to float16 in one step",
    ),
}


@pytest.mark.parametrize("what", APART)
def test_a_file_that_no_worker_may_run_has_a_process_of_its_own(what: str, tmp_path: Path) -> None:
    """The reason is what show, /models, the card and the log say."""
    make, said = APART[what]

    _, form = formed(make(), tmp_path)

    assert form.runtime == "python"
    assert said in form.reason


def test_a_slow_file_stays_out_of_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker answers nobody else while it runs a graph."""
    monkeypatch.setattr("training.imported.embedded.MAX_ROW_S", 0.0)

    _, form = formed(network(last="Softmax", outputs=3), tmp_path)

    assert "one row takes" in form.reason


def test_the_keys_of_a_map_are_the_classes(tmp_path: Path) -> None:
    """onnxruntime gives the keys of a map in their order, not in that of the file."""
    onnx.save(unsorted_map(), tmp_path / "model.onnx")

    assert describe(OnnxTable(tmp_path / "model.onnx")).classes == ("alpha", "mid", "zeta")


@pytest.mark.parametrize("model", ["forest", "words"])
def test_a_file_without_a_table_runs_in_a_worker_too(
    model: str, cli: Callable[..., Said], tmp_path: Path, mlflow_url: str
) -> None:
    """The two commands of the tutorial; the golden rows are checked as for any model."""
    onnx.save(classifier(zipmap=True) if model == "forest" else by_column(), tmp_path / "model.onnx")
    name = f"file_of_{model}"

    assert cli("init", "model.onnx", "--name", name).code == 0
    ran = cli("run", f"{name}.toml")

    assert ran.code == 0, ran.err
    version = Registry(mlflow_url).version(name, CHAMPION)
    assert version is not None
    assert version.tags["runtime"] == "onnx"
    loaded = manifest.load(Registry(mlflow_url).download(version, tmp_path / "champion"))
    assert np.isfinite(
        runtime.load(loaded)(Encoder(loaded.signature).records([loaded.signature.example]))
    ).all()
