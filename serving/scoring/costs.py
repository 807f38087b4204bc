"""What calls of a model cost, and what follows: how many rows go into a call, how long a request waits.

Everything here is pure: figures in, decision out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INLINE_S = 0.001  # a longer call would hold up the event loop, so it runs in a thread
MAX_BATCH_ROWS = 16_384


class Costs:
    """The cost of calls: by power of two of rows, running means of rows and seconds, and least seconds."""

    def __init__(self) -> None:
        self._seen: dict[int, list[float]] = {}  # bits of rows: [rows, seconds, least seconds]

    def observe(self, rows: int, seconds: float) -> None:
        """Record one call; a call that a busy machine held up counts as at most four times the mean."""
        seen = self._seen.get(rows.bit_length())
        if seen is None:
            self._seen[rows.bit_length()] = [rows, seconds, seconds]
            return
        seen[0] += 0.2 * (rows - seen[0])
        seen[1] += 0.2 * (min(seconds, 4 * seen[1]) - seen[1])
        seen[2] = min(seen[2], seconds)

    def points(self) -> list[tuple[float, float]]:
        """Rows and their recent seconds, sorted by rows; the seconds never decrease."""
        return _rising((rows, seconds) for rows, seconds, _ in sorted(self._seen.values()))

    def best(self) -> list[tuple[float, float]]:
        """Rows and the fewest seconds that they took: the cost of a call that nothing holds up."""
        return _rising((rows, least) for rows, _, least in sorted(self._seen.values()))

    def forget(self, rows: int) -> None:
        """Forget the cost of larger calls, which a busy machine may have held up, so they are retried."""
        self._seen = {bits: seen for bits, seen in self._seen.items() if bits <= rows.bit_length()}

    def least(self) -> float:
        """The fewest seconds that any call took; 0 before the first."""
        return min((seen[2] for seen in self._seen.values()), default=0.0)


def _rising(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for rows, seconds in points:
        found.append((rows, max(seconds, found[-1][1]) if found else seconds))
    return found


def expected_seconds(points: Sequence[tuple[float, float]], rows: float) -> float:
    """Expected seconds of a call of `rows` rows: linear between two points, proportional beyond the last."""
    if not points:
        return 0.0
    if rows <= points[0][0]:
        return points[0][1]
    for (low, cheap), (high, dear) in pairwise(points):
        if rows <= high:
            return cheap + (dear - cheap) * (rows - low) / (high - low)
    most, seconds = points[-1]
    return seconds * rows / most


@dataclass(frozen=True)
class Limits:
    """The limits of a batcher, derived from the cost of calls.

    Parameters
    ----------
    inline_rows
        The largest number of rows scored on the event loop; 0 if one row takes too long.
    batch_rows
        The largest number of rows of one call.
    row_s
        Seconds for each row, in full batches.
    """

    inline_rows: int
    batch_rows: int
    row_s: float


def limits(
    points: Sequence[tuple[float, float]],
    objective_s: float,
    best: Sequence[tuple[float, float]] | None = None,
    *,
    inline: bool = True,
) -> Limits:
    """Decide the limits.

    The best cost decides which calls run on the loop. A call in a thread waits some milliseconds for the
    interpreter's lock behind a busy loop. By the running mean, a quick model that was once moved to the
    thread on a busy machine would never return to the loop.

    A call may last as long as the objective, or twice the time of a lone row if that exceeds the objective: a
    model may score a hundred rows in the time of one, and batches of one row would waste nearly all of it.
    Twice the rows of the largest call so far are tried if its rows are cheap: a measurement on a busy machine
    while warming up must not remain the limit.
    """
    allowed = max(objective_s, 2 * expected_seconds(points, 1))
    sizes = [1 << bits for bits in range(MAX_BATCH_ROWS.bit_length())]
    quick = [n for n in sizes if expected_seconds(best or points, n) <= INLINE_S]
    batch = max((n for n in sizes if expected_seconds(points, n) <= allowed), default=1)
    if len(points) > 1 and points[-1][0] < 2 * batch <= MAX_BATCH_ROWS:
        (fewest, cheap), (most, dear) = points[0], points[-1]
        if dear + (dear - cheap) / (most - fewest) * (2 * batch - most) <= allowed:
            batch *= 2
    return Limits(max(quick, default=0) if inline else 0, batch, expected_seconds(points, batch) / batch)


def wait_s(limits: Limits, queued_rows: int, rows: int) -> float:
    """How long a request of `rows` will take behind `queued_rows`."""
    return (queued_rows + rows) * limits.row_s
