"""What a champion is worth on the rows that it answered: prediction log and feedback against its promise.

The promise is the figure on the test rows at the gate. It was measured on so many rows, as the live figure
is, so both have noise: the promise counts as broken only if the live interval stays below it by more than
what the promise's own interval explains.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact import verdict
from artifact.encode import canonical
from artifact.verdict import Verdict
from training.decide.promote import FIGURES
from training.metrics.metric import METRICS
from training.metrics.truth import Truth, truth_of
from training.plots import live_quality

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from training.registry.mlflow_registry import Version

LEAST_ROWS = 30
"""Fewer rows with feedback are nothing to judge."""
LEAST_SLICE, MOST_LEVELS = 20, 12
RESAMPLES, RESAMPLES_OF_PART, FEWEST_RESAMPLES = 1_000, 200, 100
RESAMPLED_CELLS = 20_000_000
POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://")

_KEY = re.compile(rb'\{"id":"([0-9a-f-]+)","row":(\d+),')


class NothingToJudgeError(Exception):
    """There are no rows, no promise or no log that could be read (exit code 2)."""

    exit_code = 2


class PublishError(Exception):
    """The verdict could not be left in the log (exit code 1)."""

    exit_code = 1


class Row(msgspec.Struct, frozen=True):
    """A logged row with the value that came later."""

    at: str
    version: str
    columns: dict[str, Any]
    scores: list[float]
    actual: Any


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its 95 % bootstrap interval; NaN where it is undefined."""

    rows: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Live:
    """How a champion does.

    Parameters
    ----------
    promise, promise_rows
        The metric on the test rows at promotion, and how many they were.
    tolerance
        How far the interval may be from the promise before that is broken.
    days, slices
        The same by day (UTC) and by column and level.
    others, unusable
        Rows with feedback that other versions answered, and of which the value is none of the model's.
    """

    name: str
    version: str
    metric: str
    higher_is_better: bool
    promise: float
    promise_rows: int | None
    live: Estimate
    tolerance: float
    broken: bool
    days: dict[str, Estimate]
    slices: list[tuple[str, str, Estimate]]
    others: int
    unusable: int


# ---- the log


def read_log(target: str, name: str) -> Iterator[Row]:
    """The rows of a model that have feedback, from a folder or PostgreSQL.

    Raises
    ------
    NothingToJudgeError
        The log cannot be read.
    """
    if target.startswith(POSTGRES):
        return _read_postgres(target, name)
    folder = Path(target).expanduser()
    if not folder.is_dir():
        raise NothingToJudgeError(
            f"{folder} is no folder; --log takes what the server has as OKAMOCHI_PREDICTION_LOG"
        )
    return _read_folder(folder, name)


def _read_folder(folder: Path, name: str) -> Iterator[Row]:
    for path in sorted(folder.glob("feedback-*.jsonl")):
        actual = {}
        for line in _lines(path):
            said = _decode(line)
            if said is not None and said.get("model") == name:
                actual[(said["id"], said["row"])] = said["actual"]
        for line in _lines(path.with_name("predictions-" + path.name.removeprefix("feedback-"))):
            # Most rows have no feedback, and looking at the head of a line is a tenth of decoding it.
            head = _KEY.match(line)
            key = (head[1].decode(), int(head[2])) if head else None
            found = _decode(line) if key in actual else None
            if found is not None and key is not None:
                yield Row(found["at"], found["version"], found["columns"], found["scores"], actual[key])


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:  # it has just expired
        return []
    except OSError as error:
        raise NothingToJudgeError(f"{path} cannot be read: {error.strerror}") from error


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = msgspec.json.decode(line)
    except msgspec.DecodeError:  # cut short when a disk was full or a server died
        return None
    return found


def _read_postgres(url: str, name: str) -> Iterator[Row]:
    import psycopg  # only for a log that is there

    try:
        with (
            psycopg.connect(_psycopg_url(url), connect_timeout=10) as found,
            found.cursor("okamochi_live") as cursor,
        ):
            cursor.execute(
                "SELECT to_char(p.at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), p.version, p.columns, p.scores, "
                "f.actual FROM okamochi_predictions p JOIN okamochi_feedback f USING (id, row) "
                "WHERE p.model = %s ORDER BY p.at, p.id, p.row",
                (name,),
            )
            for row in cursor:
                yield Row(*row)
    except psycopg.errors.UndefinedTable:
        raise NothingToJudgeError("no server has written a prediction log to that database yet") from None
    except psycopg.Error as error:
        raise NothingToJudgeError(f"the prediction log cannot be read: {_first_line(error)}") from error


def _psycopg_url(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def _first_line(error: Exception) -> str:
    """Of an error of the database, which names the server and no password."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# ---- the verdict


def judge(version: Version, signature: Signature, rows: Iterator[Row] | Sequence[Row]) -> Live:
    """How the rows of a version compare with its promise.

    Raises
    ------
    NothingToJudgeError
        The version has no promise, or too few rows have feedback.
    """
    metric = version.tags.get("metric", "")
    figures = json.loads(version.tags.get(FIGURES, "{}"))
    promise = figures.get("metrics", {}).get(metric)
    if metric not in METRICS or promise is None or not math.isfinite(promise):
        raise NothingToJudgeError(
            f"version {version.number} of {version.name} has no figure of a gate to be held against"
        )
    own: list[Row] = []
    others = unusable = 0
    for row in rows:
        actual = actual_of(row.actual, signature)
        if row.version != version.number:
            others += 1
        elif actual is None or len(row.scores) != signature.outputs:
            unusable += 1
        else:
            own.append(msgspec.structs.replace(row, actual=actual))
    if len(own) < LEAST_ROWS:
        more = f"; {others} are of other versions" if others else ""
        more += f"; of {unusable} the value is none that it could give" if unusable else ""
        raise NothingToJudgeError(
            f"{len(own)} rows that version {version.number} of {version.name} answered have feedback, and "
            f"{LEAST_ROWS} are the fewest to judge by{more}"
        )
    live = _estimate(metric, signature, own, RESAMPLES)
    if not math.isfinite(live.value):
        raise NothingToJudgeError(
            f"{metric} is undefined on the {live.rows} rows that have feedback: they are all of one class"
        )
    higher = METRICS[metric].higher_is_better
    test_rows = figures.get("test_rows")
    tolerance = tolerance_of(live, test_rows, higher_is_better=higher)
    short = promise - live.high if higher else live.low - promise
    return Live(
        name=version.name,
        version=version.number,
        metric=metric,
        higher_is_better=higher,
        promise=promise,
        promise_rows=test_rows,
        live=live,
        tolerance=tolerance,
        broken=short > tolerance,
        days=_by_day(metric, signature, own),
        slices=_by_slice(metric, signature, own),
        others=others,
        unusable=unusable,
    )


def tolerance_of(live: Estimate, promise_rows: int | None, *, higher_is_better: bool) -> float:
    """What the noise of the promise adds to that of the live figure.

    On `promise_rows` test rows the same metric has a half-width that is sqrt(live rows / test rows) times the
    live one, l. The difference of two estimates has one of sqrt(l^2 + p^2), of which l is in the interval
    already. Then a model that keeps its promise is called broken once in forty times.
    """
    if not promise_rows:
        return 0.0
    half = live.high - live.value if higher_is_better else live.value - live.low
    return math.hypot(half, half * math.sqrt(live.rows / promise_rows)) - half


def actual_of(value: Any, signature: Signature) -> Any:
    """A value as one of the signature's labels, or a number; None where it is neither."""
    if signature.task == "regression":
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if number else None
    if isinstance(value, (list, dict)) or value is None:
        return None
    return next((label for label in signature.classes if canonical(label) == canonical(value)), None)


def _estimate(metric: str, signature: Signature, rows: Sequence[Row], resamples: int) -> Estimate:
    scores = np.array([row.scores for row in rows], np.float64)
    actual = [row.actual for row in rows]
    truth = truth_of(signature.task, actual, signature.classes, signature.positive, signature.threshold)
    compute = METRICS[metric].compute
    value = compute(truth, scores)
    n = len(rows)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(max(FEWEST_RESAMPLES, min(resamples, RESAMPLED_CELLS // n))):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        draws.append(compute(Truth(truth.y, weights, truth.positive, truth.threshold), scores))
    defined = [draw for draw in draws if math.isfinite(draw)]
    if not defined or not math.isfinite(value):
        return Estimate(n, math.nan, math.nan, math.nan)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Estimate(n, float(value), float(low), float(high))


def _by_day(metric: str, signature: Signature, rows: Sequence[Row]) -> dict[str, Estimate]:
    days: dict[str, list[Row]] = {}
    for row in rows:
        days.setdefault(row.at[:10], []).append(row)
    return {day: _estimate(metric, signature, days[day], RESAMPLES_OF_PART) for day in sorted(days)}


def _by_slice(metric: str, signature: Signature, rows: Sequence[Row]) -> list[tuple[str, str, Estimate]]:
    categories = [column.name for column in signature.columns if column.kind == "category"]
    found = []
    for name in dict.fromkeys((*signature.sensitive, *categories)):
        if not any(name in row.columns for row in rows):
            continue  # left out of the log, for want of a key
        cells = [row.columns.get(name) for row in rows]
        levels = ["missing" if cell is None else canonical(cell) for cell in cells]
        often = {level for level, _ in Counter(levels).most_common(MOST_LEVELS)}
        groups: dict[str, list[Row]] = {}
        for level, row in zip(levels, rows, strict=True):
            groups.setdefault(level if level in often else "other", []).append(row)
        found += [
            (name, level, _estimate(metric, signature, groups[level], RESAMPLES_OF_PART))
            for level in sorted(groups)
            if len(groups[level]) >= LEAST_SLICE
        ]
    return found


# ---- for Prometheus


def publish(found: Live, target: str) -> None:
    """Leave the verdict in the log, where every server that writes to it shows it in its metrics.

    Raises
    ------
    PublishError
        The log takes nothing.
    """
    said = Verdict(
        model=found.name,
        version=found.version,
        metric=found.metric,
        promise=found.promise,
        value=found.live.value,
        low=found.live.low,
        high=found.live.high,
        broken=found.broken,
        rows=found.live.rows,
        at=time.time(),
    )
    try:
        if target.startswith(POSTGRES):
            _publish_postgres(said, target)
        else:
            verdict.leave(Path(target).expanduser(), said)
    except OSError as error:
        raise PublishError(f"the verdict cannot be left in {target}: {error.strerror}") from error


def _publish_postgres(said: Verdict, url: str) -> None:
    import psycopg  # only for a log that is there

    try:
        with psycopg.connect(_psycopg_url(url), connect_timeout=10) as found:
            found.execute(verdict.TABLE)
            found.execute(verdict.UPSERT, (said.model, msgspec.json.encode(said).decode()))
    except psycopg.Error as error:
        raise PublishError(f"the verdict cannot be left in the database: {_first_line(error)}") from error


# ---- words


def table(found: Live) -> str:
    """What a person reads."""
    verdict = "broken" if found.broken else "kept"
    test_rows = f" on {found.promise_rows} test rows" if found.promise_rows else ""
    lines = [
        f"{found.name}, version {found.version}: {found.metric}",
        f"  promised  {found.promise:.4f}{test_rows}",
        f"  live      {_said(found.live)}",
        f"  The promise is {verdict} (tolerance {found.tolerance:.4f} for the noise of the promise itself).",
    ]
    if found.others:
        lines.append(f"  {found.others} rows with feedback are of other versions and do not count.")
    if found.unusable:
        lines.append(
            f"  {found.unusable} rows have feedback that is none of the model's classes, or no number."
        )
    lines += ["", "By day (UTC)", *(f"  {day}  {_said(part)}" for day, part in found.days.items())]
    if found.slices:
        width = max(len(f"{name} = {level}") for name, level, _ in found.slices)
        lines += ["", f"By slice (of {LEAST_SLICE} rows or more)"]
        lines += [f"  {f'{name} = {level}':{width}}  {_said(part)}" for name, level, part in found.slices]
    return "\n".join(lines)


def _said(part: Estimate) -> str:
    if not math.isfinite(part.value):
        return f"undefined   {part.rows} rows"
    return f"{part.value:.4f}  95 % between {part.low:.4f} and {part.high:.4f}   {part.rows} rows"


def as_json(found: Live) -> str:
    """What a program reads; null where a figure is undefined."""
    told: Mapping[str, Any] = {
        **asdict(found),
        "slices": [{"column": name, "level": level, **asdict(part)} for name, level, part in found.slices],
    }
    return json.dumps(_finite(told), indent=2)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_picture(found: Live, directory: Path) -> Path:
    """The figure by day beside the promise, as `NAME-live.png`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{found.name}-live.png"
    days: dict[str, NDArray[np.float64]] = {
        day: np.array([part.value, part.low, part.high])
        for day, part in found.days.items()
        if math.isfinite(part.value)
    }
    title = METRICS[found.metric].title
    live_quality(
        f"{found.name}, version {found.version}: {title}",
        title,
        days,
        promise=found.promise,
        live=(found.live.low, found.live.high),
    ).savefig(path)
    return path
