"""ONNX files as they come from converters and from hand: answered as onnxruntime answers, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from artifact.encode import Encoder
from artifact.onnx_session import open_session
from artifact.signature import labels
from training.imported.describe import describe
from training.imported.load import ModelError, load
from training.imported.unmeasured import Contract, contract_of
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION
from training.settings import Model, UseCase

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Said

X, Y = load_iris(return_X_y=True)
WORDS = np.array(["setosa", "versicolor", "virginica"])[Y]


def contract(file: Path, **asked: Any) -> Contract:
    use_case = UseCase(name="graph", target="prediction", model=Model(source=str(file)), **asked)
    return contract_of(load(file, trust=False), use_case)


def network(
    *, last: str, outputs: int, rows: str | int = "rows", kind: int = TensorProto.FLOAT, opset: int = 17
) -> Any:
    """A graph as a framework exports a network of one hidden layer over four columns."""
    random = np.random.default_rng(3)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = {
        "w1": random.normal(size=(4, 8)).astype(dtype),
        "b1": random.normal(size=8).astype(dtype),
        "w2": random.normal(size=(8, outputs)).astype(dtype),
        "b2": random.normal(size=outputs).astype(dtype),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
        helper.make_node(last, ["z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", kind, [rows, 4])],
        [helper.make_tensor_value_info("y", kind, [rows, outputs])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def classifier(*, zipmap: bool, labels: Any = WORDS) -> Any:
    model = RandomForestClassifier(10, random_state=0).fit(X.astype(np.float32), labels)
    return to_onnx(model, X[:1].astype(np.float32), options={"zipmap": zipmap})


def by_column() -> Any:
    """One input a column: texts, whole numbers and numbers, as of a ColumnTransformer over a frame."""
    frame = pd.DataFrame({"colour": ["red", "blue"] * 75, "count": Y, "size": X[:, 0]})
    steps = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), ["colour"]), ("n", StandardScaler(), ["size"])],
        remainder="passthrough",
    )
    model = make_pipeline(steps, LogisticRegression(max_iter=500)).fit(frame, Y == 1)
    types = [
        ("colour", StringTensorType([None, 1])),
        ("count", Int64TensorType([None, 1])),
        ("size", FloatTensorType([None, 1])),
    ]
    return to_onnx(model, initial_types=types, options={"zipmap": False})


GRAPHS: dict[str, tuple[Callable[[], Any], tuple[Any, ...]]] = {
    "forest with ZipMap": (lambda: classifier(zipmap=True), ("setosa", "versicolor", "virginica")),
    "forest without ZipMap": (lambda: classifier(zipmap=False), ("setosa", "versicolor", "virginica")),
    "labels that are numbers": (lambda: classifier(zipmap=True, labels=Y + 5), (5, 6, 7)),
    "softmax": (lambda: network(last="Softmax", outputs=3), (0, 1, 2)),
    "softmax of two": (lambda: network(last="Softmax", outputs=2), (0, 1)),
    "sigmoid": (lambda: network(last="Sigmoid", outputs=1), (0, 1)),
    "a number": (lambda: network(last="Identity", outputs=1), ()),
    "double": (lambda: network(last="Softmax", outputs=3, kind=TensorProto.DOUBLE), (0, 1, 2)),
    "an old opset": (lambda: network(last="Softmax", outputs=3, opset=11), (0, 1, 2)),
    "one row at a time": (lambda: network(last="Softmax", outputs=3, rows=1), (0, 1, 2)),
    "four rows at a time": (lambda: network(last="Softmax", outputs=3, rows=4), (0, 1, 2)),
    "a forest of values": (
        lambda: to_onnx(RandomForestRegressor(5).fit(X[:, :3], X[:, 3]), X[:1, :3].astype(np.float32)),
        (),
    ),
}


@pytest.mark.parametrize("what", GRAPHS)
def test_a_graph_is_answered_as_onnxruntime_answers(what: str, tmp_path: Path) -> None:
    """Classes from the graph, no trust needed, six rows at once."""
    make, classes = GRAPHS[what]
    model = make()
    onnx.save(model, tmp_path / "model.onnx")
    found = contract(tmp_path / "model.onnx")
    width = 3 if what == "a forest of values" else 4
    rows = X[[0, 30, 60, 90, 120, 149], :width]

    scores = found.score(Encoder(found.signature).rows(rows.tolist()))

    assert found.signature.classes == classes
    session = open_session(model.SerializeToString())
    given = session.get_inputs()[0]
    dtype = np.float64 if given.type == "tensor(double)" else np.float32
    own = []
    for row in rows.astype(dtype):
        size = given.shape[0] if isinstance(given.shape[0], int) else 1
        answered = session.run(None, {given.name: np.repeat(row[None], size, axis=0)})[-1][0]
        values = list(answered.values()) if isinstance(answered, dict) else np.ravel(answered).tolist()
        own.append([1 - values[0], values[0]] if what == "sigmoid" else values)
    np.testing.assert_allclose(scores, own, atol=1e-7, rtol=1e-6)


def test_a_graph_with_an_input_for_each_column_is_asked_by_their_names(tmp_path: Path) -> None:
    """Texts as they are; a number that an input of whole numbers cannot hold is no other number."""
    onnx.save(by_column(), tmp_path / "model.onnx")
    found = contract(tmp_path / "model.onnx", positive=True)
    encode = Encoder(found.signature).records

    assert found.signature.names == ("colour", "count", "size")
    assert [column.kind for column in found.signature.columns] == ["category", "number", "number"]
    record = {"colour": "red", "count": 2, "size": 5.1}
    session = open_session(str(tmp_path / "model.onnx"))
    feed = {"colour": np.array([["red"]]), "count": np.array([[2]]), "size": np.array([[5.1]], np.float32)}
    np.testing.assert_allclose(found.score(encode([record])), session.run(None, feed)[1], atol=1e-7)
    with pytest.raises(ValueError, match="column 'count': expected a whole number"):
        encode([record | {"count": 1.5}])
    with pytest.raises(ValueError, match="missing"):
        encode([{"count": 2, "size": 5.1}])


def test_weights_in_files_beside_it_become_part_of_the_one_file(tmp_path: Path) -> None:
    """As MLflow and large exports write them; where they are absent a sentence says so."""
    model = network(last="Softmax", outputs=3)
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save_model(model, tmp_path / "model.onnx", **options)

    loaded = load(tmp_path / "model.onnx", trust=False)
    (tmp_path / "weights.bin").rename(tmp_path / "elsewhere.bin")

    assert open_session(str(loaded.file)).get_inputs()[0].name == "x"
    with pytest.raises(ModelError, match=r"has weights in the file 'weights.bin', which is not beside it"):
        load(tmp_path / "model.onnx", trust=False)


@pytest.mark.parametrize("probability", [True, False])
def test_the_label_is_the_one_that_the_graph_answers(probability: bool, tmp_path: Path) -> None:
    """An SVC decides by its margins, and its probabilities are estimated apart; others have margins alone."""
    model = SVC(probability=True, random_state=0) if probability else RidgeClassifier()
    single = X.astype(np.float32)
    options = {"zipmap": False} if probability else {}
    onnx.save(to_onnx(model.fit(single, WORDS), single[:1], options=options), tmp_path / "model.onnx")

    found = contract(tmp_path / "model.onnx")

    scores = found.score(Encoder(found.signature).rows(X.tolist()))
    session = open_session(str(tmp_path / "model.onnx"))
    (expected,) = session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: single})
    assert found.signature.decided is probability
    assert list(labels(found.signature, scores)) == expected.tolist()


def test_a_graph_may_answer_float16_and_name_a_column_without_its_space(tmp_path: Path) -> None:
    """The table has the space that a converter wrote as "_"."""
    half = network(last="Identity", outputs=1, kind=TensorProto.FLOAT16)
    onnx.save(half, tmp_path / "half.onnx")
    onnx.save(by_column(), tmp_path / "columns.onnx")

    found = contract(tmp_path / "half.onnx")
    described = describe(load(tmp_path / "columns.onnx", trust=False).model)

    assert np.isfinite(found.score(Encoder(found.signature).rows(X[:3].tolist()))).all()
    assert described.spaceless


def unknown_operator() -> Any:
    node = helper.make_node("Sparkle", ["x"], ["y"], domain="my.own")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4]) for name in "xy"]
    graph = helper.make_graph([node], "own", info[:1], info[1:])
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("my.own", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=8)


def images() -> Any:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "images", info[:1], info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no graph": (lambda: b"hello", "is no ONNX file, or it is cut short"),
    "empty": (lambda: b"", "is no ONNX file, or it is cut short"),
    "cut short": (
        lambda: network(last="Softmax", outputs=3).SerializeToString()[:300],
        "is no ONNX file, or it is cut short",
    ),
    "an operator of its own": (lambda: unknown_operator().SerializeToString(), "Sparkle"),
    "images": (lambda: images().SerializeToString(), "'x' is tensor(float) of shape ['n', 3, 8, 8]"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_cannot_be_served_is_one_sentence(what: str, tmp_path: Path) -> None:
    """It names the file or the input, and what was expected."""
    content, said = REFUSED[what]
    (tmp_path / "model.onnx").write_bytes(content())

    with pytest.raises(ModelError) as refused:
        contract(tmp_path / "model.onnx")

    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_graph_is_measured_on_a_table_and_logits_are_refused(
    cli: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_url: str
) -> None:
    """A network without a softmax would answer numbers that look like a decision."""
    monkeypatch.chdir(tmp_path)
    names = ["a", "b", "c", "d"]
    pd.DataFrame(X, columns=names).assign(kind=WORDS).to_csv("iris.csv", index=False)
    onnx.save(classifier(zipmap=False), "forest.onnx")
    options = ("--data", "iris.csv", "--target", "kind")

    assert cli("init", "forest.onnx", *options, "--name", "of_onnx").code == 0
    ran = cli("run", "of_onnx.toml")

    assert ran.code == 0, ran.err
    champion = Registry(mlflow_url).version("of_onnx", CHAMPION)
    assert champion is not None
    assert float(champion.tags["test_accuracy"]) > 0.95
    onnx.save(network(last="Identity", outputs=3), "logits.onnx")
    assert cli("init", "logits.onnx", *options, "--name", "of_logits").code == 0
    refused = cli("run", "of_logits.toml")
    assert refused.code == 2
    assert "answers are no probabilities of 3 classes: row 0 gives" in refused.err
    assert "let a network end in a softmax" in refused.err
