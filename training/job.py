"""One training in progress: its data, its budget, and the folder of its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from training.deadline import Deadline
    from training.decide.test_set import TestSet
    from training.progress import Progress
    from training.settings import UseCase


@dataclass(frozen=True)
class Budget:
    """The budget of a search; None takes the use case's.

    Parameters
    ----------
    storage
        The URL of an Optuna storage that several processes may share; None keeps the study in memory.
    study
        The name of the study in it; None takes the use case's.
    """

    trials: int | None = None
    timeout_s: float | None = None
    seed: int = 0
    storage: str | None = None
    study: str | None = None


@dataclass(frozen=True)
class Job:
    """One training in progress.

    Parameters
    ----------
    key
        The digest of everything that it depends on.
    folder
        The folder of its result until the registry has it.
    began
        The local time to the minute, for titles.
    deadline
        When the whole run has to be done.
    """

    test: TestSet
    budget: Budget
    key: str
    folder: Path
    progress: Progress
    began: str
    deadline: Deadline

    @property
    def use_case(self) -> UseCase:
        return self.test.table.use_case

    @property
    def metric(self) -> str:
        return self.test.metric
