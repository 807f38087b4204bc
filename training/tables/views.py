"""Which views of a picture tell the classes apart best: a quick model judges each combination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.kinds.image import content_of, features_of, square_of
from artifact.signature import VIEW_WIDTHS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from artifact.signature import View

MAX_PICTURES = 2_000
FOLDS = 3
COMBINATIONS: tuple[tuple[View, ...], ...] = (
    ("histogram",),
    ("grey",),
    ("colour",),
    ("gradients",),
    ("grey", "gradients"),
    ("gradients", "histogram"),
    ("colour", "gradients", "histogram"),
)


def best_views(cells: Sequence[str], target: NDArray[Any]) -> tuple[tuple[View, ...], dict[str, float]]:
    """The narrowest combination whose held-out score is within a standard error of the best.

    Parameters
    ----------
    cells
        The training pictures.
    target
        Their labels, or numbers of a regression: shape (len(cells),).

    Returns
    -------
    The views, and the score of each combination: the accuracy, or R2, of a linear model over three folds.
    """
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chosen = np.arange(len(cells))
    if len(cells) > MAX_PICTURES:
        chosen = np.sort(np.random.default_rng(0).choice(len(cells), MAX_PICTURES, replace=False))
    squares = [square_of(content_of(cells[i])) for i in chosen.tolist()]
    labels = target[chosen]
    views = {view: np.array([features_of(square, [view]) for square in squares]) for view in VIEW_WIDTHS}
    numbers = labels.dtype.kind == "f"
    if numbers:
        model, folds = Ridge(alpha=10.0), KFold(FOLDS, shuffle=True, random_state=0)
    else:
        labels = np.unique(labels.astype(str), return_inverse=True)[1]
        model = LogisticRegression(max_iter=100, C=0.01)
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        if np.bincount(labels).min() < FOLDS:
            folds = KFold(FOLDS, shuffle=True, random_state=0)
    found: dict[tuple[View, ...], NDArray[np.float64]] = {}
    for combination in COMBINATIONS:
        matrix = np.concatenate([views[view] for view in combination], axis=1)
        scores = cross_val_score(make_pipeline(StandardScaler(), model), matrix, labels, cv=folds)
        found[combination] = np.nan_to_num(scores, nan=-1.0)
    best = max(found, key=lambda each: found[each].mean())
    enough = found[best].mean() - found[best].std(ddof=1) / np.sqrt(FOLDS)
    narrow = min(
        (each for each in found if found[each].mean() >= enough),
        key=lambda each: sum(VIEW_WIDTHS[view] for view in each),
    )
    return narrow, {" + ".join(each): float(scores.mean()) for each, scores in found.items()}
