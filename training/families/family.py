"""What a family of models is: its search space, its pipeline, and the writers of its ONNX graph.

Every pipeline takes the encoded matrix (`artifact.encode`) and is made of scikit-learn's own parts, or of
those and a booster, so that it exports to ONNX and loads from skops on our own list of types. Classifiers are
fitted on class indices, 0 to k - 1, in the order of `Signature.classes`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sklearn.pipeline import Pipeline

from training.families.optional import library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna.trial import BaseTrial
    from sklearn.compose import ColumnTransformer

    from artifact.signature import Task
    from training.families.layout import Layout
    from training.onnx.graph import Writer

Params = dict[str, Any]

CLASSES = frozenset({"binary", "multiclass"})
ALL_TASKS = CLASSES | {"regression"}

ROUND_ROWS = 15_000
"""A round of boosting takes as long as if there were this many more rows: small trees take time too."""
WIDE = 500
"""Columns beyond which a table counts as wide: a decomposed text has fewer."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of model.

    Parameters
    ----------
    default
        Parameters of its first trial, within what `suggest` can give.
    suggest
        Draws parameters for a trial, each named `FAMILY.parameter`.
    build
        An unfitted pipeline over the matrix.
    affordable
        Whether rows, matrix columns and classes (0: regression) let a trial finish in seconds.
    second
        What to change in the default for another first trial, where a small budget would else never leave it;
        empty for none.
    writers
        For each type of fitted predictor in its pipelines, how it becomes nodes of an ONNX graph.
    package
        The module that it needs beside those of the group `training`; empty for none.
    fit_seconds
        About how long a fit on so many rows takes on one core, measured on 18 columns.
    row_us
        About what a row costs as served, in microseconds on one core, for a model that was fitted on so many
        rows, beside what its text costs.
    max_fit_rows
        The most rows of a fit: with more, the fit would take too long or the model would be too large.
    rounds
        The parameter that says how many rounds boosting has; empty for other families.
    """

    name: str
    title: str
    tasks: frozenset[str]
    default: Callable[[Layout], Params]
    suggest: Callable[[BaseTrial, Layout], Params]
    build: Callable[[Mapping[str, Any], Layout, Task, int], Pipeline]
    affordable: Callable[[int, int, int], bool]
    second: Callable[[Layout], Params] = lambda _layout: {}
    writers: Mapping[type, Writer] = field(default_factory=dict)
    package: str = ""
    fit_seconds: Callable[[Mapping[str, Any], Layout, int], float] = lambda _params, _layout, rows: (
        1e-5 * rows
    )
    row_us: Callable[[Mapping[str, Any], Layout, int], float] = lambda _params, layout, _rows: (
        0.002 * layout.width
    )
    max_fit_rows: Callable[[Mapping[str, Any], Layout], int] = lambda _params, _layout: sys.maxsize
    rounds: str = ""

    @property
    def installed(self) -> bool:
        """Whether what it needs is here."""
        return not self.package or library(self.package) is not None


def weight(trial: BaseTrial, name: str, layout: Layout) -> Params:
    """Whether classes are weighted, where the search tries that."""
    if not layout.weighted:
        return {}
    return {"class_weight": trial.suggest_categorical(f"{name}.class_weight", [None, "balanced"])}


def no_weight(layout: Layout) -> Params:
    """Of a first trial; left open, the sampler would draw one."""
    return {"class_weight": None} if layout.weighted else {}


def skew_of(trial: BaseTrial, name: str, layout: Layout) -> str:
    """The scaler of the numbers: "standard", "power", or "range" where they are of one unit."""
    kinds = ["standard", "power", *(["range"] if layout.one_unit else [])]
    skew: str = trial.suggest_categorical(f"{name}.skew", kinds)
    return skew


def by_range(layout: Layout) -> Params:
    """For `Family.second`: numbers of one unit keep how far each of them spreads."""
    return {"skew": "range"} if layout.one_unit else {}


def boosting_seconds(scale: float, layout: Layout, rows: int, rounds: int, depth: float) -> float:
    """For `Family.fit_seconds`; `scale` is the seconds of one cell, round, tree and level of depth."""
    return scale * (rows + ROUND_ROWS) * layout.cost * rounds * layout.trees_a_round * depth


def pipeline_of(columns: ColumnTransformer, model: Any) -> Pipeline:
    """The preprocessing and the model."""
    return Pipeline([("columns", columns), ("model", model)])
