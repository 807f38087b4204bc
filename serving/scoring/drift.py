"""Drift: the distance of the current rows from the training rows, and when it is an alarm.

The population stability index of a histogram against another, PSI = sum (p - q) ln (p / q), by column and of
the scores, over a sliding window of sampled rows. PSI has noise: two samples of one distribution differ by
about (bins - 1) (1/n + 1/m), with n rows in the window and m in the reference, 0.1 and more where both are a
hundred. So there are fewer bins if there are few rows, and each part has its own alarm limit, which noise
exceeds once in a given number of windows; the limit is simulated from the reference.

Rows that come again and again (a client that retries, a test that sends few) say no more than they did the
first time: n is the number of distinct rows, unless the columns can hold only a few different ones.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass
from statistics import NormalDist
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.manifest import REFERENCE
from serving.observe import metrics
from serving.observe.supervised import Supervised
from serving.scoring.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from artifact.manifest import Artifact
    from artifact.runtime import Score
    from artifact.signature import Signature
    from serving.settings import Settings

logger = logging.getLogger("bentoml.okamochi")

SCORES = ""  # stands for the scores where a column's name would
FALSE_ALARMS = 0.001  # of windows in which nothing has moved, over all columns of a model and all workers
MAX_BINS = 10
ROWS_A_BIN = 20  # of the window and of the reference
MIN_ROWS = 100  # distinct ones; fewer are not judged
SIMULATIONS = 400
SMOOTHING = 0.5  # rows added to each bin, so that an empty one has a logarithm
MAX_WAITING_ROWS = 10_000


# ---- policy: figures in, decision out


def psi(expected: NDArray[Any], found: NDArray[Any]) -> NDArray[np.float64]:
    """PSI of counts along the last axis."""
    p, q = ((c + SMOOTHING) / (c + SMOOTHING).sum(axis=-1, keepdims=True) for c in (found, expected))
    return ((p - q) * np.log(p / q)).sum(axis=-1)  # type: ignore[no-any-return]


def group(counts: NDArray[np.int64], bins: int) -> NDArray[np.intp]:
    """The group of each bin, of at most `bins` groups: neighbours together, rows spread evenly."""
    middles = counts.cumsum() - counts / 2
    places = np.minimum(middles * bins // max(1, counts.sum()), bins - 1)
    groups: NDArray[np.intp] = np.unique(places, return_inverse=True)[1]
    return groups


def noise_limit(counts: NDArray[Any], rows: int, chance: float) -> float:
    """The PSI that a window of `rows` drawn from the reference's own distribution exceeds with this chance.

    Gamma-shaped with the mean and variance of some simulated pairs of reference and window; its tail by
    Wilson and Hilferty (1931). The sampling of the reference is part of the noise.
    """
    random = np.random.default_rng(0)
    fractions = (counts + SMOOTHING) / (counts + SMOOTHING).sum()
    reference = random.multinomial(int(counts.sum()), fractions, SIMULATIONS)
    window = random.multinomial(rows, fractions, SIMULATIONS)
    found = psi(reference, window)
    mean, shape = float(found.mean()), float(found.mean() ** 2 / max(found.var(), 1e-300))
    z = NormalDist().inv_cdf(1 - chance)
    tail = mean * (1 - 1 / (9 * shape) + z / (3 * math.sqrt(shape))) ** 3
    return max(tail, float(found.max()))


# ---- histograms of the reference


@dataclass(frozen=True)
class Part:
    """One histogram of the reference: a column's, a part's of a date, a term's of a text, a score's.

    Parameters
    ----------
    name
        The raw column, `SCORES` for a score.
    counts
        Reference rows by bin; the last bin is missing (and unknown) values.
    code
        Values of the part's own columns of the matrix, shape (rows,) or (rows, width), to bins.
    alarms
        Whether the part can raise an alarm. Dates do so by their missing values only: today's rows are never
        spread over the calendar as a table's are.
    """

    name: str
    counts: NDArray[np.int64]
    code: Callable[[NDArray[Any]], NDArray[np.intp]]
    place: slice
    alarms: bool = True


def parts_of(signature: Signature, reference: dict[str, Any]) -> list[Part]:
    """The histograms of `reference.json`."""
    found: list[Part] = []
    start = 0
    for column in signature.columns:
        held = reference["columns"][column.name]
        if column.kind == "text":
            found += _text(
                column.name, column.terms, slice(start, start + column.width), held, reference["rows"]
            )
        elif column.kind == "date":
            for i, part in enumerate(column.parts):
                there = _numbers(column.name, slice(start + i, start + i + 1), held["parts"][part])
                found.append(Part(there.name, there.counts, there.code, there.place, alarms=False))
            found.append(_missing(column.name, slice(start, start + 1), held["parts"][column.parts[0]]))
        elif column.kind == "image":
            found.append(_level(column.name, slice(start, start + column.width), held))
        elif column.kind == "category":
            found.append(_categories(column.name, slice(start, start + 1), held))
        else:
            found.append(_numbers(column.name, slice(start, start + 1), held))
        start += column.width
    return found


def scores_of(signature: Signature, reference: dict[str, Any]) -> list[Part]:
    """The histograms of the scores; of a binary model the positive label's, as the other says the same."""
    held = list(reference["scores"].values())
    if not signature.classes:
        return [_numbers(SCORES, slice(i, i + 1), each) for i, each in enumerate(held)]
    wanted = [signature.positive_index] if signature.task == "binary" else range(len(held))
    return [_chances(slice(i, i + 1), held[i]) for i in wanted]


def _numbers(name: str, place: slice, held: dict[str, Any]) -> Part:
    edges = np.array(held["edges"], np.float64)
    last = len(held["counts"])

    def code(values: NDArray[Any]) -> NDArray[np.intp]:
        values = values[:, 0]
        places: NDArray[np.intp] = np.searchsorted(edges, values, side="left")
        return np.where(np.isfinite(values), places, last)

    return Part(name, np.array([*held["counts"], held["missing"]]), code, place)


def _level(name: str, place: slice, held: dict[str, Any]) -> Part:
    """The part of pictures: the mean of their features."""
    mean = _numbers(name, place, held)
    return Part(name, mean.counts, lambda values: mean.code(values.mean(axis=1)[:, None]), place)


def _chances(place: slice, held: dict[str, Any]) -> Part:
    inner = np.array(held["edges"][1:-1], np.float64)
    return Part(
        SCORES,
        np.array([*held["counts"], 0]),
        lambda values: np.asarray(np.searchsorted(inner, values[:, 0], side="right")),
        place,
    )


def _categories(name: str, place: slice, held: dict[str, Any]) -> Part:
    last = len(held["counts"])

    def code(values: NDArray[Any]) -> NDArray[np.intp]:
        codes = values[:, 0].astype(np.intp)
        return np.where(codes < 0, last, codes)

    return Part(name, np.array([*held["counts"], held["missing"]]), code, place)


def _missing(name: str, place: slice, held: dict[str, Any]) -> Part:
    return Part(
        name,
        np.array([sum(held["counts"]), held["missing"]]),
        lambda values: np.isnan(values[:, 0]).astype(np.intp),
        place,
    )


def _text(name: str, terms: Sequence[str], place: slice, held: dict[str, Any], rows: int) -> Iterable[Part]:
    def holds(values: NDArray[Any]) -> NDArray[np.intp]:
        return np.asarray(values[:, 0] > 0, np.intp)

    def empty(values: NDArray[Any]) -> NDArray[np.intp]:
        return np.asarray(~values.any(axis=1), np.intp)

    yield Part(name, np.array([rows - held["missing"], held["missing"]]), empty, place)
    index = {term: i for i, term in enumerate(terms)}
    for term, fraction in held["terms"].items():
        at = place.start + index[term]
        with_it = round(fraction * rows)
        yield Part(name, np.array([rows - with_it, with_it, 0]), holds, slice(at, at + 1))


# ---- the window


@dataclass(frozen=True)
class DriftVerdict:
    """The result for one window.

    Parameters
    ----------
    rows
        Number of distinct rows.
    psi
        By column, the largest PSI of its parts.
    alarms
        Column, PSI and limit of each part that has moved.
    """

    rows: int
    psi: dict[str, float]
    alarms: list[tuple[str, float, float]]


class Window:
    """The last rows of one model, as bins, and their comparison with the reference.

    Parameters
    ----------
    rows, seconds
        The largest number of rows and the largest age in the window.
    least_psi
        The PSI below which there is no alarm, however significant a small shift is.
    tests
        Number of windows that are judged for one alarm: the number of workers.
    """

    def __init__(
        self,
        signature: Signature,
        reference: dict[str, Any],
        *,
        rows: int,
        seconds: float,
        least_psi: float,
        tests: int = 1,
    ) -> None:
        self._columns = parts_of(signature, reference)
        self._scores = scores_of(signature, reference)
        self.parts = [*self._columns, *self._scores]
        self._rows, self._seconds, self._least = rows, seconds, least_psi
        self._chance = FALSE_ALARMS / (tests * max(1, sum(part.alarms for part in self.parts)))
        self._few = signature.combinations
        self._chunks: deque[tuple[float, NDArray[np.uint16], list[int]]] = deque()
        self._limits: dict[Any, float] = {}

    def add(self, matrix: NDArray[Any], scores: NDArray[np.float64], now: float) -> None:
        """Add rows of shape (n, width) and their scores."""
        codes = np.empty((len(matrix), len(self.parts)), np.uint16)
        for i, part in enumerate(self.parts):
            values = scores if i >= len(self._columns) else matrix
            codes[:, i] = part.code(values[:, part.place])
        self._chunks.append((now, codes, [hash(row.tobytes()) for row in np.ascontiguousarray(matrix)]))

    def judge(self, now: float) -> DriftVerdict:
        """Drop rows that are too old or too many, and compare the rest with the reference."""
        chunks = self._chunks
        held = sum(len(codes) for _, codes, _ in chunks)
        while chunks and (chunks[0][0] < now - self._seconds or held - len(chunks[0][1]) >= self._rows):
            held -= len(chunks.popleft()[1])
        distinct = len({row for _, _, rows in chunks for row in rows})
        rows = held if self._few < held else distinct
        if rows < MIN_ROWS:
            return DriftVerdict(rows, {}, [])
        codes = np.concatenate([codes for _, codes, _ in chunks])
        found: dict[str, float] = {}
        alarms: list[tuple[str, float, float]] = []
        for i, part in enumerate(self.parts):
            expected, counts = self._counts(part, codes[:, i], rows)
            # The counts of all rows, at the weight of those that are different.
            value = float(psi(expected, counts * (rows / held)))
            found[part.name] = max(found.get(part.name, 0.0), value)
            if part.alarms and value >= self._least:
                limit = self._limit(expected, rows)
                if value > limit:
                    alarms.append((part.name, value, max(limit, self._least)))
        return DriftVerdict(rows, found, alarms)

    def _counts(self, part: Part, codes: NDArray[Any], rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Counts of reference and window in as many bins as both can fill; the last is missing values."""
        there = part.counts[:-1]
        fewest = min(rows, int(there.sum()))
        groups = group(there, max(2, min(MAX_BINS, fewest // ROWS_A_BIN)))
        groups = np.append(groups, groups[-1] + 1)
        size = int(groups[-1]) + 1
        found = np.bincount(codes, minlength=len(groups))
        return (
            np.bincount(groups, part.counts, size),
            np.bincount(groups, found, size),
        )

    def _limit(self, expected: NDArray[Any], rows: int) -> float:
        # Rounded down to steps of a tenth: a few more simulations, a little too high a limit.
        step = int(math.log(rows, 1.1))
        key = (step, int(expected.sum()), tuple(sorted((expected / expected.sum()).round(2).tolist())))
        if key not in self._limits:
            if len(self._limits) > 1000:
                self._limits.clear()
            self._limits[key] = noise_limit(expected, int(1.1**step), self._chance)
        return self._limits[key]


# ---- the watch


class Drift:
    """Watches one model: rows are sampled where it scores them, and judged in a thread of its own."""

    def __init__(self, name: str, window: Window, *, rows_per_s: float, every_s: float) -> None:
        self.name = name
        self._window = window
        self._sampler = Sampler(rows_per_s)
        self._every_s = every_s
        self._waiting: deque[tuple[NDArray[Any], NDArray[np.float64]]] = deque(maxlen=MAX_WAITING_ROWS)
        self._thread = Supervised("drift", self._run, of=name)
        self._watching = False
        self._alarmed: set[str] = set()
        self._psi: dict[str, Any] = {}

    @classmethod
    def of(cls, artifact: Artifact, settings: Settings) -> Drift | None:
        """A watch over a model; None where it is turned off or the artifact has no reference."""
        path = artifact.path / REFERENCE
        if not settings.drift_rows_per_s or not path.exists():
            return None
        name = artifact.manifest.name
        try:
            window = Window(
                artifact.signature,
                msgspec.json.decode(path.read_bytes()),
                rows=settings.drift_window_rows,
                seconds=settings.drift_window_s,
                least_psi=settings.drift_psi,
                tests=settings.workers,
            )
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, IndexError) as error:
            logger.warning("model %s is not watched for drift: %s does not fit it (%r)", name, path, error)
            return None
        return cls(name, window, rows_per_s=settings.drift_rows_per_s, every_s=settings.drift_every_s)

    @property
    def alarmed(self) -> frozenset[str]:
        """The columns whose alarm is on; `SCORES` for the scores."""
        return frozenset(self._alarmed)

    def watching(self, score: Score) -> Score:
        """`score`, with its rows and scores sampled; like a batcher, it is not thread-safe."""
        take, waiting = self._sampler.take, self._waiting

        def watched(matrix: Any) -> NDArray[np.float64]:
            scores = score(matrix)
            rows = take(len(matrix)) if self._watching else None
            if rows is not None:
                places = slice(rows.start, rows.stop, rows.step)
                waiting.append((matrix[places].copy(), scores[places].copy()))
            return scores

        return watched

    def start(self) -> None:
        """Begin; rows that were scored before, to warm up, do not count."""
        self._thread.start()
        self._watching = True
        metrics.DRIFT_ALARM.labels(self.name).set(0)
        metrics.DRIFT_ROWS.labels(self.name).set(0)

    def close(self) -> None:
        """End the thread; its metrics are for the model that comes next, if one does."""
        self._watching = False
        self._thread.close()
        self._waiting.clear()

    def _run(self) -> None:
        while not self._thread.ended.wait(self._every_s):
            self.look(monotonic())

    def look(self, now: float) -> DriftVerdict:
        """Judge the window, and update the metrics and the log."""
        self._sampler.wake()
        waiting = self._waiting
        taken = [waiting.popleft() for _ in range(len(waiting))]
        if taken:
            matrix, scores = (np.concatenate(arrays) for arrays in zip(*taken, strict=True))
            self._window.add(matrix, scores, now)
        verdict = self._window.judge(now)
        for part in self._window.parts:
            gauge = self._psi.get(part.name)
            if gauge is None:
                gauge = self._psi[part.name] = metrics.DRIFT_PSI.labels(self.name, part.name)
            gauge.set(verdict.psi.get(part.name, 0.0))
        metrics.DRIFT_ROWS.labels(self.name).set(verdict.rows)
        metrics.DRIFT_ALARM.labels(self.name).set(1 if verdict.alarms else 0)
        self._tell(verdict)
        return verdict

    def _tell(self, verdict: DriftVerdict) -> None:
        alarmed = {name for name, _, _ in verdict.alarms}
        if alarmed - self._alarmed:
            worst = sorted(verdict.alarms, key=lambda alarm: alarm[2] - alarm[1])
            told = dict.fromkeys(_said(*alarm) for alarm in worst[:10])
            logger.warning(
                "model %s drifts: the current rows differ from its training rows: %s",
                self.name,
                "; ".join(told),
            )
        elif self._alarmed and not alarmed:
            logger.warning(
                "model %s drifts no more: the current rows agree with its training rows again", self.name
            )
        self._alarmed = alarmed


def _said(name: str, value: float, limit: float) -> str:
    return f"{repr(name) if name else 'the score'} has a PSI of {value:.2f} (limit {limit:.2f})"
