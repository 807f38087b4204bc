"""Linear and logistic regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge

from training.families.family import ALL_TASKS, Family, no_weight, pipeline_of, skew_of, weight
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


WORDS, LETTERS = "words", "words and letters"
"""What a linear model sees of a text; docs/decisions/0054-letters-beside-words.md."""


def _suggest(trial: BaseTrial, layout: Layout) -> Params:
    params: Params = {"skew": skew_of(trial, "linear", layout)}
    if layout.letters:
        params["text"] = trial.suggest_categorical("linear.text", [WORDS, LETTERS])
    if layout.classes:
        params["C"] = trial.suggest_float("linear.C", 1e-3, 1e3, log=True)
        return params | weight(trial, "linear", layout)
    kind = trial.suggest_categorical("linear.penalty", ["none", "ridge", "elastic"])
    params["penalty"] = kind
    if kind == "ridge":
        params["alpha"] = trial.suggest_float("linear.alpha", 1e-2, 1e3, log=True)
    elif kind == "elastic":
        params["strength"] = trial.suggest_float("linear.strength", 1e-4, 1.0, log=True)
        params["l1_ratio"] = trial.suggest_float("linear.l1_ratio", 0.1, 1.0)
    return params


def _build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    columns = scaled(
        layout, task, seed, skew=params["skew"], dense=False, letters=params.get("text") == LETTERS
    )
    model: Any
    if layout.classes:
        model = LogisticRegression(
            C=params["C"], class_weight=params.get("class_weight"), max_iter=1000, random_state=seed
        )
    elif params["penalty"] == "none":
        model = LinearRegression()
    elif params["penalty"] == "ridge":
        model = Ridge(alpha=params["alpha"], random_state=seed)
    else:
        # With the target scaled a strength means the same whatever its unit.
        model = scaled_target(
            ElasticNet(
                alpha=params["strength"], l1_ratio=params["l1_ratio"], max_iter=2000, random_state=seed
            )
        )
    return pipeline_of(columns, model)


def _write_linear(graph: Graph, model: LinearRegression | Ridge | ElasticNet, x: str) -> str:
    return graph.affine(x, model.coef_, model.intercept_)


def _write_logistic(graph: Graph, model: LogisticRegression, x: str) -> str:
    decision = graph.affine(x, model.coef_, model.intercept_)
    if len(model.classes_) == 2:
        return graph.complement(graph.op("Sigmoid", decision))
    return graph.softmax(decision)


FAMILY = Family(
    name="linear",
    title="Linear or logistic regression",
    tasks=ALL_TASKS,
    default=lambda layout: (
        {"skew": "standard"}
        | ({"text": LETTERS} if layout.letters else {})
        | ({"C": 1.0} if layout.classes else {"penalty": "none"})
        | no_weight(layout)
    ),
    suggest=_suggest,
    build=_build,
    affordable=lambda _rows, _width, _classes: True,
    second=lambda layout: {"C": 30.0} if layout.classes else {"penalty": "ridge", "alpha": 10.0},
    writers={
        LinearRegression: Writer(_write_linear),
        Ridge: Writer(_write_linear),
        ElasticNet: Writer(_write_linear),
        LogisticRegression: Writer(_write_logistic),
    },
)
