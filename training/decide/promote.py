"""Which version is live: a challenger meets the champion on the test rows, and the aliases move or stay.

An alias moves in one call and there is no call that moves two, so the order matters: a registry that is lost
half-way leaves the old champion live, and the same command once more finishes.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact import manifest
from artifact.encode import Encoder
from training.decide.gate import Decision, Figures, Floor, Gain, Limits, Slice, decide
from training.interpreter import typed
from training.metrics.intervals import paired_gain
from training.metrics.metric import DEFAULT_METRIC, METRICS, metrics
from training.metrics.slices import slices
from training.registry.mlflow_registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version
from training.tables.data import test_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from artifact.manifest import Artifact, Score
    from artifact.signature import Signature
    from training.settings import UseCase
    from training.tables.data import Table

REPLACED = "okamochi.replaced"
"""Tag of a version that became champion: the number of the one that it took over from."""
MADE_CHAMPION_BY = "okamochi.made_champion_by"
"""Tag of a version that became champion: how it last did, `PROMOTION` or `ROLLBACK`."""
PROMOTION, ROLLBACK = "promotion", "rollback"
GATE, REASONS, FIGURES = "gate", "gate.reasons", "okamochi.figures"
RESAMPLED_CELLS, FEWEST_RESAMPLES, MOST_RESAMPLES = 5_000_000, 200, 1_000
TIMED_ROWS = 30
SHOWN_VERSIONS = 8


class NothingToPromoteError(Exception):
    """There is no version that the command could move to (exit code 2)."""

    exit_code = 2


class WhichVersionError(Exception):
    """The version to roll back to has to be named, or there is none of that number (exit code 2)."""

    exit_code = 2


@dataclass(frozen=True)
class Exam:
    """What models are compared on.

    Parameters
    ----------
    rows
        Which rows of the table are for the test, shape (rows,).
    metric
        The one that decides.
    """

    table: Table
    rows: NDArray[np.bool_]
    metric: str

    @property
    def truth(self) -> NDArray[Any]:
        """The test rows' own labels, or values."""
        return self.table.target[self.rows]


@dataclass(frozen=True)
class Held:
    """A model and what it makes of the test rows.

    Parameters
    ----------
    scores
        Shape (test rows, outputs).
    """

    artifact: Artifact
    score: Score
    matrix: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """How a challenger did.

    Parameters
    ----------
    champion
        Who was champion before, if anyone.
    metrics, champion_metrics
        Every metric of the task on the test rows.
    """

    challenger: Version
    champion: Version | None
    figures: Figures
    decision: Decision
    metrics: Mapping[str, float]
    champion_metrics: Mapping[str, float]

    @property
    def accepted(self) -> bool:
        """Whether the challenger is champion now."""
        return self.decision.accepted


def challenge(registry: Registry, exam: Exam, challenger: Version, *, force: bool = False) -> Verdict:
    """Let a version meet the champion, write the verdict to its tags, and move the aliases if it is better.

    Parameters
    ----------
    force
        Promote whatever the gate says; its reasons are kept.

    Raises
    ------
    RegistryError
        Nothing has moved, or the old champion is still live.
    ArtifactError
        The challenger's files are not what training wrote.
    """
    with TemporaryDirectory(prefix="okamochi-") as folder:
        verdict = _judge(registry, exam, challenger, Path(folder))
    decision = verdict.decision
    if verdict.champion is not None and verdict.champion.number == challenger.number:
        make_champion(registry, challenger)
        return verdict
    if force and not decision.accepted:
        reasons = ("It was promoted by hand, against the gate.", *decision.reasons)
        verdict = replace(verdict, decision=Decision(accepted=True, reasons=reasons))
    result = "accepted" if decision.accepted else "overridden" if force else "refused"
    _record(registry, verdict, result)
    if verdict.accepted:
        make_champion(registry, challenger)
    else:
        registry.point(challenger.name, CHALLENGER, challenger)
    return verdict


def make_champion(registry: Registry, version: Version, *, by: str = PROMOTION) -> None:
    """Move the aliases: `previous` to the old champion, then `champion` to this version.

    Parameters
    ----------
    by
        `PROMOTION` or `ROLLBACK`.
    """
    name = version.name
    old = registry.version(name, CHAMPION)
    if old is None or old.number != version.number:
        # Before any alias moves, and on the version that is not champion yet: should the registry be lost
        # after one of the next calls, the champion's own tags are still true, and a rollback finds its way.
        registry.tag(version, {MADE_CHAMPION_BY: by} | ({} if old is None else {REPLACED: old.number}))
    if old is not None and old.number != version.number:
        registry.point(name, PREVIOUS, old)
    registry.point(name, CHAMPION, version)
    newest = registry.version(name, CHALLENGER)
    if newest is not None and newest.number == version.number:
        registry.unpoint(name, CHALLENGER)


def rollback(registry: Registry, name: str, to: str | None = None) -> tuple[Version, Version]:
    """Make an older version live again; the version that is live now, and the one that was.

    Parameters
    ----------
    to
        The number of the version. It is needed where the last change was a rollback: the champion before is
        then the version that somebody rolled back from. Where it is live already, nothing changes.

    Raises
    ------
    NothingToPromoteError
        There is no champion, or none before it.
    WhichVersionError
        The last change was a rollback and `to` is None, or there is no version `to`.
    ArtifactError
        The files of the version are lost or damaged: the one that is live stays.
    """
    live = registry.version(name, CHAMPION)
    if live is None:
        raise NothingToPromoteError(f"{name} has no champion, so there is nothing to roll back.")
    before = _champion_before(registry, live) if to is None else _numbered(registry, name, to)
    if before.number != live.number:
        with TemporaryDirectory(prefix="okamochi-") as folder:
            manifest.load(registry.download(before, Path(folder)), name=name)
        make_champion(registry, before, by=ROLLBACK)
    return before, live


def _champion_before(registry: Registry, live: Version) -> Version:
    name = live.name
    if live.tags.get(MADE_CHAMPION_BY) == ROLLBACK:
        raise WhichVersionError(
            f"The last change of {name} was a rollback already: version {live.number} is champion again, "
            f"in place of version {live.tags.get(REPLACED)}. Nothing has changed. To go to another version, "
            f"name it: {typed(f'-m training rollback {name} --to VERSION')}. {_told_versions(registry, name)}"
        )
    before = registry.version(name, PREVIOUS)
    if before is not None and before.number == live.number:  # a move that was cut half-way
        before = registry.numbered(name, live.tags.get(REPLACED, ""))
    if before is None:
        raise NothingToPromoteError(
            f"{name} has no champion before version {live.number}, so there is nothing to roll back to."
        )
    return before


def _numbered(registry: Registry, name: str, number: str) -> Version:
    found = registry.numbered(name, number)
    if found is None:
        raise WhichVersionError(
            f"{name} has no version {number!r}. Nothing has changed. {_told_versions(registry, name)}"
        )
    return found


def _told_versions(registry: Registry, name: str) -> str:
    """Each version by its number, with what the gate said of it and the alias that it has."""
    aliases: dict[str, list[str]] = {}
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        version = registry.version(name, alias)
        if version is not None:
            aliases.setdefault(version.number, []).append(alias)
    told = []
    for version in registry.versions(name)[:SHOWN_VERSIONS]:
        words = [*aliases.get(version.number, []), version.tags.get(GATE, "not judged")]
        told.append(f"{version.number} ({', '.join(words)})")
    return f"Its newest versions are: {', '.join(told)}."


def exam_of(table: Table) -> Exam:
    """The test rows of a table, and the use case's metric, else the task's default."""
    return Exam(table, test_rows(table), table.use_case.metric or DEFAULT_METRIC[table.task])


def hold(artifact: Artifact, exam: Exam) -> Held:
    """Score the test rows by an artifact's own signature; what it refuses is coded as missing."""
    from artifact.runtime import open_score

    score = open_score(artifact)
    matrix = encode(artifact.signature, exam.table, exam.rows)
    return Held(artifact, score, matrix, score(matrix))


def encode(signature: Signature, table: Table, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The matrix of the chosen rows of a table, shape (rows, signature.width)."""
    chosen = table.frame.loc[rows]
    return Encoder(signature).columns({name: chosen[name] for name in signature.names}, lenient=True)


def figures_of(held: Held, exam: Exam) -> dict[str, float]:
    """Every metric of the task on the test rows."""
    table, threshold = exam.table, held.artifact.signature.threshold
    return metrics(table.task, exam.truth, held.scores, table.classes, table.positive, threshold)


def model_size_mb(artifact: Artifact) -> float:
    """The file that a server scores with, in millions of bytes."""
    file = manifest.ONNX if artifact.manifest.runtime == "onnx" else manifest.SKOPS
    return (artifact.path / file).stat().st_size / 1e6


def time_of_row_ms(held: Held) -> float:
    """What one row alone costs, in milliseconds: the median of some of the rows."""
    taken = []
    for i in range(min(TIMED_ROWS, len(held.matrix))):
        row = held.matrix[i : i + 1]
        started = time.perf_counter()
        held.score(row)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[len(taken) // 5 :])) * 1000


def _judge(registry: Registry, exam: Exam, challenger: Version, folder: Path) -> Verdict:
    name = challenger.name
    found = registry.download(challenger, folder / "challenger")
    held = hold(manifest.load(found, name=name), exam)
    own = figures_of(held, exam)
    champion = registry.version(name, CHAMPION)
    figures = _figures(held, own, exam)
    if champion is not None and champion.number == challenger.number:
        already = Decision(accepted=True, reasons=("It is the champion already.",))
        return Verdict(challenger, champion, figures, already, own, own)
    theirs: dict[str, float] = {}
    if champion is not None:
        rival, problem = _champion(registry, champion, exam, folder / "champion")
        theirs = {} if rival is None else figures_of(rival, exam)
        figures = replace(
            figures,
            champion_version=champion.number,
            champion_value=theirs.get(exam.metric),
            champion_problem=problem,
            gain=None if rival is None else _gain(held, rival, exam),
        )
    return Verdict(challenger, champion, figures, decide(figures), own, theirs)


def _champion(
    registry: Registry, champion: Version, exam: Exam, folder: Path
) -> tuple[Held | None, str | None]:
    """The champion on the same test rows, or why it cannot score them."""
    try:
        artifact = manifest.load(registry.download(champion, folder), name=champion.name)
        problem = _cannot_score(artifact.signature, exam.table)
        return (hold(artifact, exam), None) if problem is None else (None, problem)
    except manifest.ArtifactError as error:
        way = f"{typed(f'-m training promote --force {champion.name}')} replaces it"
        return None, f"its files cannot be used ({error}); {way}"


def _cannot_score(signature: Signature, table: Table) -> str | None:
    lost = [name for name in signature.names if name not in table.frame.columns]
    if lost:
        shown = ", ".join(repr(name) for name in lost[:3]) + (" and others" if len(lost) > 3 else "")
        return f"it reads {shown}, which the table no longer has as a feature"
    if signature.task != table.task:
        return f"it does a {signature.task} task, the table is now a {table.task} one"
    if list(signature.classes) != list(table.classes):
        return f"it knows the classes {list(signature.classes)}, the table has {list(table.classes)}"
    if signature.target != table.use_case.target:
        return f"it predicts {signature.target!r}, the target is now {table.use_case.target!r}"
    return None


def _gain(held: Held, rival: Held, exam: Exam) -> Gain:
    truth = exam.truth
    resamples = int(np.clip(RESAMPLED_CELLS // len(truth), FEWEST_RESAMPLES, MOST_RESAMPLES))
    mean, low, high = paired_gain(
        exam.metric,
        truth,
        held.scores,
        rival.scores,
        n=resamples,
        classes=exam.table.classes,
        positive=exam.table.positive,
        thresholds=(held.artifact.signature.threshold, rival.artifact.signature.threshold),
    )
    return Gain(mean, low, high)


def _figures(held: Held, own: Mapping[str, float], exam: Exam) -> Figures:
    """What the challenger's figures are by themselves."""
    use_case = exam.table.use_case
    limits = use_case.gate
    return Figures(
        metric=exam.metric,
        higher_is_better=METRICS[exam.metric].higher_is_better,
        value=own[exam.metric],
        test_rows=len(held.scores),
        size_mb=model_size_mb(held.artifact),
        row_ms=time_of_row_ms(held),
        floors=_floors(use_case, own),
        slices=_slices(held, exam),
        limits=Limits(limits.max_size_mb, limits.max_row_ms, limits.max_slice_gap, limits.min_gain),
    )


def _slices(held: Held, exam: Exam) -> tuple[Slice, ...]:
    table = exam.table
    if not len(table.sensitive.columns):
        return ()
    found = slices(
        exam.metric,
        exam.truth,
        held.scores,
        table.sensitive.loc[exam.rows],
        task=table.task,
        classes=table.classes,
        positive=table.positive,
        threshold=held.artifact.signature.threshold,
    )
    return tuple(Slice(part.column, part.level, part.rows, part.value) for part in found)


def _floors(use_case: UseCase, own: Mapping[str, float]) -> tuple[Floor, ...]:
    return tuple(
        Floor(metric, own.get(metric, float("nan")), limit, METRICS[metric].higher_is_better)
        for metric, limit in use_case.gate.floors.items()
    )


def _record(registry: Registry, verdict: Verdict, result: str) -> None:
    """Write the verdict where a user of MLflow looks: on the version and on its run."""
    figures = verdict.figures
    tags = {GATE: result, REASONS: " ".join(verdict.decision.reasons)}
    if verdict.champion is not None:
        tags["gate.against"] = f"version {verdict.champion.number}"
    kept = {
        "metrics": dict(verdict.metrics),
        "test_rows": figures.test_rows,
        "champion": None if verdict.champion is None else verdict.champion.number,
        "champion_metrics": dict(verdict.champion_metrics),
        "gain": None if figures.gain is None else [figures.gain.mean, figures.gain.low, figures.gain.high],
        "size_mb": figures.size_mb,
        "row_ms": figures.row_ms,
    }
    registry.tag(verdict.challenger, {**tags, FIGURES: json.dumps(kept)})
    numbers = {"size_mb": figures.size_mb, "row_ms": figures.row_ms}
    if figures.gain is not None and np.isfinite(figures.gain.mean):
        numbers |= {"gain_over_champion": figures.gain.mean}
    registry.tag_run(verdict.challenger.run_id, tags, numbers)
