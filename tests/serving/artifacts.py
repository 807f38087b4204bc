"""Artifacts of real models, sealed as training seals them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import skops.io
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artifact import background, calibration, manifest, ranking
from artifact.encode import Encoder
from artifact.manifest import ONNX, SKOPS, Golden
from artifact.signature import Column, Signature
from benchmarks.models import take_float64

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Made:
    """An artifact's folder, its fitted estimator and rows to ask it about."""

    path: Path
    estimator: Any
    signature: Signature
    rows: list[list[Any]]

    def scores(self, rows: list[list[Any]]) -> NDArray[np.float64]:
        """What the estimator itself says."""
        matrix = Encoder(self.signature).rows(rows)
        if self.signature.task == "regression":
            return np.asarray(self.estimator.predict(matrix)).reshape(-1, 1)
        return np.asarray(self.estimator.predict_proba(matrix))

    def labels(self, rows: list[list[Any]]) -> list[Any]:
        return [self.signature.classes[i] for i in self.scores(rows).argmax(axis=1)]


def seal(
    directory: Path,
    name: str,
    estimator: Any,
    signature: Signature,
    rows: list[list[Any]],
    *,
    runtime: str = "onnx",
    float32: bool = False,
    libraries: dict[str, str] | None = None,
    explained: bool = True,
) -> Made:
    """Export an estimator that was fitted on the encoder's matrix of `signature`.

    `float32` is for estimators whose operators in skl2onnx's graph do not run in float64.
    """
    directory.mkdir(parents=True)
    skops.io.dump(estimator, directory / SKOPS)
    if runtime == "onnx":
        tensor = FloatTensorType if float32 else DoubleTensorType
        options = {} if signature.task == "regression" else {id(estimator): {"zipmap": False}}
        model = to_onnx(
            estimator,
            initial_types=[("X", tensor([None, signature.width]))],
            options=options,
            target_opset=18,
        )
        _rename_output(model, model.graph.output[-1].name)
        if float32:
            take_float64(model.graph)
        (directory / ONNX).write_bytes(model.SerializeToString())
    made = Made(directory, estimator, signature, rows)
    if explained:
        step = max(1, len(rows) // background.ROWS)
        some = rows[::step][: background.ROWS]
        background.write(directory, [dict(zip(signature.names, row, strict=True)) for row in some])
        calibration.write(directory, misses_of(signature))
    few = rows[:8]
    golden = Golden(
        records=[dict(zip(signature.names, row, strict=True)) for row in few],
        scores=made.scores(few).tolist(),
        tolerance=1e-5,
    )
    import sklearn

    manifest.write(
        directory,
        signature=signature,
        golden=golden,
        name=name,
        run_id="0123456789abcdef",
        created="2026-01-01T00:00:00Z",
        runtime=runtime,
        algorithm=type(estimator).__name__,
        metric="accuracy",
        metrics={"accuracy": 0.97},
        libraries={"scikit-learn": sklearn.__version__} if libraries is None else libraries,
    )
    return made


def misses_of(signature: Signature) -> NDArray[np.float64]:
    """Misses of 99 rows: 0.1, 0.2, ... 9.9, and for classes 0.01, 0.02, ... 0.99."""
    return np.arange(1, 100) / (100 if signature.classes else 10)


def _rename_output(model: Any, old: str) -> None:
    for node in model.graph.node:
        for i, output in enumerate(node.output):
            if output == old:
                node.output[i] = "scores"
    kept = model.graph.output[-1]
    kept.name = "scores"
    del model.graph.output[:-1]


def numbers(names: list[str], rows: NDArray[np.float64], **policy: Any) -> tuple[Column, ...]:
    return tuple(
        Column(
            name=name,
            kind="number",
            minimum=float(values.min()),
            maximum=float(values.max()),
            median=float(np.median(values)),
            **policy,
        )
        for name, values in zip(names, rows.T, strict=True)
    )


def iris_signature(rows: NDArray[np.float64], *, ignored: tuple[str, ...] = (), **policy: Any) -> Signature:
    return Signature(
        task="multiclass",
        target="species",
        columns=numbers(["sepal_length", "sepal_width", "petal_length", "petal_width"], rows, **policy),
        classes=("setosa", "versicolor", "virginica"),
        ignored=ignored,
    )


def iris(directory: Path, *, runtime: str = "onnx") -> Made:
    data = load_iris()
    signature = iris_signature(data.data, ignored=("species", "flower_id"))
    rows = data.data.tolist()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(Encoder(signature).rows(rows), data.target)
    return seal(directory, "iris", model, signature, rows, runtime=runtime)


def breast_cancer(directory: Path, *, trees: int = 0) -> Made:
    """Thirty columns, binary; a logistic regression, or a forest of so many trees."""
    data = load_breast_cancer()
    signature = Signature(
        task="binary",
        target="diagnosis",
        columns=numbers([str(name).replace(" ", "_") for name in data.feature_names], data.data),
        classes=("benign", "malignant"),
        positive="malignant",
    )
    rows = data.data.tolist()
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    if trees:
        model = RandomForestClassifier(trees, random_state=0, n_jobs=1)
    model.fit(Encoder(signature).rows(rows), 1 - data.target)
    name = "forest" if trees else "breast_cancer"
    return seal(directory, name, model, signature, rows, float32=trees > 0)


def linear(directory: Path, *, slope: float = 2, runtime: str = "onnx") -> Made:
    """One column x, and y = slope * x."""
    rows = [[float(x)] for x in range(20)]
    signature = Signature(task="regression", target="y", columns=numbers(["x"], np.array(rows), integer=True))
    model = LinearRegression().fit(Encoder(signature).rows(rows), [slope * row[0] for row in rows])
    return seal(directory, "linear", model, signature, rows, runtime=runtime)


def loans(directory: Path) -> Made:
    """Every kind of column and policy, served by scikit-learn itself."""
    signature = Signature(
        task="binary",
        target="default",
        columns=(
            Column(name="age", kind="number", median=40.0, minimum=18.0, maximum=90.0, integer=True),
            Column(name="income", kind="number", missing="allow", median=30_000.5),
            Column(name="job", kind="category", categories=("clerk", "cook", "3"), mode="cook"),
            Column(
                name="city",
                kind="category",
                missing="allow",
                unknown="missing",
                categories=("Basel", "Ulm"),
                mode="Ulm",
            ),
            Column(name="since", kind="date", parts=("year", "month", "weekday"), middle="2020-05-17"),
            Column(
                name="note", kind="text", missing="allow", terms=("late", "paid"), idf=(1.5, 1.25), ngrams=1
            ),
        ),
        classes=(False, True),
        positive=True,
        ignored=("default", "gender"),
    )
    random = np.random.default_rng(7)
    rows: list[list[Any]] = [
        [
            int(random.integers(18, 90)),
            float(random.normal(30_000, 9_000)) if random.random() < 0.8 else None,
            str(random.choice(["clerk", "cook", "3"])),
            str(random.choice(["Basel", "Ulm"])),
            f"20{random.integers(10, 24)}-{random.integers(1, 12):02d}-{random.integers(1, 28):02d}",
            str(random.choice(["paid late", "paid", "never"])),
        ]
        for _ in range(200)
    ]
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=10, random_state=0)
    model.fit(Encoder(signature).rows(rows), [int(row[0] > 50) for row in rows])
    return seal(directory, "loans", model, signature, rows, runtime="python")


USERS, ITEMS = ("7", "8", "9", "ann"), tuple(str(number) for number in range(100, 130))


def ratings(directory: Path, *, shift: int = 0) -> Made:
    """Ratings of users by items, with a ranking: user u likes item i best that is u + shift steps further.

    User "ann" has rated nothing. The user at place u has rated the items at places u and u + 1.
    """
    signature = Signature(
        task="regression",
        target="rating",
        columns=(
            Column(name="user", kind="category", unknown="missing", categories=USERS, mode="7"),
            Column(name="item", kind="category", unknown="missing", categories=ITEMS, mode="100"),
        ),
    )
    rows: list[list[Any]] = [[user, item] for user in USERS for item in ITEMS[:10]]
    matrix = Encoder(signature).rows(rows)
    made = seal(
        directory,
        "ratings",
        LinearRegression().fit(matrix, matrix.sum(axis=1)),
        signature,
        rows,
    )
    near = np.zeros((len(USERS), len(ITEMS)))
    for user in range(len(USERS)):
        for place in range(len(ITEMS)):
            near[user, (place + user + shift) % len(ITEMS)] = 5 - place / 10
    ranking.write(
        directory,
        ranking.Ranking(
            query="user",
            item="item",
            by="rating",
            users=np.eye(len(USERS)),
            items=near.T,
            bias=np.zeros(len(ITEMS)),
            cold=np.arange(len(ITEMS), dtype=np.float64),
            starts=np.array([0, 2, 4, 6, 6]),
            rated=np.array([0, 1, 1, 2, 2, 3]),
        ),
    )
    reseal(directory)
    return made


def reseal(directory: Path) -> None:
    """Write the manifest anew over whatever stands in the folder now."""
    found = msgspec.json.decode((directory / "manifest.json").read_bytes())["manifest"]
    for key in ("files", "format"):
        found.pop(key)
    signature = msgspec.json.decode((directory / "signature.json").read_bytes(), type=Signature)
    golden = msgspec.json.decode((directory / "golden.json").read_bytes(), type=Golden)
    manifest.write(directory, signature=signature, golden=golden, **found)


@cache
def _forest() -> Any:
    """The node of a graph of 10 deep trees."""
    from sklearn.ensemble import RandomForestRegressor

    random = np.random.default_rng(0)
    rows = random.normal(0, 10, (20_000, 1)).astype(np.float32)
    forest = RandomForestRegressor(10, random_state=0, n_jobs=1).fit(rows, random.normal(0, 1, len(rows)))
    nodes = to_onnx(forest, initial_types=[("X", FloatTensorType([None, 1]))]).graph.node
    return next(node for node in nodes if node.op_type.startswith("TreeEnsemble"))


def weigh_down(directory: Path, *, copies: int) -> None:
    """Give a made `linear` model a forest in its graph, which it computes and adds 0 times.

    A copy has 10 trees of some 26,000 nodes each, 11 MB in all.
    """
    import onnx
    from onnx import TensorProto, helper

    node = onnx.NodeProto()
    node.CopyFrom(_forest())
    fields = {field.name: field for field in node.attribute}
    one = {name: list(fields[name].ints) for name in ("nodes_treeids", "target_treeids")}
    for field in node.attribute:
        if field.name in one:
            ids = np.array(one[field.name])
            field.ints.extend(np.concatenate([ids + 10 * n for n in range(1, copies)] or [ids[:0]]).tolist())
        else:
            for values in (field.ints, field.floats, field.strings):
                part = list(values)
                for _ in range(copies - 1):
                    values.extend(part)
    node.input[0], node.output[0] = "as_float", "of_forest"
    path = directory / ONNX
    model = onnx.load(str(path))
    graph = model.graph
    for each in graph.node:
        for i, output in enumerate(each.output):
            if output == "scores":
                each.output[i] = "of_line"
    graph.initializer.append(helper.make_tensor("nothing", TensorProto.DOUBLE, [1], [0.0]))
    graph.node.extend(
        [
            helper.make_node("Cast", [graph.input[0].name], ["as_float"], to=TensorProto.FLOAT),
            node,
            helper.make_node("Cast", ["of_forest"], ["as_double"], to=TensorProto.DOUBLE),
            helper.make_node("Mul", ["as_double", "nothing"], ["weightless"]),
            helper.make_node("Add", ["of_line", "weightless"], ["scores"]),
        ]
    )
    if "ai.onnx.ml" not in [each.domain for each in model.opset_import]:
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    path.write_bytes(model.SerializeToString())
    reseal(directory)
