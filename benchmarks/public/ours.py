"""`init` and `run` without an edit, and what the champion answers for the test rows."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifact import manifest
from benchmarks.environments import CHECKOUT
from benchmarks.servers import BenchError
from training.decide.test_set import score_test_set, test_set_of, time_of_row_ms
from training.registry.mlflow_registry import Registry
from training.registry.records import CHALLENGER, CHAMPION
from training.settings import load_use_case
from training.tables.data import load_table

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from training.decide.test_set import TestSet

REFUSED = 3
"""The exit code of a first model that is not measurably better than guessing."""


@dataclass(frozen=True)
class Trained:
    """A table, its test rows, and what the model that was trained answers for them.

    Parameters
    ----------
    scores
        As the model is served, shape (test rows, k).
    seconds
        Of processor time, for both commands and the processes that they start.
    """

    test: TestSet
    scores: NDArray[np.float64]
    classes: tuple[object, ...]
    algorithm: str
    seconds: float
    row_ms: float


def train(csv: Path, target: str, trials: int | None = None) -> Trained:
    """Train on a CSV file in its own folder.

    Raises
    ------
    BenchError
        A command failed.
    """
    folder = csv.parent
    seconds = _command(["init", csv.name, "--target", target], folder)
    more = [] if trials is None else ["--trials", str(trials)]
    seconds += _command(["run", f"{csv.stem}.toml", *more], folder)
    use_case = load_use_case(str(csv.with_suffix(".toml")))
    registry = Registry(f"sqlite:///{folder / 'mlflow.db'}")
    version = registry.version(use_case.name, CHAMPION) or registry.version(use_case.name, CHALLENGER)
    if version is None:
        raise BenchError(f"{csv.stem}: no version is registered")
    artifact = manifest.load(registry.download(version, folder / "model"), name=use_case.name)
    test = test_set_of(load_table(use_case))
    scored = score_test_set(artifact, test)
    return Trained(
        test,
        scored.scores,
        tuple(artifact.signature.classes),
        artifact.manifest.algorithm,
        seconds,
        time_of_row_ms(scored),
    )


def _command(arguments: list[str], folder: Path) -> float:
    """Run a command of `training`; the processor seconds of it and of the processes that it waited for."""
    environment = {
        **os.environ,
        "OKAMOCHI_STATE_DIR": str(folder),
        "MLFLOW_TRACKING_URI": "",
        "PYTHONPATH": str(CHECKOUT),
    }
    with (folder / f"{arguments[0]}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "training", *arguments],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, REFUSED}:
        said = (folder / f"{arguments[0]}.log").read_text()
        raise BenchError(f"training {' '.join(arguments)} failed: {said[-1500:]}")
    return used.ru_utime + used.ru_stime
