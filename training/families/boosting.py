"""Histogram gradient boosting, which splits native categories by sets of them."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.preprocessing import FunctionTransformer

from training.families.family import ALL_TASKS, Family, boosting_seconds, no_weight, pipeline_of, weight
from training.families.preprocessing import columns_of, target_encoder, terms
from training.onnx.graph import ML_OPSET, Writer
from training.onnx.trees import histogram_sums

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from optuna.trial import BaseTrial
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    from artifact.signature import Task
    from training.families.family import Params
    from training.families.layout import Layout
    from training.onnx.graph import Graph


def _columns(
    layout: Layout, task: Task, seed: int, *, categories: str
) -> tuple[ColumnTransformer, list[int]]:
    """For gradient boosting, and which of its columns are native categories."""
    native = layout.native if categories == "native" else ()
    rest = tuple(c for c in layout.categories if c not in native)
    columns = columns_of(
        ("native", "passthrough", native),
        ("numbers", "passthrough", layout.numbers),
        ("coded", target_encoder(task, seed), rest),
        ("terms", terms(layout, seed, dense=True, rounded=True), layout.terms),
        ("counts", "passthrough", layout.counts),
    )
    return columns, list(range(len(native)))


def _rounds(layout: Layout) -> int:
    """The largest number of boosting rounds; each grows a tree for each class, slower on a larger table."""
    trees = layout.trees_a_round
    cells = layout.rows * max(1, layout.cost) * trees
    return int(np.clip(min(1_000 // trees, 240_000_000 // cells), 40, 400))


def _suggest(trial: BaseTrial, layout: Layout) -> Params:
    params = {
        "learning_rate": trial.suggest_float("boosting.learning_rate", 0.02, 0.3, log=True),
        "max_iter": trial.suggest_int("boosting.max_iter", 30, _rounds(layout), log=True),
        "max_leaf_nodes": trial.suggest_int("boosting.max_leaf_nodes", 4, 63, log=True),
        "min_samples_leaf": trial.suggest_int("boosting.min_samples_leaf", 2, 60, log=True),
        "l2_regularization": trial.suggest_float("boosting.l2_regularization", 1e-3, 10.0, log=True),
        "max_features": trial.suggest_float("boosting.max_features", 0.3, 1.0),
        **weight(trial, "boosting", layout),
    }
    if layout.categories:
        params["categories"] = trial.suggest_categorical("boosting.categories", ["native", "target"])
    return params


def _default(layout: Layout) -> Params:
    return {
        "learning_rate": 0.08,
        "max_iter": min(150, _rounds(layout)),
        "max_leaf_nodes": 15 if layout.rows <= 5_000 else 31,
        "min_samples_leaf": 10 if layout.rows <= 1_000 else 20,
        "l2_regularization": 0.1,
        "max_features": 0.7,
        **no_weight(layout),
    } | ({"categories": "native"} if layout.categories else {})


def _build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    columns, native = _columns(layout, task, seed, categories=params.get("categories", "target"))
    names = (
        "learning_rate",
        "max_iter",
        "max_leaf_nodes",
        "min_samples_leaf",
        "l2_regularization",
        "max_features",
    )
    kwargs = {key: params[key] for key in names}
    kwargs |= {"early_stopping": False, "random_state": seed, "categorical_features": native or None}
    if layout.classes:
        model = HistGradientBoostingClassifier(class_weight=params.get("class_weight"), **kwargs)
    else:
        model = HistGradientBoostingRegressor(**kwargs)
    return pipeline_of(columns, model)


def _write(graph: Graph, model: Any, x: str) -> str:
    """Sums of trees in float64, as scikit-learn compares; native categories are sets of remapped codes."""
    known: list[NDArray[Any]] = []
    if model._preprocessor is not None:  # noqa: SLF001 - the order of its columns is nowhere else
        x, known = _native_order(graph, model, x)
    raw = histogram_sums(graph, model, x, known)
    if isinstance(model, HistGradientBoostingRegressor):
        return raw
    return (
        graph.complement(graph.op("Sigmoid", raw))
        if model.n_trees_per_iteration_ == 1
        else graph.softmax(raw)
    )


def _native_order(graph: Graph, model: Any, x: str) -> tuple[str, list[NDArray[Any]]]:
    """The columns as the model's own preprocessor orders and codes them, unknown categories as NaN."""
    native = np.flatnonzero(model.is_categorical_)
    numbers = np.flatnonzero(~model.is_categorical_)
    known = model._preprocessor.named_transformers_["encoder"].categories_  # noqa: SLF001
    sizes = [int(np.nanmax(each)) + 3 for each in known]  # from -1 on, and one for codes beyond
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    table = np.full(sum(sizes), np.nan)
    coded: list[NDArray[Any]] = []
    for start, each in zip(starts, known, strict=True):
        table[start + each.astype(int) + 1] = np.arange(len(each))
        coded.append(each)
    codes = graph.gather(x, native.tolist())
    high = np.array([sizes], np.float64) - 2
    codes = graph.op("Max", graph.op("Min", codes, graph.constant(high)), graph.constant([[-1.0]]))
    index = graph.cast(graph.add(codes, (starts + 1.0)[None, :]), TensorProto.INT64)
    parts = [graph.op("Gather", graph.constant(table), index, axis=0)]
    if len(numbers):
        parts.append(graph.gather(x, numbers.tolist()))
    return graph.concat(parts), coded


def _thresholds(model: Any) -> Iterator[tuple[int, float]]:
    native = np.zeros(model.n_features_in_, bool) if model.is_categorical_ is None else model.is_categorical_
    order = [*np.flatnonzero(native), *np.flatnonzero(~native)]
    for predictor in (one for round_ in model._predictors for one in round_):  # noqa: SLF001
        nodes = predictor.nodes[(predictor.nodes["is_leaf"] == 0) & (predictor.nodes["is_categorical"] == 0)]
        places = [int(order[i]) for i in nodes["feature_idx"]]
        yield from zip(places, nodes["num_threshold"].tolist(), strict=True)


def _strip(model: Any) -> None:
    """Boosting with native categories keeps a function that checks its input.

    The encoded matrix needs no check, and no server opens a function.
    """
    if getattr(model, "_preprocessor", None) is not None:
        for _, step, _ in (*model._preprocessor.transformers, *model._preprocessor.transformers_):  # noqa: SLF001
            if isinstance(step, FunctionTransformer):
                step.func = None


_WRITER = Writer(_write, thresholds=_thresholds, strip=_strip, ml_opset=ML_OPSET)

FAMILY = Family(
    name="boosting",
    title="Histogram gradient boosting",
    tasks=ALL_TASKS,
    default=_default,
    suggest=_suggest,
    build=_build,
    affordable=lambda _rows, _width, classes: classes <= 30,
    fit_seconds=lambda params, layout, rows: boosting_seconds(
        9e-10, layout, rows, params["max_iter"], log2(params["max_leaf_nodes"])
    ),
    row_us=lambda params, layout, _rows: (
        0.01 * params["max_iter"] * layout.trees_a_round * log2(params["max_leaf_nodes"])
    ),
    rounds="max_iter",
    writers={HistGradientBoostingClassifier: _WRITER, HistGradientBoostingRegressor: _WRITER},
)
