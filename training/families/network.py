"""A neural network of one or two hidden layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from training.families.family import ALL_TASKS, WIDE, Family, by_range, pipeline_of, skew_of
from training.families.preprocessing import scaled, scaled_target
from training.onnx.graph import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.trial import BaseTrial
    from sklearn.pipeline import Pipeline

    from artifact.signature import Task
    from training.families.family import Params
    from training.families.layout import Layout
    from training.onnx.graph import Graph


def _suggest(trial: BaseTrial, layout: Layout) -> Params:
    return {
        "skew": skew_of(trial, "network", layout),
        "units": trial.suggest_categorical("network.units", [16, 64, 128]),
        "layers": trial.suggest_int("network.layers", 1, 2),
        "alpha": trial.suggest_float("network.alpha", 1e-5, 1.0, log=True),
        "learning_rate": trial.suggest_float("network.learning_rate", 5e-4, 1e-2, log=True),
    }


def _build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    columns = scaled(layout, task, seed, skew=params["skew"], dense=True)
    kwargs = {
        "hidden_layer_sizes": (params["units"],) * params["layers"],
        "alpha": params["alpha"],
        "learning_rate_init": params["learning_rate"],
        "batch_size": int(np.clip(layout.rows // 20, 16, 256)),
        "max_iter": int(np.clip(600_000 // max(1, layout.rows), 20, 200)),
        "early_stopping": layout.rows > 2_000,
        "n_iter_no_change": 8,
        "random_state": seed,
    }
    if layout.classes:
        return pipeline_of(columns, MLPClassifier(**kwargs))
    return pipeline_of(columns, scaled_target(MLPRegressor(**kwargs)))


_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid", "identity": "Identity"}


def _write(graph: Graph, model: MLPClassifier | MLPRegressor, x: str) -> str:
    last = len(model.coefs_) - 1
    for i, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        x = graph.add(graph.matmul(x, weights), bias[None, :])
        if i < last:
            x = graph.op(_ACTIVATIONS[model.activation], x)
    if isinstance(model, MLPRegressor):
        return x
    if model.out_activation_ == "logistic":
        return graph.complement(graph.op("Sigmoid", x))
    return graph.softmax(x)


FAMILY = Family(
    name="network",
    title="Neural network",
    tasks=ALL_TASKS,
    default=lambda _layout: {
        "skew": "standard",
        "units": 64,
        "layers": 1,
        "alpha": 1e-2,
        "learning_rate": 2e-3,
    },
    suggest=_suggest,
    build=_build,
    affordable=lambda rows, width, _classes: rows * min(width, WIDE) <= 4_000_000,
    second=by_range,
    fit_seconds=lambda params, _layout, rows: 2e-5 * rows * params["units"] / 64 * params["layers"],
    row_us=lambda params, layout, _rows: 0.001 * params["units"] * (layout.width + params["units"]),
    writers={MLPClassifier: Writer(_write), MLPRegressor: Writer(_write)},
)
