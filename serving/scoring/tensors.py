"""Calls of a graph over tensors, as rows that a batcher can queue.

A row of the batcher's matrix is a call and the index of one of its rows. So the batcher joins and splits
calls as it does tables, and the outputs reach the reply through the call itself: the scores mean nothing.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.tensors import joined
from serving.errors import Problem, overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.tensors import Answer, Value

    Ask = Callable[[Sequence[list[Value]]], list[Answer]]


class Call:
    """One request.

    Parameters
    ----------
    inputs
        In the order of the graph.
    n
        The number of rows, which the batcher may split; 1 for a graph whose rows are not independent.
    finish
        Makes the reply from the outputs, in the batcher's thread; raises a `Problem` if it cannot.
    """

    __slots__ = ("__weakref__", "_finish", "_inputs", "_parts", "n", "problem", "release", "reply")

    def __init__(
        self, inputs: list[Value], n: int, finish: Callable[[list[Value]], Any] | None = None
    ) -> None:
        self._inputs = inputs
        self._finish = finish
        self._parts: dict[int, tuple[int, list[Value]]] = {}
        self.n = n
        self.reply: Any = None  # a `Reply` of the protocol that made the call
        self.problem: Problem | None = None
        self.release: Callable[[], object] = lambda: None  # its bytes no longer count as held

    @property
    def size(self) -> int:
        """The bytes of its inputs."""
        return sum(each.size for each in self._inputs)

    def matrix(self) -> NDArray[Any]:
        """Its rows for the batcher, of shape (n, 2)."""
        rows = np.empty((self.n, 2), object)
        rows[:, 0] = self
        rows[:, 1] = range(self.n)
        return rows

    def part(self, start: int, stop: int) -> list[Value]:
        """The inputs of the rows [start, stop)."""
        if stop - start == self.n:
            return self._inputs
        return [each.part(start, stop) for each in self._inputs]

    def take(self, start: int, stop: int, answer: Answer) -> None:
        """Keep the outputs of these rows, and make the reply once all are there."""
        if self._finish is None:
            return
        if isinstance(answer, str):
            self.problem = Problem(422, f"The model does not take these tensors: {answer}")
            self.release()
            return
        self._parts[start] = (stop, answer)
        if sum(end - first for first, (end, _) in self._parts.items()) < self.n:
            return
        ordered = [outputs for _, (_, outputs) in sorted(self._parts.items())]
        self._parts.clear()
        self.release()
        try:
            self.reply = self._finish([joined(parts) for parts in zip(*ordered, strict=True)])
        except Problem as problem:
            self.problem = problem


class TensorCalls:
    """The calls of one model that wait or run, and the memory that they may take.

    Parameters
    ----------
    max_bytes
        Of the inputs of all calls together.
    """

    def __init__(self, ask: Ask, max_bytes: int) -> None:
        self._ask = ask
        self.max_bytes = max_bytes
        self._held = 0
        self._holding = threading.RLock()  # a call may be forgotten while another is admitted

    def admit(self, call: Call) -> None:
        """Count a call's bytes until it is answered or no longer referenced.

        Raises
        ------
        Problem
            429 if the calls that wait leave no room for it.
        """
        size = call.size
        with self._holding:
            if self._held and self._held + size > self.max_bytes:
                raise overloaded(
                    f"Too busy: the tensors that wait for this model already have {self._held} bytes. "
                    "Try again in 1 s.",
                    "queue_full",
                    1,
                )
            self._held += size
        finalizer = weakref.finalize(call, self._release, size)
        finalizer.atexit = False
        call.release = finalizer

    def _release(self, size: int) -> None:
        with self._holding:
            self._held -= size

    def score(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """Ask for the rows of some calls, and give each its outputs; the scores are zeros."""
        parts: list[tuple[Call, int, int]] = []
        for call, row in matrix.tolist():
            if parts and parts[-1][0] is call and parts[-1][2] == row:
                parts[-1] = (call, parts[-1][1], row + 1)
            else:
                parts.append((call, row, row + 1))
        answers = self._ask([call.part(start, stop) for call, start, stop in parts])
        for (call, start, stop), answer in zip(parts, answers, strict=True):
            call.take(start, stop, answer)
        return np.zeros((len(matrix), 1))
