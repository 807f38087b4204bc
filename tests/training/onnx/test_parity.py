from __future__ import annotations

import numpy as np
import pytest
import skops.io
from sklearn.preprocessing import FunctionTransformer

from artifact.signature import Column, Signature
from artifact.trusted import TRUSTED
from tests.training.made_tables import messy
from tests.training.test_export import CASES, TRAIN, fitted
from training.families.catalog import FAMILIES, WRITERS, build
from training.families.ensemble import ENSEMBLE
from training.families.layout import layout_of
from training.families.preprocessing import WIDE_TEXT
from training.families.scores import scores_of
from training.onnx.convert import convert, sealed
from training.onnx.graph import Graph, NoExport
from training.onnx.parity import MAX_THRESHOLDS, compare, onnx_score, parity_rows, thresholds
from training.onnx.transformers import transform


@pytest.mark.parametrize("name", ["boosting", "forest", "tree", ENSEMBLE])
def test_rows_are_placed_at_the_trees_thresholds(name):
    params = next(p for t, i, n, p in CASES if (t, n) == ("binary", name) and i == name)
    made, pipeline = fitted("binary", name, params)
    found = set(thresholds(pipeline, WRITERS))
    assert {made.signature.feature_names[column] for column, _ in found} >= {"number", "skewed"}
    rows = parity_rows(pipeline, WRITERS, made.signature, made.matrix[:TRAIN], made.matrix[TRAIN:])
    column, value = max(found)
    near = np.float32(value)
    for one in (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))):
        assert (rows[:, column] == np.float64(one)).any() or len(found) > MAX_THRESHOLDS


def test_a_split_between_missing_and_present_places_no_row_at_infinity():
    """CatBoost puts it at float32's lowest number, and a network refuses its neighbour."""
    made = messy("binary", 600, texts=False)
    layout = layout_of(made.signature, 600)
    matrix = made.matrix.copy()
    y = np.isnan(matrix[:, 0]).astype(int)
    families = {each.name: each for each in FAMILIES}
    members = [
        {"family": name, "params": families[name].default(layout), "weight": 1}
        for name in ("catboost", "network")
    ]
    pipeline = build(ENSEMBLE, {"members": members}, layout, "binary", 0).fit(matrix, y)
    assert any(abs(value) >= np.finfo(np.float32).max for _, value in thresholds(pipeline, WRITERS))
    rows = parity_rows(pipeline, WRITERS, made.signature, matrix[:400], matrix[400:])
    assert not np.isinf(rows).any()
    graph = onnx_score(convert(pipeline, made.signature.width, WRITERS).SerializeToString())
    found = compare(made.signature, lambda one: scores_of(pipeline, one, 2), graph, rows, 1e-6)
    assert found.exact, str(found)


TERMS = tuple(f"w{i:03}" for i in range(WIDE_TEXT + 40))
SAID = Signature(
    task="binary",
    target="good",
    classes=("no", "yes"),
    positive="yes",
    columns=(Column(name="said", kind="text", terms=TERMS, idf=(1.0,) * len(TERMS)),),
)


@pytest.mark.parametrize("name", ["boosting", "forest", "extra_trees", "tree"])
def test_trees_over_a_decomposed_text_are_exact_on_rows_that_training_saw(name):
    """Equal texts stand in many rows, so splits lie at their values, where a last digit decides."""
    rng = np.random.default_rng(2)
    texts = np.where(rng.random((500, len(TERMS))) < 0.06, rng.random((500, len(TERMS))), 0.0)
    matrix = texts[rng.integers(0, len(texts), 1_500)]
    y = (matrix[:, :40].sum(axis=1) + rng.normal(0, 0.4, 1_500) > matrix[:, 40:80].sum(axis=1)).astype(int)
    layout = layout_of(SAID, len(matrix))
    family = next(each for each in FAMILIES if each.name == name)
    pipeline = build(name, family.default(layout), layout, "binary", 0).fit(matrix, y)
    graph = onnx_score(convert(pipeline, SAID.width, WRITERS).SerializeToString())
    found = compare(SAID, lambda rows: scores_of(pipeline, rows, 2), graph, matrix, 1e-12)
    assert found.exact, str(found)
    content = skops.io.dumps(pipeline)
    assert set(skops.io.get_untrusted_types(data=content)) <= set(TRUSTED)


@pytest.mark.parametrize("decimals", [0, 3, 6])
def test_rounding_is_that_of_numpy(decimals):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 9, 500), np.arange(-20, 20) / 2, [np.nan]])[:, None]
    step = FunctionTransformer(np.round, kw_args={"decimals": decimals})
    graph = Graph(WRITERS)
    out = transform(graph, step, "X")
    assert out != "X"
    found = onnx_score(sealed(graph, out, 1, 1).SerializeToString())(x)
    assert np.array_equal(found, step.transform(x), equal_nan=True)


def test_rounding_to_tens_has_no_graph():
    with pytest.raises(NoExport, match="rounding to tens"):
        transform(Graph(WRITERS), FunctionTransformer(np.round, kw_args={"decimals": -1}), "X")
