"""`python -m training`, as a person runs it: what it prints, what it leaves behind, what a rerun does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import mlflow
import pytest
from servers import CHECKOUT, Cut, free_port
from sklearn.datasets import load_iris

from training.progress import Progress
from training.registry import CHAMPION, Registry, RegistryError
from training.run import Budget, run
from training.settings import UseCase, load_use_case

if TYPE_CHECKING:
    from pathlib import Path

TOML = """
target = "species"
metric = "accuracy"
folds = 3
trials = 2

[source]
kind = "csv"
path = "{name}.csv"

[gate]
floors = {{ accuracy = {floor} }}
"""


def iris(folder: Path, name: str, *, floor: float = 0.5) -> Path:
    """A use case of its own name; each has its own models in the registry."""
    frame = load_iris(as_frame=True).frame.rename(columns={"target": "species"})
    frame["species"] = frame["species"].map({0: "setosa", 1: "versicolor", 2: "virginica"})
    frame.to_csv(folder / f"{name}.csv", index=False)
    path = folder / f"{name}.toml"
    path.write_text(TOML.format(name=name, floor=floor))
    return path


def training(*arguments: object, uri: str, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        cwd=CHECKOUT,
        env=environment(uri, state),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def environment(uri: str, state: Path) -> dict[str, str]:
    ours = {"MLFLOW_TRACKING_URI": uri, "OKAMOCHI_STATE_DIR": str(state), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **ours}


def test_a_table_becomes_a_champion(mlflow_url: str, tmp_path: Path) -> None:
    """The first run promotes; the same again is no better, and `ensure` does not even train."""
    path = iris(tmp_path, "first_flowers")
    first = training("run", path, uri=mlflow_url, state=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "promoted to champion" in first.stdout
    assert "Traceback" not in first.stderr
    assert "Warning" not in first.stderr

    again = training("run", path, uri=mlflow_url, state=tmp_path)
    assert again.returncode == 3, again.stderr
    assert "the two score the same" in again.stdout

    nothing = training("ensure", path, uri=mlflow_url, state=tmp_path)
    assert nothing.returncode == 0
    assert "nothing to train" in nothing.stdout

    shown = training("show", path, "--json", uri=mlflow_url, state=tmp_path)
    told = json.loads(shown.stdout)
    assert told["champion"]["version"] == "1"
    assert told["challenger"]["gate"] == "refused"
    assert told["champion"]["metrics"] == told["challenger"]["metrics"]

    card = training("card", "first_flowers", uri=mlflow_url, state=tmp_path)
    assert card.stdout.startswith("# first_flowers")
    assert not (tmp_path / ".okamochi" / "pending" / "first_flowers").exists()

    client = mlflow.MlflowClient(mlflow_url)
    champion = client.get_model_version_by_alias("first_flowers", "champion")
    pictures = {found.path for found in client.list_artifacts(champion.run_id, "pictures")}
    assert "pictures/confusion.png" in pictures
    parent = client.get_run(champion.run_id)
    trials = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{champion.run_id}'"
    )
    assert len(trials) >= 2
    assert parent.data.metrics["test_accuracy"] == told["champion"]["metrics"]["accuracy"]
    assert parent.data.metrics.keys() >= {"cv_accuracy", "fold_accuracy", "baseline_test_accuracy", "row_ms"}


def test_a_changed_table_is_trained_anew(mlflow_url: str, tmp_path: Path) -> None:
    """`ensure` notices another table, and another use case."""
    path = iris(tmp_path, "changing_flowers")
    assert training("ensure", path, uri=mlflow_url, state=tmp_path).returncode == 0
    table = path.with_suffix(".csv")
    table.write_text("\n".join(table.read_text().splitlines()[:-3]) + "\n")
    changed = training("ensure", path, uri=mlflow_url, state=tmp_path)
    assert "version 2" in changed.stdout
    assert changed.returncode in {0, 3}


def test_below_its_floor_nothing_is_promoted(mlflow_url: str, tmp_path: Path) -> None:
    """Refused by the gate: exit 3, the reason, no champion; `ensure` refuses at once."""
    path = iris(tmp_path, "poor_flowers", floor=1.1)
    refused = training("run", path, uri=mlflow_url, state=tmp_path)
    assert refused.returncode == 3
    assert "demands at least 1.1" in refused.stdout
    assert Registry(mlflow_url).version("poor_flowers", CHAMPION) is None
    again = training("ensure", path, uri=mlflow_url, state=tmp_path)
    assert again.returncode == 3
    assert "nothing has changed since" in again.stdout
    assert training("promote", path, uri=mlflow_url, state=tmp_path).returncode == 3


def test_a_registry_that_is_down_is_said_before_training(tmp_path: Path) -> None:
    """Nobody at MLFLOW_TRACKING_URI: exit 4, one line with the address, and nothing was trained for it."""
    uri = f"http://127.0.0.1:{free_port()}"
    for command in ("run", "ensure", "rollback"):
        failed = training(command, iris(tmp_path, "nowhere"), uri=uri, state=tmp_path)
        assert failed.returncode == 4, failed.stderr
        assert uri in failed.stderr
        assert "searching" not in failed.stderr
        assert "Traceback" not in failed.stderr


def test_a_registry_that_is_lost_costs_no_training(
    mlflow_url: str, cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost after the first trial, the model is kept; run again, it is registered, not trained."""
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", cut.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    use_case: UseCase = load_use_case(iris(tmp_path, "lost_flowers"))
    cut.cut_at, cut.skip = "POST /api/2.0/mlflow/runs/create", 2
    with pytest.raises(RegistryError, match="The trained model is kept in"):
        run(use_case, Budget(), Progress())
    kept = tmp_path / ".okamochi" / "pending" / "lost_flowers"
    assert (kept / "okamochi" / "manifest.json").exists()
    assert Registry(mlflow_url).versions("lost_flowers") == []

    cut.heal()
    result = run(use_case, Budget(), Progress())
    assert result.resumed
    assert result.verdict.accepted
    assert not kept.exists()
    client = mlflow.MlflowClient(mlflow_url)
    parent = client.get_run(result.verdict.challenger.run_id)
    trials = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert sorted(each.info.run_name.rsplit("#")[-1] for each in trials) == [
        str(number) for number in range(len(result.finished.trials))
    ]


def test_an_interrupted_run_says_what_is_kept(mlflow_url: str, tmp_path: Path) -> None:
    """Ctrl-C ends with 130, without a traceback, and the run in MLflow is marked as killed."""
    path = iris(tmp_path, "stopped_flowers")
    process = subprocess.Popen(
        [sys.executable, "-m", "training", "run", str(path), "--trials", "500"],
        cwd=CHECKOUT,
        env=environment(mlflow_url, tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    client = mlflow.MlflowClient(mlflow_url)
    end = time.monotonic() + 120
    experiment = None
    while time.monotonic() < end:
        experiment = client.get_experiment_by_name("okamochi/stopped_flowers")
        if experiment and len(client.search_runs([experiment.experiment_id])) > 1:
            break
        time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    assert experiment is not None
    parents = client.search_runs([experiment.experiment_id], "tags.`mlflow.source.name` LIKE '%run stopped%'")
    assert [each.info.status for each in parents] == ["KILLED"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "breast_cancre"), "breast_cancer"),
        (("run", "/nowhere/at_all.toml"), "no such file"),
        (("run", "iris", "--trials", "0"), "expected 1 or more"),
        (("fly",), "invalid choice"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """A slip of the pen is answered before anything heavy is imported."""
    failed = training(*arguments, uri="", state=tmp_path)
    assert failed.returncode == 2
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr
