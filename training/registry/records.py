"""What the registry holds, apart from MLflow: versions and their aliases, candidates, data sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from artifact import tags

if TYPE_CHECKING:
    from collections.abc import Mapping

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
SHADOW, CANARY = "shadow", "canary"
"""The aliases of a version."""
CANARY_PERCENT = "okamochi.canary_percent"
"""Tag of a version: the percentage of the callers that it answers as a canary."""
SIGNATURE = tags.SIGNATURE
UNMEASURED = "okamochi.unmeasured"
"""Tag of a version that no table measured, with the reason."""
SOURCE = "python -m training"
"""What each run of ours names as its source, perhaps with a verb, which tells our models from others."""

MAX_NOTE, MAX_DESCRIPTION, MAX_PARAM, MAX_TAG = 8_000, 5_000, 6_000, 8_000
"""Characters that MLflow's tables hold of a run's note, a version's description, a parameter and a tag."""


class RegistryError(Exception):
    """The registry cannot be read or written; the message says where it is and what to do (exit code 4)."""

    exit_code = 4


@dataclass(frozen=True)
class Version:
    """A registered version of a use case's model; `number` is MLflow's, a decimal string."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]
    created: float = 0.0

    @property
    def uri(self) -> str:
        """What MLflow loads it by."""
        return f"models:/{self.name}/{self.number}"


@dataclass(frozen=True)
class TrialRun:
    """A candidate that the search tried, as its nested run shows it.

    Parameters
    ----------
    status
        `FINISHED`, or `FAILED` for one that raised, or `KILLED` for one that was pruned.
    started
        Seconds since the epoch.
    """

    title: str
    params: dict[str, Any]
    metric: str
    fold_scores: list[float]
    score: float | None
    status: str
    started: float
    seconds: float
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataInput:
    """The table, as the parent run's data set: enough to find it again, and no row of it."""

    name: str
    digest: str
    source: str
    rows: int
    columns: dict[str, str]
    target: str
