"""Several processes on one study."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna

from tests.training.made_tables import messy
from training.__main__ import main
from training.registry.mlflow_registry import Registry
from training.search.search import search, tune
from training.search.spec import SearchSpec

CHECKOUT = Path(__file__).resolve().parents[3]
TRIALS = 8


def asked(**shared):
    return SearchSpec(task="binary", metric="roc_auc", folds=3, jobs=1, seed=3, **shared)


def test_helpers_that_start_at_once_share_one_budget_and_a_run_chooses_among_theirs(tmp_path, monkeypatch):
    """Each default is tried once; `run` shows every trial as a nested run, whoever made it."""
    small = tmp_path / "small.toml"
    small.write_text('target = "y"\nfolds = 2\n[source]\nkind = "csv"\npath = "small.csv"\n')
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in rng.normal(size=(400, 2))]
    (tmp_path / "small.csv").write_text("\n".join(["a,b,y", *rows]))
    storage = f"sqlite:///{tmp_path}/studies.db"
    shared = ["--storage", storage, "--study", "spring", "--trials", str(TRIALS)]
    command = [sys.executable, "-m", "training", "tune", str(small), *shared]
    environment = {**os.environ, "OKAMOCHI_STATE_DIR": str(tmp_path / "nobody")}
    helpers = [
        subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [helper.communicate(timeout=500)[0] for helper in helpers]
    assert [helper.returncode for helper in helpers] == [0, 0], outputs
    assert not (tmp_path / "nobody" / "mlflow.db").exists(), "a helper needs no registry"

    (name,) = optuna.get_all_study_names(storage)
    assert name.startswith("spring-")
    trials = optuna.load_study(study_name=name, storage=storage).trials
    assert TRIALS <= len(trials) <= TRIALS + 1  # each may be at one when the last is done
    tried = [(trial.user_attrs["family"], str(trial.user_attrs["params"])) for trial in trials]
    assert len(set(tried)) == len(tried)

    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["run", str(small), *shared]) == 0
    registry = Registry()
    version = registry.version("small", "champion")
    nested = registry._client.search_runs(
        [registry._client.get_run(version.run_id).info.experiment_id],
        f"tags.`mlflow.parentRunId` = '{version.run_id}'",
    )
    assert len(nested) >= len(trials)
    assert len(optuna.load_study(study_name=name, storage=storage).trials) == len(trials), "nothing was left"


def test_a_helper_that_dies_takes_its_trial_with_it_and_no_other(tmp_path):
    """What it was at stays unfinished in the study, and the budget is filled all the same."""
    made = messy("binary", 120)
    shared = {"storage": f"sqlite:///{tmp_path}/study.db", "study_name": "shared"}

    class Killed(BaseException):
        pass

    def die(trial):
        if trial.number == 2:
            study.ask()  # as it would have done next
            raise Killed

    rows = made.matrix, made.labels, made.signature
    tune(*rows, asked(**shared, trials=1), progress=False)
    (name,) = optuna.get_all_study_names(shared["storage"])
    study = optuna.load_study(study_name=name, storage=shared["storage"])
    with suppress(Killed):
        tune(*rows, asked(**shared, trials=6), progress=False, on_trial=die)
    states = [trial.state.name for trial in study.trials]
    assert states.count("RUNNING") == 1
    found = search(*rows, asked(**shared, trials=6), progress=False, ensemble=False)
    assert len(found.trials) == 6
    assert {0, 1, 2} < {trial.number for trial in found.trials}


def test_a_table_that_has_changed_gets_a_study_of_its_own(tmp_path):
    """Figures of other rows are never compared with today's."""
    shared = {"storage": f"sqlite:///{tmp_path}/study.db", "study_name": "shared", "trials": 1}
    for rows in (120, 140, 140):
        made = messy("binary", rows)
        assert tune(made.matrix, made.labels, made.signature, asked(**shared), progress=False) == 1
    assert len(optuna.get_all_study_names(shared["storage"])) == 2


def test_a_storage_that_is_down_is_a_sentence_without_the_password(tmp_path, monkeypatch, capsys):
    """Exit 4, like a registry that is down."""
    monkeypatch.setattr("training.search.storage.STORAGE_PAUSE_S", 0)
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path))
    storage = "postgresql+psycopg://okamochi:secret@127.0.0.1:9/optuna"
    assert main(["tune", "iris", "--storage", storage, "--trials", "2"]) == 4
    said = capsys.readouterr().err
    assert "The Optuna storage postgresql+psycopg://okamochi:***@127.0.0.1:9/optuna failed" in said
    assert "secret" not in said
    assert "Traceback" not in said


def test_tune_without_a_storage_says_what_it_is_for(capsys):
    """Alone it would search for nobody."""
    assert main(["tune", "iris"]) == 2
    assert "--storage" in capsys.readouterr().err
