"""Many pods, one study."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.cluster.place import SECONDS, brought_up_more

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.place import Place

TRIALS, WORKERS = 40, 3
"""Enough trials that many are left when the worker is killed, seconds after the first is finished."""


def study(place: Place) -> dict[str, int]:
    """Trials of the study by their state, as PostgreSQL has them."""
    if "trials" not in place.sql("optuna", "SELECT tablename FROM pg_tables").split():
        return {}
    found = place.sql("optuna", "SELECT state, count(*) FROM trials GROUP BY state")
    return {state: int(count) for state, _, count in (line.partition("|") for line in found.split())}


def finished(states: dict[str, int]) -> int:
    return sum(states.get(state, 0) for state in ("COMPLETE", "PRUNED", "FAIL"))


def test_killing_a_worker_loses_at_most_its_trial(mlflow: Place, tmp_path: Path) -> None:
    """Three pods and the run share the budget; one dies at its trial; the run chooses among all of theirs."""
    enough = {"requests": {"cpu": "100m", "memory": "256Mi"}}
    job = [{"op": "replace", "path": "/spec/template/spec/containers/0/resources", "value": enough}]
    sizes = [
        {"op": "replace", "path": f"/spec/{key}", "value": WORKERS} for key in ("completions", "parallelism")
    ]
    brought_up_more(
        mlflow,
        tmp_path,
        "tuning",
        patches=[
            {"target": {"kind": "Job"}, "patch": job},
            {"target": {"kind": "Job", "name": "okamochi-tuning-workers"}, "patch": sizes},
        ],
        settings={"USECASE": "diabetes", "TRIALS": str(TRIALS), "STUDY": "test"},
    )
    end = time.monotonic() + SECONDS
    while not finished(study(mlflow)):
        assert time.monotonic() < end, mlflow.log("okamochi-tuning-workers")
        time.sleep(0.1)  # the worker is to be killed while trials are left
    before = study(mlflow)
    worker = "batch.kubernetes.io/job-name=okamochi-tuning-workers,batch.kubernetes.io/job-completion-index=1"
    (killed,) = [each["metadata"]["name"] for each in mlflow.get("pods", f"--selector={worker}")["items"]]
    mlflow.kubectl("delete", "pod", killed, "--grace-period=0", "--force")

    assert mlflow.job("okamochi-tuning-workers") == "Complete"
    assert mlflow.job("okamochi-tuning-run") == "Complete"
    after = study(mlflow)
    assert finished(before) < TRIALS, "it was over before a worker could be killed"
    assert TRIALS <= finished(after) <= TRIALS + WORKERS
    assert after.get("RUNNING", 0) <= 1, "more than the killed worker's trial was lost"
    assert "promoted to champion" in mlflow.log("okamochi-tuning-run")
    nested = mlflow.sql(
        "mlflow",
        "SELECT count(*) FROM tags JOIN runs USING (run_uuid) JOIN experiments USING (experiment_id) "
        "WHERE key = 'mlflow.parentRunId' AND experiments.name = 'okamochi/diabetes'",
    )
    assert int(nested) >= TRIALS, "whoever tried it, the run shows it"
