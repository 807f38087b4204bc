"""`python -m training`, as a person runs it: what it prints, what it leaves behind, what a rerun does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlflow
import pytest
from servers import CHECKOUT, PATIENCE_S, Cut, free_port
from sklearn.datasets import load_iris

from artifact import manifest
from training.freshness import up_to_date
from training.job import Budget
from training.progress import Progress
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION, RegistryError
from training.run import run
from training.settings import UseCase, load_use_case

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Said

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


@dataclass(frozen=True)
class First:
    """A use case that was trained once, by the command that a person types."""

    path: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def first(mlflow_url: str, tmp_path_factory: pytest.TempPathFactory) -> First:
    folder = tmp_path_factory.mktemp("first")
    path = iris(folder, "first_flowers")
    return First(path, training("run", path, uri=mlflow_url, state=folder))


def test_a_table_becomes_a_champion(first: First, mlflow_url: str) -> None:
    """The first run promotes, and MLflow holds the trials, the figures, the pictures and the card."""
    assert first.done.returncode == 0, first.done.stderr
    assert "promoted to champion" in first.done.stdout
    assert f"Next:         make serve USECASES={first.path}" in first.done.stdout
    assert "Traceback" not in first.done.stderr
    assert "Warning" not in first.done.stderr
    assert not (first.path.parent / ".okamochi" / "pending" / "first_flowers").exists()

    client = mlflow.MlflowClient(mlflow_url)
    champion = client.get_model_version_by_alias("first_flowers", "champion")
    pictures = {found.path for found in client.list_artifacts(champion.run_id, "pictures")}
    assert "pictures/confusion.png" in pictures
    parent = client.get_run(champion.run_id)
    trials = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{champion.run_id}'"
    )
    assert len(trials) >= 2
    assert parent.data.metrics.keys() >= {"test_accuracy", "cv_accuracy", "fold_accuracy", "row_ms"}
    assert parent.data.metrics.keys() >= {"baseline_test_accuracy"}


def test_the_same_again_is_no_better(first: First, cli: Callable[..., Said]) -> None:
    """A second run is refused, `ensure` does not even train, and both versions are shown side by side."""
    again = cli("run", first.path)
    assert again.code == 3, again.err
    assert "both give the same scores" in again.out

    nothing = cli("ensure", first.path)
    assert (nothing.code, "nothing to train" in nothing.out) == (0, True)

    told = json.loads(cli("show", first.path, "--json").out)
    assert told["champion"]["version"] == "1"
    assert told["challenger"]["gate"] == "refused"
    assert told["champion"]["metrics"] == told["challenger"]["metrics"]
    assert "both give the same scores" in cli("show", "first_flowers").out


def test_the_model_card_is_printed(first: First, cli: Callable[..., Said], mlflow_url: str) -> None:
    """By its name in the registry, and it names the libraries that made it."""
    card = cli("card", "first_flowers")
    assert card.code == 0
    assert card.out.startswith("# first_flowers")
    champion = Registry(mlflow_url).version("first_flowers", CHAMPION)
    assert champion is not None
    found = manifest.load(Registry(mlflow_url).download(champion, first.path.parent / "got"))
    assert found.manifest.libraries["mlflow"] == mlflow.__version__


def test_what_has_changed_is_trained_anew(
    first: First, mlflow_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another table or other demands; not another folder, nor other words for people."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    assert first.done.returncode == 0, first.done.stderr
    path = iris(tmp_path, "first_flowers")
    assert up_to_date(load_use_case(path)) is not None
    path.write_text('title = "Flowers"\n' + path.read_text())
    assert up_to_date(load_use_case(path)) is not None
    table = path.with_suffix(".csv")
    whole = table.read_text()
    table.write_text("\n".join(whole.splitlines()[:-3]) + "\n")
    assert up_to_date(load_use_case(path)) is None
    table.write_text(whole)
    iris(tmp_path, "first_flowers", floor=0.6)
    assert up_to_date(load_use_case(path)) is None


def test_below_its_floor_nothing_is_promoted(
    cli: Callable[..., Said], mlflow_url: str, tmp_path: Path
) -> None:
    """Refused by the gate: exit 3, the reason, no champion; `ensure` refuses at once; `--force` promotes."""
    path = iris(tmp_path, "poor_flowers", floor=1.1)
    refused = cli("ensure", path)
    assert refused.code == 3, refused.err
    assert "demands at least 1.1" in refused.out
    assert Registry(mlflow_url).version("poor_flowers", CHAMPION) is None
    again = cli("ensure", path)
    assert (again.code, "nothing has changed since" in again.out) == (3, True)
    assert cli("promote", path).code == 3
    assert cli("promote", path, "--force").code == 0
    assert Registry(mlflow_url).version("poor_flowers", CHAMPION) is not None


def test_a_registry_that_is_down_is_said_before_training(
    cli: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody at MLFLOW_TRACKING_URI: exit 4, one line with the address, and nothing was trained for it."""
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    path = iris(tmp_path, "nowhere")
    for command in ("run", "ensure", "promote", "rollback", "show", "card"):
        failed = cli(command, path)
        assert failed.code == 4, failed.err
        assert uri in failed.err
        assert "searching" not in failed.err


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
    assert result.gate.accepted
    assert not kept.exists()
    client = mlflow.MlflowClient(mlflow_url)
    parent = client.get_run(result.gate.challenger.run_id)
    trials = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert sorted(each.info.run_name.rsplit("#")[-1] for each in trials) == [
        str(number) for number in range(len(result.finished.trials))
    ]


@pytest.mark.deep
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
    end = time.monotonic() + PATIENCE_S
    experiment = None
    while True:
        experiment = client.get_experiment_by_name("okamochi/stopped_flowers")
        if experiment and len(client.search_runs([experiment.experiment_id])) > 1:
            break
        assert process.poll() is None
        assert time.monotonic() < end, "no trial came to the registry"
        time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, errors
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    assert experiment is not None
    parents = client.search_runs([experiment.experiment_id], "tags.`mlflow.source.name` LIKE '%run stopped%'")
    assert [each.info.status for each in parents] == ["KILLED"]


SLIPS = [
    (("run", "breast_cancre"), "breast_cancer"),
    (("show", "breast_cancre"), "breast_cancer"),
    (("card", "breast_cancre"), "breast_cancer"),
    (("rollback", "breast_cancre"), "breast_cancer"),
    (("promote", "breast_cancre"), "breast_cancer"),
    (("report", "breast_cancre"), "breast_cancer"),
    (("run", "/nowhere/at_all.toml"), "does not exist"),
    (("init", "/nowhere/at_all.csv", "--target", "y"), "no such file"),
    (("init", "data.csv"), "--target"),
    (("run", "iris", "--trials", "0"), "expected 1 or more"),
    (("run", "iris", "--timeout", "-1"), "expected more than 0"),
    (("fly",), "invalid choice"),
    ((), "required"),
]


@pytest.mark.parametrize(("arguments", "said"), SLIPS)
def test_wrong_usage_is_one_line_and_exit_2(
    cli: Callable[..., Said], arguments: tuple[str, ...], said: str
) -> None:
    """A slip of the pen is one sentence that says what was meant, or what is expected."""
    failed = cli(*arguments)
    assert failed.code == 2
    assert said in failed.err
    assert failed.out == ""
    assert len(failed.err.strip().splitlines()) == 1 or failed.err.startswith("usage:")


def test_a_slip_of_the_pen_is_answered_at_once(tmp_path: Path) -> None:
    """Before anything heavy is imported, and without a stack trace."""
    script = (
        "import sys; from training.__main__ import main; code = main(['run', 'breast_cancre']); "
        "assert not {'mlflow', 'pandas', 'sklearn'} & set(sys.modules); sys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env=environment("", tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: ")


def test_a_persons_own_table(cli: Callable[..., Said], tmp_path: Path) -> None:
    """`init` writes a use case once, `report` describes its table; `list` shows the use cases that ship."""
    iris(tmp_path, "petals").unlink()
    written = cli("init", "petals.csv", "--target", "species")
    assert written.code == 0, written.err
    assert "python -m training run petals.toml" in written.out
    again = cli("init", "petals.csv", "--target", "species")
    assert (again.code, "exists already" in again.err) == (2, True)
    (tmp_path / "petals.toml").unlink()
    wrong = cli("init", "petals.csv", "--target", "specis")
    assert (wrong.code, "species" in wrong.err) == (2, True)
    assert not (tmp_path / "petals.toml").exists()
    cli("init", "petals.csv", "--target", "species")

    report = cli("report", "petals.toml")
    assert report.code == 0, report.err
    assert "150 rows" in report.out
    assert (tmp_path / "reports" / "petals-data.html").exists()

    listed = cli("list")
    assert listed.code == 0
    assert "breast_cancer" in listed.out
    assert cli("show", "petals.toml").code == 2


def test_a_first_model_of_noise_is_refused_until_a_person_says_anyway(
    cli: Callable[..., Said], tmp_path: Path, mlflow_url: str
) -> None:
    """Nothing is live then; exit code 3 says so, and one option promotes it."""
    lines = "\n".join(
        f"{i * 7919 % 1009},{i * 104729 % 997},{'yes' if i * 31337 % 13 < 6 else 'no'}" for i in range(300)
    )
    (tmp_path / "noise.csv").write_text("a,b,y\n" + lines + "\n")
    path = tmp_path / "noise.toml"
    path.write_text(
        'target = "y"\nmetric = "roc_auc"\nfolds = 3\ntrials = 2\n[source]\nkind = "csv"\npath = '
        '"noise.csv"\n'
    )

    refused = cli("run", path)

    assert refused.code == 3
    assert "not measurably better than guessing" in refused.out
    assert Registry(mlflow_url).version("noise", CHAMPION) is None
    assert cli("promote", path, "--anyway").code == 0
    assert Registry(mlflow_url).version("noise", CHAMPION) is not None
