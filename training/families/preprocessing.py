"""What stands before the models of several families: imputing, scaling, and encoding categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import TruncatedSVD
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    StandardScaler,
    TargetEncoder,
)

if TYPE_CHECKING:
    from artifact.signature import Task
    from training.families.layout import Layout

WIDE_TEXT = 100
"""Terms up to which trees and distances see each; beyond, through a singular value decomposition."""
TEXT_COMPONENTS, GRID_DECIMALS = 64, 6


def columns_of(*steps: tuple[str, Any, tuple[int, ...]]) -> ColumnTransformer:
    """Named steps, each for some columns of the matrix; a step without a column is left out."""
    present = [(name, step, list(places)) for name, step, places in steps if places]
    return ColumnTransformer(present, verbose_feature_names_out=False)


def _imputer(*, indicator: bool = False) -> SimpleImputer:
    # Without keep_empty_features a column that is all missing in one fold would change the width.
    return SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=indicator)


def target_encoder(task: Task, seed: int) -> TargetEncoder:
    """Replaces a category by the mean of its target, cross-fitted."""
    kind = {"binary": "binary", "multiclass": "multiclass", "regression": "continuous"}[task]
    return TargetEncoder(target_type=kind, cv=5, shuffle=True, random_state=seed)


def terms(layout: Layout, seed: int, *, dense: bool, rounded: bool = False) -> Any:
    """TF-IDF columns: unchanged where they are few, else sparse, or decomposed for a model of few columns.

    With `rounded` the decomposed columns are rounded to a grid, so that trees split a row the same way in
    training and in serving: the last digits of a sum of products differ, and a tree may split between them.
    """
    if len(layout.terms) <= WIDE_TEXT:
        return "passthrough"
    sparse = FunctionTransformer(csr_matrix, accept_sparse=True)
    if not dense:
        return sparse
    steps = [("sparse", sparse), ("svd", TruncatedSVD(TEXT_COMPONENTS, random_state=seed))]
    if rounded:
        steps.append(("grid", FunctionTransformer(np.round, kw_args={"decimals": GRID_DECIMALS})))
    return Pipeline(steps)


def scaled(
    layout: Layout, task: Task, seed: int, *, skew: str, dense: bool, letters: bool = False
) -> ColumnTransformer:
    """For models that add columns up or measure distances: one scale, nothing missing.

    With `letters`, a text's runs of letters stand in place of its counts, which tell little more then.
    """
    scaler = {"standard": StandardScaler, "power": PowerTransformer, "range": MinMaxScaler}[skew]()
    return columns_of(
        ("numbers", Pipeline([("impute", _imputer(indicator=True)), ("scale", scaler)]), layout.numbers),
        ("few", OneHotEncoder(handle_unknown="ignore", sparse_output=False), layout.one_hot),
        (
            "many",
            Pipeline([("target", target_encoder(task, seed)), ("scale", StandardScaler())]),
            layout.many,
        ),
        ("terms", terms(layout, seed, dense=dense), layout.terms),
        ("letters", FunctionTransformer(csr_matrix, accept_sparse=True), layout.letters if letters else ()),
        ("counts", StandardScaler(), () if letters else layout.counts),
    )


def ordered(layout: Layout, task: Task, seed: int) -> ColumnTransformer:
    """For trees, which need no scaling; a category of many is replaced by the mean of its target."""
    return columns_of(
        ("numbers", "passthrough", layout.numbers),
        ("few", OneHotEncoder(handle_unknown="ignore", sparse_output=False), layout.one_hot),
        ("many", target_encoder(task, seed), layout.many),
        ("terms", terms(layout, seed, dense=True, rounded=True), layout.terms),
        ("counts", "passthrough", layout.counts),
    )


def scaled_target(model: Any) -> TransformedTargetRegressor:
    """A regression that is fitted on the standardised target."""
    return TransformedTargetRegressor(model, transformer=StandardScaler())
