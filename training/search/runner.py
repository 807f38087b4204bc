"""Fits candidates on the folds, several folds at a time, and keeps their scores of each held-out row."""

from __future__ import annotations

import hashlib
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits

from training.families.catalog import BASELINE, build
from training.families.scores import scores_of
from training.metrics.metric import METRICS
from training.metrics.truth import Truth
from training.search.folds import prepare
from training.search.spec import SIDE_BY_SIDE
from training.search.trial import SearchError, Trial, mean_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature, Task
    from training.families.layout import Layout
    from training.search.folds import Fold, SearchTable
    from training.search.spec import SearchSpec


@dataclass
class FoldOutcome:
    """Scores of a fold's test rows, shape (rows, k), or None and the reason."""

    scores: NDArray[np.float64] | None
    seconds: float
    reason: str = ""


def fit_fold(  # noqa: PLR0917
    name: str,
    params: Mapping[str, Any],
    matrix: NDArray[np.float64],
    y: NDArray[Any],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    layout: Layout,
    task: Task,
    seed: int,
) -> FoldOutcome:
    """Scores of the fold's test rows, or the reason why it has none."""
    started = time.perf_counter()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            pipeline = build(name, params, layout, task, seed).fit(matrix[train], y[train])
            scores = scores_of(pipeline, matrix[test], layout.classes)
        if not np.isfinite(scores).all():
            return FoldOutcome(None, time.perf_counter() - started, "it gave scores that are not finite")
    except Exception as error:  # noqa: BLE001 - whatever a library raises is this trial's failure alone
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        return FoldOutcome(None, time.perf_counter() - started, reason[:300])
    return FoldOutcome(scores, time.perf_counter() - started)


class CandidateError(Exception):
    """A candidate could not be fitted or scored; the message says why."""


class Runner:
    """Runs candidates on the folds and keeps their scores of each held-out row.

    `rows` is how many training rows there are, also where only a sample of them is searched.
    """

    def __init__(
        self, parallel: Parallel, table: SearchTable, splits: list[Fold], metric: str, rows: int
    ) -> None:
        self.parallel, self.table, self.splits, self.metric = parallel, table, splits, metric
        self.rows = rows
        self.kept: dict[int, list[NDArray[np.float64]]] = {}

    @property
    def digest(self) -> str:
        """A digest of everything that decides a trial's figures, apart from its parameters."""
        table = self.table
        of = hashlib.sha256(repr((self.metric, table.seed, table.threshold, table.positive)).encode())
        for part in (table.matrix, table.y, *(rows for fold in self.splits for rows in fold)):
            of.update(np.ascontiguousarray(part).tobytes())
        return of.hexdigest()[:8]

    @property
    def fold_rows(self) -> int:
        """How many rows a fold is fitted on, in the mean."""
        return int(np.mean([len(train) for train, _ in self.splits]))

    @property
    def one_cut(self) -> float:
        """`variance` for `measurably` as if folds were independent and cut once: repeats say little more."""
        fraction = self._held_out_fraction
        return fraction / (1 + fraction)

    @property
    def caution(self) -> float:
        """`variance` for `measurably`, as folds share rows (Nadeau and Bengio, Machine Learning 52, 2003)."""
        return 1 / len(self.splits) + self._held_out_fraction

    @property
    def _held_out_fraction(self) -> float:
        return float(np.mean([len(test) / len(train) for train, test in self.splits]))

    def figure(self, fold: int, scores: NDArray[np.float64], metric: str | None = None) -> float:
        """A metric, by default the search's, on a fold's held-out rows."""
        y = self.table.y[self.splits[fold][1]]
        truth = Truth(y, np.ones(len(y)), self.table.positive, self.table.threshold)
        return METRICS[metric or self.metric].compute(truth, scores)

    def run(self, name: str, params: Mapping[str, Any], folds: Sequence[int]) -> list[FoldOutcome]:
        """Fit and score those folds; raises CandidateError with the first reason."""
        table = self.table
        outcomes = self.parallel(
            delayed(fit_fold)(
                name, params, table.matrix, table.y, *self.splits[fold], table.layout, table.task, table.seed
            )
            for fold in folds
        )
        for outcome in outcomes:
            if outcome.scores is None:
                raise CandidateError(outcome.reason)
        return list(outcomes)

    def scores(self, trial: Trial) -> list[NDArray[np.float64]]:
        """Held-out scores of a trial, fold by fold; those of another process's trial are computed again."""
        if trial.number not in self.kept:
            outcomes = self.run(trial.family, trial.params, range(len(self.splits)))
            self.kept[trial.number] = [each.scores for each in outcomes if each.scores is not None]
        return self.kept[trial.number]

    def figures(self, held: Sequence[NDArray[np.float64]], metric: str) -> list[float]:
        """A metric on each fold's held-out rows."""
        return [self.figure(fold, scores, metric) for fold, scores in enumerate(held)]

    def of_probabilities(self, held: Sequence[NDArray[np.float64]], metric: str) -> float:
        """The mean of the folds' figures of log loss or Brier score; NaN for a regression."""
        if not self.table.layout.classes:
            return float("nan")
        return mean_of(self.figures(held, metric))

    def baseline(self) -> Trial:
        """The figures of a model that looks at no column."""
        table = self.table
        outcomes = [
            fit_fold(
                BASELINE.name,
                {},
                table.matrix,
                table.y,
                train,
                test,
                table.layout,
                table.task,
                table.seed,
            )
            for train, test in self.splits
        ]
        if any(each.scores is None for each in outcomes):
            raise SearchError(f"not even the baseline can be fitted: {outcomes[0].reason}")
        held = [each.scores for each in outcomes if each.scores is not None]
        figures = tuple(self.figures(held, self.metric))
        seconds = sum(each.seconds for each in outcomes)
        return Trial(
            -1,
            BASELINE.name,
            {},
            figures,
            mean_of(figures),
            seconds,
            "complete",
            log_loss=self.of_probabilities(held, "log_loss"),
            brier=self.of_probabilities(held, "brier"),
        )


@contextmanager
def running(
    matrix: NDArray[np.float64], labels: Sequence[Any] | NDArray[Any], signature: Signature, spec: SearchSpec
) -> Iterator[Runner]:
    """A runner with its processes, which end with the block; parameters are those of `search`."""
    table, splits = prepare(matrix, labels, signature, spec)
    jobs = min(spec.jobs or SIDE_BY_SIDE, len(splits))
    with (
        warnings.catch_warnings(),
        threadpool_limits(1),
        parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1),
        Parallel() as parallel,
    ):
        warnings.simplefilter("ignore")
        yield Runner(parallel, table, splits, spec.metric, len(matrix))
