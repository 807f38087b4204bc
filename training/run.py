"""The recipe: table, search, fit, export, register, gate. What it made is kept until the registry has it."""

from __future__ import annotations

import fcntl
import hashlib
import math
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact import manifest
from training.registry.mlflow_registry import (
    CHALLENGER,
    CHAMPION,
    DataInput,
    Registry,
    RegistryError,
    TrialRun,
    Version,
    peek,
)
from training.registry.place import state_folder
from training.settings import Bundled, Csv, OpenML, Parquet, Sql, Synthetic, UseCase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from training.decide.promote import Exam, Verdict
    from training.export import ExportResult
    from training.metrics.importances import Importance
    from training.progress import Progress
    from training.search.search import SearchResult
    from training.search.spec import SearchSpec
    from training.search.trial import Trial

DATA, SETTINGS, FORMAT = "okamochi.data", "okamochi.settings", "okamochi.format"
"""Tags of a version: what it was trained on, by digest, and the format of its artifact."""
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


class BusyError(Exception):
    """Another run of the same use case is under way (exit code 1)."""

    exit_code = 1


@dataclass(frozen=True)
class Budget:
    """What a search may spend; null takes the use case's own.

    Parameters
    ----------
    storage
        An Optuna storage URL that several processes may share; null keeps the study in memory.
    study
        Name of the study in it; null takes the use case's.
    """

    trials: int | None = None
    timeout_s: float | None = None
    seed: int = 0
    storage: str | None = None
    study: str | None = None


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A training that is done but for MLflow, as it waits in `.okamochi/pending/NAME`.

    Parameters
    ----------
    baseline
        Every metric of the baseline on the test rows.
    key
        Digest of what it was made from; a run with another key starts anew.
    logged
        How many of `trials` the run in MLflow has already.
    """

    key: str
    name: str
    about: str
    run_id: str
    title: str
    begun: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    baseline: dict[str, float]
    folds: dict[str, list[float]]
    tags: dict[str, str]
    note: str
    data: DataInput
    trials: list[TrialRun]
    logged: int


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    finished: Finished
    verdict: Verdict
    resumed: bool


def run(use_case: UseCase, budget: Budget, progress: Progress) -> Result:
    """Train a use case, register what came of it, and promote it if it is better.

    A run that was cut off after the training starts from there.

    Raises
    ------
    RegistryError
        Before the training, or with the trained model kept for the next run.
    UseCaseError, DataError, SearchError, ArtifactError, BusyError
    """
    # They bring pandas and scikit-learn; `--help` and `ensure` do without.
    from training.decide.promote import challenge, exam_of
    from training.tables.data import load_table

    folder = state_folder() / ".okamochi" / "pending" / use_case.name
    with _only_one(folder):
        progress.stage("reading the table")
        table = load_table(use_case)
        for line in table.to_look_at():
            progress.say(f"          {line}")
        exam = exam_of(table)
        progress.stage("opening MLflow")
        registry = Registry()
        key = _key(use_case, table.digest, budget)
        finished = _pending(folder, key)
        resumed = finished is not None
        if finished is None:
            began = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
            finished = _train(registry, _Job(exam, budget, key, folder, progress, began))
        try:
            progress.stage("registering in MLflow")
            version = record(registry, finished, folder)
            progress.stage("the gate")
            verdict = challenge(registry, exam, version)
        except RegistryError as error:
            kept = f"The trained model is kept in {folder}; that run will not train again."
            raise RegistryError(f"{error} {kept}") from error
        shutil.rmtree(folder)
        progress.done()
        return Result(finished, verdict, resumed)


def tune(use_case: UseCase, budget: Budget, progress: Progress) -> int:
    """Work on a study that processes share, until it has its trials; how many it has.

    Neither registers anything nor asks MLflow: `run` with the same budget does, once or while others tune.

    Raises
    ------
    StorageError, UseCaseError, DataError, SearchError
    """
    from training.decide.promote import encode, exam_of
    from training.search.search import tune as search_on
    from training.tables.data import load_table
    from training.tables.schema import signature_of

    progress.stage("reading the table")
    exam = exam_of(load_table(use_case))
    signature = signature_of(exam.table, ~exam.rows)
    progress.stage("searching")

    def on_trial(trial: Trial) -> None:
        what = f"{trial.state}, {exam.metric} {trial.score:.4g}" if trial.state != "failed" else trial.reason
        progress.say(f"trial {trial.number}: {_short(trial)}, {what}")

    done = search_on(
        encode(signature, exam.table, ~exam.rows),
        exam.table.target[~exam.rows],
        signature,
        _asked(exam, budget),
        on_trial=on_trial,
        progress=progress.terminal,
    )
    progress.done()
    return done


def up_to_date(use_case: UseCase) -> Version | None:
    """The version that a run would only make again: same table, same settings, and judged by the gate.

    It is the champion, or a challenger that the gate refused. Looks at no more than it must.
    """
    settings = settings_digest(use_case)
    for alias in (CHAMPION, CHALLENGER):
        version = peek(use_case.name, alias)
        if version is None or "gate" not in version.tags:
            continue
        same = version.tags.get(SETTINGS) == settings and version.tags.get(FORMAT) == str(manifest.FORMAT)
        if same and _data_is(use_case, version.tags.get(DATA, "")):
            return version
    return None


def settings_digest(use_case: UseCase) -> str:
    """A digest of what a use case asks for: not of its words for people, nor of the folder it is in."""
    said = msgspec.to_builtins(use_case)
    for words in ("title", "description", "file"):
        said.pop(words)
    if isinstance(use_case.source, Csv | Parquet):
        said["source"]["path"] = Path(use_case.source.path).name
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()


def record(registry: Registry, finished: Finished, folder: Path) -> Version:
    """Bring a finished training into MLflow, as far as it is not there yet; its registered version."""
    artifact = manifest.load(folder / "okamochi", name=finished.name)
    if not registry.has_run(finished.run_id):  # another registry than the one the training began with
        run_id = registry.start(finished.name, finished.title, finished.begun, description=finished.about)
        finished = _save(msgspec.structs.replace(finished, run_id=run_id, logged=0), folder)
    for number, trial in enumerate(finished.trials[finished.logged :], start=finished.logged + 1):
        registry.trial(finished.name, finished.run_id, trial)
        finished = _save(msgspec.structs.replace(finished, logged=number), folder)
    on_test = {key: value for key, value in finished.metrics.items() if key.startswith("test_")}
    registry.describe(
        finished.run_id,
        title=finished.title,
        params=finished.params,
        metrics={key: value for key, value in finished.metrics.items() if key not in on_test},
        folds=finished.folds,
        tags={key: value for key, value in finished.tags.items() if key not in on_test},
        note=finished.note,
        data=finished.data,
    )
    registry.files(finished.run_id, folder / "pictures", "pictures")
    version = registry.version_of_run(finished.name, finished.run_id)
    if version is None:
        version = registry.register(
            artifact,
            finished.run_id,
            tags=finished.tags,
            metrics=on_test,
            description=finished.note,
            about=finished.about,
        )
        registry.point(finished.name, CHALLENGER, version)
    registry.finish(finished.run_id)
    return version


@dataclass(frozen=True)
class _Job:
    """One training on its way: what it works on and where its result goes."""

    exam: Exam
    budget: Budget
    key: str
    folder: Path
    progress: Progress
    began: str

    @property
    def use_case(self) -> UseCase:
        return self.exam.table.use_case

    @property
    def metric(self) -> str:
        return self.exam.metric


class _TrialLog:
    """Logs trials as they finish. The first that the registry refuses leaves all later ones for the end."""

    def __init__(self, registry: Registry, job: _Job, run_id: str) -> None:
        self.registry, self.job, self.run_id = registry, job, run_id
        self.trials: list[TrialRun] = []
        self.logged = 0
        self.lost = False

    def add(self, trial: Trial) -> None:
        self.trials.append(_trial_run(trial, self.job.metric))
        if self.lost:
            return
        try:
            self.registry.trial(self.job.use_case.name, self.run_id, self.trials[-1])
            self.logged += 1
        except RegistryError as error:
            self.lost = True
            self.job.progress.say(f"{error} The training goes on, and is registered at its end.")


def _train(registry: Registry, job: _Job) -> Finished:
    use_case = job.use_case
    run_id = registry.start(
        use_case.name,
        f"searching · {use_case.name} · {job.began}",
        _begun(use_case),
        description=_about(use_case),
        about={"task": job.exam.table.task, "metric": job.metric},
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


def _trained(job: _Job, log: _TrialLog) -> Finished:
    from training.decide.promote import encode
    from training.export import export
    from training.families.scores import scores_of
    from training.metrics.importances import importances
    from training.search.search import fit
    from training.tables.schema import signature_of

    exam, table, test = job.exam, job.exam.table, job.exam.rows
    signature = signature_of(table, ~test)
    train_matrix, test_matrix = encode(signature, table, ~test), encode(signature, table, test)
    labels = table.target[~test]

    job.progress.stage("searching")
    result = _search(job, signature, train_matrix, log)
    best = result.best

    job.progress.stage("fitting the best")
    pipeline = fit(best, train_matrix, labels, signature, result.layout, seed=job.budget.seed)
    baseline = fit(result.baseline, train_matrix, labels, signature, result.layout, seed=job.budget.seed)
    classes = len(signature.classes)
    made = _Made(
        signature=signature,
        result=result,
        scores=scores_of(pipeline, test_matrix, classes),
        baseline=scores_of(baseline, test_matrix, classes),
        importances=tuple(
            importances(
                lambda matrix: scores_of(pipeline, matrix, classes),
                test_matrix,
                exam.truth,
                signature,
                exam.metric,
                seed=job.budget.seed,
            )
        ),
    )
    facts = _facts(job, made)

    job.progress.stage("exporting and checking")
    shutil.rmtree(job.folder, ignore_errors=True)
    exported = export(
        pipeline,
        signature,
        job.folder / "okamochi",
        train_matrix=train_matrix,
        train_labels=labels,
        test_matrix=test_matrix,
        test_frame=table.frame.loc[test],
        name=job.use_case.name,
        run_id=log.run_id,
        algorithm=best.title,
        metric=exam.metric,
        metrics=facts.figures,
        card=facts.card,
        seed=job.budget.seed,
    )

    job.progress.stage("drawing pictures")
    _draw(job, made)
    return _save(
        Finished(
            key=job.key,
            name=job.use_case.name,
            about=_about(job.use_case),
            run_id=log.run_id,
            title=facts.title,
            begun=_begun(job.use_case),
            params=facts.params,
            metrics=facts.metrics,
            baseline=facts.baseline,
            folds={f"fold_{exam.metric}": [float(score) for score in best.fold_scores]},
            tags=_tags(job, best, facts.figures, exported),
            note=facts.card,
            data=facts.data,
            trials=log.trials,
            logged=log.logged,
        ),
        job.folder,
    )


def _tags(job: _Job, best: Trial, figures: Mapping[str, float], exported: ExportResult) -> dict[str, str]:
    tags = {
        "algorithm": _short(best),
        "runtime": exported.runtime,
        "metric": job.metric,
        **{f"test_{name}": f"{value:.4f}" for name, value in figures.items()},
        "okamochi.use_case": job.use_case.name,
        DATA: job.exam.table.digest,
        SETTINGS: settings_digest(job.use_case),
        FORMAT: str(manifest.FORMAT),
    }
    if exported.reason:
        tags["runtime.reason"] = exported.reason
    if job.use_case.synthetic:
        tags["synthetic"] = "true"
    return tags


@dataclass(frozen=True)
class _Made:
    """A fitted candidate and what it makes of the test rows; scores of shape (rows, outputs)."""

    signature: Signature
    result: SearchResult
    scores: NDArray[np.float64]
    baseline: NDArray[np.float64]
    importances: tuple[Importance, ...]


@dataclass(frozen=True)
class _Facts:
    """What a training's run is called and holds in MLflow.

    `figures` and `baseline` are all metrics on the test rows, `metrics` those that the run logs.
    """

    title: str
    params: dict[str, str]
    figures: dict[str, float]
    baseline: dict[str, float]
    metrics: dict[str, float]
    data: DataInput
    card: str


def _search(job: _Job, signature: Signature, matrix: NDArray[np.float64], log: _TrialLog) -> SearchResult:
    from training.metrics.metric import METRICS
    from training.search.search import search

    table, budget = job.exam.table, job.budget
    trials = budget.trials or job.use_case.trials
    sign = 1 if METRICS[job.metric].higher_is_better else -1
    told = ""
    best = -math.inf

    def on_trial(trial: Trial) -> None:
        nonlocal best, told
        log.add(trial)
        if trial.state == "complete" and sign * trial.score > best:
            best = sign * trial.score
            told = f"best so far: {job.metric} {trial.score:.4g} by {_short(trial)}"
        job.progress.trial(min(len(log.trials), trials), trials, told)

    return search(
        matrix,
        table.target[~job.exam.rows],
        signature,
        _asked(job.exam, budget),
        on_trial=on_trial,
        progress=job.progress.terminal,
    )


def _asked(exam: Exam, budget: Budget) -> SearchSpec:
    from training.search.spec import SearchSpec

    table, use_case = exam.table, exam.table.use_case
    train = ~exam.rows
    return SearchSpec(
        task=table.task,
        metric=exam.metric,
        folds=use_case.folds,
        groups=None if table.groups is None else table.groups[train],
        times=None if table.times is None else table.times[train],
        trials=budget.trials or use_case.trials,
        timeout_s=budget.timeout_s or use_case.timeout_s,
        seed=budget.seed,
        storage=budget.storage,
        study_name=budget.study or f"okamochi-{use_case.name}",
    )


def _facts(job: _Job, made: _Made) -> _Facts:
    from training.metrics.metric import metrics

    exam, table, best, metric = job.exam, job.exam.table, made.result.best, job.metric
    signature = made.signature
    held = int(exam.rows.sum())
    figures, baseline = (
        metrics(table.task, exam.truth, scores, table.classes, table.positive, signature.threshold)
        for scores in (made.scores, made.baseline)
    )
    types = {"number": "double", "category": "string", "text": "string", "date": "datetime"}
    return _Facts(
        title=f"{_short(best)} {figures[metric]:.4g} · {table.use_case.name} · {job.began}",
        params={
            "algorithm": _short(best),
            "settings": _settings(best),
            "candidates": str(len(made.result.trials)),
            "folds": str(made.result.folds),
            "seed": str(job.budget.seed),
            "train_rows": str(table.rows - held),
            "test_rows": str(held),
            "columns": str(len(table.frame.columns)),
        },
        figures=figures,
        baseline={name: value for name, value in baseline.items() if np.isfinite(value)},
        metrics={
            f"cv_{metric}": best.score,
            **{f"test_{name}": value for name, value in figures.items() if np.isfinite(value)},
            f"baseline_test_{metric}": baseline[metric],
        },
        data=DataInput(
            name=table.use_case.name,
            digest=table.digest,
            source=_source_name(table.use_case),
            rows=table.rows,
            columns={name: types[kind] for name, kind in table.kinds.items()},
            target=table.use_case.target,
        ),
        card=_card(job, made, figures, baseline),
    )


def _card(job: _Job, made: _Made, figures: Mapping[str, float], baseline: Mapping[str, float]) -> str:
    from training.card import card
    from training.metrics.slices import slices

    exam, table, use_case = job.exam, job.exam.table, job.use_case
    held = int(exam.rows.sum())
    parts = (
        slices(
            exam.metric,
            exam.truth,
            made.scores,
            table.sensitive.loc[exam.rows],
            task=table.task,
            classes=table.classes,
            positive=table.positive,
            threshold=made.signature.threshold,
        )
        if len(table.sensitive.columns)
        else ()
    )
    return card(
        name=use_case.name,
        title=use_case.title,
        description=use_case.description,
        synthetic=use_case.synthetic,
        signature=made.signature,
        found=made.result,
        metrics=figures,
        baseline=baseline,
        train_rows=table.rows - held,
        test_rows=held,
        digest=table.digest,
        slices=parts,
        importances=made.importances,
        notes=[str(note) for note in table.notes],
    )


def _source_name(use_case: UseCase) -> str:
    """Where the table comes from, without a password or a folder."""
    match use_case.source:
        case Csv(path=path) | Parquet(path=path):
            return Path(path).name
        case OpenML(id=number):
            return f"openml.org/d/{number}"
        case Sql():
            return "a database query"
        case Bundled(name=name):
            return f"scikit-learn: {name}"
        case Synthetic(name=name):
            return f"generated rows: {name}"


def _trial_run(trial: Trial, metric: str) -> TrialRun:
    return TrialRun(
        title=f"{_short(trial)} #{trial.number}",
        params={"algorithm": _short(trial), "settings": _settings(trial)},
        metric=metric,
        fold_scores=[float(score) for score in trial.fold_scores],
        score=float(trial.score) if np.isfinite(trial.score) and trial.state == "complete" else None,
        status=STATUS[trial.state],
        started=time.time() - trial.seconds,
        seconds=trial.seconds,
        tags={"mlflow.note.content": f"{trial.state}: {trial.reason}"} if trial.reason else {},
    )


def _short(trial: Trial) -> str:
    members = trial.params.get("members")
    return f"ensemble of {len(members)}" if members else trial.title.lower()


def _settings(trial: Trial) -> str:
    """Its parameters on one line: families share hardly any, and a column for each would be empty mostly."""
    members = trial.params.get("members")
    if members:
        return "; ".join(
            f"{member['weight']} x {member['family']} ({_listed(member['params'])})" for member in members
        )
    return _listed(trial.params) or "its defaults"


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in params.items()
    )


def _draw(job: _Job, made: _Made) -> None:
    """The plots as pictures, one file each."""
    from training.plots import plots

    folder = job.folder / "pictures"
    folder.mkdir()
    figures = plots(
        made.signature,
        job.exam.truth,
        made.scores,
        metric=job.metric,
        trials=made.result.trials,
        importances=made.importances,
    )
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")


def _about(use_case: UseCase) -> str:
    return ": ".join(filter(None, (use_case.title, use_case.description)))


def _begun(use_case: UseCase) -> dict[str, str]:
    return {"mlflow.source.name": f"python -m training run {use_case.name}"}


def _key(use_case: UseCase, data: str, budget: Budget) -> str:
    asked = (data, settings_digest(use_case), str(manifest.FORMAT), budget)
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()


def _data_is(use_case: UseCase, digest: str) -> bool:
    """Whether the table still has this digest; a set that never changes is not read."""
    match use_case.source:
        case Csv(path=path) | Parquet(path=path):
            with suppress(OSError):
                return hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest
            return False
        case Sql():
            from training.tables.sources import read_source

            return read_source(use_case).digest == digest
        case Bundled() | Synthetic() | OpenML():
            return True


def _pending(folder: Path, key: str) -> Finished | None:
    try:
        finished = msgspec.json.decode((folder / "finished.json").read_bytes(), type=Finished)
        manifest.load(folder / "okamochi", name=finished.name)
    except (OSError, msgspec.MsgspecError, manifest.ArtifactError):
        return None
    return finished if finished.key == key else None


def _save(finished: Finished, folder: Path) -> Finished:
    half = folder / "finished.json.half"
    half.write_bytes(msgspec.json.encode(finished))
    half.replace(folder / "finished.json")
    return finished


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the use case's lock: two runs would write one folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(
                f"Another run of {folder.name} is under way in {folder.parent}; wait for it."
            ) from None
        yield
