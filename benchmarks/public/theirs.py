"""AutoGluon on the same rows, in an environment of its own, with the processor seconds that ours took."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.environments import HERE
from benchmarks.public.compare import JUDGED
from benchmarks.servers import BenchError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from benchmarks.public.ours import Trained

SCRIPT = HERE / "public" / "autogluon_fit.py"
METRICS = {"roc_auc": "roc_auc", "accuracy": "accuracy", "rmse": "root_mean_squared_error"}


@dataclass(frozen=True)
class Fitted:
    """What it answers for the test rows, in the order of our classes, and what it is."""

    scores: NDArray[np.float64]
    best: str
    seconds: float
    row_ms: float


def fit(  # noqa: PLR0917
    python: Path, csv: pd.DataFrame, trained: Trained, target: str, preset: str, folder: Path
) -> Fitted:
    """Fit it on the training rows of the file as it is written, without our cleaning.

    Raises
    ------
    BenchError
        It failed.
    """
    folder.mkdir()
    rows = trained.test.rows
    csv.loc[~rows].to_csv(folder / "train.csv", index=False)
    csv.loc[rows].to_csv(folder / "test.csv", index=False)
    task = trained.test.table.task
    asked = {
        "train": str(folder / "train.csv"),
        "test": str(folder / "test.csv"),
        "target": target,
        "task": task,
        "metric": METRICS[JUDGED[task]],
        "seconds": trained.seconds,
        "preset": preset,
        "folder": str(folder / "models"),
        "classes": list(trained.classes),
        "scores": str(folder / "scores.npy"),
    }
    done = subprocess.run(
        [str(python), "-P", str(SCRIPT)], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    if done.returncode or not told:
        raise BenchError(f"AutoGluon failed: {(done.stderr or done.stdout)[-1500:]}")
    found = json.loads(told[-1].removeprefix("TOLD "))
    return Fitted(np.load(folder / "scores.npy"), found["best"], found["seconds"], found["row_ms"])
