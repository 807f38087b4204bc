"""What a search is for and what it may cost."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Task

SIDE_BY_SIDE = min(2, os.cpu_count() or 1)
"""How many fits run at a time unless a search says otherwise."""


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """What a search is for and what it may cost, the same for every process that works on it.

    Parameters
    ----------
    groups, times
        Of each row: a group stays in one fold; with times, each fold is scored by what came before it.
    trials
        Of the whole study, also where several processes share it through `storage` (an Optuna storage URL).
    study_name
        Of a shared study. A digest of rows, folds and seed is added, so that figures of other rows never mix.
    pair
        The columns of users and items in a use case that ranks.
    own, code
        Entries of `candidates.add`, and the folders of their modules.
    jobs
        Folds at a time; by default SIDE_BY_SIDE. The result does not depend on it.
    """

    task: Task
    metric: str
    folds: int = 5
    groups: NDArray[Any] | None = None
    times: NDArray[Any] | None = None
    trials: int = 30
    timeout_s: float | None = None
    seed: int = 0
    storage: str | None = None
    study_name: str | None = None
    pair: tuple[str, str] | None = None
    own: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    jobs: int | None = None
