"""Train use cases that are new or have changed, bundle their champions, serve them, print a request."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy import program
from deploy.bundle import bundle, name_of
from training.registry.mlflow_registry import read_alias
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Iterator


CHECKOUT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
REFUSED = 3
"""Exit code of a training whose model the gate refused."""
FEW_COLUMNS = 8
CLIENT_KEY = "OKAMOCHI_CLIENT_KEY"
PICKED = "OKAMOCHI_MODELS"
"""The variable with the models of `models.lock` to serve, in their order."""


def serve(names: list[str], *, port: int, mlflow_port: int, trials: int | None, followed: bool = True) -> int:
    """Serve the champions of use cases until a signal; returns 0, or the exit code of the step that failed.

    Only these models are served, in this order, even if `models.lock` names others; where `OKAMOCHI_MODELS`
    is set, it decides instead.

    Parameters
    ----------
    followed
        Whether a new champion of these use cases is served without a restart.

    Raises
    ------
    NoChampionError, ArtifactError, LockError, RegistryError, UseCaseError
    """
    for name in names:
        code = train(name, trials)
        if code == REFUSED and read_alias(name_of(name), CHAMPION) is not None:
            print(f"{name}: the present champion stays", flush=True)
        elif code:
            return code
    bundled = bundle(names)
    print("\n".join(bundled.lines()), flush=True)
    served = [model.name for model in bundled.models]
    if os.environ.get(PICKED, "").strip():
        print(f"{PICKED} is set, so this server serves {os.environ[PICKED]}", flush=True)
    elif bundled.kept or served != list(bundled.locked):
        print(
            f"This server serves only {', '.join(served)}; to serve all of models.lock: bentoml serve",
            flush=True,
        )
        os.environ[PICKED] = ",".join(served)
    return run_server(port, mlflow_port, names if followed else [])


def train(name: str, trials: int | None) -> int:
    """Train if the table or the settings have changed; in a new process, so that its memory is freed."""
    budget = ["--trials", str(trials)] if trials is not None else []
    return subprocess.run([sys.executable, "-m", "training", "ensure", name, *budget], check=False).returncode


def run_server(port: int, mlflow_port: int, followed: list[str]) -> int:
    """Run `bentoml serve`, print how to use it once it is ready, and follow these champions."""
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "service:Okamochi",
        "--host",
        HOST,
        "--port",
        str(port),
    ]
    greeted: list[str] = []
    followers: list[subprocess.Popen[bytes]] = []

    def greet_once() -> None:
        if greeted or not ready(port):
            return
        greeted.extend(greeting(port, mlflow_port, followed=bool(followed)))
        print("\n".join(greeted), flush=True)
        if followed:
            followers.append(start_follower(followed))

    try:
        code = program.run(command, program.catch_signals(), cwd=CHECKOUT, look=greet_once)
    finally:
        for follower in followers:
            program.stop(follower)
    if code is None:
        return 0
    if not greeted:
        print("bentoml serve ended before it was ready; its error is above.", file=sys.stderr)
    return code or 1


def start_follower(names: list[str]) -> subprocess.Popen[bytes]:
    """`deploy follow` in a process of its own; it ends with this one, however this one ends."""
    command = [sys.executable, "-m", "deploy", "follow", "--end-with-stdin", *names]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def greeting(port: int, mlflow_port: int, *, followed: bool) -> Iterator[str]:
    """A request for each model that works when pasted, and the addresses of the pages."""
    at = f"http://{HOST}:{port}"
    try:
        models = fetch(f"{at}/models")["models"]
    except urllib.error.HTTPError as error:
        with error:
            yield (
                f"\nReady: {at}, with its console at {at}/console. It needs a key, since OKAMOCHI_KEYS is "
                f"set. For an example here, set {CLIENT_KEY} to one with the roles predict and observe."
            )
        return
    names = ", ".join(model["name"] for model in models)
    yield f"\nReady: {at} serves {names}. Paste this into another terminal:"
    for number, model in enumerate(models):
        path = "/predict" if number == 0 else f"/models/{model['name']}/predict"
        yield f"\n{curl(at + path, model['example'])}"
    hint = "" if mlflow_port == 5001 else f" MLFLOW_PORT={mlflow_port}"
    yield f"\nThe console: {at}/console   The routes: {at}/docs   The experiments: make mlflow{hint}, then http://{HOST}:{mlflow_port}"
    if followed:
        yield "A new champion is served without a restart (FOLLOW=0: it is not)."
    yield "Ctrl-C stops the server."


def curl(url: str, example: dict[str, Any]) -> str:
    """A request with the example: by name for few columns, else by position."""
    few = len(example) <= FEW_COLUMNS
    body: dict[str, Any] = {"records": [example]} if few else {"features": [list(example.values())]}
    key = f' -H "X-API-Key: ${CLIENT_KEY}"' if os.environ.get("OKAMOCHI_CLIENT_KEY") else ""
    return f"curl -s {url}{key} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"


def key_header() -> dict[str, str]:
    """The key that these commands send to a server: that of `OKAMOCHI_CLIENT_KEY`, if it is set."""
    key = os.environ.get("OKAMOCHI_CLIENT_KEY", "").strip()
    return {"X-API-Key": key} if key else {}


def fetch(url: str) -> Any:
    request = urllib.request.Request(url, headers=key_header())  # noqa: S310 - always ours
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - as above
        return json.load(reply)
