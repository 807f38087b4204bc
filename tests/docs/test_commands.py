"""Every command of the pages is run by a test as it stands, or named here, and its options exist."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from deploy import __main__ as deploy
from tests.docs.commands import ALL_MENTIONED, ALL_SHOWN, CHECKOUT, Command
from tests.end_to_end.documented import RUN
from training import __main__ as training

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import Server

CLUSTER = "needs a cluster, an image registry or a builder: make test-cluster does the same there"
TRAINS = "trains for minutes: tests/training runs it with few trials"
SERVES = "serves until it is stopped, on its default port: tests/end_to_end runs it on a free one"
TESTS = "runs the suite, or loads a server for long: the suite itself is the test"
MODELS = "needs a model of one's own: tests/training/imported makes some and runs it"
ERASES = "changes a log that a reader has: tests/training/erasure runs it on some"
LOG_KEYS = "makes a file of keys: tests/artifact/test_sealing.py runs it"
SIGNS = "makes a private key: tests/artifact/test_signing.py runs it"
BUNDLED = "needs bundled models: tests/deploy/test_sbom.py runs it"
SETS = "sets variables for what comes after"
KEYS = "changes the file of keys that a server uses: tests/deploy/test_keys.py runs it on another"
INSTALLS = "changes the environment of this checkout"

SCORES = "tests/deploy/test_score.py scores tables of its own"
SCORES_SQL = "tests/deploy/test_score_sql.py scores tables of databases of its own"
SPARK = "tests/deploy/test_score_spark.py runs it on a cluster of its own"
NOT_RUN = {
    "make check": TESTS,
    "make test": TESTS,
    'make test ARGS="tests/training/tables"': TESTS,
    'make test ARGS="-k feedback"': TESTS,
    'make test ARGS="-n0 --pdb tests/artifact"': TESTS,
    'make test ARGS="--durations=40"': TESTS,
    'make test ARGS="--last-failed"': TESTS,
    "make test-deep": TESTS,
    'make test-deep ARGS="tests/faults -k hot_swap"': TESTS,
    "make load": TESTS,
    "make load SHAPE=spike USERS=500 DURATION=60s OBJECTIVES=my.toml HOST=http://10.0.0.7:3000": TESTS,
    'make load ARGS="--golden '
    '$(bentoml models get okamochi-iris:1-caf5859e173a -o path)/artifact/golden.json"': TESTS,
    ".venv/bin/python -m pre_commit install": INSTALLS,
    ".venv/bin/python -m pip install --no-deps --editable .": INSTALLS,
    ".venv/bin/python -m deploy score breast_cancer patients.parquet scored.parquet": SCORES,
    ".venv/bin/python -m deploy score credit 'postgresql://me:$PGPASSWORD@db/shop?table=loans' "
    "'postgresql://me:$PGPASSWORD@db/shop?table=scored_loans'": SCORES_SQL,
    ".venv/bin/python -m deploy score credit 'sqlite:///shop.db' scored.parquet "
    "--query 'select * from loans where decided is null' --key id": SCORES_SQL,
    ".venv/bin/python -m deploy score credit s3a://shop/loans s3a://shop/scored "
    "--engine spark --master spark://spark:7077": SPARK,
    "make serve": SERVES,
    "make mlflow": SERVES,
    "bentoml serve": SERVES,
    "mlflow ui": SERVES,
    "mlflow models serve -m models:/breast_cancer@champion --env-manager local": SERVES,
    "make serve USECASES=customers.toml": SERVES,
    "make serve USECASES=photos.toml": SERVES,
    "make serve USECASES=churn.toml": SERVES,
    "make serve USECASES=detector.toml": SERVES,
    ".venv/bin/python -m training init detector.onnx --name detector": MODELS,
    ".venv/bin/python -m training init model.joblib "
    "--data test.csv --target churned --name churn --trust": MODELS,
    ".venv/bin/python -m training init model.pkl --name churn --trust": MODELS,
    ".venv/bin/python -m training forget --column customer_id --value C-1042 --dry-run": ERASES,
    ".venv/bin/python -m training forget --column customer_id --value C-1042": ERASES,
    "python -m deploy keys add shop --role predict --models credit --rate 100/s --expires 90d": KEYS,
    "bentoml serve --host 0.0.0.0 --ssl-certfile tls.crt --ssl-keyfile tls.key": SERVES,
    "python -m deploy keys add shop --certificate DNS:shop.example.com --role predict --rate 100/s": KEYS,
    "python -m deploy keys list": KEYS,
    (
        '.venv/bin/python -c "from mlflow.server.auth.client import AuthServiceClient as C; '
        "C('http://127.0.0.1:5001').create_user('trainer', 'PASSWORD')\""
    ): "needs an MLflow server with passwords: tests/training/registry/test_basic_auth.py calls it on one",
    "python -m deploy keys revoke shop": KEYS,
    ".venv/bin/python -m deploy log-key log-keys": LOG_KEYS,
    ".venv/bin/python -m deploy signing-key signing.key --name release": SIGNS,
    ".venv/bin/python -m deploy sbom --to sbom.json": BUNDLED,
    ".venv/bin/python -m deploy sbom --licences": BUNDLED,
    ".venv/bin/python -m training init model.pkl --data test.csv --target height,weight --trust": MODELS,
    ".venv/bin/python -m training init outliers.pkl --data rows.csv --trust": MODELS,
    ".venv/bin/python -m training init photos --target animal": TRAINS,
    ".venv/bin/python -m training run iris": TRAINS,
    ".venv/bin/python -m training run customers.toml": TRAINS,
    "make train USECASES=credit": TRAINS,
    "make train bundle": TRAINS,
    ".venv/bin/python -m training live credit --log /var/log/okamochi": TRAINS,
    "python -m training live credit --publish || [ $? -ne 3 ] || python -m training run credit": TRAINS,
}
"""Commands that no test can run as they stand, and why."""

NOT_RUN_PROGRAMS = {"kubectl": CLUSTER, "docker": CLUSTER, "git": CLUSTER, "export": SETS, "locust": TESTS}
NOT_RUN_TARGETS = {"image": CLUSTER, "cluster": CLUSTER, "rollout": CLUSTER, "test-cluster": CLUSTER}
VERBS = re.compile(r"python -m (training|deploy) ([^|;&`]*)")


def why_not_run(command: str) -> str | None:
    program, *words = command.split()
    target = words[0] if program == "make" and words else ""
    return NOT_RUN.get(command) or NOT_RUN_PROGRAMS.get(program) or NOT_RUN_TARGETS.get(target)


@pytest.mark.parametrize("command", ALL_SHOWN, ids=str)
def test_every_command_is_run_or_it_is_said_why_not(command: Command) -> None:
    """In one place and not in two."""
    run = command.text.startswith("curl ") or command.text in RUN
    assert run != bool(why_not_run(command.text))


def test_no_list_names_a_command_that_no_page_shows() -> None:
    """Else somebody goes on believing that it is tried."""
    assert not (NOT_RUN.keys() | set(RUN)) - {command.text for command in ALL_SHOWN}


def parsers() -> dict[str, dict[str, argparse.ArgumentParser]]:
    """The parser of each verb of both packages."""
    found = {}
    for package in (training, deploy):
        verbs = argparse.ArgumentParser().add_subparsers()
        package.add_commands(verbs)
        found[package.__name__.split(".")[0]] = dict(verbs.choices)
    return found


@pytest.mark.parametrize("command", [one for one in ALL_SHOWN if VERBS.search(one.text)], ids=str)
def test_every_verb_takes_what_the_page_gives_it(command: Command) -> None:
    """The whole command line, by the parser that will read it."""
    for package, rest in VERBS.findall(command.text):
        verb, *words = shlex.split(rest)
        parsers()[package][verb].parse_args(words)


@pytest.mark.parametrize("command", [one for one in ALL_MENTIONED if VERBS.search(one.text)], ids=str)
def test_every_verb_that_a_sentence_names_has_its_options(command: Command) -> None:
    """Where only a part of a command line is named."""
    for package, rest in VERBS.findall(command.text):
        verb, *words = rest.replace("[", " ").replace("]", " ").split() or [""]
        if verb:
            known = parsers()[package][verb]._option_string_actions
            assert not [word for word in words if word.startswith("-") and word not in known]


@pytest.mark.parametrize(
    "command", [one for one in (*ALL_SHOWN, *ALL_MENTIONED) if "python -m " in one.text], ids=str
)
def test_every_module_of_a_command_exists(command: Command) -> None:
    """Also after it was moved."""
    for module in re.findall(r"python -m ([\w.]+)", command.text):
        assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize(
    "command", [one for one in (*ALL_SHOWN, *ALL_MENTIONED) if one.text.startswith("make ")], ids=str
)
def test_every_make_command_leads_to_a_command_line_that_is_read(command: Command) -> None:
    """`make -n` prints what the target would do; our parsers read it."""
    words = shlex.split(re.sub(r"\$\([^)]*\)", "FOLDER", command.text))
    done = subprocess.run(
        ["make", "-n", *words[1:]], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        for package, rest in re.findall(r"-m (training|deploy) ([^|;&]*)", line):
            verb, *given = shlex.split(rest.replace('"$usecase"', "NAME"))
            parsers()[package][verb].parse_args([word or "NAME" for word in given])


def locust_options() -> set[str]:
    """Asked in a process of its own, since Locust changes the standard library."""
    script = (
        "from locust import argument_parser, events; from loadtests import run; run.attach(events); "
        "print(*argument_parser.get_parser()._option_string_actions)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_every_option_of_a_load_test_exists() -> None:
    """Locust's own and ours, also where `make load` hands them on."""
    known = locust_options()
    for command in (*ALL_SHOWN, *ALL_MENTIONED):
        text = re.sub(r"\$\([^)]*\)", "", command.text)
        handed_on = re.search(r'make load .*ARGS="([^"]*)"', text)
        given = text if text.startswith("locust ") else handed_on[1] if handed_on else ""
        unknown = {word for word in given.split() if word.startswith("-")} - known
        assert not unknown, f"{command}: {unknown}"


def test_every_curl_is_answered(server: Server, program: Callable[[str], str], tmp_path: Path) -> None:
    """In the pages' order, in a folder with the files that they name; only the port is another."""
    for needed in ("curl", "jq"):
        program(needed)
    model = json.loads(run("curl -s localhost:3000/models/breast_cancer", server, tmp_path))
    example = model["example"]
    table = "\n".join([",".join(example), ",".join(map(str, example.values()))])
    (tmp_path / "rows.csv").write_text(table + "\n")
    commands = [one for one in ALL_SHOWN if one.text.startswith("curl ")]
    assert len(commands) >= 4

    for command in commands:
        said = run(command.text, server, tmp_path)
        if re.search(r"/predict|/invocations", command.text):
            assert re.search(r'"predictions?":', said), f"{command}: {said}"
        elif "jq -r" in command.text:
            assert said.split("\t")[:2] == ["breast_cancer", "1"]


def run(command: str, server: Server, folder: Path) -> str:
    """A command line in a shell that fails where any part of it does; what it printed."""
    line = re.sub(r"(?:localhost|127\.0\.0\.1):3000", server.url.removeprefix("http://"), command)
    line = re.sub(r"\bcurl ", "curl --fail-with-body -sS ", line)
    shell = ["bash", "-o", "pipefail", "-c", line]
    done = subprocess.run(shell, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
