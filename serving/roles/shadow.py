"""A shadow: a version that scores again the rows that the champion has answered, and answers no caller.

Rows wait in a bounded buffer, and a thread scores them when there is time: the event loop was not busy, and
no call of the champion is running or due. What does not fit is dropped and counted; no reply waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from random import random
from time import perf_counter, thread_time, time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from artifact.models_lock import SHADOW
from artifact.raised import raised_at
from artifact.signature import decide, labels, probabilities
from serving.observe import metrics
from serving.observe.supervised import Pool
from serving.prediction_log.capture import moment
from serving.prediction_log.record import ShadowLine
from serving.protocols.watched import Watched, each
from serving.scoring.batcher import matrix_of, on_loop
from serving.scoring.translation import translation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from serving.prediction_log.capture import Captured, PredictionLog
    from serving.protocols import Endpoint, Reply
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores
    from serving.settings import Settings

logger = logging.getLogger("bentoml.okamochi")

LOOK_S = 0.05
"""How often the loop looks whether there is time."""
MAX_BUSY = 0.8
"""Fraction of the time since the last look that the event loop may have worked or waited for a processor."""
MAX_BUFFERED_ROWS = 4_096
MAX_BUFFERED_BYTES = 8 * 1024 * 1024
COMPLAIN_EVERY_S = 60.0


def worked_s() -> float:
    """Seconds that this thread has worked or, where Linux tells, waited for a processor.

    With the work alone, a full loop would seem idle where other processes or a limit take the processor away.
    """
    try:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:  # noqa: PTH123 - a Path costs more
            work, wait, _ = file.read().split()
            return (int(work) + int(wait)) / 1e9
    except (OSError, ValueError):
        return thread_time()


class _Answered(NamedTuple):
    """A request that the champion has answered; it refers to no model, so that an old one can be closed."""

    signature: Signature
    rows: Any
    n: int
    scores: Scores
    first: int
    captured: Captured | None


class Shadow:
    """See the module. All but `_score` runs on the event loop.

    Parameters
    ----------
    model
        The version that scores the rows again.
    """

    def __init__(self, model: LiveModel, settings: Settings) -> None:
        self.model = model
        self.log: PredictionLog | None = None
        self._fraction = settings.shadow_fraction
        self._most = max(1, min(MAX_BUFFERED_ROWS, MAX_BUFFERED_BYTES // (8 * model.signature.width)))
        self._waiting: deque[_Answered] = deque()
        self._rows = 0  # that wait
        self._batcher: Any = None  # the champion's, while rows wait
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._looked = (0.0, 0.0)  # by the clock, and by the work of the loop
        self._not_before = 0.0
        self._full = self._sampled_out = 0  # rows dropped since they were last counted
        self._translations: dict[int, tuple[Signature, Callable[[Any], NDArray[Any]]]] = {}
        self._complained = -COMPLAIN_EVERY_S
        self._pool = Pool("shadow", of=model.name)
        self._metrics = metrics.ShadowMetrics(model.name, model.version)

    def offered(self, endpoints: Mapping[str, Endpoint], log: PredictionLog | None) -> dict[str, Endpoint]:
        """The champion's endpoints, by path, each wrapped so that the shadow is offered what it answers."""
        self.log = log
        return each(endpoints, lambda endpoint: Watched(endpoint, self._offering(endpoint)))

    def _offering(self, endpoint: Endpoint) -> Callable[[Any, Scores, int], Reply]:
        answer, most, fraction, log = endpoint.answer, self._most, self._fraction, self.log
        batcher, signature = endpoint.model.batcher, endpoint.model.signature

        def answered(query: Any, scores: Scores, first: int) -> Reply:
            reply = answer(query, scores, first)
            n = query.n
            if self._rows + n > most:
                self._full += n
                return reply
            if fraction < 1 and random() >= fraction:  # noqa: S311 - no secret
                self._sampled_out += n
                return reply
            captured = log.captured if log is not None else None
            if captured is not None and captured.query is not query:
                captured = None
            self._rows += n
            self._waiting.append(_Answered(signature, query.rows, n, scores, first, captured))
            if self._timer is None:
                self._batcher = batcher
                self._looked = perf_counter(), worked_s()
                self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
            return reply

        return answered

    # ---- when there is time

    def _look(self) -> None:
        """Hand some rows to the thread if there is time; look again while rows wait."""
        now, worked = perf_counter(), worked_s()
        busy = (worked - self._looked[1]) / max(now - self._looked[0], 1e-9)
        self._looked = now, worked
        batcher = self._batcher
        for reason, rows in (("full", self._full), ("sampled_out", self._sampled_out)):
            if rows:
                self._metrics.dropped(reason, rows)
        self._full = self._sampled_out = 0
        if (
            self._waiting
            and not self._running
            and busy <= MAX_BUSY
            and now >= self._not_before
            and not batcher.queued_rows
            and not batcher.running
        ):
            self._start()
        if self._waiting or self._running:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        else:
            self._timer = self._batcher = None

    def _start(self) -> None:
        most = self.model.batcher.limits.batch_rows
        taken: list[_Answered] = []
        rows = 0
        while self._waiting and (not taken or rows + self._waiting[0].n <= most):
            taken.append(self._waiting.popleft())
            rows += taken[-1].n
        self._rows -= rows
        self._running = True
        loop = asyncio.get_running_loop()
        try:
            future = self._pool.submit(self._score, taken)
        except RuntimeError as error:  # the system has no more threads
            self._failed(rows, error)
            self._running = False
            return
        future.add_done_callback(lambda done: on_loop(loop, self._scored, rows, done))

    def _scored(self, rows: int, future: Future[float]) -> None:
        self._running = False
        error = future.exception()
        if error is not None:
            self._failed(rows, error)
            return
        # A pause as long as the call: the shadow takes half of a core at most.
        self._not_before = perf_counter() + future.result()

    def _failed(self, rows: int, error: BaseException) -> None:
        self._metrics.dropped("failed", rows)
        if perf_counter() - self._complained >= COMPLAIN_EVERY_S:
            self._complained = perf_counter()
            logger.warning(
                "the shadow of model %s, version %s, failed on %d rows: %s",
                self.model.name,
                self.model.version,
                rows,
                raised_at(error),
            )

    # ---- in the thread

    def _score(self, taken: list[_Answered]) -> float:
        """Score rows, and compare; return the seconds that it took."""
        began = perf_counter()
        own = self.model.signature
        matrices = [self._translated(one) for one in taken]
        rows = matrices[0] if len(matrices) == 1 else np.concatenate(matrices)
        start = perf_counter()
        scores = self.model.score(rows)
        seconds = perf_counter() - start
        if scores.shape != (len(rows), own.outputs):
            raise ValueError(f"{len(rows)} rows gave scores of another shape")
        said = np.concatenate([one.scores.values[one.first : one.first + one.n] for one in taken])
        self._metrics.scored(len(rows), seconds)
        self._compare(taken[-1].signature, said, scores)
        if self.log is not None:
            self._write(self.log, taken, scores)
        return perf_counter() - began

    def _translated(self, one: _Answered) -> NDArray[Any]:
        known = self._translations.get(id(one.signature))
        if known is None:
            if len(self._translations) > 8:
                self._translations.clear()
            known = one.signature, translation(one.signature, self.model.signature)
            self._translations[id(one.signature)] = known
        return known[1](matrix_of(one.rows, one.signature))

    def _compare(self, champion: Signature, said: NDArray[np.float64], scores: NDArray[np.float64]) -> None:
        own = self.model.signature
        if not own.classes:
            off = np.abs(said - scores) / np.maximum(np.abs(said), 1e-9)
            self._metrics.differences(off.max(axis=1))
            return
        agreed = decide(champion, said) == decide(own, scores)
        self._metrics.agreed(int(agreed.sum()))
        chances = probabilities(champion, said), probabilities(own, scores)
        self._metrics.differences(np.abs(chances[0] - chances[1]).max(axis=1))

    def _write(self, log: PredictionLog, taken: list[_Answered], scores: NDArray[np.float64]) -> None:
        """Log what it predicts for the rows that are logged."""
        at, model, first = moment(time()), self.model, 0
        for one in taken:
            for row in one.captured.rows if one.captured is not None else ():
                values = scores[first + row : first + row + 1]
                if np.isfinite(values).all():
                    assert one.captured is not None  # noqa: S101 - it has rows
                    log.add_shadow(
                        ShadowLine(
                            one.captured.id,
                            row,
                            at,
                            model.name,
                            model.version,
                            SHADOW,
                            labels(model.signature, values)[0],
                            values[0].tolist(),
                        )
                    )
            first += one.n

    def description(self) -> dict[str, Any]:
        """What `GET /models` shows."""
        return {"role": SHADOW, "version": self.model.version}

    def close(self) -> None:
        """End the thread; rows that wait are not scored."""
        self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
