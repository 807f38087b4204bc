"""Samples the rows that pass: evenly, and at most a given number a second."""

from __future__ import annotations

import math
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SPARE = 0.9  # fraction of the rate that is aimed at, so that a busy moment seldom reaches the limit


class Sampler:
    """Takes every row while there are few, else every n-th.

    The rate is measured each second: in the first busy second after a quiet one, rows are taken until the
    limit is reached, from then on evenly. Gaps are random, so that alternating traffic is not sampled by one
    half only. It is not thread-safe.

    Parameters
    ----------
    rows_per_s
        The largest number of rows taken in one second.

    Attributes
    ----------
    left
        Rows that pass before the next one is taken. A caller may subtract up to this many rows itself instead
        of calling `take`, which saves a call for each request.
    """

    __slots__ = ("_clock", "_from", "_random", "_room", "_seen", "_skipped", "_stride", "left", "rows_per_s")

    def __init__(self, rows_per_s: float, clock: Callable[[], float] = perf_counter, seed: int = 0) -> None:
        self.rows_per_s = rows_per_s
        self._clock = clock
        self._random = Random(seed)  # noqa: S311 - no secret
        self._stride = 1
        self.left = 0  # rows until the next that is taken
        self._from = clock()
        self._room = rows_per_s
        self._seen = 0  # in this second, up to the next row that is taken
        self._skipped = 0

    def take(self, rows: int) -> range | None:
        """The rows to sample among the next `rows`; None for no row, the usual result under load."""
        left = self.left
        if rows <= left:
            self.left = left - rows
            return None
        return self._take(rows)

    def _take(self, rows: int) -> range | None:
        now = self._clock()
        spent = now - self._from
        if spent >= 1:
            # What was seen in a second that ended long ago says little; a quiet time takes every row again.
            self._stride = max(1, math.ceil(self._seen / spent / (SPARE * self.rows_per_s)))
            self._from, self._seen, self._room = now, 0, self.rows_per_s
        first, stride = self.left, self._stride
        found = range(first, rows, stride)
        if len(found) > self._room:
            room = int(self._room)
            found = found[:: math.ceil(len(found) / room)] if room else range(0)
            self._stride = 2 * stride  # so that the rest of this second costs next to nothing
        self._room -= len(found)
        after = (rows - 1 - first) // stride * stride + first + 1  # behind the last row that was due
        gap = self._random.randrange(2 * stride - 1)
        self.left = max(0, gap - (rows - after))
        passed = rows - first + self.left  # what is before `first` was counted when the gap was drawn
        self._seen += passed
        self._skipped += passed - len(found)
        return found or None

    def wake(self) -> None:
        """Take the next row, whatever gap was drawn; call it now and then, from any thread.

        A gap that was drawn in a busy second would last for hours in a quiet one.
        """
        left, self.left = self.left, 0
        self._seen -= left
        self._skipped -= left

    def skipped(self) -> int:
        """Rows skipped since the last call, including those up to the next row that is taken."""
        skipped, self._skipped = self._skipped, 0
        return skipped
