"""A challenger meets the champion on the test rows, and takes its place if the gate says so."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from artifact import manifest, tensor_model
from artifact.encode import Encoder, canonical
from artifact.runtime import open_score
from training.decide.aliases import GATE, make_champion
from training.decide.gate import Bound, Decision, Figures, Floor, Gain, Limits, Slice, decide
from training.decide.test_set import (
    Scored,
    cannot_score,
    groups_of,
    in_order_of,
    metrics_of,
    model_size_mb,
    ranked_of,
    score_test_set,
    slices_of,
    time_of_row_ms,
)
from training.interpreter import typed
from training.metrics.baseline import same_for_all
from training.metrics.fairness import RATIO
from training.metrics.intervals import paired_gain
from training.metrics.metric import METRICS, metrics
from training.ranking.figures import gain_by_user
from training.registry.records import CHALLENGER, CHAMPION, UNMEASURED
from training.settings import RANK_METRIC_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.manifest import Artifact
    from artifact.signature import Label
    from training.decide.test_set import TestSet
    from training.registry.mlflow_registry import Registry
    from training.registry.records import Version
    from training.settings import UseCase

REASONS, FIGURES = "gate.reasons", "okamochi.figures"
MAX_RESAMPLED_CELLS, MIN_RESAMPLES, MAX_RESAMPLES = 5_000_000, 200, 1_000


@dataclass(frozen=True)
class GateResult:
    """How a challenger did.

    Parameters
    ----------
    champion
        The champion before, if there was one.
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


def challenge(
    registry: Registry, test: TestSet, challenger: Version, *, force: bool = False, anyway: bool = False
) -> GateResult:
    """Let a version meet the champion, write the result to its tags, and move the aliases if it is better.

    Parameters
    ----------
    force
        Promote even if the gate refuses it; its reasons are kept.
    anyway
        Promote a first model though it may be no better than guessing.

    Raises
    ------
    RegistryError
        Nothing has moved, or the old champion is still live.
    ArtifactError
        The challenger's files are not what training wrote.
    """
    with TemporaryDirectory(prefix="okamochi-") as folder:
        result = _judge(registry, test, challenger, Path(folder), anyway=anyway)
    return _settled(registry, result, force=force)


def challenge_unmeasured(
    registry: Registry, use_case: UseCase, challenger: Version, *, force: bool = False
) -> GateResult:
    """The same of a version that no table measures, on its made rows: they have times, but no figures.

    Raises
    ------
    RegistryError, ArtifactError
        As `challenge`.
    """
    name = challenger.name
    with TemporaryDirectory(prefix="okamochi-") as folder:
        artifact = manifest.load(registry.download(challenger, Path(folder)), name=name)
        row_ms = _time_of_made_row_ms(artifact)
        size_mb = model_size_mb(artifact)
    champion = registry.version(name, CHAMPION)
    metric, limits = artifact.manifest.metric, use_case.gate
    figures = Figures(
        metric=metric,
        higher_is_better=metric not in METRICS or METRICS[metric].higher_is_better,  # tensors have no metric
        value=float("nan"),
        test_rows=0,
        size_mb=size_mb,
        row_ms=row_ms,
        floors=_floors(use_case, {}),
        limits=Limits(limits.max_size_mb, limits.max_row_ms),
        champion_version=None if champion is None else champion.number,
        measured=False,
        champion_measured=champion is not None and UNMEASURED not in champion.tags,
    )
    if champion is not None and champion.number == challenger.number:
        decision = Decision(accepted=True, reasons=("It is the champion already.",))
    else:
        decision = decide(figures)
    return _settled(registry, GateResult(challenger, champion, figures, decision, {}, {}), force=force)


def _time_of_made_row_ms(artifact: Artifact) -> float:
    """The time of a made row, or of the golden request of tensors; NaN if no request is known."""
    if artifact.signature.tensors is None:
        matrix = Encoder(artifact.signature).records(artifact.golden().records, lenient=True)
        score = open_score(artifact)
        return time_of_row_ms(Scored(artifact, score, matrix, score(matrix)))
    asked = tensor_model.golden_of(artifact).inputs
    if asked is None:
        return float("nan")
    if artifact.signature.tensors.batched:
        asked = [each.part(0, 1) for each in asked]
    answer = tensor_model.open_model(artifact).answer
    taken = []
    for _ in range(10):
        started = time.perf_counter()
        answer([asked])
        taken.append(time.perf_counter() - started)
    return 1000 * float(np.median(taken[2:]))


def _settled(registry: Registry, result: GateResult, *, force: bool) -> GateResult:
    """Write the gate's decision to the registry, and move the aliases as it says."""
    challenger, decision = result.challenger, result.decision
    if result.champion is not None and result.champion.number == challenger.number:
        make_champion(registry, challenger)
        return result
    if force and not decision.accepted:
        reasons = ("It was promoted by hand, against the gate.", *decision.reasons)
        result = replace(result, decision=Decision(accepted=True, reasons=reasons))
    said = "accepted" if decision.accepted else "overridden" if force else "refused"
    _record(registry, result, said)
    if result.accepted:
        make_champion(registry, challenger)
    else:
        registry.set_alias(challenger.name, CHALLENGER, challenger)
    return result


def _judge(
    registry: Registry, test: TestSet, challenger: Version, folder: Path, *, anyway: bool
) -> GateResult:
    name = challenger.name
    found = registry.download(challenger, folder / "challenger")
    scored = score_test_set(manifest.load(found, name=name), test)
    own = metrics_of(scored, test)
    champion = registry.version(name, CHAMPION)
    figures = _figures(scored, own, test)
    metric = _gate_metric(test)
    if champion is not None and champion.number == challenger.number:
        already = Decision(accepted=True, reasons=("It is the champion already.",))
        return GateResult(challenger, champion, figures, already, own, own)
    theirs: dict[str, float] = {}
    if champion is None or UNMEASURED in champion.tags:
        value, gain = (
            _over_baseline(scored, test) if metric == test.metric else _over_popularity(scored, test)
        )
        figures = replace(
            figures,
            baseline_value=value,
            baseline_gain=gain,
            anyway=anyway,
            champion_version=None if champion is None else champion.number,
            champion_measured=False,
        )
    else:
        rival, problem = _champion(registry, champion, test, folder / "champion")
        theirs = {} if rival is None else metrics_of(rival, test)
        figures = replace(
            figures,
            champion_version=champion.number,
            champion_value=theirs.get(metric),
            champion_problem=problem,
            gain=None if rival is None else _gain(scored, rival, test, metric),
        )
    return GateResult(challenger, champion, figures, decide(figures), own, theirs)


def _champion(
    registry: Registry, champion: Version, test: TestSet, folder: Path
) -> tuple[Scored | None, str | None]:
    """The champion on the same test rows, or why it cannot score them."""
    try:
        artifact = manifest.load(registry.download(champion, folder), name=champion.name)
        problem = cannot_score(artifact.signature, test.table)
        return (score_test_set(artifact, test), None) if problem is None else (None, problem)
    except manifest.ArtifactError as error:
        way = f"{typed(f'-m training promote --force {champion.name}')} replaces it"
        return None, f"its files cannot be used ({error}); {way}"


def _over_baseline(scored: Scored, test: TestSet) -> tuple[float, Gain]:
    """The metric of a baseline that gives every row the same scores, and the gain over it."""
    table, signature = test.table, scored.artifact.signature
    classes, threshold = signature.classes, signature.threshold
    seen = table.target[~test.rows] if not test.rows.all() else test.truth
    scores = same_for_all(seen, classes, len(test.truth))
    value = metrics(table.task, test.truth, scores, classes, table.positive, threshold)[test.metric]
    return value, _paired(test, (scored.scores, scores), classes, (threshold, threshold))


def _gate_metric(test: TestSet) -> str:
    """What two models are compared by: the metric, or that of a ranking where [rank] says so."""
    rank = test.table.use_case.rank
    return test.metric if rank is None or rank.gate is None else rank.gate


def _higher_is_better(metric: str) -> bool:
    return metric in RANK_METRIC_NAMES or METRICS[metric].higher_is_better


def _over_popularity(scored: Scored, test: TestSet) -> tuple[float, Gain]:
    """The figure of the items that most users like, and the gain over it, user by user."""
    metric, found = _gate_metric(test), ranked_of(scored, test)
    if found is None:
        return float("nan"), Gain(float("nan"), float("nan"), float("nan"))
    gain = gain_by_user(found[1].of(metric), found[2].of(metric))
    return found[2].figures[metric], Gain(*gain)


def _gain_of_ranking(scored: Scored, rival: Scored, test: TestSet, metric: str) -> Gain:
    """Over the users whom both models know; a model that ranks nothing cannot be compared."""
    one, other = ranked_of(scored, test), ranked_of(rival, test)
    if one is None or other is None:
        return Gain(float("nan"), float("nan"), float("nan"))
    users = [
        [signature.columns[place].categories[code] for code in held.users.tolist()]
        for signature, place, held in (
            (each.artifact.signature, _query_place(each, test), found[0])
            for each, found in ((scored, one), (rival, other))
        )
    ]
    theirs = dict(zip(users[1], other[1].of(metric).tolist(), strict=True))
    pairs = np.array(
        [
            (value, theirs[user])
            for user, value in zip(users[0], one[1].of(metric).tolist(), strict=True)
            if user in theirs
        ]
    ).reshape(-1, 2)
    return Gain(*gain_by_user(pairs[:, 0], pairs[:, 1]))


def _query_place(scored: Scored, test: TestSet) -> int:
    rank = test.table.use_case.rank
    assert rank is not None  # noqa: S101 - its ranking was compared
    return scored.artifact.signature.names.index(rank.query[0])


def _gain(scored: Scored, rival: Scored, test: TestSet, metric: str) -> Gain:
    if metric != test.metric:
        return _gain_of_ranking(scored, rival, test, metric)
    own, other = scored.artifact.signature, rival.artifact.signature
    known = set(map(canonical, own.classes))
    classes = *own.classes, *(label for label in other.classes if canonical(label) not in known)
    scores = in_order_of(classes, scored), in_order_of(classes, rival)
    return _paired(test, scores, classes, (own.threshold, other.threshold))


def _paired(
    test: TestSet,
    scores: tuple[NDArray[np.float64], NDArray[np.float64]],
    classes: Sequence[Label],
    thresholds: tuple[float | None, float | None],
) -> Gain:
    truth = test.truth
    resamples = int(np.clip(MAX_RESAMPLED_CELLS // len(truth), MIN_RESAMPLES, MAX_RESAMPLES))
    mean, low, high = paired_gain(
        test.metric,
        truth,
        *scores,
        n=resamples,
        classes=classes,
        positive=test.table.positive,
        thresholds=thresholds,
    )
    return Gain(mean, low, high)


def _figures(scored: Scored, own: Mapping[str, float], test: TestSet) -> Figures:
    """The challenger's own figures, without a champion beside them."""
    use_case = test.table.use_case
    limits = use_case.gate
    metric = _gate_metric(test)
    return Figures(
        metric=metric,
        higher_is_better=_higher_is_better(metric),
        value=own.get(metric, float("nan")),
        test_rows=len(scored.scores),
        size_mb=model_size_mb(scored.artifact),
        row_ms=time_of_row_ms(scored),
        floors=_floors(use_case, own),
        slices=tuple(
            Slice(part.column, part.level, part.rows, part.value)
            for part in slices_of(test, scored.artifact.signature, scored.scores)
        ),
        bounds=_bounds(scored, test),
        limits=Limits(limits.max_size_mb, limits.max_row_ms, limits.max_slice_gap, limits.min_gain),
    )


def _bounds(scored: Scored, test: TestSet) -> tuple[Bound, ...]:
    """How far groups of people are apart, in each measure that the use case bounds."""
    table, signature = test.table, scored.artifact.signature
    limits = table.use_case.gate.fairness
    if not limits:
        return ()
    bounds = []
    for found in groups_of(test, signature, scored.scores):
        for measure, limit in limits.items():
            apart = found.disparities[measure]
            bounds.append(
                Bound(
                    measure=measure,
                    columns=found.title,
                    answer="" if found.answer is None else f"{table.use_case.target} = {found.answer}",
                    value=apart.value,
                    low=apart.low,
                    high=apart.high,
                    limit=limit,
                    at_least=measure == RATIO,
                    apart=apart.words,
                )
            )
    return tuple(bounds)


def _floors(use_case: UseCase, own: Mapping[str, float]) -> tuple[Floor, ...]:
    return tuple(
        Floor(
            metric,
            own.get(metric, float("nan")),
            limit,
            _higher_is_better(metric),
        )
        for metric, limit in use_case.gate.floors.items()
    )


def _record(registry: Registry, result: GateResult, said: str) -> None:
    """Write the result where a user of MLflow looks: on the version and on its run."""
    figures = result.figures
    tags = {GATE: said, REASONS: " ".join(result.decision.reasons)}
    if result.champion is not None:
        tags["gate.against"] = f"version {result.champion.number}"
    kept = {
        "metrics": dict(result.metrics),
        "test_rows": figures.test_rows,
        "champion": None if result.champion is None else result.champion.number,
        "champion_metrics": dict(result.champion_metrics),
        "gain": None if figures.gain is None else [figures.gain.mean, figures.gain.low, figures.gain.high],
        "size_mb": figures.size_mb,
        "row_ms": figures.row_ms,
    }
    registry.tag(result.challenger, {**tags, FIGURES: json.dumps(kept)})
    numbers = {"size_mb": figures.size_mb, "row_ms": figures.row_ms}
    if figures.gain is not None and np.isfinite(figures.gain.mean):
        numbers |= {"gain_over_champion": figures.gain.mean}
    registry.tag_run(result.challenger.run_id, tags, numbers)
