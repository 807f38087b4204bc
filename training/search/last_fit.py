"""The fits of the winner on all training rows: planned within the time, side by side, and weighed again.

A search weighs the members of an ensemble on a sample. If the table has many more rows, they are weighed
again after the last fits: each member has learnt from more rows by then, and some from more than others.
"""

from __future__ import annotations

import math
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed, parallel_config  # type: ignore[import-untyped]
from joblib.externals.loky import get_reusable_executor  # type: ignore[import-untyped]
from sklearn.compose import ColumnTransformer
from threadpoolctl import threadpool_limits

from training.families.catalog import build, family
from training.families.ensemble import ENSEMBLE, fitted_together
from training.families.forest import FORESTS
from training.families.scores import scores_of
from training.families.stopping import fit_until
from training.metrics.metric import METRICS
from training.metrics.truth import Truth, truth_of
from training.search.choice import FREE_ROW_MS, LABEL_METRICS
from training.search.clock import seconds_by
from training.search.large_fit import LARGE_BYTES, dtype_of, prepare, return_freed_memory, unload
from training.search.spec import SIDE_BY_SIDE
from training.search.trial import members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from training.families.layout import Layout
    from training.search.search import SearchResult
    from training.search.spec import SearchSpec
    from training.search.trial import Trial

DEFAULT_FIT_S = 75.0
"""What the last fits may take without a timeout, by `Family.fit_seconds`: the same on every machine."""
SHORT_S = 2.0
"""Fits that are expected to take less stay in this process."""
MANY_TIMES, MAX_HELD_ROWS, ROUNDS = 2, 20_000, 20
"""Members are weighed again on at most MAX_HELD_ROWS rows if there are MANY_TIMES those of the search."""
MAX_MORE_ROUNDS = 4
"""Boosting has up to so many times the rounds of the search on a table of many times its rows."""
GATHERED_ROWS = 100_000
MIN_LEFT_S, SLACK = 5.0, 0.8
"""The fits are planned for this fraction of the time that is left, since estimates may be wrong."""


@dataclass(frozen=True)
class Part:
    """One model to fit: the winner, or a member of it.

    Parameters
    ----------
    rows
        How many rows it is fitted on.
    seconds
        How long that takes, as far as is known.
    allowed_s
        How long it may take: boosting then ends after the round that it is in. Infinite without a timeout.
    """

    family: str
    params: dict[str, Any]
    weight: float
    rows: int
    seconds: float
    allowed_s: float = math.inf

    @property
    def title(self) -> str:
        """Its family's name for people, within a sentence."""
        return family(self.family).title


@dataclass(frozen=True)
class Plan:
    """The last fits. `seconds` is what they take side by side; `rows` are all that could be fitted on."""

    parts: tuple[Part, ...]
    rows: int
    seconds: float

    def told(self) -> list[str]:
        """What a person should know of families that are not fitted on all rows."""
        return [
            f"{each.title} is fitted on {each.rows:,} of {self.rows:,} training rows: more would not fit "
            "into the time or would make it too large to serve"
            for each in self.parts
            if each.rows < self.rows
        ]


def plan_of(result: SearchResult, rows: int, *, left_s: float | None = None) -> Plan:
    """Which rows each part of the winner is fitted on.

    Parameters
    ----------
    rows
        How many training rows there are.
    left_s
        The seconds that the fits may take, estimated by what the folds took; None: no timeout, and then the
        families' own figures of a common machine decide, and no clock.
    """
    members = members_of(result.best)
    limit = DEFAULT_FIT_S if left_s is None else max(MIN_LEFT_S, SLACK * left_s)
    members = _with_more_rounds(members, result, rows, limit, by_clock=left_s is not None)
    caps = [min(rows, _most_rows(each, result.layout)) for each in members]
    figures = [_seconds_of(each, result, by_clock=left_s is not None) for each in members]
    clocks = [_seconds_of(each, result, by_clock=True) for each in members]
    planned = _within(caps, figures, limit, min(rows, result.fold_rows))
    expected = [clock(count) for clock, count in zip(clocks, planned, strict=True)]
    # What is left over the estimate is shared out as the estimates are.
    scale = math.inf if left_s is None else max(1.0, left_s / max(_side_by_side(expected), 1e-9))
    parts = tuple(
        Part(each["family"], each["params"], each["weight"], count, seconds, seconds * scale)
        for each, count, seconds in zip(members, planned, expected, strict=True)
    )
    return Plan(parts, rows, _side_by_side(expected))


def _most_rows(member: Mapping[str, Any], layout: Layout) -> int:
    return max(layout.rows, family(member["family"]).max_fit_rows(member["params"], layout))


def _seconds_of(member: Mapping[str, Any], result: SearchResult, *, by_clock: bool) -> Callable[[int], float]:
    """How long a fit on so many rows takes: as a fold's did, or by the family's own figure."""
    searched = member.get("searched", member["params"])
    taken = [
        each.fold_seconds
        for each in result.trials
        if (each.family, each.params) == (member["family"], searched)
    ]
    fold_seconds = min(taken, default=None) if by_clock else None
    clock = seconds_by(member["family"], searched, result.layout, result.fold_rows, fold_seconds)
    rounds = family(member["family"]).rounds
    more = member["params"][rounds] / searched[rounds] if rounds else 1.0
    return lambda count: more * clock(count)


def _with_more_rounds(
    members: Sequence[Mapping[str, Any]], result: SearchResult, rows: int, limit: float, *, by_clock: bool
) -> list[dict[str, Any]]:
    """The members with as many times the rounds as many more rows are worth and the time allows.

    A search on a sample prefers few rounds, since more of them only learn the noise of few rows.
    """
    most = min(MAX_MORE_ROUNDS, int(math.sqrt(rows / max(1, result.fold_rows)) / 2))
    for times in range(most, 1, -1):
        more = [_times_the_rounds(each, times, result.layout, rows) for each in members]
        seconds = [_seconds_of(each, result, by_clock=by_clock) for each in more]
        caps = [min(rows, _most_rows(each, result.layout)) for each in more]
        if _side_by_side([one(cap) for one, cap in zip(seconds, caps, strict=True)]) <= SLACK * limit:
            return more
    return [dict(each) for each in members]


def _times_the_rounds(member: Mapping[str, Any], times: int, layout: Layout, rows: int) -> dict[str, Any]:
    """A member of boosting with more rounds, as long as a row still costs next to nothing to serve."""
    one = family(member["family"])
    if not one.rounds:
        return dict(member)
    params = {**member["params"], one.rounds: times * member["params"][one.rounds]}
    if one.row_us(params, layout, rows) > FREE_ROW_MS * 1000:
        return dict(member)
    return {**member, "params": params, "searched": member["params"]}


def _within(
    caps: Sequence[int], clocks: Sequence[Callable[[int], float]], limit: float, least: int
) -> list[int]:
    """Rows for each part, so that all are done within the limit: those that take longest give rows up."""

    def rows_in(seconds: float) -> list[int]:
        return [_rows_in(seconds, clock, cap, least) for clock, cap in zip(clocks, caps, strict=True)]

    def taken(rows: Sequence[int]) -> float:
        return _side_by_side([clock(count) for clock, count in zip(clocks, rows, strict=True)])

    if taken(list(caps)) <= limit:
        return list(caps)
    low, high = 0.0, limit
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if taken(rows_in(middle)) <= limit else (low, middle)
    return rows_in(low)


def _rows_in(seconds: float, clock: Callable[[int], float], cap: int, least: int) -> int:
    """The most rows that are fitted in these seconds, to three figures; at least those of a fold."""
    if clock(cap) <= seconds:
        return cap
    low, high = min(least, cap), cap
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if clock(middle) <= seconds else (low, middle)
    digits: int = 10 ** max(0, len(str(low)) - 3)
    return max(min(least, cap), low // digits * digits)


def _side_by_side(seconds: Sequence[float]) -> float:
    """When the last of these is done, the longest first."""
    ends = [0.0] * SIDE_BY_SIDE
    for each in sorted(seconds, reverse=True):
        ends[ends.index(min(ends))] += each
    return max(ends)


def fit_last(  # noqa: PLR0917
    plan: Plan,
    result: SearchResult,
    matrix: NDArray[np.float64],
    labels: Sequence[Any] | NDArray[Any],
    signature: Signature,
    spec: SearchSpec,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Any, Trial]:
    """The fitted winner, and its trial: if there are many rows, its members' weights may have changed.

    `tell` is called with a line for each model that its time ended before it had all its rounds.
    """
    truth = truth_of(signature.task, labels, signature.classes, signature.positive, signature.threshold)
    held = _held_rows(plan, result, spec)
    learnt = np.setdiff1d(np.arange(len(matrix)), held)
    chosen = [_rows_of(part, learnt, truth.y, signature, spec) for part in plan.parts]
    done = _fit(plan, chosen, matrix, truth.y, result.layout, signature, spec.seed)
    for part, (_, rounds) in zip(plan.parts, done, strict=True):
        if rounds is not None and rounds[0] < rounds[1]:
            tell(f"{part.title} has {rounds[0]:,} of {rounds[1]:,} rounds: more would not fit into the time")
    fitted = [each for each, _ in done]
    parts, best = list(plan.parts), result.best
    if len(held):
        there = Truth(truth.y[held], truth.weights[held], truth.positive, truth.threshold)
        scores = [scores_of(each, matrix[held], result.layout.classes) for each in fitted]
        weights = _weighed(scores, there, spec.metric)
        parts, fitted, weights = _those(parts, fitted, weights)
        best = _reweighed(best, parts, weights)
    if best.family != ENSEMBLE:
        if best.params != parts[0].params:
            best = replace(best, params=parts[0].params)
        return fitted[0], best
    names = [f"{i}_{each.family}" for i, each in enumerate(parts)]
    weights = [member["weight"] for member in best.params["members"]]
    together = fitted_together(list(zip(names, fitted, strict=True)), weights, result.layout.classes, truth.y)
    return together, best


def _held_rows(plan: Plan, result: SearchResult, spec: SearchSpec) -> NDArray[np.intp]:
    """The rows by which members are weighed again; none where the search has seen most rows."""
    if len(plan.parts) < 2 or plan.rows < MANY_TIMES * result.layout.rows:
        return np.array([], np.intp)
    count = min(MAX_HELD_ROWS, plan.rows // 10)
    if spec.times is not None:
        return np.sort(np.argsort(spec.times, kind="stable")[-count:])
    rng = np.random.default_rng(spec.seed)
    if spec.groups is not None:
        order = rng.permutation(np.unique(spec.groups))
        sizes = np.cumsum([(spec.groups == each).sum() for each in order[:1000]])
        some = order[: max(1, int(np.searchsorted(sizes, count)))]
        return np.flatnonzero(np.isin(spec.groups, some))
    return np.sort(rng.choice(plan.rows, count, replace=False))


def _rows_of(
    part: Part, learnt: NDArray[np.intp], y: NDArray[Any], signature: Signature, spec: SearchSpec
) -> NDArray[np.intp]:
    """The rows that a part is fitted on: the newest by time, else drawn, and one of each class at least."""
    if part.rows >= len(learnt):
        return learnt
    if spec.times is not None:
        rows = learnt[np.argsort(spec.times[learnt], kind="stable")[-part.rows :]]
    else:
        rows = np.random.default_rng(spec.seed).choice(learnt, part.rows, replace=False)
    if signature.classes:
        _, firsts = np.unique(y[learnt], return_index=True)
        rows = np.union1d(rows, learnt[firsts])
    return np.sort(rows)


def _fit(  # noqa: PLR0917
    plan: Plan,
    chosen: Sequence[NDArray[np.intp]],
    matrix: NDArray[np.float64],
    y: NDArray[Any],
    layout: Layout,
    signature: Signature,
    seed: int,
) -> list[tuple[Any, tuple[int, int] | None]]:
    held = signature.dtype
    jobs = [
        (part.family, part.params, layout, signature.task, seed, part.allowed_s, held) for part in plan.parts
    ]
    if len(jobs) < 2 or plan.seconds < SHORT_S or SIDE_BY_SIDE < 2:
        # On few rows threads only wait for each other.
        threads = 1 if plan.seconds < SHORT_S else SIDE_BY_SIDE
        return [_fit_one(matrix, y, rows, *job, threads) for job, rows in zip(jobs, chosen, strict=True)]
    order = sorted(range(len(jobs)), key=lambda i: -plan.parts[i].seconds)
    learnt = reduce(np.union1d, chosen)
    with (
        _shared(matrix, learnt, held) as gathered,
        _fresh_processes(matrix),
        parallel_config("loky", n_jobs=SIDE_BY_SIDE, inner_max_num_threads=1),
        Parallel(batch_size=1) as parallel,
    ):
        fitted = parallel(
            delayed(_fit_one)(gathered, y[learnt], np.searchsorted(learnt, chosen[i]), *jobs[i], 1)
            for i in order
        )
    return [fitted[order.index(i)] for i in range(len(jobs))]


@contextmanager
def _shared(matrix: NDArray[np.float64], rows: NDArray[np.intp], held: type[Any]) -> Iterator[NDArray[Any]]:
    """These rows of the matrix in a file that processes map, so that none has a copy of its own.

    A large one is written in the type that holds its cells without loss.
    """
    with TemporaryDirectory(prefix="okamochi-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "matrix"
        shape = (len(rows), matrix.shape[1])
        dtype = held if matrix.nbytes >= LARGE_BYTES else matrix.dtype
        written = np.memmap(file, dtype, "w+", shape=shape)
        for start in range(0, len(rows), GATHERED_ROWS):
            part = slice(start, start + GATHERED_ROWS)
            written[part] = matrix[rows[part]]
        written.flush()
        del written
        yield np.memmap(file, dtype, "r", shape=shape)


@contextmanager
def _fresh_processes(matrix: NDArray[np.float64]) -> Iterator[None]:
    """For a large matrix, end the processes before and after: they keep the memory that they once took.

    This process reads its own matrix again only after them.
    """
    if matrix.nbytes >= LARGE_BYTES:
        get_reusable_executor().shutdown(wait=True)
        return_freed_memory()
        unload(matrix)
    yield
    if matrix.nbytes >= LARGE_BYTES:
        get_reusable_executor().shutdown(wait=True)


def _fit_one(  # noqa: PLR0917
    matrix: NDArray[np.float64],
    y: NDArray[Any],
    rows: NDArray[np.intp],
    name: str,
    params: Mapping[str, Any],
    layout: Layout,
    task: Any,
    seed: int,
    allowed_s: float,
    held_as: type[Any],
    threads: int,
) -> tuple[Any, tuple[int, int] | None]:
    """A fitted pipeline, its rounds and those that it was to have. Two threads grow the same trees as one."""
    end = time.monotonic() + allowed_s
    pipeline = build(name, params, layout, task, seed)
    every = len(rows) == len(matrix)
    forest = name in FORESTS
    if forest:
        pipeline.set_params(model__n_jobs=threads)
    with warnings.catch_warnings(), threadpool_limits(1), threadpool_limits(threads, user_api="openmp"):
        warnings.simplefilter("ignore")
        if 8 * len(rows) * matrix.shape[1] >= LARGE_BYTES and isinstance(pipeline[0], ColumnTransformer):
            rounds = _fit_large(pipeline, matrix, rows, y, end, held_as)
        else:
            held = [matrix if every else matrix[rows]]
            rounds = _fit_steps(pipeline, held, y if every else y[rows], end)
    if forest:
        pipeline.set_params(model__n_jobs=None)
    return pipeline, rounds


def _fit_steps(
    pipeline: Any, held: list[NDArray[Any]], y: NDArray[Any], end: float
) -> tuple[int, int] | None:
    """What `pipeline.fit` does, but that no matrix is held longer than the step that reads it.

    `held` has the matrix alone, and is empty afterwards.
    """
    for _, step in pipeline.steps[:-1]:
        held.append(step.fit_transform(held.pop(), y))
    return _fit_model(pipeline.steps[-1][1], held, y, end)


def _fit_large(  # noqa: PLR0917
    pipeline: Any,
    matrix: NDArray[Any],
    rows: NDArray[np.intp],
    y: NDArray[Any],
    end: float,
    held_as: type[Any],
) -> tuple[int, int] | None:
    (_, columns), (_, model) = pipeline.steps
    y = y[rows]
    dtype = dtype_of(model) if held_as is np.float32 else np.float64
    return _fit_model(model, [prepare(columns, matrix, rows, y, dtype)], y, end)


def _fit_model(model: Any, held: list[NDArray[Any]], y: NDArray[Any], end: float) -> tuple[int, int] | None:
    if math.isfinite(end):
        return fit_until(model, held.pop(), y, end)
    model.fit(held.pop(), y)
    return None


def _weighed(scores: Sequence[NDArray[np.float64]], truth: Truth, metric: str) -> list[int]:
    """How often each member counts, chosen greedily by the metric on rows that no member was fitted on."""
    objective = METRICS["log_loss" if metric in LABEL_METRICS else metric]
    total, counts = np.zeros_like(scores[0]), [0] * len(scores)
    best = (-math.inf, list(counts))
    for done in range(ROUNDS):
        figures = [objective.sign * objective.compute(truth, (total + each) / (done + 1)) for each in scores]
        member = int(np.argmax(figures))
        total, counts[member] = total + scores[member], counts[member] + 1
        if figures[member] > best[0] + 1e-12:
            best = (figures[member], list(counts))
    return best[1] if any(best[1]) else [1] * len(scores)


def _those(
    parts: Sequence[Part], fitted: Sequence[Any], weights: Sequence[int]
) -> tuple[list[Part], list[Any], list[int]]:
    kept = [i for i, weight in enumerate(weights) if weight]
    return [parts[i] for i in kept], [fitted[i] for i in kept], [weights[i] for i in kept]


def _reweighed(best: Trial, parts: Sequence[Part], weights: Sequence[int]) -> Trial:
    if len(parts) == 1:
        return replace(best, family=parts[0].family, params=parts[0].params)
    members = [
        {"family": each.family, "params": each.params, "weight": weight}
        for each, weight in zip(parts, weights, strict=True)
    ]
    return replace(best, params={"members": members})
