"""Boosters by their objective, and files whose answers are spelt otherwise than the table's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import catboost
import joblib
import lightgbm
import numpy as np
import onnx
import pandas as pd
import pytest
import xgboost
from onnx import TensorProto, helper
from sklearn.cluster import MeanShift
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.imported.answers import check_each_row_alone
from training.imported.contract import spelt_as
from training.imported.describe import describe
from training.imported.init import write_model_use_case
from training.imported.load import ModelError, load
from training.imported.seal import algorithm_of
from training.imported.unmeasured import contract_of
from training.settings import UNMEASURED_TARGET, Model, Read, UseCase, load_use_case

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(4)
ROWS = pd.DataFrame(RNG.normal(size=(80, 2)), columns=["a", "b"])
ORDER = np.clip((ROWS.a * 2 + 2).astype(int), 0, 4)
QUERIES = np.repeat(range(8), 10)
QUIET = {"iterations": 3, "verbose": 0, "allow_writing_files": False}


def saved(model: Any, path: Path) -> Path:
    """A model in its library's own file, or in a pickle."""
    if path.suffix == ".txt":
        model.booster_.save_model(path)
    elif path.suffix == ".pkl":
        joblib.dump(model, path)
    else:
        model.save_model(path)
    return path


RANKERS = {
    "xgboost.ubj": lambda: xgboost.XGBRanker(n_estimators=3).fit(ROWS, ORDER, qid=QUERIES),
    "lightgbm.txt": lambda: lightgbm.LGBMRanker(n_estimators=3, verbose=-1).fit(ROWS, ORDER, group=[10] * 8),
    "catboost.cbm": lambda: catboost.CatBoostRanker(**QUIET).fit(ROWS, ORDER, group_id=QUERIES),
    "xgboost.pkl": lambda: xgboost.XGBRegressor(objective="survival:cox").fit(ROWS, ORDER + 1),
}  # fmt: skip


def written(place: Path, model: Path, target: str | None, frame: pd.DataFrame) -> Any:
    frame.to_csv(place / "table.csv", index=False)
    said: list[str] = []
    path = write_model_use_case(
        str(model), str(place / "table.csv"), target, name="made", trust=True, directory=place,
        tell=said.append, read=Read(), formats={},
    )  # fmt: skip
    return load_use_case(path), said


@pytest.mark.parametrize("name", RANKERS)
def test_a_ranker_is_served_unmeasured_and_no_column_is_its_target(name: str, place: Path) -> None:
    path = saved(RANKERS[name](), place / name)

    with pytest.raises(
        ModelError, match=r"The model ranks: its answers put rows in order, and are no values of"
    ):
        written(place, path, "order", ROWS.assign(order=ORDER))
    use_case, said = written(place, path, None, ROWS)
    model = Model(source=str(path), trust=True)
    draft = UseCase(name="made", target=UNMEASURED_TARGET, model=model, file=str(place / "made.toml"))

    assert (use_case.task, use_case.measured) == ("scores", False)
    assert said[-1] == "! Without --target no column measures the model: its numbers are served unmeasured."
    assert contract_of(load(path, trust=True), draft).signature.numbers == ("score",)


def test_quantiles_need_no_target(place: Path) -> None:
    """Three quantiles of one column: no column of the table has their true values."""
    model = catboost.CatBoostRegressor(loss_function="MultiQuantile:alpha=0.1,0.5,0.9", **QUIET)
    path = saved(model.fit(ROWS, ROWS.a), place / "quantiles.cbm")

    use_case, _ = written(place, path, None, ROWS)

    assert use_case.task == "scores"


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            lightgbm.LGBMClassifier(objective="multiclassova", n_estimators=2, verbose=-1),
            r"objective multiclassova, whose probabilities of the classes do not sum to 1: train it with",
        ),
        (
            xgboost.XGBClassifier(objective="binary:logitraw", n_estimators=2),
            r"objective binary:logitraw, whose answers are no probabilities: train it with",
        ),
        (
            catboost.CatBoost({"loss_function": "Logloss", **QUIET}),
            r"The file holds a CatBoost, whose predict",
        ),
    ],
)
def test_an_objective_that_cannot_be_served_is_named(model: Any, sentence: str) -> None:
    labels = ORDER % 2 if "multiclassova" not in sentence else ORDER % 3

    with pytest.raises(ModelError, match=sentence):
        describe(make_pipeline("passthrough", model).fit(ROWS, labels))


def test_a_booster_that_answers_labels_is_asked_for_their_probabilities(place: Path) -> None:
    matrix = xgboost.DMatrix(ROWS, ORDER % 3)
    booster = xgboost.train({"objective": "multi:softmax", "num_class": 3}, matrix, 3)

    opened = load(saved(booster, place / "labels.ubj"), trust=False).model

    assert opened.predict(ROWS).shape == (80, 3)
    assert opened.predict(ROWS).argmax(axis=1).tolist() == booster.predict(matrix).tolist()


def test_a_lightgbm_file_that_is_cut_short_is_not_opened(place: Path) -> None:
    """LightGBM itself reads past the end of such a file."""
    model = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1).fit(ROWS, ROWS.a)
    whole = saved(model, place / "m.txt").read_bytes()
    (place / "cut.txt").write_bytes(whole[: whole.index(b"end of trees") - 9])

    with pytest.raises(ModelError, match=r"cut.txt is no model of LightGBM, or it is cut short"):
        load(place / "cut.txt", trust=False)


def test_zero_and_one_of_a_model_are_the_truth_values_of_the_table() -> None:
    """XGBoost forgets that it was fitted on truth values."""
    model = describe(xgboost.XGBClassifier(n_estimators=2).fit(ROWS, ROWS.a > 0))

    assert spelt_as(model, (False, True)).classes == (False, True)
    assert all(type(each) is bool for each in spelt_as(model, (False, True)).classes)
    assert spelt_as(model, (False, True)).answered == (0, 1)
    assert spelt_as(model, ("no", "yes")) is model
    assert spelt_as(model, (0, 1)) is model


def test_a_class_is_no_model() -> None:
    with pytest.raises(
        ModelError, match=r"The file holds the class LogisticRegression, expected a fitted model"
    ):
        describe(LogisticRegression)


def test_the_last_estimator_of_nested_pipelines_names_the_model() -> None:
    inner = make_pipeline(StandardScaler(), LogisticRegression())

    assert algorithm_of(make_pipeline(StandardScaler(), inner)) == "LogisticRegression"
    assert (
        describe(make_pipeline(StandardScaler(), make_pipeline(MeanShift())).fit(ROWS)).methods[0]
        == "predict"
    )


def graph_of(nodes: list[Any], outputs: list[Any], path: Path) -> Path:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def by_class(path: Path, *names: str) -> Path:
    """A file as `zipmap="columns"` makes it: labels, and an output for each class."""
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            coefficients=[1.0, 0.0, 0.0, 1.0, -1.0, -1.0],
            intercepts=[0.0, 0.0, 0.0],
            classlabels_strings=["hi", "lo", "mid"],
            post_transform="SOFTMAX",
        ),
        helper.make_node("Split", ["scores"], list(names), axis=1),
    ]
    outputs = [helper.make_tensor_value_info("label", TensorProto.STRING, [None])]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in names]
    return graph_of(nodes, outputs, path)


def test_an_output_for_each_class_is_its_probability(place: Path) -> None:
    model = load(by_class(place / "m.onnx", "shi", "slo", "smid"), trust=False).model

    described = describe(model)
    answered = model.by_class(ROWS.to_numpy())

    assert (described.method, described.classes) == ("by_class", ("hi", "lo", "mid"))
    assert answered.sum(axis=1) == pytest.approx(1)
    assert [described.classes[i] for i in answered.argmax(axis=1)] == list(model.predict(ROWS.to_numpy()))


def test_outputs_that_are_not_named_after_the_classes_are_refused(place: Path) -> None:
    model = load(by_class(place / "m.onnx", "slo", "shi", "smid"), trust=False).model

    with pytest.raises(
        ModelError, match=r"the outputs 'slo', 'shi', 'smid' of one number each beside its labels"
    ):
        describe(model)


def test_a_graph_that_looks_at_the_other_rows_is_refused(place: Path) -> None:
    """It takes the mean of the call from each row, as a normalisation in training mode does."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    loaded = load(graph_of(nodes, [output], place / "m.onnx"), trust=False)
    use_case, _ = written(place, loaded.file, "c,d", ROWS.assign(c=ROWS.a, d=ROWS.b))
    rows = ROWS.to_numpy()

    with pytest.raises(
        ModelError, match=r"depends on the other rows of the call: row 0 gives .* among 31 others"
    ):
        check_each_row_alone(loaded.model, loaded.model.predict_proba, _signature(), rows, row_s=1e-4)
    check_each_row_alone(loaded.model, lambda asked: asked, _signature(), rows, row_s=1e-4)
    assert use_case.targets == ("c", "d")


def test_a_model_that_answers_by_chance_is_refused() -> None:
    random = np.random.default_rng(0)

    def answer(asked: Any) -> Any:
        return asked + random.normal(size=asked.shape)

    with pytest.raises(ModelError, match=r"answers the same rows otherwise each time: row 0 gives"):
        check_each_row_alone(None, answer, _signature(), ROWS.to_numpy(), row_s=1e-4)


def _signature() -> Any:
    from artifact.signature import Column, Signature

    columns = tuple(Column(name=name, kind="number", missing="refuse") for name in ("a", "b"))
    return Signature(task="scores", target="y", columns=columns, numbers=("c", "d"), raw=True)
