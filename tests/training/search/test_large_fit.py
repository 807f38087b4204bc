"""Fits on a large matrix: the same models, without copies of the matrix."""

from __future__ import annotations

import tracemalloc

import numpy as np
import psutil
import pytest
from sklearn.base import clone

from tests.training.made_tables import messy
from training.families.catalog import FAMILIES, WRITERS, build
from training.families.layout import Layout, layout_of
from training.families.scores import scores_of
from training.metrics.truth import truth_of
from training.onnx.convert import convert
from training.onnx.parity import onnx_score
from training.search import large_fit, last_fit
from training.search.last_fit import fit_last, plan_of

from .test_last_fit import SPEC, result_of


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("name", ["boosting", "catboost", "network", "forest", "linear"])
def test_columns_are_prepared_as_scikit_learn_prepares_them(task, name, monkeypatch):
    """The values of `fit_transform`, and a fitted step that gives the values of `transform`; for any rows."""
    monkeypatch.setattr(large_fit, "ROWS_AT_ONCE", 37)
    made = messy(task, 300)
    layout = layout_of(made.signature, 300)
    y = truth_of(task, made.labels, made.signature.classes).y
    family = next(each for each in FAMILIES if each.name == name)
    columns = build(name, family.default(layout), layout, task, 0)[0]
    own, rows = clone(columns), np.arange(0, 300, 2)
    expected = own.fit_transform(made.matrix[rows], y[rows])
    found = large_fit.prepare(columns, made.matrix.astype(np.float32), rows, y[rows], np.float64)
    dense = expected.toarray() if hasattr(expected, "toarray") else expected
    assert np.allclose(found, dense, rtol=0, atol=1e-6, equal_nan=True)
    before, after = own.transform(made.matrix), columns.transform(made.matrix)
    before, after = (each.toarray() if hasattr(each, "toarray") else each for each in (before, after))
    assert np.allclose(after, before, rtol=0, atol=1e-6, equal_nan=True)
    assert columns.output_indices_ == own.output_indices_


@pytest.mark.parametrize("name", [each.name for each in FAMILIES])
def test_a_large_fit_is_served_as_a_small_one_is(name, monkeypatch):
    """The scores are near those of the usual fit, and the graph is exact."""
    made = messy("binary", 400, texts=False)
    result = result_of({name: 0.1}, made=made)
    monkeypatch.setattr(last_fit, "LARGE_BYTES", 1)
    plan = plan_of(result, 400)
    model, _ = fit_last(plan, result, made.matrix, made.labels, made.signature, SPEC)
    monkeypatch.undo()
    usual, _ = fit_last(plan, result, made.matrix, made.labels, made.signature, SPEC)
    scores, others = (scores_of(each, made.matrix, 2) for each in (model, usual))
    assert np.abs(scores - others).mean() < 0.02
    graph = convert(model, made.signature.width, WRITERS).SerializeToString()
    assert np.allclose(onnx_score(graph)(made.matrix), scores, rtol=0, atol=1e-6, equal_nan=True)


def test_preparing_a_large_matrix_holds_its_result_and_little_else(monkeypatch):
    """The medians and scales of a tenth of the rows are near those of all of them."""
    monkeypatch.setattr(large_fit, "LEARNT_ROWS", 6_000)
    monkeypatch.setattr(large_fit, "ROWS_AT_ONCE", 5_000)
    rows = np.arange(60_000)
    matrix, y = np.random.default_rng(0).normal(size=(len(rows), 20)), rows % 2
    matrix[::7, 3] = np.nan
    layout = Layout(tuple(range(20)), (), (), (), rows=400, classes=2)
    family = next(each for each in FAMILIES if each.name == "network")
    columns, network = build("network", family.default(layout), layout, "binary", 0)
    dtype = large_fit.dtype_of(network)
    peaks, found = [], []
    for fit in (columns.fit_transform, lambda *_: large_fit.prepare(columns, matrix, rows, y, dtype)):
        tracemalloc.start()
        found.append(fit(matrix, y))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert found[1].dtype == np.float32
    assert np.abs(found[0] - found[1]).mean() < 0.05
    assert peaks[1] < 0.5 * peaks[0]


def test_a_large_matrix_is_held_in_a_file_that_is_read_again_when_it_is_used():
    """What it holds is the same before and after `unload`, and its pages count for the process no longer."""
    matrix = np.random.default_rng(0).normal(size=(400_000, 20))
    mapped = large_fit.in_a_file(matrix)
    assert np.array_equal(mapped, matrix)
    held = [psutil.Process().memory_info().shared]
    large_fit.unload(mapped)
    held.append(psutil.Process().memory_info().shared)
    assert held[0] - held[1] > 0.9 * matrix.nbytes
    assert np.array_equal(mapped[:, [3, 1]], matrix[:, [3, 1]])
    part = mapped[7:]
    large_fit.unload(part)
    assert np.array_equal(part, matrix[7:])


def test_a_matrix_stays_in_memory_where_it_is_small_or_no_file_can_be_written(monkeypatch):
    small = np.zeros((10, 2))
    assert large_fit.in_a_file(small) is small
    large_fit.unload(small)

    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(large_fit, "TemporaryFile", full)
    large = np.zeros((1_000, 7_000))
    assert large_fit.in_a_file(large) is large
