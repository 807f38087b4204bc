"""Columns that give the target away."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ROWS_LOOKED_AT = 4_000
CELLS_LOOKED_AT = 400_000
SUSPICIOUS_ACCURACY = 0.98  # balanced over the classes, on rows that the rule was not made from
SUSPICIOUS_R2 = 0.999
MIN_ROWS = 40


def leaking_columns(frame: pd.DataFrame, target: NDArray[Any], task: str) -> list[tuple[str, str]]:
    """Columns from which alone a small tree tells the target almost without fault, and how well it does.

    Half of a sample makes the rule, the other half judges it. A table of one feature has nothing to suspect.
    """
    if frame.shape[1] < 2 or len(frame) < MIN_ROWS:
        return []
    from sklearn.metrics import balanced_accuracy_score, r2_score  # noqa: PLC0415 - a second to import
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # noqa: PLC0415

    rows = min(ROWS_LOOKED_AT, max(1_000, CELLS_LOOKED_AT // frame.shape[1]))
    places = np.random.default_rng(0).permutation(len(frame))[:rows]
    made, judged = places[::2], places[1::2]
    regression = task == "regression"
    codes = target if regression else pd.factorize(target)[0]
    if not regression and len(np.unique(codes[made])) < 2:
        return []
    found = []
    for name in frame.columns:
        column = frame[name]
        values = column.to_numpy() if column.dtype == "float64" else _frequent_codes(column, codes, made)
        x = np.asarray(values, np.float64).reshape(-1, 1)
        if regression:
            tree = DecisionTreeRegressor(max_leaf_nodes=512, min_samples_leaf=2, random_state=0)
            score = r2_score(codes[judged], tree.fit(x[made], codes[made]).predict(x[judged]))
            if score >= SUSPICIOUS_R2:
                found.append((str(name), f"R2 {score:.4f}"))
        else:
            tree = DecisionTreeClassifier(max_leaf_nodes=16, class_weight="balanced", random_state=0)
            score = balanced_accuracy_score(codes[judged], tree.fit(x[made], codes[made]).predict(x[judged]))
            if score >= SUSPICIOUS_ACCURACY:
                found.append((str(name), f"balanced accuracy {score:.3f}"))
    return found


def _frequent_codes(
    column: "pd.Series[Any]", codes: NDArray[Any], made: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Categories in the order of their mean target, so that one cut can part them; unseen and missing are NaN."""
    means = pd.Series(codes[made], dtype="float64").groupby(column.iloc[made].to_numpy(object)).mean()
    return column.map(means).to_numpy("float64")
