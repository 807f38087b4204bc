"""Several processes on one study."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

import training.search.study
from tests.servers import PATIENCE_S
from tests.training.made_tables import messy
from training.__main__ import main
from training.registry.mlflow_registry import Registry
from training.search.runner import running
from training.search.search import search, tune
from training.search.spec import SearchSpec
from training.search.storage import open_storage
from training.search.study import open_study

CHECKOUT = Path(__file__).resolve().parents[3]
TRIALS = 8


def asked(**shared):
    return SearchSpec(task="binary", metric="roc_auc", folds=3, jobs=1, seed=3, **shared)


@pytest.mark.deep
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


def test_a_waiting_trial_goes_to_one_of_those_that_ask_at_once(tmp_path):
    """Each has a connection of its own, as processes have."""
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="shared", storage=open_storage(storage))
    for value in range(60):
        study.enqueue_trial({"x": value})
    together = threading.Barrier(4)

    def ask(_helper):
        study = optuna.load_study(study_name="shared", storage=open_storage(storage))
        together.wait()
        return [study.ask().number for _ in range(15)]

    with ThreadPoolExecutor(4) as helpers:
        numbers = [number for each in helpers.map(ask, range(4)) for number in each]
    assert Counter(numbers) == Counter(range(60))


def test_a_process_that_finds_a_study_waits_until_its_defaults_are_enqueued(tmp_path, monkeypatch):
    """Or it would draw candidates in place of defaults, and these would be left when the budget is spent."""
    made, spec = messy("binary", 120), shared_spec(tmp_path)
    enqueue, first_is_in, second_waits = optuna.Study.enqueue_trial, threading.Event(), threading.Event()
    opened = {}

    def enqueue_slowly(study, *arguments, **options):
        enqueue(study, *arguments, **options)
        first_is_in.set()
        assert second_waits.wait(PATIENCE_S)

    def pause(_seconds):
        assert len(study_in(spec).trials) == 1
        second_waits.set()
        creating.join(60)

    def open_in(name):
        with running(made.matrix, made.labels, made.signature, spec) as runner:
            opened[name] = len(open_study(runner, spec).trials)

    monkeypatch.setattr(optuna.Study, "enqueue_trial", enqueue_slowly)
    monkeypatch.setattr(training.search.study, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    creating = threading.Thread(target=open_in, args=["creates"])
    creating.start()
    assert first_is_in.wait(PATIENCE_S)
    open_in("finds")
    creating.join()
    assert opened["finds"] == opened["creates"] > 1


def test_a_study_whose_creator_died_gets_its_defaults_from_the_next_process(tmp_path, monkeypatch):
    """Each once, whatever was enqueued before."""
    made, spec = messy("binary", 120), shared_spec(tmp_path)

    class Killed(BaseException):
        pass

    def die(study, *_arguments, **_options):
        if study.trials:
            raise Killed
        enqueue(study, *_arguments, **_options)

    enqueue = optuna.Study.enqueue_trial
    with running(made.matrix, made.labels, made.signature, spec) as runner:
        monkeypatch.setattr(optuna.Study, "enqueue_trial", die)
        with suppress(Killed):
            open_study(runner, spec)
        assert len(study_in(spec).trials) == 1
        monkeypatch.setattr(optuna.Study, "enqueue_trial", enqueue)
        monkeypatch.setattr(training.search.study, "READY_S", 0)
        found = [str(trial.system_attrs["fixed_params"]) for trial in open_study(runner, spec).trials]
    assert len(set(found)) == len(found) > 1


def shared_spec(folder):
    return asked(storage=f"sqlite:///{folder}/study.db", study_name="shared", trials=8)


def study_in(spec):
    (name,) = optuna.get_all_study_names(spec.storage)
    return optuna.load_study(study_name=name, storage=spec.storage)


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
