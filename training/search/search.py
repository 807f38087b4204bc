"""Which family with which parameters: Optuna over cross-validation, then perhaps a few of the best together.

The choice is by the mean of the folds' figures; where that figure only counts labels, which on small tables
says little, the best log loss among those that are not measurably worse; where it only ranks, among those
whose probabilities are worth something. Every family that the table's size
allows first runs with its default parameters; then TPE draws family and parameters. Two folds decide whether
a trial goes on (median pruning). No decision looks at a clock but `timeout_s`, so that seed, data and
versions decide the result.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]
from sklearn.model_selection import (
    GroupKFold,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    TimeSeriesSplit,
)
from sqlalchemy.exc import SQLAlchemyError
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from training.decide.evaluate import METRICS, Truth, truth_of
from training.families.catalog import BASELINE, affordable_families, build, family
from training.families.ensemble import ENSEMBLE
from training.families.layout import Layout, layout_of, of_one_unit
from training.families.scores import scores_of
from training.registry.mlflow_registry import shown_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature, Task
    from training.families.family import Family

FIRST_FOLDS = 2
"""Folds that run before a trial may be pruned: one for each core of a small machine."""
MOST_SEARCH_ROWS, FEWEST_SEARCH_ROWS = 10_000, 2_000
MOST_SEARCH_CELLS = 800_000
"""Of more rows or cells (a text's term is a twentieth) a sample is searched; the winner is fitted on all."""
ROWS_FOR_FEWER_FOLDS, FEWER_FOLDS = 5_000, 3
ROWS_FOR_REPEATS, REPEATS = 300, 3
"""On fewer rows one way of cutting folds says little: they are cut this often."""
LABEL_METRICS = frozenset({"accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro"})
RANK_METRICS, MOST_BRIER_LOST = frozenset({"roc_auc", "average_precision"}), 0.1
"""A winner by ranks may lose so much of the baseline's Brier score against the best of all, and no more."""
POOL, MOST_MEMBERS, ROUNDS = 12, 4, 12
IMBALANCE, WEIGHED_METRICS = 4.0, LABEL_METRICS - {"accuracy"}
"""Where the commonest class has so many times the rows of the rarest, weights of classes are tried. Figures
of ranks and probabilities they help by luck only, and leave probabilities and labels that are none."""

Fold = tuple["NDArray[np.intp]", "NDArray[np.intp]"]


STORAGE_TRIES, STORAGE_PAUSE_S = 5, 1.0
"""Processes that find an empty database at once make its tables at once, and all but one of them fail."""


class SearchError(ValueError):
    """No model can come of this table, and why."""


class StorageError(Exception):
    """The database of a shared study cannot be read or written (exit code 4)."""

    exit_code = 4


@dataclass(frozen=True)
class Trial:
    """One candidate.

    Parameters
    ----------
    number
        From 0; -1 is the baseline's, and an ensemble's is one more than the last.
    family
        Name of a family, or "ensemble": then `params["members"]` lists its members' family, params, weight.
    fold_scores
        The metric of each fold that ran, in its own units.
    score
        Their mean; NaN for a failed trial.
    state
        "complete", "pruned" or "failed".
    reason
        Why it failed or was pruned.
    log_loss, brier
        The means of the folds', for classes.
    """

    number: int
    family: str
    params: dict[str, Any]
    fold_scores: tuple[float, ...]
    score: float
    seconds: float
    state: str
    reason: str = ""
    log_loss: float = float("nan")
    brier: float = float("nan")

    @property
    def title(self) -> str:
        """Its family's name for people."""
        if self.family != ENSEMBLE:
            return family(self.family).title
        return "Ensemble of " + ", ".join(
            family(member["family"]).title.lower() for member in self.params["members"]
        )


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
    """

    best: Trial
    trials: list[Trial]
    baseline: Trial
    layout: Layout
    metric: str
    folds: int


@dataclass(frozen=True)
class _Table:
    """What each fold needs; y are class indices or values."""

    matrix: NDArray[np.float64]
    y: NDArray[Any]
    layout: Layout
    task: Task
    positive: int
    threshold: float | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a search is for and what it may cost, alike for whoever works on it.

    Parameters
    ----------
    groups, times
        Of each row: a group stays in one fold; with times, each fold is scored by what came before it.
    trials
        Of the study in all, also where several processes share it by `storage` (a URL as Optuna takes it).
    study_name
        Of a shared study. A digest of the rows, folds and seed is added: figures of other rows never mix.
    jobs
        Folds at a time; by default 2 where there are two cores. The result does not depend on it.
    """

    task: Task
    metric: str
    folds: int = 5
    groups: NDArray[Any] | None = None
    times: NDArray[Any] | None = None
    trials: int = 30
    timeout_s: float | None = None
    seed: int = 0
    storage: str | None = None
    study_name: str | None = None
    jobs: int | None = None


def search(
    matrix: NDArray[np.float64],
    labels: Sequence[Any] | NDArray[Any],
    signature: Signature,
    asked: Asked,
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
    with _running(matrix, labels, signature, asked) as runner:
        baseline = runner.baseline()
        own: set[int] = set()

        def tell(trial: Trial) -> None:
            own.add(trial.number)
            if on_trial is not None:
                on_trial(trial)

        with _stored(asked.storage):
            study = _study(runner, asked)
            _run(study, runner, asked, tell, progress=progress)
            done = _trials(study)
        for trial in done:
            if trial.number not in own:
                tell(trial)
        sound = _sound(done, asked.metric, baseline)
        best = _best(sound, asked.metric, runner.caution)
        if ensemble and _can_improve(best):
            number = max(each.number for each in done) + 1
            together = _ensemble(sound, best, runner, asked.metric, number)
            if together is not None:
                done.append(together)
                best = together
                tell(together)
    return SearchResult(best, done, baseline, runner.table.layout, asked.metric, len(runner.splits))


def tune(
    matrix: NDArray[np.float64],
    labels: Sequence[Any] | NDArray[Any],
    signature: Signature,
    asked: Asked,
    *,
    on_trial: Callable[[Trial], None] | None = None,
    progress: bool = True,
) -> int:
    """Work on a shared study until it has its trials; how many it has. `search` then chooses among them.

    Parameters are those of `search`, and so are the errors.
    """
    with _running(matrix, labels, signature, asked) as runner, _stored(asked.storage):
        study = _study(runner, asked)
        # The seed of the one that chooses: with the same draws its helpers would try the same candidates.
        study.sampler.reseed_rng()
        _run(study, runner, asked, on_trial, progress=progress)
        return len(_trials(study))


@contextmanager
def _running(
    matrix: NDArray[np.float64], labels: Sequence[Any] | NDArray[Any], signature: Signature, asked: Asked
) -> Iterator[_Runner]:
    table, splits = _prepare(matrix, labels, signature, asked)
    jobs = min(asked.jobs or min(2, os.cpu_count() or 1), len(splits))
    with (
        warnings.catch_warnings(),
        threadpool_limits(1),
        parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1),
        Parallel() as parallel,
    ):
        warnings.simplefilter("ignore")
        yield _Runner(parallel, table, splits, asked.metric)


def _can_improve(best: Trial) -> bool:
    """An ensemble of what fits perfectly already is only slower."""
    return len(set(best.fold_scores)) > 1


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


# --- rows and folds ----------------------------------------------------------------------------------------


def _prepare(
    matrix: NDArray[np.float64], labels: Sequence[Any] | NDArray[Any], signature: Signature, asked: Asked
) -> tuple[_Table, list[Fold]]:
    truth = truth_of(asked.task, labels, signature.classes, signature.positive, signature.threshold)
    rows = np.arange(len(matrix))
    whole = layout_of(signature, len(rows))
    most = int(np.clip(MOST_SEARCH_CELLS // max(1, whole.cost), FEWEST_SEARCH_ROWS, MOST_SEARCH_ROWS))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(asked.seed).choice(len(matrix), most, replace=False))
    sample, y = np.ascontiguousarray(matrix[rows]), truth.y[rows]
    counts = np.bincount(y, minlength=len(signature.classes)) if signature.classes else np.array([])
    present = counts[counts > 0]
    skewed = bool(len(present)) and present.max() >= IMBALANCE * present.min()
    layout = layout_of(
        signature,
        len(rows),
        weighted=skewed and asked.metric in WEIGHED_METRICS,
        one_unit=of_one_unit(sample[:, list(whole.numbers)]),
    )
    table = _Table(
        matrix=sample,
        y=y,
        layout=layout,
        task=asked.task,
        positive=truth.positive,
        threshold=truth.threshold,
        seed=asked.seed,
    )
    count = asked.folds if len(rows) <= ROWS_FOR_FEWER_FOLDS else min(asked.folds, FEWER_FOLDS)
    groups, times = (None if each is None else each[rows] for each in (asked.groups, asked.times))
    return table, _folds(table, max(2, count), groups, times)


def _folds(table: _Table, count: int, groups: NDArray[Any] | None, times: NDArray[Any] | None) -> list[Fold]:
    rows, y, classes = len(table.y), table.y, bool(table.layout.classes)
    if rows < 2 * FIRST_FOLDS:
        raise SearchError(f"{rows} rows are left to train on, expected at least {2 * FIRST_FOLDS}")
    count = min(count, rows // 2)
    places = np.zeros((rows, 1))
    if times is not None:
        order = np.argsort(times, kind="stable")
        return [(order[a], order[b]) for a, b in TimeSeriesSplit(count).split(order)]
    if groups is not None:
        count = min(count, len(np.unique(groups)))
        if count < 2:
            raise SearchError("all training rows are of one group, expected two groups or more")
        if not classes:
            return list(GroupKFold(count).split(places, y, groups))
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=table.seed)
        return list(splitter.split(places, y, groups))
    repeats = REPEATS if rows < ROWS_FOR_REPEATS else 1
    if not classes:
        return list(
            RepeatedKFold(n_splits=count, n_repeats=repeats, random_state=table.seed).split(places, y)
        )
    smallest = int(np.bincount(y)[np.unique(y)].min())
    count = max(2, min(count, smallest))
    splitter = RepeatedStratifiedKFold(n_splits=count, n_repeats=repeats, random_state=table.seed)
    return list(splitter.split(places, y))


# --- one trial ---------------------------------------------------------------------------------------------


@dataclass
class _Outcome:
    scores: NDArray[np.float64] | None
    seconds: float
    reason: str = ""


def _fit_fold(  # noqa: PLR0917
    name: str,
    params: Mapping[str, Any],
    matrix: NDArray[np.float64],
    y: NDArray[Any],
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    layout: Layout,
    task: Task,
    seed: int,
) -> _Outcome:
    """Scores of the fold's test rows, or why there are none."""
    started = time.perf_counter()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            pipeline = build(name, params, layout, task, seed).fit(matrix[train], y[train])
            scores = scores_of(pipeline, matrix[test], layout.classes)
        if not np.isfinite(scores).all():
            return _Outcome(None, time.perf_counter() - started, "it gave scores that are not finite")
    except Exception as error:  # noqa: BLE001 - whatever a library raises is this trial's failure alone
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        return _Outcome(None, time.perf_counter() - started, reason[:300])
    return _Outcome(scores, time.perf_counter() - started)


class _Failed(Exception):  # noqa: N818 - a message between functions of this module
    pass


class _Runner:
    """Runs candidates on the folds and keeps what they said of each held-out row."""

    def __init__(self, parallel: Parallel, table: _Table, splits: list[Fold], metric: str) -> None:
        self.parallel, self.table, self.splits, self.metric = parallel, table, splits, metric
        self.kept: dict[int, list[NDArray[np.float64]]] = {}

    @property
    def digest(self) -> str:
        """Of all that the figures of a trial follow from but its parameters."""
        table = self.table
        of = hashlib.sha256(repr((self.metric, table.seed, table.threshold, table.positive)).encode())
        for part in (table.matrix, table.y, *(rows for fold in self.splits for rows in fold)):
            of.update(np.ascontiguousarray(part).tobytes())
        return of.hexdigest()[:8]

    @property
    def one_cut(self) -> float:
        """`variance` for `measurably` as if folds were independent and cut once: repeats say little more."""
        share = self._held_out_share
        return share / (1 + share)

    @property
    def caution(self) -> float:
        """`variance` for `measurably`, as folds share rows (Nadeau and Bengio, Machine Learning 52, 2003)."""
        return 1 / len(self.splits) + self._held_out_share

    @property
    def _held_out_share(self) -> float:
        return float(np.mean([len(test) / len(train) for train, test in self.splits]))

    def figure(self, fold: int, scores: NDArray[np.float64], metric: str | None = None) -> float:
        """A metric, by default the search's, on a fold's held-out rows."""
        y = self.table.y[self.splits[fold][1]]
        truth = Truth(y, np.ones(len(y)), self.table.positive, self.table.threshold)
        return METRICS[metric or self.metric].compute(truth, scores)

    def run(self, name: str, params: Mapping[str, Any], folds: Sequence[int]) -> list[_Outcome]:
        """Fit and score those folds; raises _Failed with the first reason."""
        table = self.table
        outcomes = self.parallel(
            delayed(_fit_fold)(
                name, params, table.matrix, table.y, *self.splits[fold], table.layout, table.task, table.seed
            )
            for fold in folds
        )
        for outcome in outcomes:
            if outcome.scores is None:
                raise _Failed(outcome.reason)
        return list(outcomes)

    def scores(self, trial: Trial) -> list[NDArray[np.float64]]:
        """Held-out scores of a trial, fold by fold; another process's are made again."""
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
        return _mean(self.figures(held, metric))

    def baseline(self) -> Trial:
        """What a model that looks at no column reaches."""
        table = self.table
        outcomes = [
            _fit_fold(
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
            _mean(figures),
            seconds,
            "complete",
            log_loss=self.of_probabilities(held, "log_loss"),
            brier=self.of_probabilities(held, "brier"),
        )


def _mean(figures: Sequence[float]) -> float:
    """The mean of the folds on which the metric is defined."""
    defined = [figure for figure in figures if np.isfinite(figure)]
    return float(np.mean(defined)) if defined else float("nan")


# --- the study ---------------------------------------------------------------------------------------------


@contextmanager
def _stored(storage: str | None) -> Iterator[None]:
    """Say in a sentence that the study's database failed."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StorageError(
            f"The Optuna storage {shown_uri(storage or '')} failed: {reason}. "
            "Trials that are finished stay there; start it and run the same command again."
        ) from error


def _study(runner: _Runner, asked: Asked) -> optuna.Study:
    """The study of this table; whoever makes a shared one enqueues each family's defaults."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = runner.table
    families = affordable_families(table.layout, table.task)
    settings: dict[str, Any] = {
        # Multivariate and grouped: each family's parameters are drawn together.
        "sampler": optuna.samplers.TPESampler(
            seed=table.seed,
            multivariate=True,
            group=True,
            n_startup_trials=len(families) + 4,
            constant_liar=asked.storage is not None,  # others try something else while a candidate runs
        ),
        "pruner": optuna.pruners.MedianPruner(n_startup_trials=min(5, len(families))),
        "storage": None if asked.storage is None else _storage(asked.storage),
        "study_name": None if asked.storage is None else f"{asked.study_name}-{runner.digest}",
    }
    try:
        study = optuna.create_study(direction="maximize", **settings)
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(**settings)
    # The Optuna UI then shows what the values are.
    study.set_user_attr("metric", runner.metric)
    firsts = [(each.name, each.default(table.layout)) for each in families]
    if asked.trials >= 2 * len(families):
        firsts += [
            (each.name, each.default(table.layout) | changed)
            for each in families
            if (changed := each.second(table.layout))
        ]
    for name, params in firsts[: max(1, asked.trials)]:
        named = {f"{name}.{key}": value for key, value in params.items()}
        study.enqueue_trial({"family": name, **named}, skip_if_exists=True)
    return study


def _storage(url: str) -> optuna.storages.RDBStorage:
    for attempt in range(STORAGE_TRIES):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
            if attempt == STORAGE_TRIES - 1:
                raise
            time.sleep(STORAGE_PAUSE_S)
    raise AssertionError


def _run(
    study: optuna.Study,
    runner: _Runner,
    asked: Asked,
    on_trial: Callable[[Trial], None] | None,
    *,
    progress: bool,
) -> None:
    finished = (
        optuna.trial.TrialState.COMPLETE,
        optuna.trial.TrialState.PRUNED,
        optuna.trial.TrialState.FAIL,
    )
    names = [each.name for each in affordable_families(runner.table.layout, runner.table.task)]
    sign = METRICS[runner.metric].sign
    started = time.monotonic()
    best: float | None = None
    with tqdm(total=asked.trials, desc="search", unit="trial", disable=not progress, mininterval=0.5) as bar:
        while True:
            done = len(study.get_trials(deepcopy=False, states=finished))
            bar.update(min(done, asked.trials) - bar.n)
            spent = time.monotonic() - started
            late = asked.timeout_s is not None and done > 0 and spent > asked.timeout_s
            if done >= asked.trials or late:
                return
            trial = _one(study, runner, names, sign)
            if trial.state == "complete" and (best is None or sign * trial.score > sign * best):
                best = trial.score
            if best is not None:
                bar.set_postfix_str(f"best {runner.metric} {best:.4g}, {trial.family}")
            if on_trial is not None:
                on_trial(trial)


def _one(study: optuna.Study, runner: _Runner, names: list[str], sign: int) -> Trial:
    """Ask for a candidate, run it, tell how it did."""
    asked = study.ask()
    chosen: Family = family(asked.suggest_categorical("family", names))
    params = chosen.suggest(asked, runner.table.layout)
    asked.set_user_attr("family", chosen.name)
    asked.set_user_attr("params", params)
    started = time.perf_counter()
    figures: list[float] = []
    held: list[NDArray[np.float64]] = []
    state, reason = optuna.trial.TrialState.COMPLETE, ""
    # Where folds are cut again and again, two of them say too little to prune by: a whole cut goes first.
    start = max(FIRST_FOLDS, len(runner.splits) // REPEATS if len(runner.table.y) < ROWS_FOR_REPEATS else 0)
    first, rest = range(start), range(start, len(runner.splits))
    try:
        for part in (first, rest):
            for fold, outcome in zip(part, runner.run(chosen.name, params, part), strict=True):
                assert outcome.scores is not None  # noqa: S101 - run() raises
                held.append(outcome.scores)
                figures.append(runner.figure(fold, outcome.scores))
            if part is first and rest:
                asked.report(sign * _mean(figures), 0)
                if asked.should_prune():
                    state, reason = optuna.trial.TrialState.PRUNED, "below the median of the trials before"
                    break
        if not np.isfinite(_mean(figures)):
            raise _Failed(f"{runner.metric} is undefined on every fold")  # noqa: TRY301
    except (_Failed, ValueError, OSError, MemoryError) as error:
        state, reason = optuna.trial.TrialState.FAIL, str(error) or type(error).__name__
    seconds = time.perf_counter() - started
    told: dict[str, Any] = {"fold_scores": figures, "seconds": seconds, "reason": reason}
    told |= {name: runner.of_probabilities(held, name) for name in ("log_loss", "brier")}
    for key, value in told.items():
        asked.set_user_attr(key, value)
    if state == optuna.trial.TrialState.COMPLETE:
        runner.kept[asked.number] = held
        study.tell(asked, sign * _mean(figures))
    else:
        study.tell(asked, state=state)
    return _trial(asked.number, state, asked.user_attrs)


_STATES = {
    optuna.trial.TrialState.COMPLETE: "complete",
    optuna.trial.TrialState.PRUNED: "pruned",
    optuna.trial.TrialState.FAIL: "failed",
}


def _trial(number: int, state: optuna.trial.TrialState, attributes: Mapping[str, Any]) -> Trial:
    figures = tuple(attributes.get("fold_scores", ()))
    failed = state == optuna.trial.TrialState.FAIL
    return Trial(
        number,
        attributes["family"],
        dict(attributes["params"]),
        figures,
        float("nan") if failed else _mean(figures),
        float(attributes.get("seconds", 0.0)),
        _STATES[state],
        attributes.get("reason", ""),
        float(attributes.get("log_loss", "nan")),
        float(attributes.get("brier", "nan")),
    )


def _trials(study: optuna.Study) -> list[Trial]:
    """Finished trials of every process, in order; one whose process died is none."""
    return [
        _trial(each.number, each.state, each.user_attrs)
        for each in study.get_trials(deepcopy=False)
        if each.state in _STATES and "family" in each.user_attrs
    ]


def _sound(trials: list[Trial], metric: str, baseline: Trial) -> list[Trial]:
    """The trials but those that only rank: their probabilities, and so labels, are far from the best."""
    briers = [each.brier for each in trials if each.state == "complete" and np.isfinite(each.brier)]
    if metric not in RANK_METRICS or not briers:
        return trials
    most = min(briers) + MOST_BRIER_LOST * baseline.brier
    return [each for each in trials if not (each.state == "complete" and each.brier > most)]


def _best(trials: list[Trial], metric: str, variance: float) -> Trial:
    """The highest mean, the earliest of equals; for counts of labels the lowest log loss of those near it."""
    complete = [each for each in trials if each.state == "complete"]
    if not complete:
        reasons = sorted({f"{each.family}: {each.reason}" for each in trials})
        raise SearchError("no candidate could be trained: " + "; ".join(reasons or ["no trial ran"]))
    sign = METRICS[metric].sign
    first = min(complete, key=lambda each: (-sign * each.score, each.number))
    if metric not in LABEL_METRICS:
        return first
    near = [each for each in complete if not measurably(first.fold_scores, each.fold_scores, variance, sign)]
    return min(near, key=lambda each: (each.log_loss, each.number), default=first)


def measurably(one: Sequence[float], other: Sequence[float], variance: float, sign: int = 1) -> bool:
    """Whether the figures of `one` are better than those of `other` by more than a standard error.

    `variance` is that of the mean of the folds' differences, in units of a single difference's.
    """
    gains = sign * (np.array(one) - np.array(other))
    gains = gains[np.isfinite(gains)]
    return len(gains) > 1 and bool(gains.mean() > gains.std(ddof=1) * np.sqrt(variance))


# --- a few of the best together ----------------------------------------------------------------------------


def _ensemble(trials: list[Trial], best: Trial, runner: _Runner, metric: str, number: int) -> Trial | None:
    """Caruana's greedy selection among the best trials; None where no mean of them is measurably better.

    Where the metric counts labels, members are picked by log loss among those not measurably worse, and the
    mean of them must be measurably better in one and not measurably worse in the other. Members count as
    often as they were picked.
    """
    started = time.perf_counter()
    sign = METRICS[metric].sign
    objective = "log_loss" if metric in LABEL_METRICS else metric
    complete = sorted(
        (each for each in trials if each.state == "complete"),
        key=lambda each: (-sign * each.score, each.number),
    )
    if metric in LABEL_METRICS:
        near = [
            each
            for each in complete
            if not measurably(best.fold_scores, each.fold_scores, runner.caution, sign)
        ]
        complete = sorted(near, key=lambda each: (each.log_loss, each.number))
    leaders = {each.family: each for each in reversed(complete)}
    pool = {each.number: each for each in (*complete[:POOL], *leaders.values())}
    picked, held = _greedy([best], [pool[each] for each in sorted(pool)], runner, objective)
    members = {each.number: each for each in picked}
    alone = runner.scores(best)
    figures, before = (runner.figures(scores, metric) for scores in (held, alone))
    aims, aims_before = (runner.figures(scores, objective) for scores in (held, alone))
    aim = METRICS[objective].sign
    once = runner.one_cut
    better = measurably(figures, before, once, sign) or measurably(aims, aims_before, once, aim)
    worse = measurably(before, figures, once, sign) or measurably(aims_before, aims, once, aim)
    if len(members) < 2 or worse or not better:
        return None
    listed = [
        {
            "family": each.family,
            "params": each.params,
            "weight": sum(one.number == each.number for one in picked),
        }
        for each in members.values()
    ]
    return Trial(
        number,
        ENSEMBLE,
        {"members": listed},
        tuple(figures),
        _mean(figures),
        time.perf_counter() - started,
        "complete",
        log_loss=runner.of_probabilities(held, "log_loss"),
        brier=runner.of_probabilities(held, "brier"),
    )


def _greedy(
    picked: list[Trial], pool: list[Trial], runner: _Runner, objective: str
) -> tuple[list[Trial], list[NDArray[np.float64]]]:
    """Add what helps most, again and again; the members of the best round, and their mean scores by fold."""
    sign = METRICS[objective].sign
    total = [sum_of.copy() for sum_of in runner.scores(picked[0])]
    best = (sign * _mean(runner.figures(total, objective)), list(picked), total)
    for _ in range(ROUNDS):
        options = []
        for each in pool:
            if each not in picked and len({one.number for one in picked}) >= MOST_MEMBERS:
                continue
            mixed = [(a + b) / (len(picked) + 1) for a, b in zip(total, runner.scores(each), strict=True)]
            options.append((-sign * _mean(runner.figures(mixed, objective)), each.number, each, mixed))
        if not options:
            break
        worst, _, member, mixed = min(options, key=lambda option: option[:2])
        picked = [*picked, member]
        total = [scores * len(picked) for scores in mixed]
        if -worst > best[0]:
            best = (-worst, list(picked), mixed)
    return best[1], best[2]


__all__ = [
    "SearchError",
    "SearchResult",
    "StorageError",
    "Trial",
    "fit",
    "search",
    "tune",
]
