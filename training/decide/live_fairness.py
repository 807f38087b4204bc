"""How a model treats the groups of people that it answered, by the outcomes that came later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from training.metrics.fairness import fairness
from training.metrics.truth import truth_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from artifact.signature import Signature
    from training.decide.live_log import Row
    from training.metrics.fairness import Fairness


def live_groups(signature: Signature, rows: Sequence[Row]) -> list[Fairness]:
    """Compare groups by the sensitive columns of the log; empty without any, and for named numbers.

    Parameters
    ----------
    rows
        With outcomes that are the signature's own labels. The log holds hashes of sensitive values, so a
        group's level is one.
    """
    logged = [name for name in signature.sensitive if any(name in row.columns for row in rows)]
    if signature.numbers or not logged:
        return []
    sensitive = pd.DataFrame({name: [row.columns.get(name) for row in rows] for name in logged})
    actual = [row.actual for row in rows]
    truth = truth_of(signature.task, actual, signature.classes, signature.positive, signature.threshold)
    return fairness(truth, np.array([row.scores for row in rows], np.float64), sensitive, signature.classes)
