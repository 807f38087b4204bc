"""Refused keys are answered slowly: a flood of tries waits for its replies, and nobody else does."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = 10
PER_S = 10.0
MAX_S = 1.0


class Brake:
    """How long the reply to a try with a wrong key waits.

    A few tries are answered at once. Beyond `PER_S` a second each waits for its turn, at most `MAX_S`, so
    that a connection makes about one try a second. The time does not depend on the key, and a right key never
    waits.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._turn = clock() - AT_ONCE / PER_S

    def wait_s(self) -> float:
        """Count one try; the seconds that its reply waits."""
        now = self._clock()
        turn = max(self._turn, now - AT_ONCE / PER_S) + 1 / PER_S
        self._turn = min(turn, now + MAX_S)
        return max(0.0, self._turn - now)
