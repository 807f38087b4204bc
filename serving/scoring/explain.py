"""Why a model answered so: the contribution of each column to the score, as the model is served.

A request's rows are predicted like any others; their explanations follow as work of low priority. The method
is that of `shapley`, against background rows of the training table, which the artifact holds.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.background import read as read_background
from artifact.signature import decide, probabilities
from serving.errors import Problem, overloaded
from serving.scoring import words
from serving.scoring.batcher import Ticket
from serving.scoring.scores import Scores, half_unit
from serving.scoring.shapley import Ask, Attribution, attribute, owners_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from artifact.encode import Encoder
    from artifact.manifest import Artifact
    from artifact.signature import Signature
    from serving.errors import Reason
    from serving.scoring.batcher import Batcher, Done
    from serving.scoring.low_priority import Chunk, LowPriority
    from serving.scoring.shapley import Dialogue
    from serving.scoring.words import Word

MAX_ROWS = 64
LEAST = 1e-15  # a probability nearer to 0 or 1 counts as that near in log-odds
MAX_RETRY_AFTER_S = 60
NEWEST = 0.2  # the weight of the newest request in the mean time of a row
PASSES_UNTIL = 0.5  # the part of the time until the deadline in which further passes may begin


class Explain(msgspec.Struct, frozen=True, gc=False):
    """What a request wants explained.

    Parameters
    ----------
    label
        Index of the class whose score is explained, or of the named number; None for the positive one of two
        classes, else the predicted one, or the first number.
    log_odds
        In log-odds instead of probabilities.
    threshold
        The request's own, for the predicted class.
    """

    label: int | None = None
    log_odds: bool = False
    threshold: float | None = None


@dataclass(frozen=True)
class RowExplanation:
    """The explanation of a row.

    Parameters
    ----------
    label
        Index of the class whose score it is; None for a regression.
    words
        By column, the strongest words of a text.
    """

    label: int | None
    attribution: Attribution
    words: dict[str, list[Word]] = field(default_factory=dict)


class ExplainedScores(Scores):
    """The scores of one request's rows, and their explanations."""

    __slots__ = ("explanations",)

    def __init__(
        self, values: NDArray[np.float64], signature: Signature, explanations: list[RowExplanation]
    ) -> None:
        super().__init__(values, signature)
        self.explanations = explanations

    def _with_digits(self, digits: int) -> ExplainedScores:
        explanations = [_rounded(each, digits) for each in self.explanations]
        return ExplainedScores(self.values, self.signature, explanations)


def _rounded(made: RowExplanation, digits: int) -> RowExplanation:
    """An explanation whose numbers reveal no more digits of a probability than its rounded value."""
    found = made.attribution
    attribution = Attribution(
        round(found.base, digits),
        round(found.score, digits),
        np.round(found.contributions, digits),
        found.error + half_unit(digits),
        exact=found.exact,
    )
    shown = {
        column: [word._replace(contribution=round(word.contribution, digits)) for word in words]
        for column, words in made.words.items()
    }
    return RowExplanation(made.label, attribution, shown)


class Explainer:
    """Explains the rows of one model.

    Parameters
    ----------
    background
        Background rows as the model reads them, shape (rows, width); None if the artifact has none.
    tolerance
        The error at which an explanation is good enough, as a fraction of its largest contribution.
    max_rows
        The largest number of rows that wait for their explanations.
    observe
        Called with the explanations of a request, once they are made.
    """

    def __init__(
        self,
        name: str,
        signature: Signature,
        background: NDArray[Any] | None,
        batcher: Batcher,
        queue: LowPriority,
        *,
        tolerance: float,
        max_rows: int,
        observe: Callable[[list[RowExplanation]], None] = lambda _made: None,
    ) -> None:
        self.name = name
        self.signature = signature
        self.background = background
        self.tolerance = tolerance
        self.max_rows = max_rows
        self.waiting = Counter[str]()  # rows that wait for their explanations, by caller
        self.row_s = 0.0  # what the explanation of a row has taken lately
        self.base: NDArray[np.float64] | None = None  # the scores of the background, once they are known
        self.owners = owners_of([place.stop - place.start for place in signature.places])
        self._batcher = batcher
        self._queue = queue
        self.observe = observe

    def check(self, rows: int) -> None:
        """Refuse what cannot be explained.

        Raises
        ------
        Problem
            413 for too many rows, 422 for a model without background rows.
        """
        if self.background is None:
            raise Problem(
                422,
                f"The artifact of {self.name!r} has no background rows, which explanations need. Train the "
                f"model again (`python -m training run {self.name}`; one that was made elsewhere needs a "
                f"table) and bundle it (`python -m deploy bundle {self.name}`).",
                reason="no_background",
            )
        if rows > MAX_ROWS:
            raise Problem(
                413,
                f"{rows} rows to explain in one request; at most {MAX_ROWS} are explained at once. Send them "
                "in several requests, or without `explain`.",
                reason="too_many_rows",
            )

    @property
    def waiting_rows(self) -> int:
        """How many rows wait for their explanations."""
        return self.waiting.total()

    def submit(  # noqa: PLR0917 - as `Batcher.submit`
        self,
        wanted: Explain,
        rows: NDArray[Any],
        n: int,
        done: Done,
        deadline: float,
        caller: str,
        *,
        explicit: bool,
    ) -> Ticket:
        """Predict and explain `n` valid rows; see `Batcher.submit`.

        Raises
        ------
        Problem
            429: too many rows wait, of all callers or of this one, or the deadline cannot be kept.
        """
        self._admit(n, deadline, caller)
        ticket = Ticket(None, 0, done, deadline, explicit)
        matrix = np.asarray(rows)

        def predicted(scores: Scores | None, first: int, problem: Problem | None) -> None:
            if scores is None or not ticket.open:
                self.leave(caller, n)
                if ticket.open:
                    ticket.open = False
                    done(None, 0, problem)
                return
            values = scores.values[first : first + n].copy()
            self._queue.submit(_Request(self, wanted, matrix, values, ticket, caller), caller)

        self.waiting[caller] += n
        try:
            self._batcher.submit_low(rows, n, predicted, deadline, explicit=explicit)
        except Problem:
            self.leave(caller, n)
            raise
        return ticket

    def leave(self, caller: str, rows: int) -> None:
        """Rows of a caller wait no more."""
        self.waiting[caller] -= rows
        if not self.waiting[caller]:
            del self.waiting[caller]

    def _admit(self, n: int, deadline: float, caller: str) -> None:
        """Refuse rows that would wait in vain, or take the places of other callers.

        A caller may have as many rows as remain free, so one caller has half of the places, two have a third
        each, and so on: a newcomer always finds some.
        """
        waiting = self.waiting_rows
        if not waiting:
            return
        own = self.waiting.get(caller, 0)
        if own + waiting + n > self.max_rows:
            held = f"{waiting} rows of this model already wait for their explanations, {own} of them yours"
            raise self._refusal(f"{held} (OKAMOCHI_EXPLAIN_QUEUE_ROWS)", "queue_full", n, caller)
        left, needed = deadline - perf_counter(), self.wait_s(n, caller)
        if needed > left:
            took = f"an explanation would take about {1000 * needed:.0f} ms"
            raise self._refusal(f"{took}, {1000 * max(left, 0):.0f} ms are left", "deadline", 0, caller)

    def wait_s(self, n: int, caller: str) -> float:
        """How long further rows of a caller will take. Callers take turns."""
        own = n + self.waiting.get(caller, 0)
        others = sum(min(rows, own) for who, rows in self.waiting.items() if who != caller)
        return (own + others) * self.row_s * self._queue.spare.slowdown

    def _refusal(self, what: str, reason: Reason, n: int, caller: str) -> Problem:
        after = max(1, min(MAX_RETRY_AFTER_S, math.ceil(self.wait_s(n, caller))))
        return overloaded(f"Too busy: {what}. Try again in {after} s.", reason, after)

    def late(self, made: int, rows: int, caller: str) -> Problem:
        """The refusal of a request whose deadline is over, with `made` of its rows explained."""
        what = f"{made} of {rows} rows were explained before the deadline"
        return self._refusal(f"{what}; send fewer, or a longer X-Deadline-Ms", "deadline", 0, caller)

    def took(self, seconds: float) -> None:
        """The explanation of a row took so long."""
        self.row_s += (seconds - self.row_s) * (NEWEST if self.row_s else 1)


class _Request:
    """The explanations of one request, row by row; see `low_priority.Work`."""

    def __init__(  # noqa: PLR0917 - what `Explainer.submit` has
        self,
        explainer: Explainer,
        wanted: Explain,
        rows: NDArray[Any],
        values: NDArray[np.float64],
        ticket: Ticket,
        caller: str,
    ) -> None:
        self._explainer = explainer
        self._wanted = wanted
        self._rows = rows
        self._values = values
        self._ticket = ticket
        self._caller = caller
        self._seconds = 0.0  # that its chunks took
        self._began = perf_counter()
        self._passes_until = self._began + PASSES_UNTIL * (ticket.deadline - self._began)
        self._left = len(values)  # rows that count as waiting
        self._made: list[RowExplanation] = []
        self._explain = self._every_row()
        self._ask: tuple[Ask, Callable[[NDArray[np.float64]], NDArray[np.float64]]] | None = None
        self._found: NDArray[np.float64] | None = None
        self._got = self._asked = 0
        self._timer: asyncio.TimerHandle | None = None
        if math.isfinite(ticket.deadline):
            left = max(0.0, ticket.deadline - self._began)
            self._timer = asyncio.get_running_loop().call_later(left + 0.001, self._expire)

    def _expire(self) -> None:
        late = self._explainer.late(len(self._made), len(self._values), self._caller)
        self.failed(late)

    @property
    def open(self) -> bool:
        """See `Work`."""
        if not self._ticket.open:
            self._leave()
        return self._ticket.open

    def chunk(self, most: int) -> Chunk | None:
        """See `Work`."""
        if self._ask is None and not self._advance(None):
            return None
        assert self._ask is not None  # noqa: S101 - the line above
        ask = self._ask[0]
        start, stop = self._got, min(ask.rows, self._got + most)
        self._asked = stop
        return lambda: ask.make(start, stop)

    def scored(self, scores: NDArray[np.float64], seconds: float) -> None:
        """See `Work`."""
        self._seconds += seconds
        assert self._ask is not None  # noqa: S101 - they were asked for
        ask, scalar = self._ask
        if scores.shape != (self._asked - self._got, self._explainer.signature.outputs):
            raise ValueError(f"{self._asked - self._got} rows gave scores of another shape")
        if not np.isfinite(scores).all():
            self.failed(
                Problem(
                    422,
                    "The model gives no finite number for rows that the explanation mixes of this one and "
                    "background rows.",
                    reason="not_finite",
                )
            )
            return
        part = scalar(scores)
        if self._found is None:
            self._found = np.empty((ask.rows, *part.shape[1:]))
        self._found[self._got : self._asked] = part
        self._got = self._asked
        if self._got == ask.rows:
            found, self._found = self._found, None
            self._advance(found)

    def failed(self, problem: Problem) -> None:
        """See `Work`."""
        self._leave()
        if self._ticket.open:
            self._ticket.open = False
            self._ticket.done(None, 0, problem)

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._left:
            self._explainer.leave(self._caller, self._left)
            self._left = 0

    def _advance(self, found: NDArray[np.float64] | None) -> bool:
        """Go on to the next rows that are needed; False once all explanations are made."""
        self._got = 0
        try:
            self._ask = self._explain.send(found)  # type: ignore[arg-type] # None starts it
        except StopIteration:
            self._ask = None
            self._leave()
            self._explainer.took(self._seconds / len(self._values))
            self._explainer.observe(self._made)
            whole = ExplainedScores(self._values, self._explainer.signature, self._made)
            whole.began, whole.ended = self._began, perf_counter()
            self._ticket.open = False
            self._ticket.done(whole, 0, None)
            return False
        return True

    def _every_row(self) -> Generator[Any, NDArray[np.float64], None]:
        explainer, wanted = self._explainer, self._wanted
        signature, background = explainer.signature, explainer.background
        assert background is not None  # noqa: S101 - checked when the request was read
        if explainer.base is None:
            whole = Ask(len(background), lambda start, stop: background[start:stop])
            explainer.base = yield whole, lambda scores: scores
        labels = labels_of(signature, wanted, self._values)
        for row, values, label in zip(self._rows, self._values, labels, strict=True):
            scalar = scalar_of(signature, label, log_odds=wanted.log_odds)
            score = float(scalar(values[None])[0])
            attribution = yield from _in_score(
                attribute(
                    row,
                    score,
                    background,
                    scalar(explainer.base),
                    explainer.owners,
                    tolerance=explainer.tolerance,
                    more=lambda: perf_counter() < self._passes_until,
                ),
                scalar,
            )
            strongest = yield from _in_score(words.strongest(signature, row, score), scalar)
            self._made.append(RowExplanation(label, attribution, strongest))


def _in_score(dialogue: Dialogue[Any], scalar: Any) -> Generator[Any, NDArray[np.float64], Any]:
    """A dialogue in which each request for rows names the score that is meant."""
    try:
        ask = next(dialogue)
        while True:
            found = yield ask, scalar
            ask = dialogue.send(found)
    except StopIteration as end:
        return end.value


def _output(output: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda scores: scores[:, output]


def labels_of(signature: Signature, wanted: Explain, values: NDArray[np.float64]) -> list[int | None]:
    """For each row the index of the class whose score is explained; None for a regression."""
    if signature.task == "regression":
        return [None] * len(values)
    if wanted.label is not None or signature.numbers:
        return [wanted.label or 0] * len(values)
    if signature.task == "binary":
        return [signature.positive_index] * len(values)
    return decide(signature, values, wanted.threshold).tolist()  # type: ignore[no-any-return]


def scalar_of(
    signature: Signature, label: int | None, *, log_odds: bool
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The score that is explained, from scores of shape (rows, outputs)."""
    if label is None:
        return _output(0)
    if not log_odds:
        return _output(label)

    def found(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        chances = probabilities(signature, scores)
        others = np.delete(chances, label, axis=1).sum(axis=1)
        odds: NDArray[np.float64] = np.log(np.maximum(chances[:, label], LEAST)) - np.log(
            np.maximum(others, LEAST)
        )
        return odds

    return found


def background_of(artifact: Artifact, encoder: Encoder) -> NDArray[Any] | None:
    """The background rows of an artifact as its model reads them; None if it has none."""
    records = read_background(artifact)
    return np.asarray(encoder.records(records, lenient=True)) if records else None
