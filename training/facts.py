"""What MLflow shows of a training: title, parameters, metrics, tags, card and pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact import manifest
from training.card import card
from training.decide.test_set import coverages_of, slices_of
from training.fairness_report import FAIRNESS_PAGE, write_fairness_page
from training.freshness import DATA, FORMAT, SETTINGS, settings_digest
from training.metrics.metric import metrics
from training.owner import tags_of_table
from training.plots import plots
from training.registry.records import SOURCE, DataInput, TrialRun
from training.settings import Bundled, Csv, Images, OpenML, Parquet, Sql, Synthetic, UseCase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from training.decide.test_set import TestSet
    from training.export import ExportResult
    from training.job import Job
    from training.metrics.behaviour import Behaviour
    from training.metrics.fairness import Fairness
    from training.ranking.rankers import MeasuredRanking
    from training.search.search import SearchResult
    from training.search.trial import Trial
    from training.tables.data import Table

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


@dataclass(frozen=True)
class Trained:
    """A fitted candidate and its scores of the test rows, of shape (rows, outputs)."""

    signature: Signature
    result: SearchResult
    scores: NDArray[np.float64]
    baseline: NDArray[np.float64]
    behaviour: Behaviour
    groups: tuple[Fairness, ...] = ()
    ranked: MeasuredRanking | None = None


@dataclass(frozen=True)
class Facts:
    """What MLflow shows of a training's run.

    `figures` and `baseline` are all metrics on the test rows, `metrics` those that the run logs.
    """

    title: str
    params: dict[str, str]
    figures: dict[str, float]
    baseline: dict[str, float]
    metrics: dict[str, float]
    data: DataInput
    card: str


def facts_of(job: Job, made: Trained) -> Facts:
    """The facts of a training, computed from its scores of the test rows."""
    test, table, best, metric = job.test, job.test.table, made.result.best, job.metric
    signature = made.signature
    held = int(test.rows.sum())
    figures, baseline = (
        metrics(table.task, test.truth, scores, table.classes, table.positive, signature.threshold)
        for scores in (made.scores, made.baseline)
    )
    ranked, popularity = ({}, {}) if made.ranked is None else (made.ranked.figures, made.ranked.baseline)
    every = figures | ranked
    return Facts(
        title=f"{short_title(best)} {figures[metric]:.4g} · {table.use_case.name} · {job.began}",
        params={
            "algorithm": short_title(best),
            "settings": _settings(best),
            "candidates": str(len(made.result.trials)),
            "folds": str(made.result.folds),
            "seed": str(job.budget.seed),
            "train_rows": str(table.rows - held),
            "test_rows": str(held),
            "columns": str(len(table.frame.columns)),
        },
        figures=every,
        baseline=_finite(baseline | popularity),
        metrics={
            f"cv_{metric}": best.score,
            **{f"test_{name}": value for name, value in _finite(every).items()},
            f"baseline_test_{metric}": baseline[metric],
            **{f"baseline_test_{name}": value for name, value in _finite(popularity).items()},
        },
        data=data_of(table),
        card=_card(job, made, figures, baseline),
    )


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def tags_of(job: Job, best: Trial, figures: Mapping[str, float], exported: ExportResult) -> dict[str, str]:
    """The tags of the run and of the registered version."""
    tags = {
        "algorithm": short_title(best),
        "runtime": exported.runtime,
        "metric": job.metric,
        **{f"test_{name}": f"{value:.4f}" for name, value in figures.items()},
        "okamochi.use_case": job.use_case.name,
        DATA: job.test.table.digest,
        SETTINGS: settings_digest(job.use_case),
        FORMAT: str(manifest.FORMAT),
        **tags_of_table(job.test.table),
    }
    if exported.reason:
        tags["runtime.reason"] = exported.reason
    if job.use_case.synthetic:
        tags["synthetic"] = "true"
    return tags


def _card(job: Job, made: Trained, figures: Mapping[str, float], baseline: Mapping[str, float]) -> str:
    test, table, use_case = job.test, job.test.table, job.use_case
    held = int(test.rows.sum())
    return card(
        use_case,
        signature=made.signature,
        found=made.result,
        metrics=figures,
        baseline=baseline,
        train_rows=table.rows - held,
        test_rows=held,
        digest=table.digest,
        slices=slices_of(test, made.signature, made.scores),
        groups=made.groups,
        behaviour=made.behaviour,
        ranked=made.ranked,
        coverages=coverages_of(made.signature, test, made.scores),
        notes=[str(note) for note in table.notes],
    )


def data_of(table: Table) -> DataInput:
    """The table as the data set of a run."""
    types = {
        "number": "double",
        "category": "string",
        "text": "string",
        "image": "string",
        "date": "datetime",
    }
    return DataInput(
        name=table.use_case.name,
        digest=table.digest,
        source=_source_name(table.use_case),
        rows=table.rows,
        columns={name: types[kind] for name, kind in table.kinds.items()},
        target=table.use_case.target,
    )


def _source_name(use_case: UseCase) -> str:
    """The source of the table, without passwords and folders."""
    match use_case.source:
        case Csv(path=path) | Parquet(path=path) | Images(path=path):
            return Path(path).name
        case OpenML(id=number):
            return f"openml.org/d/{number}"
        case Sql():
            return "a database query"
        case Bundled(name=name):
            return f"scikit-learn: {name}"
        case Synthetic(name=name):
            return f"generated rows: {name}"
        case None:
            return ""


def trial_run(trial: Trial, metric: str) -> TrialRun:
    """A candidate as a nested run."""
    return TrialRun(
        title=f"{short_title(trial)} #{trial.number}",
        params={"algorithm": short_title(trial), "settings": _settings(trial)},
        metric=metric,
        fold_scores=[float(score) for score in trial.fold_scores],
        score=float(trial.score) if np.isfinite(trial.score) and trial.state == "complete" else None,
        status=STATUS[trial.state],
        started=time.time() - trial.seconds,
        seconds=trial.seconds,
        tags={"mlflow.note.content": f"{trial.state}: {trial.reason}"} if trial.reason else {},
    )


def short_title(trial: Trial) -> str:
    """The candidate's family in a few words."""
    members = trial.params.get("members")
    return f"ensemble of {len(members)}" if members else trial.title.lower()


def _settings(trial: Trial) -> str:
    """All parameters as one text: families share few, so most columns of single parameters would be empty."""
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


def draw(job: Job, made: Trained) -> None:
    """Write each plot as a picture."""
    folder = job.folder / "pictures"
    folder.mkdir()
    figures = plots(
        made.signature,
        job.test.truth,
        made.scores,
        metric=job.metric,
        trials=made.result.trials,
        behaviour=made.behaviour,
    )
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    write_groups(job.test, made.groups, folder)


def write_groups(test: TestSet, groups: Sequence[Fairness], folder: Path) -> None:
    """Write the page on groups of people beside the pictures, if there are any."""
    if groups:
        use_case = test.table.use_case
        title = use_case.title or use_case.name
        write_fairness_page(title, use_case.target, groups, int(test.rows.sum()), folder / FAIRNESS_PAGE)


def about(use_case: UseCase) -> str:
    """Title and description of the use case in one line."""
    return ": ".join(filter(None, (use_case.title, use_case.description)))


def source_tags(use_case: UseCase) -> dict[str, str]:
    """The tags with the command that made a run."""
    return {"mlflow.source.name": f"{SOURCE} run {use_case.name}"}
