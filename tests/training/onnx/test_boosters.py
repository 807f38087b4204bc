"""Boosters of XGBoost, LightGBM and CatBoost in ONNX against their own predict."""

from __future__ import annotations

import json
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from artifact.python_model import OPENERS, PythonModel
from artifact.runtime import open_session
from training.onnx.boosters import is_booster, thresholds_of_booster, write_booster
from training.onnx.graph import INPUT, IR_VERSION, ML_OPSET, OPSET, OUTPUT, Graph, NoExport

pytestmark = pytest.mark.deep

catboost = pytest.importorskip("catboost")
lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

ROWS, WIDTH, CODES = 1_500, 6, 9
NATIVE = 5
"""The column of categories, where a case has one."""
SPECIAL = [
    0.0,
    -0.0,
    1e-35,
    -1e-35,
    float(np.float32(1e-35)),
    -float(np.float32(1e-35)),
    1e-40,
    -1e-300,
    3e38,
    -3e38,
]
QUIET = {"verbose": -1, "n_jobs": 1, "random_state": 3}
STILL = {"verbose": False, "allow_writing_files": False, "thread_count": 1, "random_seed": 3}


def table(seed=0, *, missing=0.1, native=False):
    """Columns at many scales, one of many zeros; a target of two classes, of three, and a real one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, WIDTH)) * np.array([1, 1e-3, 1e4, 1, 1, 1])
    x[:, 3] = rng.integers(-2, 3, ROWS)
    x[:, 4] *= rng.random(ROWS) < 0.4
    if native:
        x[:, NATIVE] = rng.integers(0, CODES, ROWS)
    signal = x[:, 0] + 1e3 * x[:, 1] * np.sign(x[:, 4]) + x[:, 3] + np.cos(3 * x[:, NATIVE])
    x[rng.random(x.shape) < missing] = np.nan
    noise = rng.normal(size=ROWS)
    return (
        x,
        (signal + noise > 0).astype(int),
        np.digitize(signal + noise, [-1, 1]),
        50 * signal + noise + 1_000,
    )


def nasty(x, estimator, *, infinite=True, seed=1):
    """Rows of the table with a cell at a threshold or next to it, missing, zero, tiny, huge or infinite."""
    rng = np.random.default_rng(seed)
    found = sorted(set(thresholds_of_booster(estimator)))
    assert found
    found = [found[i] for i in rng.choice(len(found), min(len(found), 700), replace=False)]
    cells = []
    for column, value in found:
        near = np.float32(value)
        cells += [
            (column, value),
            (column, np.nextafter(value, -np.inf)),
            (column, np.nextafter(value, np.inf)),
        ]
        cells += [(column, float(near)), (column, float(np.nextafter(near, np.float32(-np.inf))))]
        cells += [(column, float(np.nextafter(near, np.float32(np.inf))))]
    extremes = [*SPECIAL, np.nan, *((np.inf, -np.inf) if infinite else ())]
    cells += [(column, value) for column in range(x.shape[1]) for value in extremes]
    cells += [(NATIVE, value) for value in (-1.0, -0.5, 0.5, 2.99, CODES, CODES + 30.0, 1e6)]
    rows = x[rng.integers(0, len(x), len(cells))].copy()
    for row, (column, value) in enumerate(cells):
        rows[row, column] = value
    empty = np.full((1, x.shape[1]), np.nan)
    return np.ascontiguousarray(np.concatenate([x, rows, empty]))


def scored(estimator, rows):
    """The scores of the written graph in a session of ours: in a batch, and for some rows also alone."""
    graph = Graph(ml_opset=ML_OPSET)
    name = write_booster(graph, estimator, INPUT)
    graph.nodes.append(helper.make_node("Identity", [name], [OUTPUT]))
    proto = helper.make_graph(
        graph.nodes,
        "test",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, rows.shape[1]])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, None])],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    session = open_session(model.SerializeToString())
    found = session.run([OUTPUT], {INPUT: rows})[0]
    for i in range(0, len(rows), max(1, len(rows) // 50)):
        alone = session.run([OUTPUT], {INPUT: rows[i : i + 1]})[0][0]
        np.testing.assert_allclose(alone, found[i], rtol=1e-12)
    return found


def check(estimator, rows, expected, tolerance=1e-12):
    """Each label equal, and each score within the tolerance, of the largest score where that is over 1."""
    expected = np.asarray(expected, np.float64).reshape(len(rows), -1)
    found = scored(estimator, rows)
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)
    if expected.shape[1] > 1:
        np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


XGB = {"n_jobs": 1, "random_state": 3, "max_depth": 5}
XGB_CLASSES = {
    "plain": {"n_estimators": 60},
    "deep": {"n_estimators": 30, "max_depth": 10, "tree_method": "exact"},
    "many rounds": {"n_estimators": 500, "learning_rate": 0.03},
    "missing is -1": {"n_estimators": 30, "missing": -1.0},
    "dart": {"n_estimators": 40, "booster": "dart", "rate_drop": 0.3},
    "forest rounds": {"n_estimators": 10, "num_parallel_tree": 5, "subsample": 0.5, "colsample_bynode": 0.5},
    "stumps and single leaves": {"n_estimators": 40, "max_depth": 2, "gamma": 5},
    "a base score": {"n_estimators": 20, "base_score": 0.3},
    "by leaves": {"n_estimators": 30, "grow_policy": "lossguide", "max_leaves": 20},
    "no missing cell": {"n_estimators": 30},
}


@pytest.mark.parametrize("case", XGB_CLASSES)
@pytest.mark.parametrize("classes", [2, 3])
def test_xgboost_classifies_as_itself(case, classes):
    x, two, three, _ = table(missing=0 if case == "no missing cell" else 0.1)
    model = xgboost.XGBClassifier(**XGB | XGB_CLASSES[case]).fit(x, two if classes == 2 else three)
    rows = nasty(x, model, infinite=False)
    check(model, rows, model.predict_proba(rows), 2e-7)


@pytest.mark.parametrize(
    ("objective", "params"),
    [
        ("reg:squarederror", {"n_estimators": 1_500, "learning_rate": 0.02}),
        ("reg:squarederror", {"booster": "dart", "rate_drop": 0.2, "n_estimators": 50}),
        ("reg:absoluteerror", {}),
        ("reg:pseudohubererror", {}),
        ("reg:quantileerror", {"quantile_alpha": 0.5}),
        ("reg:quantileerror", {"quantile_alpha": [0.1, 0.5, 0.9]}),
        ("count:poisson", {}),
        ("reg:gamma", {}),
        ("reg:tweedie", {}),
        ("survival:cox", {}),
        ("reg:logistic", {}),
    ],
)
def test_xgboost_regresses_as_itself(objective, params):
    x, two, _, real = table()
    y = two if objective == "reg:logistic" else real - real.min() + 1 if objective[4] != "s" else real
    y = y / 100 if objective in {"count:poisson", "reg:gamma", "reg:tweedie", "survival:cox"} else y
    y = (real - 1_000) / 50 if objective == "reg:pseudohubererror" else y
    model = xgboost.XGBRegressor(**XGB, objective=objective, **params).fit(x, y)
    rows = nasty(x, model, infinite=False)
    check(model, rows, model.predict(rows), 2e-7)


@pytest.mark.parametrize(
    "objective", ["multi:softprob", "multi:softmax", "binary:logistic", "binary:hinge", "rank"]
)
def test_a_plain_booster_of_xgboost_answers_as_itself(objective):
    x, two, three, _ = table()
    y = three if objective.startswith("multi") else two
    params = {"objective": objective, "nthread": 1, "max_depth": 4}
    if objective.startswith("multi"):
        params["num_class"] = 3
    if objective == "rank":
        params["objective"] = "rank:pairwise"
    data = xgboost.DMatrix(x, y)
    if objective == "rank":
        data.set_group([50] * (ROWS // 50))
    booster = xgboost.train(params, data, 40)
    rows = nasty(x, booster, infinite=False)
    told = booster.predict(xgboost.DMatrix(rows))
    if objective == "multi:softmax":
        told = told[:, None] == np.arange(3)
    elif objective.startswith("binary"):
        told = np.column_stack([1 - told, told])
    check(booster, rows, told, 2e-7)


def test_xgboost_splits_native_categories_as_itself():
    for seed, one_hot in ((0, 1), (1, 1), (2, 100)):
        x, two, three, _ = table(seed, native=True)
        kinds = ["q"] * (WIDTH - 1) + ["c"]
        for y in (two, three):
            model = xgboost.XGBClassifier(
                **XGB,
                n_estimators=30,
                enable_categorical=True,
                feature_types=kinds,
                max_cat_to_onehot=one_hot,
            ).fit(x, y)
            assert re.search(rb'"categories":\[\d', model.get_booster().save_raw("json"))
            rows = nasty(x, model, infinite=False)
            check(model, rows, model.predict_proba(rows), 2e-7)


def test_early_stopping_counts_as_in_xgboosts_own_predict():
    x, two, _, _ = table()
    model = xgboost.XGBClassifier(**XGB, n_estimators=300, learning_rate=0.5, early_stopping_rounds=5)
    model.fit(x[:1_000], two[:1_000], eval_set=[(x[1_000:], two[1_000:])], verbose=False)
    assert model.best_iteration < model.get_booster().num_boosted_rounds() - 1
    rows = nasty(x, model, infinite=False)
    check(model, rows, model.predict_proba(rows), 2e-7)
    booster = model.get_booster()
    second = booster.predict(xgboost.DMatrix(rows))
    check(booster, rows, np.column_stack([1 - second, second]), 1e-7)


LGB_CLASSES = {
    "plain": {"n_estimators": 60},
    "many rounds": {"n_estimators": 500, "learning_rate": 0.03},
    "zero is missing": {"n_estimators": 60, "zero_as_missing": True},
    "missing is not used": {"n_estimators": 60, "use_missing": False},
    "dart": {"n_estimators": 40, "boosting_type": "dart"},
    "forest": {"n_estimators": 30, "boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1},
    "no missing cell": {"n_estimators": 30},
    "one against all": {"n_estimators": 30, "objective": "multiclassova", "num_class": 3},
    "another sigmoid": {"n_estimators": 30, "sigmoid": 2.5},
    "cross entropy": {"n_estimators": 30, "objective": "cross_entropy"},
    "stumps": {"n_estimators": 30, "num_leaves": 2},
}


@pytest.mark.parametrize("case", LGB_CLASSES)
@pytest.mark.parametrize("classes", [2, 3])
def test_lightgbm_classifies_as_itself(case, classes):
    if (classes, case) in {(2, "one against all"), (3, "cross entropy")}:
        return
    x, two, three, _ = table(missing=0 if case == "no missing cell" else 0.1)
    model = lightgbm.LGBMClassifier(**QUIET | LGB_CLASSES[case]).fit(x, two if classes == 2 else three)
    rows = nasty(x, model)
    check(model, rows, model.predict_proba(rows))


@pytest.mark.parametrize(
    ("objective", "params"),
    [
        ("regression", {"n_estimators": 1_500, "learning_rate": 0.02}),
        ("regression", {"reg_sqrt": True}),
        ("regression_l1", {}),
        ("regression_l1", {"reg_sqrt": True}),
        ("huber", {}),
        ("fair", {}),
        ("quantile", {"alpha": 0.9}),
        ("mape", {}),
        ("poisson", {}),
        ("gamma", {}),
        ("tweedie", {}),
    ],
)
def test_lightgbm_regresses_as_itself(objective, params):
    x, _, _, real = table()
    model = lightgbm.LGBMRegressor(**QUIET, objective=objective, **params)
    model.fit(x, real - real.min() + 1 if objective in {"poisson", "gamma", "tweedie"} else real)
    rows = nasty(x, model)
    check(model, rows, model.predict(rows))


def test_lightgbm_splits_native_categories_as_itself():
    for seed, some in ((0, {}), (1, {"max_cat_to_onehot": 20}), (2, {"zero_as_missing": True})):
        x, two, three, _ = table(seed, native=True)
        for y in (two, three):
            model = lightgbm.LGBMClassifier(**QUIET, n_estimators=40, min_child_samples=5, **some)
            model.fit(x, y, categorical_feature=[NATIVE])
            assert "cat_threshold=" in model.booster_.model_to_string()
            rows = nasty(x, model)
            check(model, rows, model.predict_proba(rows))


def test_lightgbms_plain_booster_answers_as_itself_also_from_its_file(tmp_path):
    x, two, _, _ = table()
    data = lightgbm.Dataset(x[:1_000], two[:1_000])
    booster = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "learning_rate": 0.5},
        data,
        200,
        valid_sets=[lightgbm.Dataset(x[1_000:], two[1_000:], reference=data)],
        callbacks=[lightgbm.early_stopping(5, verbose=False)],
        keep_training_booster=True,
    )
    assert 0 < booster.best_iteration < booster.current_iteration()
    rows = nasty(x, booster)
    second = booster.predict(rows)
    check(booster, rows, np.column_stack([1 - second, second]))
    booster.save_model(tmp_path / "model.txt")
    read = lightgbm.Booster(model_file=tmp_path / "model.txt")
    check(read, rows, np.column_stack([1 - second, second]))


CAT_CLASSES = {
    "plain": {"iterations": 60},
    "many rounds": {"iterations": 500, "learning_rate": 0.03},
    "missing is above": {"iterations": 60, "nan_mode": "Max"},
    "by depth": {"iterations": 40, "grow_policy": "Depthwise"},
    "by leaves": {"iterations": 40, "grow_policy": "Lossguide", "max_leaves": 12},
    "ordered": {"iterations": 40, "boosting_type": "Ordered"},
    "stumps": {"iterations": 40, "depth": 1},
    "no missing cell": {"iterations": 40},
}


@pytest.mark.parametrize("case", CAT_CLASSES)
@pytest.mark.parametrize("classes", [2, 3])
def test_catboost_classifies_as_itself(case, classes):
    x, two, three, _ = table(missing=0 if case == "no missing cell" else 0.1)
    model = catboost.CatBoostClassifier(**STILL | CAT_CLASSES[case]).fit(x, two if classes == 2 else three)
    rows = nasty(x, model)
    check(model, rows, model.predict_proba(rows))


@pytest.mark.parametrize(
    ("loss", "params"),
    [
        ("RMSE", {"iterations": 800, "learning_rate": 0.03}),
        ("MAE", {}),
        ("Quantile:alpha=0.9", {}),
        ("Huber:delta=2", {}),
        ("MAPE", {}),
        ("Poisson", {}),
        ("Tweedie:variance_power=1.5", {}),
        ("LogCosh", {}),
        ("MultiQuantile:alpha=0.1,0.5,0.9", {}),
        ("Expectile:alpha=0.3", {}),
        ("Lq:q=1.5", {}),
    ],
)
def test_catboost_regresses_as_itself(loss, params):
    x, _, _, real = table()
    model = catboost.CatBoostRegressor(**STILL | {"iterations": 50} | params, loss_function=loss)
    model.fit(x, (real - real.min() + 1) / 100 if loss[:6] in {"Poisso", "Tweedi"} else real)
    rows = nasty(x, model)
    check(model, rows, model.predict(rows))


@pytest.mark.parametrize("loss", ["MultiClassOneVsAll", "CrossEntropy"])
def test_catboosts_other_losses_of_classes_answer_as_itself(loss):
    x, two, three, _ = table()
    model = catboost.CatBoostClassifier(**STILL, iterations=40, loss_function=loss)
    model.fit(x, three if loss.startswith("Multi") else two)
    rows = nasty(x, model)
    check(model, rows, model.predict_proba(rows))


def test_models_of_random_tables_answer_as_themselves():
    """Other seeds, few rows, columns that say nothing, labels of one class in the majority."""
    for seed in range(6):
        rng = np.random.default_rng(100 + seed)
        x, two, three, real = table(200 + seed, missing=rng.choice([0.0, 0.3]))
        x, y = x[: rng.integers(40, 400)], (two, three)[seed % 2]
        x, y = np.round(x, int(rng.integers(0, 4))), y[: len(x)]
        depth = int(rng.integers(1, 8))
        for model in (
            xgboost.XGBClassifier(**XGB | {"max_depth": depth}, n_estimators=25),
            xgboost.XGBRFClassifier(n_jobs=1, random_state=seed, n_estimators=25),
            lightgbm.LGBMClassifier(**QUIET, max_depth=depth, n_estimators=25, min_child_samples=2),
            catboost.CatBoostClassifier(**STILL, depth=depth, iterations=25),
        ):
            model.fit(x, y)
            rows = nasty(x, model, infinite=not isinstance(model, xgboost.XGBModel), seed=seed)
            check(model, rows, model.predict_proba(rows), 2e-7)
    model = xgboost.XGBRFRegressor(n_jobs=1, random_state=3, n_estimators=25)
    x, _, _, real = table()
    rows = nasty(x, model.fit(x, real), infinite=False)
    check(model, rows, model.predict(rows), 2e-7)


def test_a_booster_opened_from_its_file_as_the_server_does_it_answers_as_itself(tmp_path):
    x, two, _, real = table()
    model = xgboost.XGBRegressor(**XGB, n_estimators=20).fit(x, real)
    model.save_model(tmp_path / "model.ubj")
    spec = PythonModel(flavor="xgboost", file="model.ubj", inputs=(), frame=False, method="predict")
    opened = OPENERS["xgboost"](tmp_path / "model.ubj", spec)
    rows = nasty(x, opened, infinite=False)
    check(opened, rows, model.predict(rows), 2e-7)
    classifier = catboost.CatBoostClassifier(**STILL, iterations=20).fit(x, two)
    classifier.save_model(str(tmp_path / "model.cbm"))
    spec = PythonModel(flavor="catboost", file="model.cbm", inputs=(), frame=False, method="predict_proba")
    opened = OPENERS["catboost"](tmp_path / "model.cbm", spec)
    rows = nasty(x, opened)
    check(opened, rows, classifier.predict_proba(rows))


def refused():
    x, two, _, real = table()
    codes = np.nan_to_num(x[:, :3], nan=-9).round().astype(int)
    two_targets = np.column_stack([real, two])
    custom = {"objective": lambda truth, raw: (raw - truth, np.ones_like(raw))}
    return {
        "gblinear": xgboost.XGBClassifier(booster="gblinear", n_estimators=3).fit(x, two),
        "multi_output_tree": xgboost.XGBRegressor(multi_strategy="multi_output_tree", n_estimators=3).fit(
            x, two_targets
        ),
        "binary:logitraw": xgboost.XGBClassifier(objective="binary:logitraw", n_estimators=3).fit(x, two),
        "linear_tree": lightgbm.LGBMRegressor(**QUIET, linear_tree=True, n_estimators=3).fit(x, real),
        "of your own": lightgbm.LGBMRegressor(**QUIET, **custom, n_estimators=3).fit(x, real),
        "cat_features": catboost.CatBoostClassifier(**STILL, iterations=3, cat_features=[0, 1]).fit(
            codes, two
        ),
        "'RMSEWithUncertainty'": catboost.CatBoostRegressor(
            **STILL, iterations=3, loss_function="RMSEWithUncertainty"
        ).fit(x, real),
        "is no booster": object(),
    }


def test_what_has_no_exact_form_is_refused_with_the_reason():
    for words, model in refused().items():
        with pytest.raises(NoExport, match=words):
            write_booster(Graph(ml_opset=ML_OPSET), model, INPUT)


def test_only_the_three_libraries_are_boosters():
    assert is_booster(xgboost.XGBRFClassifier())
    assert is_booster(lightgbm.LGBMRanker())
    assert is_booster(catboost.CatBoost())
    assert not is_booster(object())


def test_a_later_xgboost_with_fields_unknown_here_is_refused():
    """Versions 3.3 and 3.4 each changed what a prediction is made of."""
    x, two, _, _ = table()
    booster = xgboost.XGBClassifier(**XGB, n_estimators=2).fit(x, two).get_booster()

    class Later(type(booster)):
        def save_raw(self, raw_format="ubj"):
            dumped = json.loads(bytes(super().save_raw(raw_format)))
            dumped["learner"]["gradient_booster"]["model"]["trees"][0]["tilt"] = [1]
            return bytearray(json.dumps(dumped).encode())

    later = Later(model_file=booster.save_raw())
    with pytest.raises(NoExport, match=r"XGBoost \d.* with fields unknown here: tilt"):
        write_booster(Graph(ml_opset=ML_OPSET), later, INPUT)
