"""A winner without an exact graph, and the best candidate that has one."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.families.scores import scores_of
from training.metrics.metric import METRICS
from training.onnx.parity import onnx_score
from training.search.choice import measurably
from training.search.letters import sees_letters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from training.export import OnnxForm
    from training.search.search import SearchResult
    from training.search.trial import Trial

MAX_RIVALS = 3
"""How many candidates are fitted at most to find one with an exact graph."""
TIMED_ROWS = 5


@dataclass(frozen=True)
class Fitted:
    """A candidate that is fitted on the training rows."""

    pipeline: Any
    trial: Trial
    form: OnnxForm


def rivals_of(result: SearchResult) -> Iterator[Trial]:
    """The candidates to look at in place of the winner: the best of each family, the best first."""
    sign = METRICS[result.metric].sign
    complete = sorted(
        (each for each in result.trials if each.state == "complete" and each.number != result.best.number),
        key=lambda each: (-sign * each.score, each.number),
    )
    families: set[str] = {result.best.family}
    for each in complete:
        if each.family in families or (sees_letters(each) and not result.layout.letters):
            continue
        families.add(each.family)
        yield each
        if len(families) > MAX_RIVALS:
            return


def prefer_exact(
    winner: Fitted, rivals: Iterable[Fitted], result: SearchResult
) -> tuple[Fitted, Fitted | None]:
    """The candidate to take, and the best exact one; None where no rival is exact.

    The winner is only taken if it is measurably better than the exact one.
    """
    sign = METRICS[result.metric].sign
    for rival in rivals:
        if rival.form.reason:
            continue
        better = measurably(winner.trial.fold_scores, rival.trial.fold_scores, result.caution, sign)
        return (winner if better else rival), rival
    return winner, None


def told(  # noqa: PLR0917
    chosen: Fitted,
    winner: Fitted,
    exact: Fitted | None,
    metric: str,
    row: NDArray[np.float64],
    classes: int,
) -> list[str]:
    """What a person should know of a winner without an exact graph."""
    inexact = f"{winner.trial.title} (cross-validated {metric} {winner.trial.score:.4g})"
    found = [f"{inexact} has no exact ONNX graph: {winner.form.reason}"]
    cost = f"a row takes {_row_ms(winner, row, classes):.2g} ms by scikit-learn"
    if exact is None:
        return [*found, f"{cost}; none of the next best families has an exact graph, so it is taken"]
    other = f"{exact.trial.title} ({exact.trial.score:.4g}), {_row_ms(exact, row, classes):.2g} ms by ONNX"
    why = "it is measurably better" if chosen is winner else "the other is within noise of it and exact"
    return [*found, f"{cost}; the best exact candidate is {other}", f"{chosen.trial.title} is taken: {why}"]


def _row_ms(fitted: Fitted, row: NDArray[np.float64], classes: int) -> float:
    graph = fitted.form.graph
    score = None if graph is None else onnx_score(graph)
    taken = []
    for _ in range(TIMED_ROWS):
        began = time.perf_counter()
        if score is None:
            scores_of(fitted.pipeline, row, classes)
        else:
            score(row)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000
