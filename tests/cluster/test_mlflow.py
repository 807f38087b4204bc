"""MLflow on PostgreSQL in the cluster: by its Service, from a laptop, from a CronJob, back from a backup."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.servers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.place import Place

ASK = """
import sys, urllib.error, urllib.request
for url, host in [argument.split(",") for argument in sys.argv[1:]]:
    request = urllib.request.Request(url + "/api/2.0/mlflow/experiments/search?max_results=1")
    if host:
        request.add_header("Host", host)
    try:
        print(urllib.request.urlopen(request, timeout=20).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


def run(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of a laptop whose MLFLOW_TRACKING_URI is the cluster's server."""
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": url,
        "OKAMOCHI_STATE_DIR": str(folder / "state"),
        "BENTOML_HOME": str(folder / "bentoml"),
    }
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)


def champion(place: Place, folder: Path) -> str:
    """The card of `linear`'s champion as a laptop gets it: by its alias, through the server."""
    with place.forwarded("service/okamochi-mlflow", 5000) as url:
        done = run(url, folder, "training", "card", "linear")
    assert done.returncode == 0, done.stderr
    return done.stdout


def versions(place: Place) -> list[str]:
    return place.sql("mlflow", "SELECT version FROM model_versions ORDER BY version").split()


def test_its_api_answers_by_every_name_of_its_service_and_by_no_other(mlflow: Place) -> None:
    """To a name that it was not told it says 403 (and to /health 200)."""
    names = ["okamochi-mlflow", f"okamochi-mlflow.{mlflow.namespace}"]
    names += [f"{names[1]}.svc", f"{names[1]}.svc.cluster.local"]
    asked = [*(f"http://{name}:5000," for name in names), "http://okamochi-mlflow:5000,evil.example.com"]
    told = mlflow.kubectl("exec", "deployment/okamochi-mlflow", "--", "python", "-c", ASK, *asked)
    assert told.split() == ["200"] * len(names) + ["403"]


def test_a_laptop_trains_against_it(mlflow: Place, tmp_path: Path) -> None:
    """It registers and promotes; its files lie in the cluster, and another laptop gets them from there."""
    with mlflow.forwarded("service/okamochi-mlflow", 5000) as url:
        done = run(url, tmp_path, "training", "run", "linear", "--trials", "2")
        assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "state" / "mlflow.db").exists()
    assert "linear" in champion(mlflow, tmp_path / "another").lower()


def test_retraining_is_no_failure_when_the_gate_refuses(mlflow: Place) -> None:
    """The same model again is not better than the champion: the Job is complete, the champion stays."""
    before = versions(mlflow)
    assert mlflow.job("retrain", of="okamochi-retraining") == "Complete", mlflow.log("retrain")
    log = mlflow.log("retrain")
    assert "refused; the champion stays" in log
    assert len(versions(mlflow)) == len(before) + 1


def test_a_backup_brings_back_what_was_lost(mlflow: Place, tmp_path: Path) -> None:
    """Rows and files; what came after the backup is gone, and MLflow answers as before."""
    card, before = champion(mlflow, tmp_path), versions(mlflow)
    assert mlflow.job("backup", of="okamochi-backup") == "Complete", mlflow.log("backup")
    assert "1 backups are kept" in mlflow.log("backup")

    mlflow.kubectl("exec", "deployment/okamochi-mlflow", "--", "sh", "-c", "rm -rf /artifacts/*")
    with mlflow.forwarded("service/okamochi-mlflow", 5000) as url:
        lost = run(url, tmp_path, "training", "card", "linear")
        assert lost.returncode == 1, lost.stdout + lost.stderr
        assert "no longer in the registry" in lost.stderr
    mlflow.sql("mlflow", "DELETE FROM registered_model_aliases")

    assert mlflow.job("too-early", of="okamochi-restore") == "Failed"
    assert "--replicas=0 first" in mlflow.log("too-early")

    mlflow.kubectl("scale", "deployment/okamochi-mlflow", "--replicas=0")
    mlflow.kubectl(
        "wait", "--for=delete", "pod", "--selector=app.kubernetes.io/component=mlflow", "--timeout=120s"
    )
    assert mlflow.job("restore", of="okamochi-restore") == "Complete", mlflow.log("restore")
    mlflow.kubectl("scale", "deployment/okamochi-mlflow", "--replicas=1")
    mlflow.rolled_out("deployment/okamochi-mlflow")

    assert champion(mlflow, tmp_path) == card
    assert versions(mlflow) == before
