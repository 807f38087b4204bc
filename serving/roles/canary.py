"""A canary: a version that answers a fraction of the champion's callers, and is stopped when it does worse.

A caller with a key (`X-Canary-Key`, else its principal) always gets the same answerer while the percentage
stays, and the callers of a lower percentage are among those of a higher one. Without a key, each request is
drawn. Each worker judges its own requests.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from hashlib import blake2b
from random import random
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.models_lock import CANARY
from serving.observe import metrics
from serving.protocols.watched import Watched, each

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from artifact.canary_bounds import CanaryBounds
    from serving.errors import Problem
    from serving.protocols import Endpoint, Reply
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores

logger = logging.getLogger("bentoml.okamochi")

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


class Canary:
    """See the module.

    Parameters
    ----------
    percent
        The percentage of the callers, above 0.

    Attributes
    ----------
    stopped
        The reason why it no longer answers; "" while it answers.
    """

    def __init__(self, model: LiveModel, percent: float, bounds: CanaryBounds) -> None:
        self.model = model
        self.percent = percent
        self.bounds = bounds
        self.stopped = ""
        self._below = int(percent / 100 * 2**64)
        self._fraction = percent / 100
        self._salt = model.name.encode()[:16]
        self.own, self.champion = Side(), Side()
        metrics.CANARY_STOPPED.labels(model.name, model.version).set(0)
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

        def answered(query: Any, scores: Scores, first: int) -> Reply:
            reply = answer(query, scores, first)
            side.requests += 1
            side.seconds.append(scores.ended - scores.began)
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
            name, version = self.model.name, self.model.version
            logger.error("the canary of model %s, version %s, is stopped: %s", name, version, self.stopped)
            metrics.CANARY_STOPPED.labels(name, version).set(1)

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


def _seen(side: Side) -> Seen:
    return Seen(
        side.requests, side.errors, side.seconds, np.array(side.scores) if side.scores else np.empty((0, 1))
    )
