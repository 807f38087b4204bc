"""How a model that was made elsewhere uses its columns, within a bounded number of rows and seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training.imported.answers import reason_of
from training.metrics.behaviour import Behaviour, behaviour
from training.metrics.dependence import MAX_COLUMNS, MAX_POINTS
from training.metrics.importances import MIN_REPEATS
from training.metrics.robustness import REPEATS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.manifest import Score
    from artifact.signature import Signature

MAX_SECONDS = 20.0
MAX_SCORED_ROWS = 20_000
MAX_ROWS, MIN_ROWS = 500, 30


def reliance(
    score: Score,
    rows: NDArray[Any],
    truth: NDArray[Any] | None,
    signature: Signature,
    metric: str,
    *,
    row_s: float,
) -> Behaviour:
    """Measure it on raw rows, by the model's own library.

    Parameters
    ----------
    truth
        The labels or values of the rows; None where the table has none.
    row_s
        The seconds that the model takes for one of many rows.
    """
    # Half the rows that are scored are for the importances, each of the others is scored this often.
    scored = int(min(MAX_SCORED_ROWS, MAX_SECONDS / max(row_s, 1e-9) / 2))
    times = max(MIN_REPEATS * len(signature.columns), MAX_COLUMNS * MAX_POINTS + REPEATS + 1)
    most = int(np.clip(scored // times, 0, MAX_ROWS))
    needed = min(MIN_ROWS, len(rows))
    if most < needed and scored < MAX_SCORED_ROWS:
        return Behaviour(
            unmeasured=f"a row takes {row_s * 1000:,.0f} ms, and the {needed * times:,} rows that have to be "
            f"scored would take longer than {MAX_SECONDS:.0f} s"
        )
    if len(rows) > max(most, needed):
        random = np.random.default_rng(0)
        chosen = np.sort(random.choice(len(rows), max(most, needed), replace=False))
        rows, truth = rows[chosen], None if truth is None else truth[chosen]
    try:
        return behaviour(_finite(score), rows, truth, signature, metric, max_scored=scored)
    except Exception as error:  # noqa: BLE001 - whatever a model raises on rows that no table has
        return Behaviour(
            unmeasured=f"the model fails on rows whose cells come from several rows: {reason_of(error)}"
        )


def _finite(score: Score) -> Score:
    """The score that raises what the model answers without a finite number."""

    def found(rows: NDArray[Any]) -> NDArray[np.float64]:
        scores = score(rows)
        if not np.isfinite(scores).all():
            raise ValueError("it gives no finite number")
        return scores

    return found
