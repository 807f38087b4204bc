"""The one command of an installed checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from artifact import __version__
from tests.servers import CHECKOUT


def said(*command: str, cwd: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    """What a command answers."""
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def verbs(*command: str) -> set[str]:
    """What the help of a command lists."""
    listed = said(*command, "--help").stdout.partition("COMMAND\n")[2]
    return set(re.findall(r"^    ([a-z]+)(?: |$)", listed, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def okamochi(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command, installed as a user does it: in an environment of its own, which sees these packages."""
    folder = tmp_path_factory.mktemp("installed")
    copy, environment = folder / "checkout", folder / "environment"
    for name in ("artifact", "deploy", "serving", "training", "usecases"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = str(environment / "bin" / "python")
    site = said(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    (Path(site) / "ours.pth").write_text(sysconfig.get_path("purelib"))
    # What builds it is in the group `dev`, so that nothing is fetched.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-input"]
    pip += ["--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--editable", copy], check=True)
    return str(environment / "bin" / "okamochi")


def test_an_installed_checkout_has_one_command(okamochi: str, tmp_path: Path) -> None:
    """It works in any folder, with the exit codes of the two that it is made of."""
    assert said(okamochi, "--version", cwd=tmp_path).stdout == f"okamochi {__version__}\n"
    assert "breast_cancer" in said(okamochi, "list", cwd=tmp_path).stdout
    wrong = said(okamochi, "run", "nope", cwd=tmp_path)
    assert wrong.returncode == 2
    assert 'There is no use case "nope"' in wrong.stderr
    assert said(okamochi, "nope", cwd=tmp_path).returncode == 2


def test_it_has_the_verbs_of_both_packages(okamochi: str) -> None:
    """None is left out, and none means two things."""
    of_training, of_deploy = verbs(sys.executable, "-m", "training"), verbs(sys.executable, "-m", "deploy")

    assert {"init", "run"} <= of_training
    assert {"bundle", "serve"} <= of_deploy
    assert not of_training & of_deploy
    assert verbs(okamochi) == of_training | of_deploy


def test_the_version_stands_once() -> None:
    """pyproject.toml reads it where the code has it, and the changelog is cut by it."""
    project = (CHECKOUT / "pyproject.toml").read_text().partition("[project]")[2].partition("\n[")[0]
    newest = re.findall(r"^## (\S+)", (CHECKOUT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[0]

    assert "version = " not in project
    assert newest in {"Unreleased", __version__}
