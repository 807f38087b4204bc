"""Factors of users and items, for a use case that ranks: see `training.families.factorization`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto
from sklearn.compose import ColumnTransformer

from training.families.factorization import Factorization
from training.families.family import Family, pipeline_of
from training.families.preprocessing import scaled
from training.onnx.graph import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.trial import BaseTrial
    from sklearn.pipeline import Pipeline

    from artifact.signature import Task
    from training.families.family import Params
    from training.families.layout import Layout
    from training.onnx.graph import Graph

MAX_RANK, MAX_SWEEPS = 32, 40


def _suggest(trial: BaseTrial, _layout: Layout) -> Params:
    return {
        "rank": trial.suggest_int("factors.rank", 1, MAX_RANK, log=True),
        "sweeps": trial.suggest_int("factors.sweeps", 5, MAX_SWEEPS),
    }


def _build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    model = Factorization(rank=params["rank"], sweeps=params["sweeps"], random_state=seed)
    return pipeline_of(columns(layout, task, seed), model)


def columns(layout: Layout, task: Task, seed: int) -> ColumnTransformer:
    """Users and items as they are, then the other columns as linear models have them."""
    assert layout.pair is not None  # noqa: S101 - only such tables are given to it
    kept = [
        (place, count)
        for place, count in zip(layout.categories, layout.levels, strict=True)
        if place not in layout.pair
    ]
    rest = replace(
        layout,
        categories=tuple(place for place, _ in kept),
        levels=tuple(count for _, count in kept),
        pair=None,
    )
    others = scaled(rest, task, seed, skew="standard", dense=True) if rest.width else None
    steps = [("pair", "passthrough", list(layout.pair)), *(others.transformers if others else [])]
    return ColumnTransformer(steps, verbose_feature_names_out=False)


def _write(graph: Graph, model: Factorization, x: str) -> str:
    user = _vectors(graph, x, 0, model.users_)
    item = _vectors(graph, x, 1, model.items_)
    rank = model.users_.shape[1] - 1
    factors, bias = list(range(rank)), [rank]
    product = graph.op("Mul", graph.gather(user, factors), graph.gather(item, factors))
    parts = [graph.row_sum(product), graph.gather(user, bias), graph.gather(item, bias)]
    if model.coef_.size:
        rest = graph.gather(x, list(range(2, 2 + model.coef_.size)))
        parts.append(graph.matmul(rest, model.coef_[:, None]))
    return graph.add(graph.op("Sum", *parts), [[model.mean_]])


def _vectors(graph: Graph, x: str, column: int, table: Any) -> str:
    """The vector of each row's code; a code that no row of the fit had gets that of an unknown code."""
    code = graph.op("Squeeze", graph.gather(x, [column]), graph.constant([1], np.int64))
    place = graph.cast(graph.add(code, 1.0), TensorProto.INT64)
    known = graph.op("Less", place, graph.constant(len(table), np.int64))
    place = graph.op("Where", known, place, graph.constant(0, np.int64))
    return graph.op("Gather", graph.constant(table), place, axis=0)


FAMILY = Family(
    name="factors",
    title="Matrix factorisation",
    tasks=frozenset({"regression"}),
    default=lambda _layout: {"rank": 8, "sweeps": MAX_SWEEPS},
    suggest=_suggest,
    build=_build,
    affordable=lambda _rows, _width, _classes: True,
    second=lambda _layout: {"rank": 24},
    writers={Factorization: Writer(_write)},
)
