"""The models of the benchmark on breast_cancer, in every form that a contestant loads.

Run as a program: `python -m benchmarks.models FOLDER`, in an environment with the training group.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 0
TREES = 200
WIDTH = 30
CLASSES = (0, 1)
HELD_OUT = 50
FILE = "benchmark.json"


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator and the judge need to know of one model.

    Parameters
    ----------
    precision
        The type of the ONNX input: float64 for logistic regression, float32 for trees. The artifact's graph
        takes float64 in any case.
    rows
        Every row of breast_cancer, in an order of our own; the first `HELD_OUT` were not fitted on.
    labels
        What the scikit-learn estimator itself predicts for each of `rows`.
    """

    name: str
    title: str
    precision: str
    rows: list[list[float]]
    labels: list[int]


@dataclass(frozen=True)
class Kind:
    """One of the models: its name, its title and the type of its ONNX input."""

    name: str
    title: str
    precision: str


KINDS = (
    Kind("logistic", "logistic regression", "float64"),
    Kind("forest", f"forest of {TREES} trees", "float32"),
)
SLOW = Kind("slow", "logistic regression slowed to some ms a row", "float64")
"""For the overload rows. Batches do not make it cheaper, so that its knee is the same at any load."""
OWN_PROCESS = Kind("splines", "splines and logistic regression", "float64")
"""A pipeline without an ONNX form: its own library scores it, in a process of its own."""
BALLAST_SIDE, BALLAST_DEPTH = 128, 1500  # what a core keeps in its cache, so that neighbours do not matter


def prepare(folder: Path) -> None:
    """Fit each model and write it below `folder`/NAME: joblib, skops, ONNX, artifact, MLflow model."""
    from sklearn.datasets import load_breast_cancer  # not for those who only read the types

    data = load_breast_cancer()
    order = np.random.default_rng(SEED).permutation(len(data.target))
    rows, target = data.data[order], data.target[order]
    matrix = rows.astype(np.float32).astype(np.float64)  # as the contract rounds; clients send `rows`
    names = [str(name).replace(" ", "_") for name in data.feature_names]
    for kind in (*KINDS, OWN_PROCESS, SLOW):
        estimator = fitted(kind, matrix[HELD_OUT:], target[HELD_OUT:])
        write(folder / kind.name, kind, estimator, rows, names)


def fitted(kind: Kind, matrix: NDArray[np.float64], target: NDArray[np.int64]) -> Any:
    """A scikit-learn estimator of this kind."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer, StandardScaler

    if kind.name == "forest":
        return RandomForestClassifier(n_estimators=TREES, random_state=SEED).fit(matrix, target)
    steps = [SplineTransformer()] if kind is OWN_PROCESS else []
    return make_pipeline(StandardScaler(), *steps, LogisticRegression(max_iter=1000)).fit(matrix, target)


def write(folder: Path, kind: Kind, estimator: Any, rows: NDArray[np.float64], names: list[str]) -> None:
    """Write one estimator in all its forms, and `benchmark.json` last."""
    import joblib  # type: ignore[import-untyped]
    import mlflow.sklearn

    folder.mkdir(parents=True)
    joblib.dump(estimator, folder / "model.joblib")
    mlflow.sklearn.save_model(  # its requirements named: guessing them takes MLflow ten seconds
        estimator,
        str(folder / "mlflow"),
        serialization_format="cloudpickle",
        pip_requirements=[f"scikit-learn=={version('scikit-learn')}"],
    )
    scores = estimator.predict_proba(rows)
    graph = None
    if kind is not OWN_PROCESS:
        graph = onnx_of(estimator, kind.precision, ballast=kind is SLOW)
        (folder / "model.onnx").write_bytes(graph)
    write_artifact(folder / "artifact", kind, graph=graph, rows=rows, scores=scores, names=names)
    prepared = Prepared(
        name=kind.name,
        title=kind.title,
        precision=kind.precision,
        rows=rows.tolist(),
        labels=estimator.predict(rows).tolist(),
    )
    (folder / FILE).write_bytes(msgspec.json.encode(prepared))


def onnx_of(estimator: Any, precision: str, *, ballast: bool) -> bytes:
    """The estimator as a graph from "X" of shape (rows, WIDTH) to "scores" of shape (rows, classes)."""
    import onnx
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    tensor = DoubleTensorType if precision == "float64" else FloatTensorType
    model = to_onnx(
        estimator,
        initial_types=[("X", tensor([None, WIDTH]))],
        options={id(estimator): {"zipmap": False, "output_class_labels": False}},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    scores = model.graph.output[1]
    for node in model.graph.node:
        node.output[:] = ["scores" if name == scores.name else name for name in node.output]
        node.input[:] = ["scores" if name == scores.name else name for name in node.input]
    scores.name = "scores"
    del model.graph.output[0]
    if ballast:
        add_ballast(model.graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def with_float64_input(content: bytes) -> bytes:
    """The same graph for float64 rows, which is what an artifact's graph takes."""
    import onnx

    model = onnx.load_model_from_string(content)
    take_float64(model.graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def take_float64(graph: Any) -> None:
    """Have a graph whose input "X" is float32 take float64, and round it itself."""
    from onnx import TensorProto, helper

    for node in graph.node:
        node.input[:] = ["X_float32" if name == "X" else name for name in node.input]
    graph.node.insert(0, helper.make_node("Cast", ["X"], ["X_float32"], to=TensorProto.FLOAT))
    graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def add_ballast(graph: Any) -> None:
    """Have each row multiplied, alone, through `BALLAST_DEPTH` layers, and add nothing to the scores."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(SEED)
    narrow = random.normal(0, 0.01, (WIDTH, BALLAST_SIDE)).astype(np.float32)
    # Orthogonal, so that the numbers keep their size: those near zero cost a hundred times more.
    square = np.linalg.qr(random.normal(size=(BALLAST_SIDE, BALLAST_SIDE)))[0].astype(np.float32)
    layers = [
        helper.make_node("Cast", ["row"], ["single"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["single", "narrow"], ["layer0"]),
        *(
            helper.make_node("MatMul", [f"layer{i}", "square"], [f"layer{i + 1}"])
            for i in range(BALLAST_DEPTH)
        ),
        helper.make_node("ReduceSum", [f"layer{BALLAST_DEPTH}"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "nothing"], ["none"]),
        helper.make_node("Cast", ["none"], ["weight"], to=TensorProto.DOUBLE),
    ]
    body = helper.make_graph(
        layers,
        "ballast",
        [helper.make_tensor_value_info("row", TensorProto.DOUBLE, [WIDTH])],
        [helper.make_tensor_value_info("weight", TensorProto.DOUBLE, [1])],
        [
            numpy_helper.from_array(narrow, "narrow"),
            numpy_helper.from_array(square, "square"),
            numpy_helper.from_array(np.zeros(1, np.float32), "nothing"),
        ],
    )
    for node in graph.node:
        node.output[:] = ["unweighted" if name == "scores" else name for name in node.output]
    graph.node.append(helper.make_node("Scan", ["X"], ["weights"], body=body, num_scan_inputs=1))
    graph.node.append(helper.make_node("Add", ["unweighted", "weights"], ["scores"]))


def write_artifact(
    folder: Path,
    kind: Kind,
    *,
    graph: bytes | None,
    rows: NDArray[np.float64],
    scores: NDArray[np.float64],
    names: list[str],
) -> None:
    """Seal the model as training does; without a graph, its own library scores it."""
    from artifact import background
    from artifact.manifest import ONNX, REFERENCE, Golden, write
    from artifact.signature import Column, Signature
    from training.reference import reference

    folder.mkdir()
    if graph is None:
        write_own_model(folder, names)
    else:
        (folder / ONNX).write_bytes(graph if kind.precision == "float64" else with_float64_input(graph))
    columns = tuple(
        Column(
            name=name,
            kind="number",
            minimum=float(values.min()),
            maximum=float(values.max()),
            median=float(np.median(values)),
        )
        for name, values in zip(names, rows.T, strict=True)
    )
    signature = Signature(task="binary", target="benign", columns=columns, classes=CLASSES, positive=1)
    if graph is None:
        signature = msgspec.structs.replace(signature, raw=True)
    records = [dict(zip(names, row, strict=True)) for row in rows[:32].tolist()]
    background.write(folder, [dict(zip(names, row, strict=True)) for row in rows[: background.ROWS].tolist()])
    golden = Golden(records=records, scores=scores[:32].tolist(), tolerance=1e-5)
    # Else nobody would be watching for drift, which a server does unless it is told not to.
    (folder / REFERENCE).write_bytes(msgspec.json.encode(reference(signature, rows, scores)))
    write(
        folder,
        signature=signature,
        golden=golden,
        name=kind.name,
        run_id="benchmark",
        created="2025-01-01T00:00:00Z",
        runtime="python" if graph is None else "onnx",
        runtime_reason="splines have no ONNX form" if graph is None else "",
        algorithm=kind.title,
        metric="accuracy",
        metrics={},
        libraries={"scikit-learn": version("scikit-learn")},
    )


def write_own_model(folder: Path, names: list[str]) -> None:
    """Have the artifact hold the estimator itself, as that of a model that was made elsewhere does."""
    from artifact.manifest import MODEL
    from artifact.python_model import Input, PythonModel

    shutil.copy(folder.parent / "model.joblib", folder)
    spec = PythonModel(
        flavor="pickle",
        file="model.joblib",
        inputs=tuple(Input(name, "float") for name in names),
        frame=False,
        method="predict_proba",
        order=CLASSES,
        packages=("scikit-learn",),
    )
    (folder / MODEL).write_bytes(msgspec.json.encode(spec))


def read(folder: Path, name: str) -> Prepared:
    """What `prepare` wrote for the model of this name."""
    return msgspec.json.decode((folder / name / FILE).read_bytes(), type=Prepared)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
