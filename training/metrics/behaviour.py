"""How a model uses its columns: importances, curves of partial dependence, and what noise changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.metrics.dependence import Dependence, dependences
from training.metrics.importances import MAX_SCORED_ROWS, Importance, importances
from training.metrics.robustness import Robustness, robustness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from artifact.signature import Signature


@dataclass(frozen=True)
class Behaviour:
    """How a model uses its columns.

    Parameters
    ----------
    importances
        The highest first; empty without true values.
    robust
        None without number columns that vary, and if nothing was measured.
    unmeasured
        Why nothing was measured; empty otherwise.
    """

    importances: tuple[Importance, ...] = ()
    dependences: tuple[Dependence, ...] = ()
    robust: Robustness | None = None
    unmeasured: str = ""


def behaviour(
    score: Callable[[NDArray[Any]], NDArray[np.float64]],
    matrix: NDArray[Any],
    y: Sequence[Any] | NDArray[Any] | None,
    signature: Signature,
    metric: str,
    *,
    max_scored: int = MAX_SCORED_ROWS,
    seed: int = 0,
) -> Behaviour:
    """Measure it on rows.

    Parameters
    ----------
    matrix
        The rows as the model reads them, shape (rows, signature.width).
    y
        Their labels or values; None where the table has none.
    max_scored
        About how many rows are scored for the importances.
    """
    found = (
        []
        if y is None
        else importances(score, matrix, y, signature, metric, max_scored=max_scored, seed=seed)
    )
    names = [each.column for each in found] or signature.names
    return Behaviour(
        importances=tuple(found),
        dependences=tuple(dependences(score, matrix, signature, names, seed=seed)),
        robust=robustness(score, matrix, signature, seed=seed),
    )
