"""The steps of a run: table, search, fit, export, register, gate."""

from __future__ import annotations

import math
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from training.deadline import Deadline
from training.decide.promote import challenge, challenge_unmeasured
from training.decide.test_set import encode, groups_of, missed_of, test_set_of
from training.exact import Fitted, prefer_exact, rivals_of, told
from training.export import export, onnx_form
from training.facts import Trained, about, draw, facts_of, short_title, source_tags, tags_of, trial_run
from training.families import own
from training.families.catalog import absent_families, not_tried
from training.families.factors import FAMILY as FACTORS
from training.families.scores import scores_of
from training.freshness import key_of, with_named_version
from training.imported.adopt import adopt
from training.imported.pictures import adopt_pictures
from training.imported.unmeasured import adopt_unmeasured
from training.imported.unmeasured_tensors import adopt_tensors
from training.job import Budget, Job
from training.metrics.behaviour import behaviour
from training.metrics.metric import METRICS
from training.owner import check_owner, columns_of
from training.pending import Finished, only_run, pending, record, save
from training.ranking.rankers import RankingPlan, interactions, measured_ranking
from training.registry.mlflow_registry import Registry
from training.registry.place import state_folder
from training.registry.records import CHALLENGER, CHAMPION, RegistryError, TrialRun
from training.search.choice import best_trial
from training.search.clock import MIN_FIT_FRACTION, finish_s_by
from training.search.large_fit import in_a_file
from training.search.last_fit import fit_last, plan_of
from training.search.letters import without_unseen
from training.search.search import fit, search
from training.search.search import tune as work_on_study
from training.search.spec import SearchSpec
from training.tables.data import load_table
from training.tables.schema import signature_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from artifact.signature import Signature
    from training.decide.promote import GateResult
    from training.decide.test_set import TestSet
    from training.progress import Progress
    from training.ranking.rankers import MeasuredRanking
    from training.registry.records import Version
    from training.search.search import SearchResult
    from training.search.trial import Trial
    from training.settings import Rank, UseCase
    from training.tables.data import Table


@dataclass(frozen=True)
class Result:
    """The result of a run."""

    finished: Finished
    gate: GateResult
    resumed: bool


def run(use_case: UseCase, budget: Budget, progress: Progress, *, anyway: bool = False) -> Result:
    """Train a use case, register the model, and promote it if the gate accepts it.

    A run that was interrupted after the training continues from there. With `anyway`, a first model is
    promoted even if it may be no better than guessing.

    Raises
    ------
    RegistryError
        Before the training; or after it, and then the trained model is kept for the next run.
    UseCaseError, DataError, SearchError, ArtifactError, BusyError
    """
    folder = state_folder() / ".okamochi" / "pending" / use_case.name
    deadline = Deadline.after(budget.timeout_s or use_case.timeout_s)
    with only_run(folder):
        use_case = with_named_version(use_case)
        if use_case.source is None:
            return _run_unmeasured(use_case, progress, folder)
        progress.stage("reading the table")
        table = load_table(use_case)
        for line in table.to_look_at():
            progress.say(f"          {line}")
        test = test_set_of(table)
        progress.stage("opening MLflow")
        registry = Registry()
        _check_owner(registry, table)
        key = key_of(use_case, table.digest, budget)
        finished = pending(folder, key)
        resumed = finished is not None
        if finished is None:
            began = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
            make = _train if use_case.model is None else adopt
            finished = make(registry, Job(test, budget, key, folder, progress, began, deadline))
        result = _registered(
            registry,
            finished,
            folder,
            progress,
            lambda version: (
                challenge(registry, test, version, anyway=anyway)
                if use_case.measured
                else challenge_unmeasured(registry, use_case, version)
            ),
        )
        return Result(finished, result, resumed)


def _run_unmeasured(use_case: UseCase, progress: Progress, folder: Path) -> Result:
    """Register a model that no table measures, and let the gate judge it."""
    progress.stage("opening MLflow")
    registry = Registry()
    key = key_of(use_case, "", Budget())
    finished = pending(folder, key)
    resumed = finished is not None
    if finished is None:
        began = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
        make = adopt_tensors if use_case.model is not None and use_case.model.tensors else adopt_unmeasured
        if use_case.images is not None:
            make = adopt_pictures
        finished = make(registry, use_case, key=key, folder=folder, progress=progress, began=began)
    result = _registered(
        registry,
        finished,
        folder,
        progress,
        lambda version: challenge_unmeasured(registry, use_case, version),
    )
    return Result(finished, result, resumed)


def _registered(
    registry: Registry,
    finished: Finished,
    folder: Path,
    progress: Progress,
    judge: Callable[[Version], GateResult],
) -> GateResult:
    """Register the model that is kept in the folder, and let the gate judge it."""
    try:
        progress.stage("registering in MLflow")
        version = record(registry, finished, folder)
        progress.stage("the gate")
        result = judge(version)
    except RegistryError as error:
        kept = f"The trained model is kept in {folder}; the next run registers it without training."
        raise RegistryError(f"{error} {kept}") from error
    shutil.rmtree(folder)
    progress.done()
    return result


def _check_owner(registry: Registry, table: Table) -> None:
    """Refuse a table whose use case has the name of another table's, before the training."""
    for alias in (CHAMPION, CHALLENGER):
        version = registry.version(table.use_case.name, alias)
        if version is not None:
            check_owner(table.use_case, columns_of(table), version.tags, version.number)


def tune(use_case: UseCase, budget: Budget, progress: Progress) -> int:
    """Work on a shared study until it has its number of trials, which is returned.

    Nothing is registered, and MLflow is not used: that does `run` with the same budget, now or later.

    Raises
    ------
    StorageError, UseCaseError, DataError, SearchError
    """
    deadline = Deadline.after(budget.timeout_s or use_case.timeout_s)
    progress.stage("reading the table")
    test = test_set_of(load_table(use_case))
    signature = signature_of(test.table, ~test.rows)
    progress.stage("searching")

    def on_trial(trial: Trial) -> None:
        what = f"{trial.state}, {test.metric} {trial.score:.4g}" if trial.state != "failed" else trial.reason
        progress.say(f"trial {trial.number}: {short_title(trial)}, {what}")

    done = work_on_study(
        encode(signature, test.table, ~test.rows),
        test.table.target[~test.rows],
        signature,
        _spec_of(test, budget, deadline),
        on_trial=on_trial,
        progress=progress.terminal,
    )
    progress.done()
    return done


class _TrialLog:
    """Logs finished trials. Once the registry has failed, later trials are logged at the end."""

    def __init__(self, registry: Registry, job: Job, run_id: str) -> None:
        self.registry, self.job, self.run_id = registry, job, run_id
        self.trials: list[TrialRun] = []
        self.logged = 0
        self.lost = False

    def add(self, trial: Trial) -> None:
        self.trials.append(trial_run(trial, self.job.metric))
        if self.lost:
            return
        try:
            self.registry.trial(self.job.use_case.name, self.run_id, self.trials[-1])
            self.logged += 1
        except RegistryError as error:
            self.lost = True
            self.job.progress.say(f"{error} The training continues and is registered at its end.")


def _train(registry: Registry, job: Job) -> Finished:
    use_case = job.use_case
    run_id = registry.start(
        use_case.name,
        f"searching · {use_case.name} · {job.began}",
        source_tags(use_case),
        description=about(use_case),
        about={"task": job.test.table.task, "metric": job.metric},
    )
    log = _TrialLog(registry, job, run_id)
    try:
        return _trained(job, log)
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        if not log.lost:
            with suppress(RegistryError):
                registry.finish(run_id, status)
        raise


def _trained(job: Job, log: _TrialLog) -> Finished:
    table, test = job.test.table, job.test.rows
    signature = signature_of(table, ~test)
    train_matrix, test_matrix = in_a_file(encode(signature, table, ~test)), encode(signature, table, test)
    labels = table.target[~test]

    job.progress.stage("searching")
    result = _search(job, signature, train_matrix, log)
    if absent := absent_families(result.layout, table.task):
        job.progress.say(not_tried(absent))
    signature, result, left = without_unseen(signature, result)
    if len(left) < train_matrix.shape[1]:
        train_matrix, test_matrix = in_a_file(train_matrix[:, left]), test_matrix[:, left]

    pipeline, best = _fitted(job, signature, result, train_matrix)
    winner = Fitted(
        pipeline,
        best,
        onnx_form(pipeline, signature, train_matrix, labels, test_matrix, seed=job.budget.seed),
    )
    if winner.form.reason:
        winner = _exact(job, signature, result, winner, (train_matrix, test_matrix))
    pipeline, best = winner.pipeline, winner.trial
    result = replace(result, best=best)
    baseline = fit(result.baseline, train_matrix, labels, signature, result.layout, seed=job.budget.seed)
    made = _measured(job, signature, result, (pipeline, baseline), test_matrix)
    if job.use_case.rank is not None:
        job.progress.stage("ranking")
        made = replace(
            made, ranked=_ranked(job, job.use_case.rank, signature, result, (train_matrix, test_matrix))
        )
    facts = facts_of(job, made)

    job.progress.stage("exporting and checking", finish_s_by(result.trials, result.layout, result.fold_rows))
    shutil.rmtree(job.folder, ignore_errors=True)
    exported = export(
        pipeline,
        signature,
        job.folder / "okamochi",
        train_matrix=train_matrix,
        train_labels=labels,
        test_matrix=test_matrix,
        test_frame=table.frame.loc[test],
        train_frame=table.frame.loc[~test],
        missed=missed_of(signature, job.test, made.scores),
        name=job.use_case.name,
        run_id=log.run_id,
        algorithm=best.title,
        metric=job.metric,
        metrics=facts.figures,
        ranking=None if made.ranked is None else made.ranked.ranking,
        card=facts.card,
        seed=job.budget.seed,
        own=own.roots_of(job.use_case.candidates.add, job.use_case.candidates.code),
        canary=job.use_case.canary,
        form=winner.form,
    )

    job.progress.stage("drawing pictures")
    draw(job, made)
    return save(
        Finished(
            key=job.key,
            name=job.use_case.name,
            about=about(job.use_case),
            run_id=log.run_id,
            title=facts.title,
            begun=source_tags(job.use_case),
            params=facts.params,
            metrics=facts.metrics,
            baseline=facts.baseline,
            folds={f"fold_{job.metric}": [float(score) for score in best.fold_scores]},
            tags=tags_of(job, best, facts.figures, exported),
            note=facts.card,
            data=facts.data,
            trials=log.trials,
            logged=log.logged,
        ),
        job.folder,
    )


def _fitted(
    job: Job, signature: Signature, result: SearchResult, matrix: NDArray[np.float64]
) -> tuple[Any, Trial]:
    """The winner, fitted on all training rows or on as many as fit into the time, and its trial then."""
    finish_s = finish_s_by(result.trials, result.layout, result.fold_rows)
    left_s = None
    if job.deadline.set:
        left_s = max(job.deadline.left_s - finish_s, job.deadline.left_s * MIN_FIT_FRACTION)
    plan = plan_of(result, len(matrix), left_s=left_s)
    job.progress.stage("fitting the best", plan.seconds + finish_s)
    for line in plan.told():
        job.progress.say(f"          {line}")
    labels = job.test.table.target[~job.test.rows]
    with job.progress.long(f"fitting {short_title(result.best)}", plan.seconds):
        spec = _spec_of(job.test, job.budget, job.deadline)
        return fit_last(
            plan,
            result,
            matrix,
            labels,
            signature,
            spec,
            tell=lambda line: job.progress.say(f"          {line}"),
        )


def _exact(
    job: Job,
    signature: Signature,
    result: SearchResult,
    winner: Fitted,
    matrices: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Fitted:
    """The winner without an exact graph, or the best candidate that has one, unless that is worse."""
    labels = job.test.table.target[~job.test.rows]

    def fitted(trial: Trial) -> Fitted:
        pipeline, last = _fitted(job, signature, replace(result, best=trial), matrices[0])
        form = onnx_form(pipeline, signature, matrices[0], labels, matrices[1], seed=job.budget.seed)
        return Fitted(pipeline, last, form)

    chosen, exact = prefer_exact(winner, map(fitted, rivals_of(result)), result)
    row = matrices[1][:1]
    for line in told(chosen, winner, exact, job.metric, row, len(signature.classes)):
        job.progress.say(f"          {line}")
    return chosen


def _measured(
    job: Job,
    signature: Signature,
    result: SearchResult,
    models: tuple[Any, Any],
    test_matrix: NDArray[np.float64],
) -> Trained:
    """Score the test rows with the fitted model and the baseline."""
    pipeline, baseline = models
    classes = len(signature.classes)

    def score(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores_of(pipeline, matrix, classes)

    scores = score(test_matrix)
    return Trained(
        signature=signature,
        result=result,
        scores=scores,
        baseline=scores_of(baseline, test_matrix, classes),
        behaviour=behaviour(score, test_matrix, job.test.truth, signature, job.metric, seed=job.budget.seed),
        groups=tuple(groups_of(job.test, signature, scores)),
    )


def _ranked(
    job: Job,
    rank: Rank,
    signature: Signature,
    result: SearchResult,
    matrices: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> MeasuredRanking:
    """The ranking of items for users, and its figures on the test rows."""
    factors = [each for each in result.trials if each.family == FACTORS.name and each.state == "complete"]
    params = best_trial(factors, job.metric, 0.0).params if factors else FACTORS.default(result.layout)
    plan = RankingPlan(rank, signature, result.layout, params, job.budget.seed)
    target, test = job.test.table.target, job.test.rows
    training = interactions(signature, rank, matrices[0], target[~test])
    return measured_ranking(plan, training, interactions(signature, rank, matrices[1], target[test]))


def _search(job: Job, signature: Signature, matrix: NDArray[np.float64], log: _TrialLog) -> SearchResult:
    table, budget = job.test.table, job.budget
    trials = budget.trials or job.use_case.trials
    sign = 1 if METRICS[job.metric].higher_is_better else -1
    told = ""
    best = -math.inf

    def on_trial(trial: Trial) -> None:
        nonlocal best, told
        log.add(trial)
        if trial.state == "complete" and sign * trial.score > best:
            best = sign * trial.score
            told = f"best so far: {job.metric} {trial.score:.4g} by {short_title(trial)}"
        job.progress.trial(min(len(log.trials), trials), trials, told)

    return search(
        matrix,
        table.target[~job.test.rows],
        signature,
        _spec_of(job.test, budget, job.deadline),
        on_trial=on_trial,
        progress=job.progress.terminal,
    )


def _spec_of(test: TestSet, budget: Budget, deadline: Deadline) -> SearchSpec:
    table, use_case = test.table, test.table.use_case
    train = ~test.rows
    own.check(use_case.candidates.add, use_case.candidates.code, table.task)
    return SearchSpec(
        task=table.task,
        metric=test.metric,
        folds=use_case.folds,
        groups=None if table.groups is None else table.groups[train],
        times=None if table.times is None else table.times[train],
        trials=budget.trials or use_case.trials,
        timeout_s=deadline.left_s if deadline.set else None,
        seed=budget.seed,
        storage=budget.storage,
        study_name=budget.study or f"okamochi-{use_case.name}",
        pair=None if use_case.rank is None else use_case.rank.pair,
        own=use_case.candidates.add,
        code=use_case.candidates.code,
    )
