"""The Optuna study: which candidates are tried, and what is known of each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from tqdm import tqdm

from training.families.catalog import affordable_families, family
from training.metrics.metric import METRICS
from training.search.clock import SearchTime
from training.search.folds import FIRST_FOLDS, REPEATS, ROWS_FOR_REPEATS
from training.search.runner import CandidateError
from training.search.storage import open_storage
from training.search.trial import Trial, mean_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from training.families.family import Family
    from training.search.runner import Runner
    from training.search.spec import SearchSpec

READY, READY_S, READY_PAUSE_S = "metric", 30.0, 0.05
"""The attribute of a study whose defaults are enqueued, and how long to wait for it."""


def open_study(runner: Runner, spec: SearchSpec) -> optuna.Study:
    """The study of this table; the process that creates a shared one enqueues each family's defaults.

    If that process ends before it has enqueued them all, the next one does.
    """
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
            # Other processes try something else while a candidate runs.
            constant_liar=spec.storage is not None,
        ),
        "pruner": optuna.pruners.MedianPruner(n_startup_trials=min(5, len(families))),
        "storage": None if spec.storage is None else open_storage(spec.storage),
        "study_name": None if spec.storage is None else f"{spec.study_name}-{runner.digest}",
    }
    try:
        study = optuna.create_study(direction="maximize", **settings)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(**settings)
        if _is_ready(study):
            return study
    firsts = [(each.name, each.default(table.layout)) for each in families]
    if spec.trials >= 2 * len(families):
        firsts += [
            (each.name, each.default(table.layout) | changed)
            for each in families
            if (changed := each.second(table.layout))
        ]
    for name, params in firsts[: max(1, spec.trials)]:
        named = {f"{name}.{key}": value for key, value in params.items()}
        study.enqueue_trial({"family": name, **named}, skip_if_exists=True)
    # The Optuna UI then shows what the values are. Set last: it tells others that the defaults are enqueued.
    study.set_user_attr(READY, runner.metric)
    return study


def _is_ready(study: optuna.Study) -> bool:
    """Wait until the creator of the study has enqueued the defaults; False if it seems to have ended.

    A process that went on earlier would draw candidates in place of defaults, which would then never run.
    """
    end = time.monotonic() + READY_S
    while READY not in study.user_attrs:
        if time.monotonic() > end:
            return False
        time.sleep(READY_PAUSE_S)
    return True


def work_on(
    study: optuna.Study,
    runner: Runner,
    spec: SearchSpec,
    on_trial: Callable[[Trial], None] | None,
    *,
    progress: bool,
    last_fit: bool = True,
) -> None:
    """Run candidates until the study has `spec.trials`, or `spec.timeout_s` is over.

    With `last_fit`, part of that time is kept for the winner's fit on all rows and what follows it.
    """
    finished = (
        optuna.trial.TrialState.COMPLETE,
        optuna.trial.TrialState.PRUNED,
        optuna.trial.TrialState.FAIL,
    )
    names = [each.name for each in affordable_families(runner.table.layout, runner.table.task)]
    sign = METRICS[runner.metric].sign
    clock = SearchTime(spec.timeout_s, runner.table.layout, runner.fold_rows, runner.rows if last_fit else 0)
    best: float | None = None
    with tqdm(total=spec.trials, desc="search", unit="trial", disable=not progress, mininterval=0.5) as bar:
        while True:
            done = len(study.get_trials(deepcopy=False, states=finished))
            bar.update(min(done, spec.trials) - bar.n)
            if done >= spec.trials or (done > 0 and clock.over_with_another):
                return
            trial = _one(study, runner, names, sign, clock if best is not None else None)
            better = trial.state == "complete" and (best is None or sign * trial.score > sign * best)
            if better:
                best = trial.score
            clock.finished(trial, best=better)
            if best is not None:
                bar.set_postfix_str(f"best {runner.metric} {best:.4g}, {trial.family}")
            if on_trial is not None:
                on_trial(trial)


def _one(study: optuna.Study, runner: Runner, names: list[str], sign: int, clock: SearchTime | None) -> Trial:
    """Ask the study for a candidate, run it or give it up in time, and tell the study its figures."""
    drawn = study.ask()
    chosen: Family = family(drawn.suggest_categorical("family", names))
    params = chosen.suggest(drawn, runner.table.layout)
    drawn.set_user_attr("family", chosen.name)
    drawn.set_user_attr("params", params)
    started = time.perf_counter()
    figures: list[float] = []
    held: list[NDArray[np.float64]] = []
    taken: list[float] = []
    state, reason = optuna.trial.TrialState.COMPLETE, ""
    # Where the rows are cut several times, two folds say too little to prune by: a whole cut runs first.
    start = max(FIRST_FOLDS, len(runner.splits) // REPEATS if len(runner.table.y) < ROWS_FOR_REPEATS else 0)
    first, rest = range(start), range(start, len(runner.splits))
    try:
        for part in (first, rest):
            for fold, outcome in zip(part, runner.run(chosen.name, params, part), strict=True):
                assert outcome.scores is not None  # noqa: S101 - run() raises
                held.append(outcome.scores)
                taken.append(outcome.seconds)
                figures.append(runner.figure(fold, outcome.scores))
            if part is first and rest:
                drawn.report(sign * mean_of(figures), 0)
                if clock is not None and clock.over:
                    state, reason = optuna.trial.TrialState.PRUNED, "the time was over"
                    break
                if drawn.should_prune():
                    state, reason = optuna.trial.TrialState.PRUNED, "below the median of the trials before"
                    break
        if not np.isfinite(mean_of(figures)):
            raise CandidateError(f"{runner.metric} is undefined on every fold")  # noqa: TRY301
    except (CandidateError, ValueError, OSError, MemoryError) as error:
        state, reason = optuna.trial.TrialState.FAIL, str(error) or type(error).__name__
    seconds = time.perf_counter() - started
    told: dict[str, Any] = {"fold_scores": figures, "seconds": seconds, "reason": reason}
    told["fold_seconds"] = mean_of(taken)
    told |= {name: runner.of_probabilities(held, name) for name in ("log_loss", "brier")}
    for key, value in told.items():
        drawn.set_user_attr(key, value)
    if state == optuna.trial.TrialState.COMPLETE:
        runner.kept[drawn.number] = held
        study.tell(drawn, sign * mean_of(figures))
    else:
        study.tell(drawn, state=state)
    return _trial(drawn.number, state, drawn.user_attrs)


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
        float("nan") if failed else mean_of(figures),
        float(attributes.get("seconds", 0.0)),
        _STATES[state],
        attributes.get("reason", ""),
        float(attributes.get("log_loss", "nan")),
        float(attributes.get("brier", "nan")),
        float(attributes.get("fold_seconds", "nan")),
    )


def finished_trials(study: optuna.Study) -> list[Trial]:
    """Finished trials of every process, in order; a trial whose process died is left out."""
    return [
        _trial(each.number, each.state, each.user_attrs)
        for each in study.get_trials(deepcopy=False)
        if each.state in _STATES and "family" in each.user_attrs
    ]
