"""A few of the best together, where their mean is measurably better than the best alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from training.families.ensemble import ENSEMBLE
from training.metrics.metric import METRICS
from training.search.choice import LABEL_METRICS, MAX_LOG_LOSS, RANK_METRICS, measurably
from training.search.trial import Trial, mean_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.search.runner import Runner

POOL, MAX_MEMBERS, ROUNDS = 12, 4, 12
"""How many trials may be picked from, how many different ones are picked, and how often one is added."""


def can_improve(best: Trial) -> bool:
    """Whether an ensemble could be better: where every fold is perfect, it would only be slower."""
    return len(set(best.fold_scores)) > 1


def best_ensemble(trials: list[Trial], best: Trial, runner: Runner, metric: str, number: int) -> Trial | None:
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
    log_loss = runner.of_probabilities(held, "log_loss")
    unsound = metric in RANK_METRICS and log_loss > MAX_LOG_LOSS * best.log_loss
    if len(members) < 2 or worse or unsound or not better:
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
        mean_of(figures),
        time.perf_counter() - started,
        "complete",
        log_loss=log_loss,
        brier=runner.of_probabilities(held, "brier"),
    )


def _greedy(
    picked: list[Trial], pool: list[Trial], runner: Runner, objective: str
) -> tuple[list[Trial], list[NDArray[np.float64]]]:
    """Add the trial that helps most, ROUNDS times; the best round's members and mean scores by fold."""
    sign = METRICS[objective].sign
    total = [sum_of.copy() for sum_of in runner.scores(picked[0])]
    best = (sign * mean_of(runner.figures(total, objective)), list(picked), total)
    for _ in range(ROUNDS):
        options = []
        for each in pool:
            if each not in picked and len({one.number for one in picked}) >= MAX_MEMBERS:
                continue
            mixed = [(a + b) / (len(picked) + 1) for a, b in zip(total, runner.scores(each), strict=True)]
            options.append((-sign * mean_of(runner.figures(mixed, objective)), each.number, each, mixed))
        if not options:
            break
        worst, _, member, mixed = min(options, key=lambda option: option[:2])
        picked = [*picked, member]
        total = [scores * len(picked) for scores in mixed]
        if -worst > best[0]:
            best = (-worst, list(picked), mixed)
    return best[1], best[2]
