"""A bento goes where this checkout is not, and serves there what was built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.bento_server import environment, prepare
from tests.servers import CHECKOUT, PATIENCE_S, free_port, started
from tests.serving.artifacts import breast_cancer, iris, linear

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.artifacts import Made


def bentoml(folder: Path, *arguments: str) -> str:
    """Run BentoML's own command line in a folder with its own BENTOML_HOME, and nothing of the checkout's."""
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", *arguments],
        cwd=folder,
        env={**os.environ, **environment(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"bentoml {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def checkout(folder: Path, made: dict[str, tuple[Path, str]]) -> Path:
    """Lay out what a person builds from: sources, bentofile, a lock of models that are in the store."""
    prepare(folder, made)
    for name in ("serving", "artifact"):
        (folder / name).unlink()
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "bentofile.yaml", folder)
    (folder / "requirements").mkdir()
    shutil.copy(CHECKOUT / "requirements" / "serving.txt", folder / "requirements")
    return folder


def ask(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        return json.load(reply)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Made]:
    """`bentoml build` of two models, exported to a file: the file, the bento's tag and the default model."""
    folder = tmp_path_factory.mktemp("built")
    made = iris(folder / "artifacts" / "iris")
    cells = breast_cancer(folder / "artifacts" / "cells")
    site = checkout(folder / "site", {"iris": (made.path, "3"), "breast_cancer": (cells.path, "12")})
    tag = bentoml(site, "build", "--output", "tag").strip().removeprefix("__tag__:")
    bentoml(site, "export", tag, str(folder / "okamochi.bento"))
    return folder / "okamochi.bento", tag, made


def test_a_bento_serves_the_models_it_was_built_with(built: tuple[Path, str, Made], tmp_path: Path) -> None:
    """Another home already holds a newer model of the same name; the one that was built is served."""
    file, tag, made = built
    elsewhere = tmp_path / "elsewhere"
    newer = iris(tmp_path / "newer", runtime="python")
    prepare(elsewhere, {"iris": (newer.path, "99")})
    for name in ("service.py", "models.lock"):
        (elsewhere / name).unlink()
    for name in ("serving", "artifact"):
        (elsewhere / name).unlink()

    bentoml(elsewhere, "import", str(file))
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", tag, "--host", "127.0.0.1", "--port", str(port)]
    with started(
        command,
        url=f"http://127.0.0.1:{port}",
        ready="/readyz",
        log=tmp_path / "log",
        environment={**environment(elsewhere), "PYTHONPATH": ""},
        cwd=elsewhere,
    ) as server:
        reply = ask(server.url + "/predict", {"features": made.rows, "probabilities": True})
        other = ask(server.url + "/models/breast_cancer/predict", {"features": [[1.0] * 30]})

    assert (reply["model"], reply["version"]) == ("iris", "3")
    assert reply["prediction"] == made.labels(made.rows)
    assert reply["probabilities"] == [pytest.approx(row, abs=1e-5) for row in made.scores(made.rows)]
    assert (other["model"], other["version"]) == ("breast_cancer", "12")


def test_a_bento_has_what_a_server_needs_and_nothing_else(
    built: tuple[Path, str, Made], tmp_path: Path
) -> None:
    """No training code, no tests, no data; no address of a package index."""
    file, tag, _ = built
    home = tmp_path / "home"
    home.mkdir()
    (home / "bentoml").mkdir()
    bentoml(home, "import", str(file))
    bento = home / "bentoml" / "bentos" / tag.replace(":", "/")

    top = {path.name for path in (bento / "src").iterdir()}
    assert top - {"bentofile.yaml"} == {"service.py", "serving", "artifact", "models.lock", "requirements"}
    console = {path.name for path in (bento / "src" / "serving" / "console").iterdir()}
    assert {path.name for path in (CHECKOUT / "serving" / "console").glob("*.*")} <= console
    requirements = (bento / "env" / "python" / "requirements.txt").read_text()
    assert "--hash=sha256:" in requirements
    assert "://" not in requirements
    assert len(list((home / "bentoml" / "models").glob("okamochi-*/*/artifact/manifest.json"))) == 2


def test_a_build_without_its_models_fails(tmp_path: Path) -> None:
    """A lock whose tag the store lacks is an error at build time, not in production."""
    site = checkout(tmp_path / "site", {"linear": (linear(tmp_path / "linear").path, "1")})
    (site / "models.lock").write_text("linear okamochi-linear:2-000000000000\n")

    with pytest.raises(AssertionError, match="okamochi-linear:2-000000000000"):
        bentoml(site, "build")
