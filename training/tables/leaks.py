"""How much each column alone tells of the target, and which give it away."""

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ROWS_LOOKED_AT = 4_000
CELLS_LOOKED_AT = 400_000
SUSPICIOUS_ACCURACY = 0.98  # balanced over the classes, on rows that the rule was not made from
SUSPICIOUS_R2 = 0.99  # the same figure in another unit, a corrected one, or one it was reckoned from
MIN_ROWS = 40
LATE_MARGIN = 0.1  # how much less a column need tell whose name says that it is known afterwards
_LATE = re.compile(
    r"outcome|result|final|after|post_|closed|cancel|refund|settle|recover|resolution|resolved|discharge|exit|"
    r"returned|repaid|charged_?off|ergebnis|nachher|résultat|resultado|итог|结果",
    re.IGNORECASE,
)


def column_power(frame: pd.DataFrame, target: NDArray[Any], task: str) -> dict[str, float]:
    """Balanced accuracy (or R2) of a small tree on each column alone, in the order of the columns.

    For a regression a straight line is tried too: few rows make a coarse tree. Half of a sample makes the
    rule, the other half judges it. Empty for a table too small to tell.
    """
    if len(frame) < MIN_ROWS:
        return {}
    from sklearn.metrics import balanced_accuracy_score, r2_score  # a second to import
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    rows = min(ROWS_LOOKED_AT, max(1_000, CELLS_LOOKED_AT // frame.shape[1]))
    places = np.random.default_rng(0).permutation(len(frame))[:rows]
    made, judged = places[::2], places[1::2]
    judged = judged[np.isin(target[judged], target[made])] if task != "regression" else judged
    codes = target if task == "regression" else pd.factorize(target)[0]
    power = {}
    for name in frame.columns:
        column = frame[name]
        numeric = column.dtype == "float64"
        x = (column.to_numpy() if numeric else _by_mean(column, codes, made)).reshape(-1, 1)
        if task == "regression":
            tree = DecisionTreeRegressor(max_leaf_nodes=512, min_samples_leaf=2, random_state=0)
            score = r2_score(codes[judged], tree.fit(x[made], codes[made]).predict(x[judged]))
            score = max(score, _line_r2(x[:, 0], codes, made, judged))
        else:
            tree = DecisionTreeClassifier(max_leaf_nodes=16, class_weight="balanced", random_state=0)
            score = balanced_accuracy_score(codes[judged], tree.fit(x[made], codes[made]).predict(x[judged]))
        power[str(name)] = float(score)
    return power


def _line_r2(
    x: NDArray[np.float64], y: NDArray[Any], made: NDArray[np.intp], judged: NDArray[np.intp]
) -> float:
    """R2 of a straight line on rows that it was not made from; where the column is missing, of the mean."""
    there = made[np.isfinite(x[made])]
    if len(there) < 2 or np.ptp(x[there]) == 0:
        return 0.0
    slope, start = np.polyfit(x[there] - x[there].mean(), y[there], 1)
    found = np.where(np.isfinite(x[judged]), slope * (x[judged] - x[there].mean()) + start, y[made].mean())
    error, spread = ((y[judged] - found) ** 2).sum(), ((y[judged] - y[judged].mean()) ** 2).sum()
    return float(1 - error / spread) if spread else 0.0


def suspicious(task: str) -> float:
    """The power from which a column seems to give the target away."""
    return SUSPICIOUS_R2 if task == "regression" else SUSPICIOUS_ACCURACY


def leaking_columns(frame: pd.DataFrame, target: NDArray[Any], task: str) -> list[tuple[str, str]]:
    """Columns that alone all but decide the target, and how well; none where there is only one column."""
    if frame.shape[1] < 2:
        return []
    word = "R2" if task == "regression" else "balanced accuracy"
    power = column_power(frame, target, task)
    return [
        (
            name,
            f"{word} {score:.3f}"
            + (", and its name says that it is known afterwards" if _is_late(name) else ""),
        )
        for name, score in power.items()
        if score >= suspicious(task) - (LATE_MARGIN if _is_late(name) else 0)
    ]


def _is_late(name: str) -> bool:
    """Whether a column's name says that its values are known only after what is to be predicted."""
    return _LATE.search(name) is not None


def _by_mean(column: "pd.Series[Any]", codes: NDArray[Any], made: NDArray[np.intp]) -> NDArray[np.float64]:
    """Categories as their mean target, so that one cut can part them; missing is NaN.

    An unseen one is the mean of all that are there: that a date is there at all may give the target away.
    """
    codes_there = pd.Series(codes[made], dtype="float64")
    means = codes_there.groupby(column.iloc[made].to_numpy(object)).mean()
    there = column.notna().to_numpy()
    found = column.map(means).to_numpy("float64")
    return np.where(np.isnan(found) & there, codes_there[there[made]].mean(), found)
