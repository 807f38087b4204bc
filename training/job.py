"""One training on its way: what it works on, what it may spend, and where its result goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from training.decide.test_set import TestSet
    from training.progress import Progress
    from training.settings import UseCase


@dataclass(frozen=True)
class Budget:
    """What a search may spend; null takes the use case's own.

    Parameters
    ----------
    storage
        An Optuna storage URL that several processes may share; null keeps the study in memory.
    study
        Name of the study in it; null takes the use case's.
    """

    trials: int | None = None
    timeout_s: float | None = None
    seed: int = 0
    storage: str | None = None
    study: str | None = None


@dataclass(frozen=True)
class Job:
    """One training on its way.

    Parameters
    ----------
    key
        Digest of what it is made from.
    folder
        Where its result waits until the registry has it.
    began
        Local time to the minute, for titles.
    """

    test: TestSet
    budget: Budget
    key: str
    folder: Path
    progress: Progress
    began: str

    @property
    def use_case(self) -> UseCase:
        return self.test.table.use_case

    @property
    def metric(self) -> str:
        return self.test.metric
