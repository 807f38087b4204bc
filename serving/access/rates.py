"""How often one key may ask."""

from __future__ import annotations

import math
import re

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_RULE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)/(s|min|h|d)")
_ROUNDING_S = 1e-6
EXPECTED = "a rate such as 100/s, 60/min, 1000/h or 5000/d"


def per_second(text: str) -> float:
    """Requests a second of a rate as a person writes it.

    Raises
    ------
    ValueError
        The message says what was expected.
    """
    found = _RULE.fullmatch(text)
    if found is None or float(found[1]) <= 0:
        raise ValueError(f"found {text[:40]!r}, expected {EXPECTED}")
    return float(found[1]) / _SECONDS[found[2]]


class Bucket:
    """The requests that one key may still make in one worker: a token bucket, kept as one time (GCRA).

    Parameters
    ----------
    per_s
        Requests a second in the long run; as many, and at least one, may come at once.

    Attributes
    ----------
    full_at
        When the bucket is full again, by the clock of the caller, in seconds.
    step
        By how much one request moves it.
    """

    __slots__ = ("_span", "full_at", "per_s", "step")

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self.step = 1 / per_s
        self._span = max(1.0, self.step)  # in which an empty bucket fills
        self.full_at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more request may pass now."""
        full_at = self.full_at
        if full_at <= now or full_at > now + self._span + 1:  # a clock that was set back
            self.full_at = now + self.step
            return True
        full_at += self.step
        if full_at > now + self._span + _ROUNDING_S:
            return False
        self.full_at = full_at
        return True

    def wait_s(self, now: float) -> int:
        """Whole seconds until the next request may pass."""
        return max(1, math.ceil(self.full_at + self.step - self._span - now - _ROUNDING_S))
