"""When a run has to be done."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A moment of the monotonic clock; infinity where a run has no timeout."""

    end: float = math.inf

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The moment in so many seconds from now; None: never."""
        return cls() if seconds is None else cls(time.monotonic() + seconds)

    @property
    def set(self) -> bool:
        """Whether the run has a timeout."""
        return math.isfinite(self.end)

    @property
    def left_s(self) -> float:
        """Seconds until then, at least 0."""
        return max(0.0, self.end - time.monotonic())
