"""A canary: a version that answers a fraction of the champion's callers, and is stopped when it does worse.

A caller with a key (`X-Canary-Key`, else its principal) always gets the same answerer while the percentage
stays, and the callers of a lower percentage are among those of a higher one. Without a key, each request is
drawn. Each worker judges its own requests at once, and those of all workers of the server once a second. A
canary that is stopped is noted beside `models.lock`, so that `deploy follow` can tell all other servers.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from hashlib import blake2b
from random import random
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from artifact import canary_stop
from artifact.canary_stop import CanaryStop
from artifact.models_lock import CANARY
from serving.observe import metrics
from serving.observe.supervised import Supervised
from serving.protocols.watched import Watched, each

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from artifact.canary_bounds import CanaryBounds
    from serving.errors import Problem
    from serving.protocols import Endpoint, Reply
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores
    from serving.shared import Shared

logger = logging.getLogger("bentoml.okamochi")

T = TypeVar("T")

JUDGE_EVERY = 32
"""Requests of the canary between two judgements."""
MIN_ERRORS = 5
MIN_REQUESTS = 100
"""Fewer are not compared by their times and scores."""
MIN_SLOWER_S = 0.001
"""A call that takes longer by less than this harms no caller."""
KEPT = 2_000
"""Latest requests of each side that are compared."""
FAILURES = ("not_finite", "deadline", "queue_full")
"""Reasons of refusals with a status below 500 that the model causes, not the client."""
SHARE_S = 1.0
"""How often workers tell each other what they have seen."""
SHARED_BYTES = 256 * 1024
"""The bytes for a side's scores in the file of one worker."""
CONFIDENCE = 3.0  # standard errors
KS_FACTOR = math.sqrt(-math.log(1e-6 / 2) / 2)  # of the Kolmogorov-Smirnov distance, once in a million


class Side:
    """What one version did with its requests since the canary began."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.seconds: deque[float] = deque(maxlen=KEPT)
        self.scores: deque[NDArray[np.float64]] = deque(maxlen=KEPT)


class Seen(msgspec.Struct, frozen=True):
    """A side in numbers."""

    requests: int
    errors: int
    seconds: Any  # of the calls that answered its requests
    scores: Any  # (rows, outputs)


def reason_to_stop(canary: Seen, champion: Seen, bounds: CanaryBounds) -> str:
    """Why the canary must stop; "" while it stays within its bounds.

    Errors and scores must exceed a bound by more than chance explains: by three standard errors of the
    fraction of errors, and by a distance of the scores that chance gives once in a million comparisons.
    """
    reason = too_many_errors(canary, champion, bounds)
    if reason:
        return reason
    if min(len(canary.seconds), len(champion.seconds)) < MIN_REQUESTS:
        return ""
    one, other = float(np.median(canary.seconds)), float(np.median(champion.seconds))
    if one > bounds.max_slowdown * other and one - other > MIN_SLOWER_S:
        return (
            f"half of its calls took over {1000 * one:.1f} ms, and of the champion's over "
            f"{1000 * other:.1f} ms; the bound is {bounds.max_slowdown:g} times"
        )
    n, m = len(canary.scores), len(champion.scores)
    if min(n, m) < MIN_REQUESTS:
        return ""
    distance = max(
        ks_distance(canary.scores[:, i], champion.scores[:, i]) for i in range(canary.scores.shape[1])
    )
    if distance - KS_FACTOR * math.sqrt((n + m) / (n * m)) > bounds.max_score_shift:
        return (
            f"its scores differ from the champion's by {distance:.2f} (Kolmogorov-Smirnov distance of the "
            f"last {n} and {m} requests); the bound is {bounds.max_score_shift:g}"
        )
    return ""


def too_many_errors(canary: Seen | Side, champion: Seen | Side, bounds: CanaryBounds) -> str:
    """The part of `reason_to_stop` that counts errors."""
    if canary.errors < MIN_ERRORS:
        return ""
    rate = _lower(canary.errors, canary.requests)
    usual = champion.errors / max(champion.requests, 1)
    if rate <= usual + bounds.max_errors:
        return ""
    return (
        f"{canary.errors} of its {canary.requests} requests failed, and {champion.errors} of "
        f"{champion.requests} of the champion; the bound is {bounds.max_errors:g} more"
    )


def ks_distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The largest difference of two samples' distribution functions, from 0 to 1."""
    one, other = np.sort(one), np.sort(other)
    places = np.concatenate([one, other])
    below = np.searchsorted(one, places, side="right") / len(one)
    others = np.searchsorted(other, places, side="right") / len(other)
    return float(np.abs(below - others).max())


def _lower(errors: int, requests: int) -> float:
    """The lower end of Wilson's interval of a fraction."""
    z2 = CONFIDENCE**2
    p = errors / requests
    middle = p + z2 / (2 * requests)
    half = CONFIDENCE * math.sqrt(p * (1 - p) / requests + z2 / (4 * requests**2))
    return (middle - half) / (1 + z2 / requests)


class Told(msgspec.Struct, frozen=True):
    """A side in the file of one worker.

    Parameters
    ----------
    scores
        Rows of float64, as bytes.
    """

    requests: int
    errors: int
    seconds: list[float]
    scores: bytes
    outputs: int


class Report(msgspec.Struct, frozen=True):
    """What one worker has seen of a canary, and why and when it has stopped the canary; "" if it has not."""

    canary: Told
    champion: Told
    stopped: str = ""
    stopped_at: str = ""


class Canary:
    """See the module.

    Parameters
    ----------
    percent
        The percentage of the callers, above 0.
    shared
        Where the workers tell each other what they have seen.
    against
        The version of the champion.
    lock
        The `models.lock` beside which a stop is noted; None if nothing follows this server.
    worker
        Names this worker among those of the server.

    Attributes
    ----------
    stopped, stopped_at
        The reason why it no longer answers, and since when; "" while it answers.
    """

    def __init__(
        self,
        model: LiveModel,
        percent: float,
        bounds: CanaryBounds,
        *,
        shared: Shared,
        against: str,
        lock: Path | None = None,
        worker: str = "",
    ) -> None:
        self.model = model
        self.percent = percent
        self.bounds = bounds
        self.stopped, self.stopped_at = "", ""
        self._lock = lock
        self._noted = False  # whether the stop is in the file beside the lock
        self._unnoted = ""  # the reason why it could not be written
        self._below = int(percent / 100 * 2**64)
        self._fraction = percent / 100
        self._salt = model.name.encode()[:16]
        self.own, self.champion = Side(), Side()
        self._shared = shared
        self._prefix = f"canary-{model.name}-{model.version}-{percent:g}-{against}-"
        self._file = self._prefix + (worker or str(os.getpid()))
        self._told: object = None  # the counts that were told last
        self._untold = False  # whether the last report could not be written
        self._thread = Supervised("canary", self._run, of=model.name)
        metrics.CANARY_STOPPED.labels(model.name, model.version).set(0)
        metrics.CANARY_STOPS.labels(model.name)  # from 0, so that the first stop is an increase
        metrics.CANARY_PERCENT.labels(model.name, model.version).set(percent)

    def answers(self, key: bytes | None) -> bool:
        """Whether it answers a request with this key; None: each request is drawn."""
        if self.stopped:
            return False
        if key is None:
            return random() < self._fraction  # noqa: S311 - no secret
        digest = blake2b(key, digest_size=8, salt=self._salt).digest()
        return int.from_bytes(digest) < self._below

    # ---- what it and the champion do

    def watching(
        self, endpoints: Mapping[str, Endpoint], side: Side, *, judge: bool = False
    ) -> dict[str, Endpoint]:
        """Endpoints, by path, each wrapped so that its answers count for one of the sides."""
        return each(endpoints, lambda endpoint: self._watched(endpoint, side, judge=judge))

    def _watched(self, endpoint: Endpoint, side: Side, *, judge: bool) -> Endpoint:
        answer, refuse = endpoint.answer, endpoint.refuse
        # A ranking's route scores all items, which are not compared with the scores of rows.
        compared = endpoint.model.signature.outputs == self.model.signature.outputs

        def answered(query: Any, scores: Scores, first: int) -> Reply:
            reply = answer(query, scores, first)
            side.requests += 1
            side.seconds.append(scores.ended - scores.began)
            if compared:
                side.scores.append(scores.values[first].copy())  # a view would keep the whole batch
            if judge and side.requests % JUDGE_EVERY == 0:
                self._judge()
            return reply

        def refused(problem: Problem) -> Reply:
            if problem.status >= 500 or problem.reason in FAILURES:
                side.requests += 1
                side.errors += 1
                if judge:
                    self._judge()
            return refuse(problem)

        return Watched(endpoint, answered, refused)

    def _judge(self) -> None:
        """Stop outside the bounds; comparing times and scores takes milliseconds, so few requests do."""
        if self.stopped:
            return
        if self.own.requests % JUDGE_EVERY == 0:
            self.stopped = reason_to_stop(_seen(self.own), _seen(self.champion), self.bounds)
        else:
            self.stopped = too_many_errors(self.own, self.champion, self.bounds)
        if self.stopped:
            self._tell_stopped()

    def _tell_stopped(self) -> None:
        name, version = self.model.name, self.model.version
        self.stopped_at = self.stopped_at or canary_stop.now()
        logger.error("the canary of model %s, version %s, is stopped: %s", name, version, self.stopped)
        metrics.CANARY_STOPPED.labels(name, version).set(1)
        metrics.CANARY_STOPS.labels(name).inc()

    # ---- what all workers have seen

    def start(self) -> None:
        """Begin to share with the other workers; a canary that one of them has stopped is stopped at once."""
        self.share()
        self._thread.start()

    def close(self, *, forget: bool) -> None:
        """End the thread.

        Parameters
        ----------
        forget
            The canary itself ends, so that a later one of the same version begins anew.
        """
        self._thread.close()
        if not forget:
            return
        for name in self._shared.names(self._prefix):
            self._shared.remove(name)
        if self._noted and self._lock is not None:
            canary_stop.remove(self._lock, self.model.name)

    def _run(self) -> None:
        while not self._thread.ended.wait(SHARE_S):
            self.share()

    def share(self) -> None:
        """Tell what this worker has seen, and judge by what all workers have seen."""
        self._tell()
        self._judge_together()
        if self.stopped:
            self._note()

    def _judge_together(self) -> None:
        names = [name for name in self._shared.names(self._prefix) if name != self._file]
        others = [found for name in names if (found := self._shared.read(name, Report)) is not None]
        if self.stopped or not others:
            return
        stopped = next((found for found in others if found.stopped), None)
        if stopped is not None:
            self.stopped, self.stopped_at = stopped.stopped, stopped.stopped_at
        else:
            self.stopped = reason_to_stop(
                _together(self.own, [found.canary for found in others]),
                _together(self.champion, [found.champion for found in others]),
                self.bounds,
            )
        if self.stopped:
            self._tell_stopped()
            self._tell()

    def _note(self) -> None:
        """Write the stop for `deploy follow`, once: what it has recorded, it removes."""
        if self._noted or self._lock is None:
            return
        stop = CanaryStop(
            at=self.stopped_at,
            version=self.model.version,
            run_id=self.model.artifact.manifest.run_id,
            percent=self.percent,
            reason=self.stopped,
        )
        try:
            canary_stop.write(self._lock, self.model.name, stop)
        except OSError as error:
            why = error.strerror or str(error)
            if why != self._unnoted:
                path = canary_stop.path_of(self._lock, self.model.name)
                logger.warning("other servers are not told of the stopped canary: %s: %s", path, why)
            self._unnoted = why
            return
        self._noted = True

    def _tell(self) -> None:
        now = (self.own.requests, self.champion.requests, self.stopped)
        if now in (self._told, (0, 0, "")):
            return
        try:
            report = Report(_told(self.own), _told(self.champion), self.stopped, self.stopped_at)
            self._shared.write(self._file, report)
        except OSError as error:
            if not self._untold:
                logger.warning("a canary is judged by each worker alone: %s", error.strerror)
            self._untold = True
            return
        self._told, self._untold = now, False

    def description(self) -> dict[str, Any]:
        """What `GET /models` shows."""
        return {
            "role": CANARY,
            "version": self.model.version,
            "percent": self.percent,
            "stopped": self.stopped or None,
        }


class Split:
    """A route that a canary answers for some callers.

    Parameters
    ----------
    endpoint
        The canary's, of the same route.
    """

    __slots__ = ("canary", "endpoint")

    def __init__(self, canary: Canary, endpoint: Endpoint) -> None:
        self.canary = canary
        self.endpoint = endpoint

    def picks(self, key: bytes | None, principal: str | None) -> bool:
        """Whether the canary answers a request, by the header `X-Canary-Key`, else by its principal."""
        if key:
            return self.canary.answers(b"key " + key)
        return self.canary.answers(b"principal " + principal.encode() if principal is not None else None)


def _told(side: Side) -> Told:
    """A side for the file of this worker; the event loop may add to the side meanwhile."""
    scores = _copied(side.scores)
    outputs = len(scores[0]) if scores else 1
    most = max(MIN_REQUESTS, SHARED_BYTES // (8 * outputs))
    matrix = np.array(scores[-most:], np.float64) if scores else np.empty((0, 1))
    return Told(side.requests, side.errors, _copied(side.seconds), matrix.tobytes(), outputs)


def _together(own: Side, others: Sequence[Told]) -> Seen:
    """What this worker and the others have seen of one side."""
    every = [_told(own), *others]
    some = [np.frombuffer(each.scores).reshape(-1, each.outputs) for each in every if each.scores]
    return Seen(
        sum(each.requests for each in every),
        sum(each.errors for each in every),
        [second for each in every for second in each.seconds],
        np.concatenate(some) if some else np.empty((0, 1)),
    )


def _copied(values: deque[T]) -> list[T]:
    while True:
        try:
            return list(values)
        except RuntimeError:  # it grew meanwhile
            continue


def _seen(side: Side) -> Seen:
    return Seen(
        side.requests, side.errors, side.seconds, np.array(side.scores) if side.scores else np.empty((0, 1))
    )
