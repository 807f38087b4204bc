"""How good training found a live model to be, left in the prediction log for servers to show.

A folder has `live-NAME.json` for each model that was judged, PostgreSQL a row of `okamochi_live`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from artifact import atomic

if TYPE_CHECKING:
    from pathlib import Path

TABLE = """
CREATE TABLE IF NOT EXISTS okamochi_live (model text PRIMARY KEY, verdict jsonb NOT NULL)
"""
UPSERT = """
INSERT INTO okamochi_live (model, verdict) VALUES (%s, %s)
ON CONFLICT (model) DO UPDATE SET verdict = EXCLUDED.verdict
"""
SELECT = "SELECT verdict FROM okamochi_live"


class LiveVerdict(msgspec.Struct, frozen=True):
    """How a version does on the rows that it answered.

    Parameters
    ----------
    metric, promise
        What was measured at the gate, and how much it was.
    value, low, high
        The same on the rows with feedback, and its 95 % interval.
    broken
        Whether the interval misses the promise by more than noise.
    rows
        How many rows with feedback were judged.
    at
        Seconds since 1970.
    """

    model: str
    version: str
    metric: str
    promise: float
    value: float
    low: float
    high: float
    broken: bool
    rows: int
    at: float


def leave(folder: Path, verdict: LiveVerdict) -> None:
    """Put a verdict where the servers that share a folder find it, in one step.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    atomic.write(folder / f"live-{verdict.model}.json", msgspec.json.encode(verdict))


def found_in(folder: Path) -> list[LiveVerdict]:
    """The verdicts of a folder; a file that holds something else is left out.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    return [
        verdict
        for path in sorted(folder.glob("live-*.json"))
        if (verdict := decode(path.read_bytes())) is not None
    ]


def decode(content: bytes) -> LiveVerdict | None:
    """A verdict, or None where the content is something else."""
    try:
        return msgspec.json.decode(content, type=LiveVerdict)
    except msgspec.DecodeError:
        return None
