"""Which family with which parameters: Optuna over cross-validation, then perhaps a few of the best together.

The choice is by the mean of the folds' figures. Where the metric only counts labels, which says little on
small tables, the lowest log loss decides among the trials that are not measurably worse; where it only ranks,
trials with poor probabilities are left out first. Every family that the table's size allows first runs with
its default parameters; then TPE draws family and parameters. Two folds decide whether a trial goes on (median
pruning). Only `timeout_s` depends on a clock, so seed, data and versions decide the result.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from training.families.catalog import build
from training.metrics.truth import truth_of
from training.search.choice import best_trial, cost_level, sound_trials
from training.search.ensemble import best_ensemble, can_improve
from training.search.runner import running
from training.search.storage import reporting_failures
from training.search.study import finished_trials, open_study, work_on
from training.search.trial import row_ms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from artifact.signature import Signature
    from training.families.layout import Layout
    from training.search.spec import SearchSpec
    from training.search.trial import Trial


@dataclass(frozen=True)
class SearchResult:
    """What the search found.

    Parameters
    ----------
    best
        The chosen candidate; `fit` makes it a model.
    trials
        In order, the ensemble last where one was made.
    layout
        Of the rows that were searched; the final fit builds by the same one.
    fold_rows
        How many rows a fold was fitted on.
    caution
        `variance` for `measurably`.
    """

    best: Trial
    trials: list[Trial]
    baseline: Trial
    layout: Layout
    metric: str
    folds: int
    fold_rows: int
    caution: float = 0.0


def search(
    matrix: NDArray[np.float64],
    labels: Sequence[Any] | NDArray[Any],
    signature: Signature,
    spec: SearchSpec,
    *,
    on_trial: Callable[[Trial], None] | None = None,
    progress: bool = True,
    ensemble: bool = True,
) -> SearchResult:
    """Find the best candidate by cross-validation of these rows.

    Parameters
    ----------
    matrix
        Encoded training rows, shape (rows, signature.width).
    labels
        The data's own labels, or values, shape (rows,).
    on_trial
        Called with each finished trial of this process, and last with those of the others.

    Raises
    ------
    SearchError
        Too few rows to cross-validate, or no trial succeeded.
    StorageError
    """
    with running(matrix, labels, signature, spec) as runner:
        baseline = runner.baseline()
        own: set[int] = set()

        def tell(trial: Trial) -> None:
            own.add(trial.number)
            if on_trial is not None:
                on_trial(trial)

        with reporting_failures(spec.storage):
            study = open_study(runner, spec)
            work_on(study, runner, spec, tell, progress=progress)
            done = finished_trials(study)
        for trial in done:
            if trial.number not in own:
                tell(trial)
        sound = sound_trials(done, spec.metric, baseline)
        layout = runner.table.layout

        def row_ms(trial: Trial) -> float:
            return row_ms_of(trial, layout, runner.rows)

        best = best_trial(sound, spec.metric, runner.caution, row_ms)
        if ensemble and can_improve(best):
            number = max(each.number for each in done) + 1
            level = cost_level(row_ms(best))
            pool = [each for each in sound if cost_level(row_ms(each)) <= level]
            together = best_ensemble(pool, best, runner, spec.metric, number)
            if together is not None:
                done.append(together)
                best = together
                tell(together)
    folds = len(runner.splits)
    return SearchResult(best, done, baseline, layout, spec.metric, folds, runner.fold_rows, runner.caution)


def tune(
    matrix: NDArray[np.float64],
    labels: Sequence[Any] | NDArray[Any],
    signature: Signature,
    spec: SearchSpec,
    *,
    on_trial: Callable[[Trial], None] | None = None,
    progress: bool = True,
) -> int:
    """Work on a shared study until it has its trials; how many it has. `search` then chooses among them.

    Parameters are those of `search`, and so are the errors.
    """
    with running(matrix, labels, signature, spec) as runner, reporting_failures(spec.storage):
        study = open_study(runner, spec)
        # The seed of the one that chooses: with the same draws its helpers would try the same candidates.
        study.sampler.reseed_rng()
        work_on(study, runner, spec, on_trial, progress=progress, last_fit=False)
        return len(finished_trials(study))


def fit(
    trial: Trial,
    matrix: NDArray[np.float64],
    labels: Sequence[Any] | NDArray[Any],
    signature: Signature,
    layout: Layout,
    *,
    seed: int = 0,
) -> Any:
    """The candidate's pipeline, fitted on these rows with the data's labels as class indices.

    `layout` is that of the search. `scores_of` gives its scores.
    """
    truth = truth_of(signature.task, labels, signature.classes, signature.positive)
    pipeline = build(trial.family, trial.params, layout, signature.task, seed)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        return pipeline.fit(matrix, truth.y)
