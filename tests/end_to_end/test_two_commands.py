"""A fresh copy of the tree in an empty home folder: `make serve`, the line it prints, what stays behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.servers import PATIENCE_S, free_port, started

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tests.end_to_end.conftest import Copy

TABLE = "size;colour;price\n" + "".join(
    f"{size};{colour};{size * 2 + bonus}\n"
    for size in range(1, 41)
    for colour, bonus in (("red", 3), ("blue", 0), ("", 1))
)


@pytest.mark.timeout(900)
def test_from_a_table_to_a_served_prediction(copy: Copy) -> None:
    """The printed line works when pasted; Ctrl-C leaves nothing running; a second run trains nothing."""
    (copy.folder / "prices.csv").write_text(TABLE)
    done = copy.run(".venv/bin/python", "-m", "training", "init", "prices.csv", "--target", "price")
    assert done.returncode == 0, done.stdout + done.stderr
    port = free_port()
    serve = ("serve", f"PORT={port}", "TRIALS=2", "USECASES=linear prices.toml")

    with copy.make(*serve) as first:
        said = first.wait_for("Ctrl-C stops the server.")
        lines = re.findall(r"^curl .*$", said, flags=re.MULTILINE)
        replies = [json.loads(copy.run("/bin/sh", "-c", line).stdout) for line in lines]
        assert [reply["model"] for reply in replies] == ["linear", "prices"]
        assert "Next:" not in said, "what is being done is no next step"
        assert all(len(reply["prediction"]) == 1 for reply in replies)
        another_champion_goes_live(copy, f"http://127.0.0.1:{port}")
        everyone = first.everyone()
        os.killpg(first.process.pid, signal.SIGINT)  # as the terminal does
        gone, alive = psutil.wait_procs(everyone, timeout=PATIENCE_S)
        assert not alive, [each.cmdline() for each in alive]
        assert len(gone) >= 4, "make, ours, BentoML's parent and worker"
        assert "Traceback" not in first.said()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))

    lock = (copy.folder / "models.lock").read_text()
    with copy.make(*serve[:-1], "USECASES=prices.toml") as second:
        said = second.wait_for("Ctrl-C stops the server.")
        assert said.count("nothing to train") == 1
        assert "searching" not in said
        assert (copy.folder / "models.lock").read_text() == lock, "linear is kept for whoever serves all"
        (line,) = re.findall(r"^curl .*$", said, flags=re.MULTILINE)
        assert f":{port}/predict " in line, "what was asked for is the default"
        assert json.loads(copy.run("/bin/sh", "-c", line).stdout)["model"] == "prices"
        assert [model["name"] for model in get(f"http://127.0.0.1:{port}/models")["models"]] == ["prices"]
        everyone = second.everyone()
        second.process.terminate()  # as a supervisor does
        _, alive = psutil.wait_procs(everyone, timeout=PATIENCE_S)
        assert not alive, [each.cmdline() for each in alive]

    bring_back_what_was_lost(copy, serve, replies)

    # Each tool by hand, as its user knows it: the experiments are where `mlflow ui` looks.
    ui = free_port()
    for command in (
        [".venv/bin/python", "-m", "mlflow", "ui", "--port", str(ui)],
        ["make", "mlflow", f"MLFLOW_PORT={ui}"],
    ):
        url = f"http://127.0.0.1:{ui}"
        with started(
            command,
            url=url,
            ready="/health",
            log=copy.home / "ui.log",
            environment=copy.environment | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            cwd=copy.folder,
        ):
            names = {
                model["name"]
                for model in get(url + "/api/2.0/mlflow/registered-models/search")["registered_models"]
            }
            assert names == {"linear", "prices"}


def another_champion_goes_live(copy: Copy, url: str) -> None:
    """And the one before it again, without a hand on the server."""
    python = copy.folder / ".venv" / "bin" / "python"
    for arguments in (
        ("run", "linear", "--trials", "2", "--seed", "1"),
        ("promote", "--force", "linear"),
        ("rollback", "linear"),
    ):
        done = copy.run(str(python), "-m", "training", *arguments)
        assert done.returncode == 0 or (arguments[0] == "run" and done.returncode == 3), done.stderr
        if arguments[0] != "run":
            expected = "2" if arguments[0] == "promote" else "1"
            end = time.monotonic() + 120
            while live_version(url, "linear") != expected:
                assert time.monotonic() < end, get(f"{url}/models")
                time.sleep(0.2)


def live_version(url: str, name: str) -> str:
    (version,) = [model["version"] for model in get(f"{url}/models")["models"] if model["name"] == name]
    return version


def bring_back_what_was_lost(copy: Copy, serve: Sequence[str], replies: list[dict[str, Any]]) -> None:
    """`make backup`, a lost home and state, `make restore`: the same answers, and nothing is trained."""
    done = copy.run("make", "backup", "BACKUP=saved/it.tar.gz")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"models: \d+ files, .*: okamochi-linear:1-.*, okamochi-linear:2-.*, okamochi-prices:1-", done.stdout
    )

    assert copy.run("make", "clean").returncode == 0
    shutil.rmtree(copy.home / "bentoml")
    done = copy.run("make", "restore", "BACKUP=saved/it.tar.gz")
    assert done.returncode == 0, done.stdout + done.stderr

    with copy.make(*serve) as third:
        said = third.wait_for("Ctrl-C stops the server.")
        assert said.count("nothing to train") == 2
        lines = re.findall(r"^curl .*$", said, flags=re.MULTILINE)
        again = [json.loads(copy.run("/bin/sh", "-c", line).stdout) for line in lines]
        everyone = third.everyone()
        third.process.terminate()
        _, alive = psutil.wait_procs(everyone, timeout=PATIENCE_S)
        assert not alive, [each.cmdline() for each in alive]
    assert [reply | {"id": ""} for reply in again] == [reply | {"id": ""} for reply in replies]

    refused = copy.run("make", "restore", "BACKUP=saved/it.tar.gz")
    assert refused.returncode == 2
    assert "would replace" in refused.stderr
    assert "Traceback" not in refused.stderr


def get(url: str) -> dict[str, list[dict[str, str]]]:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
        found: dict[str, list[dict[str, str]]] = json.load(reply)
    return found


def test_a_use_case_that_is_none_is_one_sentence(copy: Copy) -> None:
    """With the nearest right name; nothing is started."""
    done = copy.run("make", "serve", f"PORT={free_port()}", "USECASES=breast_cancr")

    assert done.returncode != 0
    assert 'did you mean "breast_cancer"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_registry_that_is_down_stops_the_command(copy: Copy) -> None:
    """It fails closed: exit 4, and nothing is served."""
    uri = f"http://127.0.0.1:{free_port()}"
    done = copy.run("make", "serve", f"PORT={free_port()}", "USECASES=linear", f"MLFLOW_TRACKING_URI={uri}")

    assert "Error 4" in done.stderr
    assert "connection refused" in done.stderr
    assert "Traceback" not in done.stderr
